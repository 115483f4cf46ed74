"""A flood of bad tokens on everything that judges tokens at once: caches, issuers, and the reading of keys (P8)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tests.middleware.authentication.issuing import NOW, Published, claims, issuer, key, presenting, signed

from aggmw.contracts.identity import EXPLICIT, Identity
from aggmw.contracts.tokens import NO_AUDIENCES
from aggmw.errors import InvalidCredentials
from aggmw.middleware.authentication import JWTAuthenticator, TokenCache
from aggmw.testing import VirtualClock

MANY, SIGNED = 100_000, 100
INTERVAL = 2.0


class Others:
    """Knows tokens that are not signed, and counts what it is asked."""

    revision = object()

    def __init__(self) -> None:
        self.asked = 0

    async def authenticate_token(self, token: bytes, audiences: frozenset[str] = NO_AUDIENCES) -> Identity | None:
        self.asked += 1
        return Identity(token.decode(), credential=EXPLICIT) if token.startswith(b"good") else None


async def known(cache: TokenCache, tokens: Sequence[bytes]) -> list[Identity | None]:
    found = []
    for number, token in enumerate(tokens):
        found.append(await cache.authenticate(presenting(token)))
        if number % 500 == 0:
            await asyncio.sleep(0)
    return found


async def test_p8_c5_12_flood_among_100_000_good_ones(clock: VirtualClock, tmp_path: Path) -> None:
    """P8, C3, C5.12: 100,000 good tokens stay remembered, as they were; the issuer is asked once in an interval."""
    published, others = Published(key("one")), Others()
    issuers = JWTAuthenticator([issuer(keys=tmp_path / "none")], clock=lambda: NOW, least_interval=INTERVAL)
    (source,) = issuers._sources()
    source._read = published
    cache = TokenCache([issuers, others], size=MANY, clock=lambda: NOW)
    good = [signed(claims(jti=str(number)), key("one")) for number in range(SIGNED)]
    good += [b"good-%d" % number for number in range(MANY - SIGNED)]
    async with issuers:
        await clock.settle()
        before = await known(cache, good)
        asked, reads = others.asked, published.reads
        began = clock.time()
        waiting: list[asyncio.Task[object]] = []
        for burst in range(50):
            for number in range(100):
                name = f"unknown-{burst}-{number}"
                bad = signed(claims(), key("another"), header={"kid": name}) if number < 4 else name.encode()
                waiting.append(asyncio.create_task(cache.authenticate(presenting(bad))))
            await clock.advance(0.4)
        took = clock.time() - began
        assert published.reads - reads <= 1 + took / INTERVAL
        assert published.reads > reads
        await clock.advance(INTERVAL * 2)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {InvalidCredentials}
        flooded, reads = others.asked, published.reads
        after = await known(cache, good)
        assert flooded - asked == len(waiting)
        assert (others.asked, published.reads) == (flooded, reads)
        assert all(one is other for one, other in zip(before, after, strict=True))
        assert len(cache._bad) <= 4000
