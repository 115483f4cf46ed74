"""JWTAuthenticator: callers by JSON Web Tokens of issuers elsewhere (wire contract §6.6)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from aggmw.contracts.background import Background
from aggmw.contracts.catalog import Controller
from aggmw.contracts.drain import Drain
from aggmw.contracts.identity import Identity, Presented
from aggmw.contracts.tokens import NO_AUDIENCES
from aggmw.errors import ConfigurationError, InvalidCredentials, Problem, UpstreamUnreachable
from aggmw.middleware.authentication.bearer import presented_token
from aggmw.middleware.authentication.issuer_rules import CompiledIssuer, compile_issuers
from aggmw.middleware.authentication.issuers import JWTIssuer, MappedClaim
from aggmw.middleware.authentication.jose import SignedBy
from aggmw.middleware.authentication.jwks import IssuerKeys, discovered, from_file
from aggmw.middleware.authentication.jwt import LEEWAY, Token, audiences_of, check_times, read_token

__all__ = ["JWTAuthenticator"]

_ALIASES = {"accounts.google.com": "https://accounts.google.com"}
"""What one issuer calls itself, too (OpenID Connect Core §15.6.2)."""

_FILE_REFRESH = 10.0
_NOWHERE: Mapping[str, Any] = {"discovery_url": "", "certificate_authority": "", "keys": None}


@dataclass(frozen=True, slots=True)
class _Known:
    """An issuer that is accepted at the moment.

    Attributes:
        withdrawals: by key, what begins when the tokens that it signed are no longer believed.
    """

    compiled: CompiledIssuer
    keys: IssuerKeys
    audiences: frozenset[str]
    algorithms: frozenset[str]
    withdrawals: dict[SignedBy, Drain] = field(default_factory=dict)

    def judges_like(self, other: _Known) -> bool:
        """Whether they differ in nothing but where the keys are."""
        one, two = (replace(each.compiled.issuer, **_NOWHERE) for each in (self, other))
        return one == two

    def withdrawal(self, signer: SignedBy) -> Drain:
        return self.withdrawals.setdefault(signer, Drain())

    def withdraw(self, *, everything: bool = False) -> None:
        """End what goes on by tokens of keys that the issuer no longer has."""
        keys = self.keys.keys
        for signer, withdrawal in list(self.withdrawals.items()):
            if everything or (keys is not None and not keys.hold(signer)):
                del self.withdrawals[signer]
                withdrawal.begin()


class JWTAuthenticator:
    """Callers by bearer tokens that issuers elsewhere have signed: OpenID Connect and its like.

    A token is believed when its issuer is one of these, its signature is by a key that this issuer publishes, it is for
    us, it is valid now, and every rule of its issuer holds. Everything else that comes as a bearer token is refused,
    unless another authenticator knows it: never an anonymous caller.

    Keys are read in the background, for as long as the `FrontProxy` that has this authenticator runs; without one, for
    as long as `async with` it is open. An issuer that cannot be asked does not touch the others, and its tokens go on
    with the keys that were read last. What a token opened, such as a watch, ends when the token's key is no longer
    among them, and when its issuer is gone or judges by other rules.

    Not done: distributed and aggregated claims are not fetched, such tokens are refused; tokens are not looked up at
    their issuer, so one that was revoked there is good until it expires.

    Args:
        issuers: whose tokens are accepted; `AuthenticationConfiguration.load(path).issuers` reads Kubernetes' file.
        disallowed: issuers that must not be among them, such as that of `ServiceAccounts`.
        loopback_http: accept issuers at `http://` on this machine, for development.
        leeway: seconds that an issuer's clock may be ahead of ours (`nbf`, `iat`). An expired token is expired.
        refresh: seconds between two readings of an issuer's keys.
        least_interval: seconds between them when tokens want newer ones: an unknown key, a bad signature.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: every mistake in the issuers, each with its path, such as "jwt[0].issuer.url".
    """

    credentials = frozenset({b"authorization"})

    def __init__(
        self,
        issuers: Sequence[JWTIssuer],
        *,
        disallowed: Iterable[str] = (),
        loopback_http: bool = False,
        leeway: float = LEEWAY,
        refresh: float = 300.0,
        least_interval: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._disallowed = frozenset(disallowed)
        self._loopback_http = loopback_http
        self._leeway = leeway
        self._refresh = refresh
        self._least_interval = least_interval
        self._clock = clock
        self._issuers: dict[str, _Known] = {}
        self._revision = object()
        self._renewal = _Renewal(self._sources)
        self._background = Background((self._renewal,))
        self.reload(issuers)

    def __repr__(self) -> str:
        return f"JWTAuthenticator({list(self._issuers)})"

    @property
    def revision(self) -> object:
        """As `TokenAuthenticator.revision`: another one with other issuers, and with other keys of one of them."""
        return self._revision

    @property
    def controllers(self) -> tuple[Controller, ...]:
        """The background work that reads keys."""
        return (self._renewal,)

    def reload(self, issuers: Sequence[JWTIssuer]) -> None:
        """Accept these from now on. Keys of an issuer that stays where it was are kept. On a mistake nothing changes.

        What was opened by tokens of an issuer that is not among them, or has other rules, ends. Call it on the event
        loop.

        Raises:
            ConfigurationError: as on construction.
        """
        problems: list[Problem] = []
        compiled = compile_issuers(
            issuers,
            lambda path, message: problems.append(Problem(path, message)),
            disallowed=self._disallowed,
            loopback_http=self._loopback_http,
        )
        if problems:
            raise ConfigurationError(problems)
        before, self._issuers = self._issuers, {each.issuer.url: self._known(each) for each in compiled}
        self._revision = object()
        self._renewal.refresh()
        for url, known in before.items():
            now = self._issuers.get(url)
            if now is None or now.withdrawals is not known.withdrawals:
                known.withdraw(everything=True)

    async def authenticate(self, presented: Presented) -> Identity | None:
        """Whose bearer token it is; None when none is presented.

        Raises:
            InvalidCredentials: a token that is not good here, or several.
            UpstreamUnreachable: its issuer's keys were never read.
            NotOpened: the background work does not run.
        """
        token = presented_token(presented)
        return None if token is None else await self.authenticate_token(token, presented.audiences)

    async def authenticate_token(self, token: bytes, audiences: frozenset[str] = NO_AUDIENCES) -> Identity | None:
        """As `TokenAuthenticator.authenticate_token`: a token is also refused when it is no JSON Web Token at all, or
        of an issuer that is not configured.
        """
        read = read_token(token)
        known = self._issuer(read)
        if known is None:
            raise InvalidCredentials("the token is of no issuer that is configured")
        if read.algorithm not in known.algorithms:
            raise InvalidCredentials("the token is signed with an algorithm that its issuer may not use")
        # What refuses a token may be looked at before its signature is; it saves the work.
        meant = frozenset(audiences_of(read.claims))
        if not meant & known.audiences or (audiences and not meant & audiences):
            raise InvalidCredentials("the token is for somebody else (aud)")
        expires = check_times(read.claims, self._clock(), leeway=self._leeway)
        signer = await self._verify(read, known.keys)
        # It may have had to wait for newer keys.
        if self._clock() >= expires:
            raise InvalidCredentials("the token is expired")
        if self._issuers.get(known.compiled.issuer.url) is not known:
            return await self.authenticate_token(token, audiences)
        return known.compiled.mapper.identity(read.claims, expires, known.withdrawal(signer))

    def sources(self, presented: Presented) -> Mapping[str, str]:
        """Which rule of a token's issuer gives "user", "uid", "group" and "extra KEY": for who looks for a mistake.

        Raises:
            InvalidCredentials: there is no token that can be read.
        """
        token = presented_token(presented)
        known = None if token is None else self._issuer(read_token(token))
        if known is None:
            return {}
        issuer = known.compiled.issuer
        parts = {"user": ("username", issuer.username), "uid": ("uid", issuer.uid), "group": ("groups", issuer.groups)}
        found = {part: _rule(issuer, name, mapped) for part, (name, mapped) in parts.items()}
        for extra in issuer.extra:
            found[f"extra {extra.key}"] = f"claimMappings.extra of {issuer.url}: {extra.value_expression}"
        return found

    async def __aenter__(self) -> JWTAuthenticator:
        await self._background.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._background.__aexit__()

    async def _verify(self, token: Token, keys: IssuerKeys) -> SignedBy:
        """Raises unless the signature is by one of the keys, if need be after they were read once more."""
        while True:
            seen = keys.keys
            if seen is not None:
                signer = seen.signer(token.algorithm, token.kid, token.signed, token.signature)
                if signer is not None:
                    return signer
            if not await keys.renewed(seen):
                break
        if seen is None:
            raise UpstreamUnreachable("the keys of the token's issuer are not known yet")
        raise InvalidCredentials("the token's signature is by no key that its issuer publishes")

    def _issuer(self, token: Token) -> _Known | None:
        return self._issuers.get(_ALIASES.get(token.issuer, token.issuer))

    def _known(self, compiled: CompiledIssuer) -> _Known:
        issuer = compiled.issuer
        before = self._issuers.get(issuer.url)
        if before is not None and _place(before.compiled.issuer) == _place(issuer):
            keys = before.keys
        elif issuer.keys is not None:
            keys = IssuerKeys(
                issuer.url,
                from_file(issuer.keys),
                refresh=min(_FILE_REFRESH, self._refresh),
                least_interval=self._least_interval,
                changed=self._renew,
            )
        else:
            read = discovered(
                issuer.url,
                discovery_url=issuer.discovery_url,
                ca=issuer.certificate_authority.encode(),
                loopback_http=self._loopback_http,
            )
            keys = IssuerKeys(
                issuer.url, read, refresh=self._refresh, least_interval=self._least_interval, changed=self._renew
            )
        known = _Known(compiled, keys, frozenset(issuer.audiences), frozenset(issuer.algorithms))
        same = before is not None and before.judges_like(known)
        return replace(known, withdrawals=before.withdrawals) if same and before is not None else known

    def _renew(self) -> None:
        """Somebody has other keys."""
        self._revision = object()
        for known in list(self._issuers.values()):
            known.withdraw()

    def _sources(self) -> list[IssuerKeys]:
        return [known.keys for known in self._issuers.values()]


def _rule(issuer: JWTIssuer, name: str, mapped: MappedClaim) -> str:
    what = f"claim {mapped.claim}" + (f", prefix {mapped.prefix}" if mapped.prefix else "")
    return f"claimMappings.{name} of {issuer.url}: {mapped.expression or what}"


def _place(issuer: JWTIssuer) -> tuple[object, ...]:
    """Where an issuer's keys are."""
    return issuer.discovery_url, issuer.certificate_authority, issuer.keys


class _Renewal:
    """Reads the keys of all issuers, each by itself, and follows which there are. A `Controller`."""

    name = "issuer-keys"

    def __init__(self, sources: Callable[[], Sequence[IssuerKeys]]) -> None:
        self._sources = sources
        self._changed: asyncio.Event | None = None

    def refresh(self) -> None:
        """Look at the issuers now. Does nothing while it does not run."""
        if self._changed is not None:
            for source in self._sources():
                source.open()
            self._changed.set()

    async def run(self) -> None:
        changed = self._changed = asyncio.Event()
        running: dict[IssuerKeys, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    changed.clear()
                    sources = self._sources()
                    for gone in running.keys() - set(sources):
                        running.pop(gone).cancel()
                    for source in sources:
                        if source not in running:
                            source.open()
                            running[source] = tasks.create_task(source.run())
                    await changed.wait()
        finally:
            self._changed = None
