"""Bearer tokens as they are judged: remembered among 100,000 others, and for the first time."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

from aggmw.contracts.identity import Credential, Identity, Presented
from aggmw.contracts.tokens import NO_AUDIENCES
from aggmw.middleware.authentication import JWTAuthenticator, JWTIssuer, MappedClaim, TokenCache

__all__ = ["COLD", "MANY", "REMEMBERED", "token_checks"]

MANY = 100_000
REMEMBERED = "a token, RS256, remembered among 100,000"
COLD = {name: f"a token, {name}, for the first time" for name in ("RS256", "ES256")}


class _Others:
    """Whose tokens fill the cache."""

    revision = object()

    async def authenticate_token(self, token: bytes, audiences: frozenset[str] = NO_AUDIENCES) -> Identity:
        return Identity("somebody", credential=Credential(False, time.time() + 3600))


def token_checks(run: Callable[[Any], Any], *, many: int = MANY) -> Iterator[tuple[str, Callable[[], object]]]:
    """Calls that each judge one token.

    Args:
        run: gives the result of a coroutine that waits for nothing.
        many: how many other tokens are remembered.
    """
    made = {
        "RS256": RSAKey.generate_key(2048, {"kid": "RS256"}),
        "ES256": ECKey.generate_key("P-256", {"kid": "ES256"}),
    }
    presented = {name: _presented(name, key) for name, key in made.items()}
    keys = json.dumps({"keys": [key.as_dict(private=False) for key in made.values()]})
    issuers = asyncio.run(_issuers(keys, presented["ES256"]))
    cache = TokenCache([issuers, _Others()], size=many + 1)
    run(cache.authenticate(presented["RS256"]))
    for number in range(many):
        run(cache.authenticate_token(b"token-%d" % number))
    yield REMEMBERED, lambda: run(cache.authenticate(presented["RS256"]))
    for name, title in COLD.items():
        yield title, partial(_judged, run, issuers, presented[name])


def _judged(run: Callable[[Any], Any], issuers: JWTAuthenticator, presented: Presented) -> object:
    return run(issuers.authenticate(presented))


async def _issuers(keys: str, presented: Presented) -> JWTAuthenticator:
    """One issuer whose keys were read."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "keys.json")
        path.write_text(keys)
        issuer = JWTIssuer(
            "https://idp.example",
            ["aggmw"],
            username=MappedClaim("sub", "idp:"),
            groups=MappedClaim("groups", "idp:"),
            keys=path,
        )
        issuers = JWTAuthenticator([issuer])
        async with issuers:
            await issuers.authenticate(presented)
    return issuers


def _presented(algorithm: str, key: Any) -> Presented:
    now = time.time()
    claims = {"iss": "https://idp.example", "aud": "aggmw", "sub": "alice", "exp": now + 3600, "iat": now, "jti": "1"}
    claims |= {"groups": ["developers", "team-a"], "email": "alice@example.com", "email_verified": True}
    header = {"alg": algorithm, "kid": algorithm, "typ": "JWT"}
    signed = b".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
    token = signed + b"." + _encoded(JWSRegistry.algorithms[algorithm].sign(signed, key))
    return Presented(((b"host", b"127.0.0.1:6443"), (b"authorization", b"Bearer " + token), (b"accept", b"*/*")))


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
