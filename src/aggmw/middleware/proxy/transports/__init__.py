"""Ways to reach a backend: implementations of `contracts.backends.UpstreamTransport`."""

from aggmw.middleware.proxy.transports.asgi import AsgiTransport
from aggmw.middleware.proxy.transports.balanced import BalancedTransport
from aggmw.middleware.proxy.transports.http1 import Http1Transport, PoolStatistics, TransportLimits
from aggmw.middleware.proxy.transports.switch import Transports

__all__ = ["AsgiTransport", "BalancedTransport", "Http1Transport", "PoolStatistics", "TransportLimits", "Transports"]
