"""TokenCache: what is remembered of tokens, and when it no longer holds (security cases C3, C5.12; P8)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.middleware.authentication.issuing import NOW, issuer, key, presenting, token, write_keys

from aggmw.contracts.identity import Credential, Identity, Presented
from aggmw.contracts.tokens import NO_AUDIENCES
from aggmw.errors import InvalidCredentials
from aggmw.middleware.authentication import AuthenticatorUnion, JWTAuthenticator, StaticTokens, TokenCache


class Clock:
    """Seconds since the epoch, moved by hand."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Judge:
    """Counts what it is asked. Knows every token that begins with "good"."""

    def __init__(self, expires: float | None = NOW + 600, prefix: bytes = b"good") -> None:
        self.revision: object = object()
        self.asked: list[bytes] = []
        self.error: Exception | None = None
        self.go: asyncio.Event | None = None
        self._expires = expires
        self._prefix = prefix

    async def authenticate_token(self, token: bytes, audiences: frozenset[str] = NO_AUDIENCES) -> Identity | None:
        self.asked.append(token)
        if self.go is not None:
            await self.go.wait()
        if self.error is not None:
            raise self.error
        if audiences and "vault" not in audiences:
            raise InvalidCredentials("for somebody else")
        if not token.startswith(self._prefix):
            raise InvalidCredentials("unknown")
        return Identity(token.decode(), credential=Credential(False, self._expires))


def cached(*judges: Any, clock: Callable[[], float] | None = None, **options: Any) -> TokenCache:
    return TokenCache(judges, clock=clock or Clock(), **options)


async def refused(cache: TokenCache, bearer: bytes) -> str:
    with pytest.raises(InvalidCredentials) as caught:
        await cache.authenticate(presenting(bearer))
    return str(caught.value)


async def test_good_token_is_judged_once() -> None:
    """And the same identity is given, for what is remembered of identities elsewhere."""
    judge = Judge()
    cache = cached(judge)
    first = await cache.authenticate(presenting(b"good"))
    assert await cache.authenticate(presenting(b"good")) is first
    assert await cache.authenticate_token(b"good") is first
    assert judge.asked == [b"good"]


async def test_bad_token_is_judged_once_for_a_while() -> None:
    """A refusal is remembered for ten seconds, with its reason."""
    judge, clock = Judge(), Clock()
    cache = cached(judge, clock=clock)
    assert await refused(cache, b"bad") == await refused(cache, b"bad") == "Judge: unknown"
    assert judge.asked == [b"bad"]
    clock.now += 10
    await refused(cache, b"bad")
    assert judge.asked == [b"bad", b"bad"]


async def test_expiry() -> None:
    """A token is remembered until it expires, not a moment longer."""
    judge, clock = Judge(), Clock()
    cache = cached(judge, clock=clock)
    await cache.authenticate(presenting(b"good"))
    clock.now = NOW + 599.9
    await cache.authenticate(presenting(b"good"))
    assert len(judge.asked) == 1
    clock.now = NOW + 600
    judge.error = InvalidCredentials("expired")
    await refused(cache, b"good")


async def test_time_to_live() -> None:
    """Whoever cannot tell when an answer ends says how long it is remembered."""
    judge, clock = Judge(expires=None), Clock()
    judge.remember_seconds = 120.0  # type: ignore[attr-defined]
    cache = cached(judge, clock=clock)
    await cache.authenticate(presenting(b"good"))
    clock.now += 119
    await cache.authenticate(presenting(b"good"))
    assert len(judge.asked) == 1
    clock.now += 1
    await cache.authenticate(presenting(b"good"))
    assert len(judge.asked) == 2


@pytest.mark.parametrize("bearer", [b"good", b"bad"])
async def test_another_revision(bearer: bytes) -> None:
    """With other keys or another configuration, nothing of before holds, good or bad."""
    judge = Judge()
    cache = cached(judge)
    for _ in range(2):
        try:
            await cache.authenticate(presenting(bearer))
        except InvalidCredentials:
            assert bearer == b"bad"
    assert len(judge.asked) == 1
    judge.revision = object()
    judge.error = InvalidCredentials("no more")
    assert await refused(cache, bearer) == "Judge: no more"


async def test_change_while_it_is_judged() -> None:
    """An answer rests on what held when it was asked for."""

    class Changing(Judge):
        async def authenticate_token(self, token: bytes, audiences: frozenset[str] = NO_AUDIENCES) -> Identity | None:
            found = await super().authenticate_token(token, audiences)
            self.revision = object()
            return found

    judge = Changing()
    cache = cached(judge)
    await cache.authenticate(presenting(b"good"))
    await cache.authenticate(presenting(b"good"))
    assert len(judge.asked) == 2


async def test_broken_is_not_remembered() -> None:
    """A failure of ours or of a server says nothing about the token."""
    judge = Judge()
    judge.error = ConnectionError()
    cache = cached(judge)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await cache.authenticate(presenting(b"good"))
    judge.error = None
    assert await cache.authenticate(presenting(b"good"))


async def test_broken_does_not_stop_the_next() -> None:
    """One authenticator that fails leaves the others working; when none knows the token, it decides."""
    broken, judge = Judge(), Judge()
    broken.error = ConnectionError()
    cache = cached(broken, judge)
    assert await cache.authenticate(presenting(b"good"))
    with pytest.raises(ConnectionError):
        await cache.authenticate(presenting(b"bad"))


async def test_nobody_elses_token_is_no_anonymous_caller() -> None:
    """A token that nobody claims is bad."""

    class Shrugging(Judge):
        async def authenticate_token(self, token: bytes, audiences: frozenset[str] = NO_AUDIENCES) -> Identity | None:
            return None

    assert await refused(cached(Shrugging()), b"what") == "the bearer token is nobody's"
    assert await cached(Shrugging()).authenticate(Presented()) is None


async def test_others_change_nothing_for_a_good_token() -> None:
    """Its own authenticator alone says what it rests on; a refusal rests on all."""
    one, two = Judge(prefix=b"one"), Judge(prefix=b"two")
    cache = cached(one, two)
    await cache.authenticate(presenting(b"two"))
    await refused(cache, b"bad")
    one.revision = object()
    await cache.authenticate(presenting(b"two"))
    await refused(cache, b"bad")
    assert one.asked == [b"two", b"bad", b"bad"]
    assert two.asked == [b"two", b"bad", b"bad"]


async def test_audiences_are_part_of_the_question() -> None:
    """A token that is good for one audience says nothing for another."""
    judge = Judge()
    cache = cached(judge)
    assert await cache.authenticate_token(b"good", frozenset({"vault"}))
    with pytest.raises(InvalidCredentials):
        await cache.authenticate_token(b"good", frozenset({"bank"}))
    assert await cache.authenticate_token(b"good")
    presented = Presented(presenting(b"good").headers, audiences=frozenset({"vault"}))
    assert await cache.authenticate(presented)
    assert len(judge.asked) == 3


async def test_no_confusion_of_likes(tmp_path: Path) -> None:
    """C3, "cache confusion": tokens with the same beginning, end, key and subject never share an answer."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    async with JWTAuthenticator([issuer(keys=path)], clock=lambda: NOW, least_interval=0.0) as authenticator:
        cache = cached(authenticator)
        for number in range(20):
            jti = f"token-{number}"
            found = await cache.authenticate(presenting(token(jti=jti)))
            assert found is not None
            assert found.extra["authentication.kubernetes.io/credential-id"] == (f"JTI={jti}",)
        good = token()
        assert await cache.authenticate(presenting(good))
        head, body, signature = good.split(b".")
        for other in (
            b".".join((head, token(sub="eve").split(b".")[1], signature)),
            b".".join((head, body, token().split(b".")[2][:-8] + b"AAAAAAAA")),
            good + b"A",
            good[:-1],
            good.swapcase(),
        ):
            await refused(cache, other)


async def all_of(cache: TokenCache, bearers: list[bytes]) -> None:
    for number, each in enumerate(bearers):
        if number % 1000 == 0:
            await asyncio.sleep(0)
        try:
            await cache.authenticate_token(each)
        except InvalidCredentials:
            assert each.startswith(b"bad")


async def test_flood_of_bad_tokens_puts_no_good_one_out() -> None:
    """C5.12, P8: 100,000 good tokens stay remembered through a flood of bad ones, which take a bounded room."""
    judge = Judge()
    cache = cached(judge, size=100_000, refused_size=100)
    good = [b"good-%d" % number for number in range(100_000)]
    await all_of(cache, good)
    await all_of(cache, [b"bad-%d" % number for number in range(20_000)])
    judge.asked.clear()
    await all_of(cache, good)
    assert judge.asked == []
    await refused(cache, b"bad-19999")
    await refused(cache, b"bad-0")
    assert judge.asked == [b"bad-0"]


async def test_bounded() -> None:
    """The oldest of too many good tokens is judged again."""
    judge = Judge()
    cache = cached(judge, size=2)
    for bearer in (b"good-1", b"good-2", b"good-3", b"good-2", b"good-3", b"good-1"):
        await cache.authenticate(presenting(bearer))
    assert judge.asked == [b"good-1", b"good-2", b"good-3", b"good-1"]


async def test_tokens_are_not_kept() -> None:
    """Only their digests, keyed by a secret of the process, are in memory."""
    cache = cached(Judge())
    await cache.authenticate(presenting(b"good-s3cr3t"))
    await refused(cache, b"bad-s3cr3t")
    assert b"s3cr3t" not in repr((cache._good.keys(), cache._bad)).encode()
    other = cached(Judge())
    await other.authenticate(presenting(b"good-s3cr3t"))
    assert cache._good.keys() != other._good.keys()


async def test_only_what_judges_tokens_alone() -> None:
    """C5.12: an answer that depends on more than the token is never remembered: such an authenticator is refused."""
    for wrong in (StaticTokens({}), AuthenticatorUnion([])):
        with pytest.raises(TypeError, match="authenticate_token"):
            TokenCache([wrong])  # type: ignore[list-item]


class Slow(Judge):
    """Judges when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go: asyncio.Event = asyncio.Event()


async def begun(cache: TokenCache, bearer: bytes, times: int = 10) -> list[asyncio.Task[Any]]:
    """So many requests with one token, each as far as it comes by itself."""
    tasks = [asyncio.create_task(cache.authenticate(presenting(bearer))) for _ in range(times)]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


@pytest.mark.parametrize(
    ("bearer", "error", "answer"),
    [
        (b"good", None, "good"),
        (b"bad", None, "Slow: unknown"),
        (b"good", RuntimeError("it is down"), "it is down"),
    ],
    ids=["good", "bad", "broken"],
)
async def test_concurrent(bearer: bytes, error: Exception | None, answer: str) -> None:
    """Many requests with one new token: it is judged once, also where that fails, and each gets the answer."""
    judge = Slow()
    judge.error = error
    cache = cached(judge)
    tasks = await begun(cache, bearer)
    other = await begun(cache, b"good-other", 1)
    judge.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert {getattr(each, "user", str(each)) for each in found} == {answer}
    await asyncio.gather(*other, return_exceptions=True)
    assert judge.asked == [bearer, b"good-other"]
    assert not cache._flights


async def test_concurrent_and_cancelled() -> None:
    """Who leaves takes nobody along: the one that judges leaves it to another, and one that waits just goes."""
    judge = Slow()
    cache = cached(judge)
    tasks = await begun(cache, b"good")
    for gone in (tasks[0], tasks[4]):
        gone.cancel()
    judge.asked.clear()
    for _ in range(5):
        await asyncio.sleep(0)
    assert judge.asked == [b"good"]
    judge.go.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [getattr(each, "user", type(each).__name__) for each in found] == [
        "CancelledError" if number in (0, 4) else "good" for number in range(10)
    ]
    assert judge.asked == [b"good"]
    assert not cache._flights


async def test_concurrent_and_all_cancelled() -> None:
    """Nothing is left of a judgement that nobody waits for, and the next request has one of its own."""
    judge = Slow()
    cache = cached(judge)
    tasks = await begun(cache, b"good")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not cache._flights
    judge.go.set()
    assert await cache.authenticate(presenting(b"good")) is not None


async def test_concurrent_with_another_revision() -> None:
    """Who comes with other keys or another configuration gets no answer that rests on those before."""
    judge = Slow()
    cache = cached(judge)
    before = await begun(cache, b"good", 2)
    judge.revision = object()
    after = await begun(cache, b"good", 2)
    assert judge.asked == [b"good", b"good"]
    judge.go.set()
    await asyncio.gather(*before, *after)
    assert not cache._flights


def shown(cache: TokenCache) -> dict[str, float]:
    return {sample.labels[0][1]: sample.value for sample in cache.samples()}


async def test_figures() -> None:
    """How often a token had to be judged, how often not, and how many are remembered."""
    judge = Slow()
    cache = cached(judge)
    tasks = await begun(cache, b"good")
    judge.go.set()
    await asyncio.gather(*tasks)
    assert shown(cache) == {"hit": 9, "miss": 1, "good": 1, "bad": 0}
    for _ in range(2):
        await cache.authenticate(presenting(b"good"))
        await refused(cache, b"bad")
    assert shown(cache) == {"hit": 12, "miss": 2, "good": 1, "bad": 1}


async def test_in_a_union() -> None:
    """A remembered refusal rules anonymous callers out as a new one does."""
    union = AuthenticatorUnion([cached(Judge())])
    for _ in range(2):
        finding = await union.find(presenting(b"bad"))
        assert finding.identity is None
        assert finding.failures
