"""ASGI 3 in types: scopes, messages and applications (https://asgi.readthedocs.io/en/latest/specs/).

Scopes and messages are mutable mappings of `Any`, as in Starlette: servers and frameworks add keys of their own, so
narrower types would have to be cast wherever a foreign application is called.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeAlias

__all__ = ["ASGIApp", "DeclaredMiddleware", "Headers", "Message", "Middleware", "Receive", "Scope", "Send"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Middleware: TypeAlias = Callable[[ASGIApp], ASGIApp]
"""What turns an application into an application: a middleware whose options are already bound."""


class DeclaredMiddleware(Protocol):
    """Starlette's `Middleware(cls, *args, **kwargs)`, which is called by nobody but who unpacks it. All of it is `Any`
    because the options are the class's own."""

    @property
    def cls(self) -> Any: ...
    @property
    def args(self) -> Any: ...
    @property
    def kwargs(self) -> Any: ...


Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Header fields in order, names in lower case, frozen."""
