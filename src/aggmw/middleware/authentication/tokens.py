"""Static tokens: kube-apiserver's `--token-auth-file` (wire contract §6.5)."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import structlog

from aggmw.contracts.drain import Drain
from aggmw.contracts.identity import Identity, Presented, authenticated
from aggmw.errors import ConfigurationError, InvalidCredentials, InvalidIdentity, Problem
from aggmw.middleware.authentication.bearer import presented_token

__all__ = ["StaticTokens"]

_log = structlog.get_logger("aggmw.authentication")
_UNPRESENTABLE = re.compile(r"[\x00-\x20\x7f]")
_COLUMNS = 'token,user,uid[,"group1,group2"]'


class StaticTokens:
    """Bearer tokens from a list. Only digests are kept, so that the time of a look-up tells nothing about a token.

    A token that is not on the list is bad, not somebody else's: others in the union are still asked, but without a
    success the answer is 401, never an anonymous caller.

    Args:
        tokens: who presents which token. `system:` names are allowed: the list is the operator's own.
    """

    credentials = frozenset({b"authorization"})

    def __init__(self, tokens: Mapping[str, Identity]) -> None:
        self._identities = {_digest(token.encode()): _known(identity) for token, identity in tokens.items()}

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> StaticTokens:
        """Read a CSV file, once: `token,user,uid[,"group1,group2"]`, in UTF-8.

        Rows with an empty token are skipped; of two rows with the same token the last wins; both are logged as a
        warning. `system:` names are allowed.

        Raises:
            ConfigurationError: all the mistakes in the file, each with its line.
        """
        return cls(_Reader(os.fspath(path)).read())

    def __repr__(self) -> str:
        return f"StaticTokens({len(self._identities)} tokens)"

    def swap(self, other: StaticTokens) -> None:
        """Know what the other one knows from now on. Call it on the event loop.

        A token that is off the list is nobody's on the next request, and what it opened, such as a watch, ends; so does
        what was opened by one that is somebody else's by now.
        """
        before = self._identities
        self._identities = {
            digest: _kept(before.get(digest), identity) for digest, identity in other._identities.items()
        }
        for digest, identity in before.items():
            withdrawal = identity.credential.withdrawal
            if self._identities.get(digest) is not identity and withdrawal is not None:
                withdrawal.begin()

    async def authenticate(self, presented: Presented) -> Identity | None:
        """As `identify`."""
        return self.identify(presented)

    def identify(self, presented: Presented) -> Identity | None:
        """Who presents this token; None when no token is presented.

        Raises:
            InvalidCredentials: a token that is not on the list, or several.
        """
        token = presented_token(presented)
        if token is None:
            return None
        identity = self._identities.get(_digest(token))
        if identity is None:
            raise InvalidCredentials("unknown bearer token")
        return identity


def _known(identity: Identity) -> Identity:
    """Whoever has this token has it on purpose, for as long as it is on the list."""
    withdrawal = Drain()
    if identity.credential.withdrawal is not None:
        identity.credential.withdrawal.add(withdrawal.begin)
    return authenticated(identity.known_by(replace(identity.credential, ambient=False, withdrawal=withdrawal)))


def _kept(before: Identity | None, now: Identity) -> Identity:
    """The one before, if nothing of it is other."""
    if before is not None and (before, before.credential) == (now, now.credential):
        return before
    return now


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


class _Reader:
    """One pass over a token file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._problems: list[Problem] = []
        self._tokens: dict[str, Identity] = {}

    def read(self) -> dict[str, Identity]:
        rows = csv.reader(self._lines(), strict=True)
        line = 1
        try:
            for row in rows:
                if row:
                    self._row(row, line)
                line = rows.line_num + 1
        except csv.Error:
            self._problem(line, "the quotes are not balanced, or stand inside a field")
        if self._problems:
            raise ConfigurationError(self._problems)
        return self._tokens

    def _lines(self) -> Iterable[str]:
        try:
            data = Path(self._path).read_bytes()
        except OSError as error:
            raise ConfigurationError([Problem(self._path, f"cannot be read: {error.strerror}")]) from error
        try:
            return io.StringIO(data.decode("utf-8-sig"), newline="")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ConfigurationError([Problem(f"{self._path}:{line}", "is not UTF-8")]) from error

    def _row(self, row: list[str], line: int) -> None:
        if len(row) < 3:
            self._problem(line, f"{len(row)} column{'s' * (len(row) > 1)}, where at least 3 are needed: {_COLUMNS}")
            return
        token, user, uid = row[:3]
        groups = tuple(row[3].split(",")) if len(row) > 3 and row[3] else ()
        if not token:
            _log.warning("empty token skipped", path=self._path, line=line)
            return
        if _UNPRESENTABLE.search(token):
            self._problem(line, "the token holds white space or a control character, so nobody could present it")
            return
        try:
            identity = Identity(user, uid, groups)
        except InvalidIdentity as error:
            self._problem(line, str(error))
            return
        if token in self._tokens:
            _log.warning("token listed twice: the last line wins", path=self._path, line=line)
        self._tokens[token] = identity

    def _problem(self, line: int, message: str) -> None:
        self._problems.append(Problem(f"{self._path}:{line}", message))
