"""Proxy: forwards to the server of a registered API group, both bodies streamed, with the caller's identity."""

from aggmw.middleware.proxy.middleware import ProxyMiddleware
from aggmw.middleware.proxy.transports.http1 import Http1Transport, TransportLimits

__all__ = ["Http1Transport", "ProxyMiddleware", "TransportLimits"]
