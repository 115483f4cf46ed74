"""ASGI 3 in types: scopes, messages and applications (https://asgi.readthedocs.io/en/latest/specs/).

Scopes and messages are mutable mappings of `Any`, as in Starlette: servers and frameworks add keys of their own, so
narrower types would have to be cast wherever a foreign application is called.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

__all__ = ["ASGIApp", "Headers", "Message", "Middleware", "Receive", "Scope", "Send"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Middleware: TypeAlias = Callable[[ASGIApp], ASGIApp]
"""What turns an application into an application: a middleware whose options are already bound."""

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Header fields in order, names in lower case, frozen."""
