"""What a signed token opened ends with its key, and with the rules by which it was believed (security cases C5.11)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.middleware.authentication.issuing import (
    NOW,
    SUBJECT,
    claims,
    issuer,
    jwks,
    key,
    presenting,
    signed,
    token,
    write_keys,
)

from aggmw.contracts.drain import Drain
from aggmw.contracts.identity import Identity
from aggmw.errors import ConfigurationError, InvalidCredentials
from aggmw.middleware.authentication import JWTAuthenticator, MappedClaim, TokenCache


def made(path: Path, **options: Any) -> JWTAuthenticator:
    return JWTAuthenticator([issuer(keys=path, **options)], clock=lambda: NOW, least_interval=0.0)


async def read_again(authenticator: JWTAuthenticator) -> None:
    """A token of a key that there is not is refused when the keys were read once more."""
    with pytest.raises(InvalidCredentials):
        await authenticator.authenticate(presenting(token(key("nobody's"))))


async def opened(authenticator: JWTAuthenticator | TokenCache, bearer: bytes) -> Drain:
    """What tells whoever goes on by this token that it must end."""
    identity = await authenticator.authenticate(presenting(bearer))
    assert isinstance(identity, Identity)
    assert identity.credential.withdrawal is not None
    return identity.credential.withdrawal


async def test_key_taken_out(tmp_path: Path) -> None:
    """C5.11: with its key, also what is remembered ends; a key that stays, and one that is added, end nothing."""
    path = write_keys(tmp_path / "keys.json", key("one"), key("two"))
    async with made(path) as authenticator:
        cache = TokenCache([authenticator], clock=lambda: NOW)
        one, two = [await opened(cache, token(key(name))) for name in ("one", "two")]
        unnamed = await opened(cache, signed(claims(), key("one"), header={"kid": None}))
        write_keys(path, key("three"), key("two"), key("one"))
        await read_again(authenticator)
        assert await opened(cache, token(key("three")))
        assert [each.begun for each in (one, two, unnamed)] == [False] * 3
        write_keys(path, key("three"), key("two"))
        await read_again(authenticator)
        assert (one.begun, unnamed.begun, two.begun) == (True, True, False)


@pytest.mark.parametrize(
    "document",
    [
        lambda: jwks({**key("one").as_dict(private=False), "kid": "renamed"}),
        lambda: jwks({**key("other").as_dict(private=False), "kid": "one"}),
    ],
)
async def test_key_by_another_name(tmp_path: Path, document: Callable[[], bytes]) -> None:
    """A token whose key is called otherwise by now, or whose key's name is another key's, is believed no more."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    async with made(path) as authenticator:
        one = await opened(authenticator, token(key("one")))
        path.write_bytes(document())
        await read_again(authenticator)
        assert one.begun


async def test_no_keys_end_nothing(tmp_path: Path) -> None:
    """A key set that cannot be read leaves the last good one, and what goes on by it."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    async with made(path) as authenticator:
        one = await opened(authenticator, token(key("one")))
        for document in (b"<html>", b'{"keys": []}'):
            path.write_bytes(document)
            await read_again(authenticator)
        assert not one.begun


@pytest.mark.parametrize(
    "changed",
    [
        {"audiences": ("other",)},
        {"username": MappedClaim("sub", prefix="x:")},
        {"algorithms": ("RS256",)},
        {"system_names": True},
    ],
)
async def test_other_rules(tmp_path: Path, changed: dict[str, Any]) -> None:
    """Whoever was believed by other rules comes back and is judged by these; the same rules end nothing."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    authenticator = made(path)
    async with authenticator:
        one = await opened(authenticator, token(key("one")))
        authenticator.reload([issuer(keys=path)])
        assert not one.begun
        with pytest.raises(ConfigurationError):
            authenticator.reload([issuer(keys=path, algorithms=("none",))])
        assert not one.begun
        assert await opened(authenticator, token(key("one"))) is one
        authenticator.reload([issuer(keys=path, **changed)])
        assert one.begun


async def test_issuer_taken_out(tmp_path: Path) -> None:
    """An issuer that is gone takes with it what its tokens opened, and nobody else's."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    second = issuer(url="https://second.example", keys=path, username=SUBJECT)
    authenticator = JWTAuthenticator([issuer(keys=path), second], clock=lambda: NOW)
    async with authenticator:
        one = await opened(authenticator, token(key("one")))
        two = await opened(authenticator, token(key("one"), iss=second.url))
        authenticator.reload([second])
        assert (one.begun, two.begun) == (True, False)


async def test_keys_elsewhere(tmp_path: Path) -> None:
    """Keys that come from another place end nothing while they are the same."""
    path = write_keys(tmp_path / "keys.json", key("one"), key("two"))
    authenticator = made(path)
    async with authenticator:
        one, two = [await opened(authenticator, token(key(name))) for name in ("one", "two")]
        elsewhere = write_keys(tmp_path / "elsewhere.json", key("two"))
        authenticator.reload([issuer(keys=elsewhere)])
        assert not one.begun
        assert await opened(authenticator, token(key("two"))) is two
        assert (one.begun, two.begun) == (True, False)


async def test_reload_while_it_waits_for_keys(tmp_path: Path) -> None:
    """A token that waited for newer keys is judged by the rules that hold when it is believed."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    authenticator = made(path)
    async with authenticator:
        await opened(authenticator, token(key("one")))
        write_keys(path, key("two"))
        waiting = asyncio.create_task(authenticator.authenticate(presenting(token(key("two")))))
        await asyncio.sleep(0)
        authenticator.reload([issuer(keys=path, username=MappedClaim("sub", prefix="later:"))])
        identity = await waiting
        assert identity is not None
        assert identity.user == "later:jane"
        assert identity.credential.withdrawal is not None
        assert not identity.credential.withdrawal.begun
