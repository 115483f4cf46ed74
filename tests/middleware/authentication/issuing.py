"""An issuer of tokens for tests: keys, its key set, and tokens of every kind."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from aggmw.contracts.identity import Presented
from aggmw.middleware.authentication import JWTIssuer, MappedClaim

URL = "https://idp.example"
NOW = 1_800_000_000.0
SUBJECT = MappedClaim("sub", prefix="")
Key = RSAKey | ECKey | OKPKey


def key(kid: str, kind: str = "P-256") -> Key:
    """A key pair; the same for the same name. RSA by the number of bits."""
    return _made(kid, kind)


@cache
def _made(kid: str, kind: str) -> Key:
    parameters: Any = {"kid": kid} if kid else None
    if kind.isdigit():
        return RSAKey.generate_key(int(kind), parameters)
    if kind.startswith("Ed"):
        return OKPKey.generate_key(kind, parameters)  # type: ignore[arg-type]
    return ECKey.generate_key(kind, parameters)  # type: ignore[arg-type]


def jwks(*keys: Key | Mapping[str, Any]) -> bytes:
    """A key set of public keys, and of whatever else is given as a mapping."""
    return json.dumps(
        {"keys": [dict(each) if isinstance(each, Mapping) else dict(each.as_dict(private=False)) for each in keys]}
    ).encode()


def encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def claims(**others: Any) -> dict[str, Any]:
    """The claims of a good token of jane's; None takes one away."""
    base: dict[str, Any] = {"iss": URL, "aud": "aggmw", "sub": "jane", "exp": NOW + 600, "iat": NOW - 5}
    return {name: value for name, value in (base | others).items() if value is not None}


def signed(
    payload: Mapping[str, Any] | bytes, by: Key, algorithm: str = "ES256", header: Mapping[str, Any] | None = None
) -> bytes:
    """A token with this payload. The header can be changed at will, the signature is right for it."""
    fields: dict[str, Any] = {"alg": algorithm}
    if by.kid is not None:
        fields["kid"] = by.kid
    fields |= header or {}
    fields = {name: value for name, value in fields.items() if value is not None}
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    text = encode(json.dumps(fields).encode()) + b"." + encode(body)
    return text + b"." + encode(JWSRegistry.algorithms[algorithm].sign(text, by))


def token(by: Key | None = None, **others: Any) -> bytes:
    """A good token of jane's, but for what is said."""
    return signed(claims(**others), by or key("one"))


def presenting(bearer: bytes | str) -> Presented:
    value = bearer if isinstance(bearer, bytes) else bearer.encode()
    return Presented(((b"host", b"x"), (b"authorization", b"Bearer " + value)))


def issuer(**options: Any) -> JWTIssuer:
    """The issuer that `claims` are of."""
    values: dict[str, Any] = {"url": URL, "audiences": ("aggmw",), "username": SUBJECT}
    return JWTIssuer(**(values | options))


class Published:
    """What an issuer publishes: a `ReadKeys` that counts, waits when told to, and fails when told to."""

    def __init__(self, *keys: Key | Mapping[str, Any]) -> None:
        self.document = jwks(*keys)
        self.error: Exception | None = None
        self.reads = 0
        self.hold: Callable[[], Awaitable[None]] | None = None

    async def __call__(self) -> bytes:
        self.reads += 1
        document, error = self.document, self.error
        if self.hold is not None:
            await self.hold()
        if error is not None:
            raise error
        return document


def write_keys(path: Path, *keys: Key) -> Path:
    path.write_bytes(jwks(*keys))
    return path
