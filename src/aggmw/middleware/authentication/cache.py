"""TokenCache: what bearer tokens were found to be, for as long as that holds (security cases C3, C5.12)."""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from aggmw.asgi.stacking import shown
from aggmw.contracts.identity import Identity, Presented
from aggmw.contracts.metrics import Sample
from aggmw.contracts.options import checked_seams
from aggmw.contracts.tokens import NO_AUDIENCES, TokenAuthenticator
from aggmw.errors import InvalidCredentials, InvalidIdentity
from aggmw.middleware.authentication.bearer import presented_token

__all__ = ["TokenCache"]

_REQUESTS = "authentication_token_cache_request_total"
_REQUESTS_HELP = "Bearer tokens, by whether they had to be judged."
_TOKENS = "aggmw_token_cache_tokens"
_TOKENS_HELP = "Bearer tokens that are remembered."
_Key: TypeAlias = bytes | tuple[bytes, frozenset[str]]
_V = TypeVar("_V")


class _Good(NamedTuple):
    identity: Identity
    until: float
    authenticator: TokenAuthenticator
    revision: object


class _Bad(NamedTuple):
    reason: str
    until: float
    revisions: tuple[object, ...]


class _Flight:
    """One judgement that is going on, for all who ask for it meanwhile.

    Attributes:
        revisions: what it rests on.
        loop: where it goes on; None without one, where nothing can be waited for.
        over: set when it is over; made by the first who waits for that.
        found: what came of it; None while it goes on, and when whoever began it was cancelled.
    """

    __slots__ = ("found", "loop", "over", "revisions")

    def __init__(self, revisions: tuple[object, ...], loop: asyncio.AbstractEventLoop | None) -> None:
        self.revisions = revisions
        self.loop = loop
        self.over: asyncio.Event | None = None
        self.found: Identity | Exception | None = None

    async def end(self) -> Identity | Exception | None:
        """What came of it."""
        if self.over is None:
            self.over = asyncio.Event()
        await self.over.wait()
        return self.found


class TokenCache:
    """Bearer tokens through several authenticators that judge nothing but the token, each answer remembered.

    Good answers hold until the token expires, bad ones for some seconds, both no longer than what they rest on: with
    other keys or another configuration a token is judged anew. The two are kept apart, so that a flood of bad tokens
    puts no good one out; when there are too many, the oldest goes. Only digests of tokens are kept. A new token with
    which several requests come at the same time is judged once.

    Args:
        authenticators: asked in this order until one knows the token. One with an attribute `remember_seconds` has its
            good answers forgotten after so long.
        size: good tokens that are remembered at most, some 2 KiB each.
        refused_size, refused_seconds: bad tokens at most, and for how long.
        clock: seconds since the epoch.

    Raises:
        TypeError: something that cannot judge a token by itself.
    """

    credentials = frozenset({b"authorization"})

    def __init__(
        self,
        authenticators: Sequence[TokenAuthenticator],
        *,
        size: int = 20_000,
        refused_size: int = 4_000,
        refused_seconds: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._members = checked_seams("authenticators", authenticators, "authenticate_token")
        self._size = size
        self._refused_size = refused_size
        self._refused_seconds = refused_seconds
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._good: dict[_Key, _Good] = {}
        self._bad: dict[_Key, _Bad] = {}
        self._flights: dict[_Key, _Flight] = {}
        self._hits = self._misses = 0

    def __repr__(self) -> str:
        return f"TokenCache([{', '.join(map(shown, self._members))}])"

    @property
    def members(self) -> tuple[TokenAuthenticator, ...]:
        """Whose answers are remembered."""
        return self._members

    @property
    def revision(self) -> tuple[object, ...]:
        """As `TokenAuthenticator.revision`, so that caches nest."""
        return tuple(member.revision for member in self._members)

    async def authenticate(self, presented: Presented) -> Identity | None:
        """Whose bearer token it is; None when none is presented.

        Raises:
            InvalidCredentials: it is bad or nobody's, or there are several.
            Exception: an authenticator is broken, and no other knew the token.
        """
        token = presented_token(presented)
        if token is None:
            return None
        # What is remembered is answered at once: this is what nearly every request pays for.
        digest = hashlib.sha256(self._secret + token).digest()
        key: _Key = (digest, presented.audiences) if presented.audiences else digest
        good = self._good.get(key)
        if good is not None and good.revision is good.authenticator.revision and self._clock() < good.until:
            self._hits += 1
            return good.identity
        return await self._judge(key, token, presented.audiences)

    def samples(self) -> Iterable[Sample]:
        """How often a token was known already, and how many are. See `aggmw.contracts.metrics.Source`."""
        for status, value in (("hit", self._hits), ("miss", self._misses)):
            yield Sample(_REQUESTS, _REQUESTS_HELP, "counter", (("status", status),), value)
        for state, tokens in (("good", len(self._good)), ("bad", len(self._bad))):
            yield Sample(_TOKENS, _TOKENS_HELP, "gauge", (("state", state),), tokens)

    async def authenticate_token(self, token: bytes, audiences: frozenset[str] = NO_AUDIENCES) -> Identity:
        """As `authenticate`, of the token alone."""
        digest = hashlib.sha256(self._secret + token).digest()
        return await self._judge((digest, audiences) if audiences else digest, token, audiences)

    async def _judge(self, key: _Key, token: bytes, audiences: frozenset[str]) -> Identity:
        loop = _running_loop()
        while True:
            now = self._clock()
            good = self._good.get(key)
            if good is not None:
                if good.revision == good.authenticator.revision and now < good.until:
                    self._hits += 1
                    return good.identity
                self._good.pop(key, None)
            bad = self._bad.get(key)
            # Before anybody is asked, so that what changes meanwhile counts.
            revisions = self.revision
            if bad is not None:
                if now < bad.until and bad.revisions == revisions:
                    self._hits += 1
                    raise InvalidCredentials(bad.reason)
                self._bad.pop(key, None)
            flight = self._flights.get(key)
            if flight is None or flight.revisions != revisions or flight.loop is not loop:
                return await self._lead(key, token, audiences, _Flight(revisions, loop))
            found = await flight.end()
            if found is None:
                continue
            self._hits += 1
            if isinstance(found, Identity):
                return found
            try:
                raise found
            finally:
                del flight, found  # they would hold each other, by the traceback

    async def _lead(self, key: _Key, token: bytes, audiences: frozenset[str], flight: _Flight) -> Identity:
        """Judge, for all who wait. Whoever is cancelled leaves it to one of them."""
        self._misses += 1
        self._flights[key] = flight
        try:
            flight.found = await self._ask(key, token, audiences, flight.revisions)
            return flight.found
        except Exception as error:
            if flight.over is not None:
                flight.found = error
            raise
        finally:
            if self._flights.get(key) is flight:
                del self._flights[key]
            if flight.over is not None:
                flight.over.set()
            del flight

    async def _ask(self, key: _Key, token: bytes, audiences: frozenset[str], revisions: tuple[object, ...]) -> Identity:
        refusals: list[str] = []
        broken: Exception | None = None
        for member, revision in zip(self._members, revisions, strict=True):
            try:
                identity = await member.authenticate_token(token, audiences)
            except (InvalidCredentials, InvalidIdentity) as error:
                refusals.append(f"{type(member).__name__}: {error}")
            except Exception as error:  # noqa: BLE001  whatever broke in one must not stop the next
                broken = broken or error
            else:
                if identity is not None:
                    self._remember(key, identity, member, revision)
                    return identity
        if broken is not None:
            raise broken
        reason = "; ".join(refusals) or "the bearer token is nobody's"
        if len(self._bad) >= self._refused_size:
            _drop_oldest(self._bad)
        self._bad[key] = _Bad(reason, self._clock() + self._refused_seconds, revisions)
        raise InvalidCredentials(reason)

    def _remember(self, key: _Key, identity: Identity, member: TokenAuthenticator, revision: object) -> None:
        expires = identity.credential.expires
        until = self._clock() + getattr(member, "remember_seconds", math.inf)
        if len(self._good) >= self._size:
            _drop_oldest(self._good)
        self._good[key] = _Good(identity, until if expires is None else min(until, expires), member, revision)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _drop_oldest(remembered: dict[_Key, _V]) -> None:
    del remembered[next(iter(remembered))]
