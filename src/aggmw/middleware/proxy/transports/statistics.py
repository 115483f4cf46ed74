"""What the pools of a transport do at the moment, as values and as samples for the metrics page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aggmw.contracts.metrics import Sample
from aggmw.middleware.proxy.balance import Balance

__all__ = ["PoolStatistics", "balance_samples", "samples_of"]

_CONNECTIONS = "aggmw_upstream_connections"
_CONNECTIONS_HELP = "Connections to a backend: taken by an exchange or being dialled, or idle."
_WAITING = "aggmw_upstream_waiting_requests"
_WAITING_HELP = "Requests that wait for a connection to a backend."
_CONNECTIONS_LIMIT = "aggmw_upstream_connections_limit"
_CONNECTIONS_LIMIT_HELP = "Connections that one backend may have at most; more requests wait."
_WAITING_LIMIT = "aggmw_upstream_waiting_requests_limit"
_WAITING_LIMIT_HELP = "Requests that may wait for one backend at most; more are refused."


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """The connections to one address at one moment.

    Args:
        address: host and port, or the path of a Unix socket.
        taken: connections that carry an exchange or are being dialled.
        idle: open connections that nobody uses.
        waiting: exchanges that wait for a connection.
    """

    address: str
    taken: int
    idle: int
    waiting: int

    def __add__(self, other: PoolStatistics) -> PoolStatistics:
        """Both together, under the address of this one."""
        return PoolStatistics(
            self.address, self.taken + other.taken, self.idle + other.idle, self.waiting + other.waiting
        )


def samples_of(statistics: Iterable[PoolStatistics], *, connections: int, waiting: int) -> Iterator[Sample]:
    """Samples by backend, and the limits that hold for each.

    Args:
        connections, waiting: the limits.
    """
    for each in statistics:
        backend = ("backend", each.address)
        for state, number in (("taken", each.taken), ("idle", each.idle)):
            labels = (backend, ("state", state))
            yield Sample(_CONNECTIONS, _CONNECTIONS_HELP, "gauge", labels, number)
        yield Sample(_WAITING, _WAITING_HELP, "gauge", (backend,), each.waiting)
    yield Sample(_CONNECTIONS_LIMIT, _CONNECTIONS_LIMIT_HELP, "gauge", (), connections)
    yield Sample(_WAITING_LIMIT, _WAITING_LIMIT_HELP, "gauge", (), waiting)


_ENDPOINT_GAUGES = (
    ("requests_in_flight", "in_flight", "Requests that are under way at an endpoint of several, streams included."),
    ("ejected", "out", "Services that leave an endpoint out at the moment."),
)
_ENDPOINT_COUNTERS = (
    ("requests", "requests", "Requests that went to an endpoint of several."),
    ("failures", "failed", "Requests at which an endpoint of several failed."),
    ("ejections", "ejections", "Times that an endpoint was left out."),
    ("retries", "retried", "Requests that went on to another endpoint, by the one that failed."),
    ("retries_refused", "refused", "Requests that did not go on to another endpoint, because of the budget."),
    ("desperate_requests", "desperate", "Requests to an endpoint that is left out, because no other works either."),
)
_REFUSED = "aggmw_balanced_requests_refused_total"
_REFUSED_HELP = "Requests for a service of several endpoints that were refused, because too many were under way."


def balance_samples(balances: Iterable[Balance]) -> Iterator[Sample]:
    """Samples by endpoint, and by service what has no endpoint."""
    for balance in balances:
        for endpoint in balance.endpoints:
            labels = (("backend", endpoint.address),)
            for name, attribute, meaning in _ENDPOINT_GAUGES:
                yield Sample(f"aggmw_endpoint_{name}", meaning, "gauge", labels, float(getattr(endpoint, attribute)))
            for name, attribute, meaning in _ENDPOINT_COUNTERS:
                value = float(getattr(endpoint, attribute))
                yield Sample(f"aggmw_endpoint_{name}_total", meaning, "counter", labels, value)
        yield Sample(_REFUSED, _REFUSED_HELP, "counter", (("service", balance.name),), balance.refused)
