"""Proxy: forwards to the server of a registered API group, both bodies streamed, with the caller's identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aggmw.middleware.proxy.middleware import ProxyMiddleware
from aggmw.middleware.proxy.transports import (
    AsgiTransport,
    BalancedTransport,
    Http1Transport,
    PoolStatistics,
    TransportLimits,
    Transports,
)

if TYPE_CHECKING:
    from aggmw.middleware.proxy.transports.httpx import HttpxTransport

__all__ = [
    "AsgiTransport",
    "BalancedTransport",
    "Http1Transport",
    "HttpxTransport",
    "PoolStatistics",
    "ProxyMiddleware",
    "TransportLimits",
    "Transports",
]


def __getattr__(name: str) -> Any:
    """`HttpxTransport` is imported when it is first used: few need httpx, and it takes longer than all the rest."""
    if name == "HttpxTransport":
        from aggmw.middleware.proxy.transports.httpx import HttpxTransport

        return HttpxTransport
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
