"""Scopes as a server would make them from a request line and header fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from aggmw.asgi.types import Headers, Scope
from aggmw.contracts.connection import Connection

__all__ = ["HeaderInput", "ScopeMaker", "fields"]

HeaderInput = Mapping[str, str] | Iterable[tuple[bytes | str, bytes | str]]
"""Header fields as a test writes them: a mapping, or pairs of text or bytes in any case."""


def fields(headers: HeaderInput) -> list[tuple[bytes, bytes]]:
    """Header fields as a server hands them on: byte pairs in order, names in lower case, text as latin-1."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(_bytes(name).lower(), _bytes(value)) for name, value in pairs]


def _bytes(text: bytes | str) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else bytes(text)


@dataclass(frozen=True, slots=True)
class ScopeMaker:
    """What all requests of one client have in common. See `aggmw.testing.Client` for the fields."""

    root_path: str
    state: dict[str, Any]
    connection: Connection | None
    extensions: Mapping[str, Mapping[str, Any]]
    http_version: str
    scheme: str
    client: tuple[str, int] | None
    server: tuple[str, int | None] | None
    host: bytes | None

    def http(self, method: str, target: str | bytes, headers: Headers) -> Scope:
        return {**self._common("http", target, headers, self.scheme), "method": method}

    def websocket(self, target: str | bytes, headers: Headers, subprotocols: Iterable[str]) -> Scope:
        scheme = "wss" if self.scheme == "https" else "ws"
        scope = self._common("websocket", target, headers, scheme)
        scope["subprotocols"] = list(subprotocols)
        scope["extensions"].setdefault("websocket.http.response", {})
        return scope

    def headers(self, headers: HeaderInput) -> list[tuple[bytes, bytes]]:
        """The client's fields, with Host in front unless they hold one or the client sends none."""
        given = fields(headers)
        if self.host is None or any(name == b"host" for name, _ in given):
            return given
        return [(b"host", self.host), *given]

    def _common(self, kind: str, target: str | bytes, headers: Headers, scheme: str) -> dict[str, Any]:
        raw = target.encode("ascii") if isinstance(target, str) else target
        raw_path, _, query = raw.partition(b"?")
        state = dict(self.state)
        if self.connection is not None:
            state["aggmw.connection"] = self.connection
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "http_version": self.http_version,
            "scheme": scheme,
            "path": self.root_path + unquote_to_bytes(raw_path).decode("utf-8", "replace"),
            "raw_path": self.root_path.encode() + raw_path,
            "query_string": query,
            "root_path": self.root_path,
            "headers": list(headers),
            "client": self.client,
            "server": self.server,
            "state": state,
            "extensions": {name: dict(value) for name, value in self.extensions.items()},
        }
