"""The request that another proxy asks about, read from the fields in which that proxy says it.

nginx has no words of its own for it: the fields are those of the example in the documentation of `auth_request`.
Traefik's are those of its `forwardAuth`. Envoy's `ext_authz` over HTTP sends method and path as they are.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, TypeAlias, get_args

from aggmw.asgi.headers import first, fold, values
from aggmw.asgi.types import Headers
from aggmw.errors import StatusError

__all__ = ["CALLER", "PROXIES", "Proxy", "Question", "is_handshake", "read", "subprotocols_of"]

Proxy: TypeAlias = Literal["nginx", "traefik", "envoy"]
PROXIES: tuple[Proxy, ...] = get_args(Proxy)

CALLER = (b"x-auth-request-user", b"x-auth-request-groups")
"""In these fields the page behind reads who the caller is. The proxy replaces a client's own by these names alone."""


class Question(NamedTuple):
    """The original request.

    Attributes:
        method: as sent; "" where it is the question's own.
        target: path and query as sent; None where they are the question's own, below the mount.
        host: of its `Host` field; empty where there was none.
        scheme: "http" or "https"; "" where it is not said.
    """

    method: str
    target: bytes | None
    host: bytes
    scheme: str


class _Fields(NamedTuple):
    method: bytes | None
    uri: bytes | None
    host: bytes


_FIELDS: dict[Proxy, _Fields] = {
    "nginx": _Fields(b"x-original-method", b"x-original-uri", b"host"),
    "traefik": _Fields(b"x-forwarded-method", b"x-forwarded-uri", b"x-forwarded-host"),
    "envoy": _Fields(None, None, b"host"),
}
_SCHEME = b"x-forwarded-proto"
_HANDSHAKE = (b"sec-websocket-key", b"sec-websocket-version")
_TOKEN = re.compile(r"[^,\s]+")


def read(proxy: Proxy, headers: Headers) -> Question:
    """What is asked about. The target is not looked into: that is for the one parser of paths.

    Args:
        proxy: whose words they are.
        headers: of the question, names in lower case.

    Raises:
        StatusError: 500 for a field that the proxy has to set and did not; 400 for one that is there more than once, in
            whatever spelling: the client of that proxy has sent one of them. 400, too, for the caller's fields in
            another spelling, in which they would reach the page.
    """
    for key, _ in headers:
        if (name := _folded(key)) in CALLER and key != name:
            raise StatusError(
                400, "BadRequest", f"a field is there that a page may take for {_shown(name)}, in another spelling"
            )
    fields = _FIELDS[proxy]
    said = {name: _one(headers, name) for name in (*fields, _SCHEME) if name is not None}
    method, uri = ("", None) if fields.method is None else (_set(said, fields.method).decode("latin-1"), fields.uri)
    scheme = (said[_SCHEME] or b"").lower()
    return Question(
        method,
        None if uri is None else _set(said, uri),
        said[fields.host] or b"",
        scheme.decode() if scheme in (b"http", b"https") else "",
    )


def is_handshake(method: str, headers: Headers) -> bool:
    """Whether the original request opens a WebSocket, as far as its fields still say so.

    Proxies take `Upgrade` out of a question. No page of a browser can leave out the others.
    """
    return method == "GET" and any(values(headers, name) for name in _HANDSHAKE)


def subprotocols_of(headers: Headers) -> list[str]:
    """The WebSocket subprotocols that are offered."""
    found = b",".join(values(headers, b"sec-websocket-protocol"))
    return _TOKEN.findall(found.decode("latin-1"))


def _one(headers: Headers, name: bytes) -> bytes | None:
    """The one value of a field, or None; receivers fold names differently, so every spelling counts as the field."""
    found = [value for key, value in headers if _folded(key) == name]
    if len(found) > 1 or (found and first(headers, name) is None):
        raise StatusError(400, "BadRequest", f"{_shown(name)} is there more than once, or in another spelling")
    return found[0] if found else None


def _folded(name: bytes) -> bytes:
    return fold(name).strip(b"-")


def _set(said: dict[bytes, bytes | None], name: bytes) -> bytes:
    value = said[name]
    if not value:
        raise StatusError(
            500, "InternalError", f"Internal error occurred: the proxy in front did not set {_shown(name)}"
        )
    return value


def _shown(name: bytes) -> str:
    return name.decode().title()
