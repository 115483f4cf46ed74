"""Proxy: forwards to the server of a registered API group, both bodies streamed, with the caller's identity."""

from aggmw.middleware.proxy.middleware import ProxyMiddleware
from aggmw.middleware.proxy.transports import AsgiTransport, Http1Transport, PoolStatistics, TransportLimits, Transports

__all__ = ["AsgiTransport", "Http1Transport", "PoolStatistics", "ProxyMiddleware", "TransportLimits", "Transports"]
