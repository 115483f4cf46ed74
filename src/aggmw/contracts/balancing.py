"""How the requests of a service are shared out among several endpoints: `Balancing`, a value that names the choices."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["STICKY", "Balancing"]

STICKY = ("", "identity", "client")
"""By what callers may be kept at one endpoint."""

_LEAST = {
    "failures": 1,
    "eject_seconds": 0.001,
    "eject_longest_seconds": 0.001,
    "retries": 0,
    "retry_share": 0,
    "retries_per_second": 0,
    "attempt_seconds": 0.001,
    "requests": 1,
}


@dataclass(frozen=True, slots=True)
class Balancing:
    """How endpoints are chosen, left out, and asked in place of one another.

    An endpoint fails when it cannot be reached, breaks off, does not answer in time, or answers 502, 503 or 504; not by
    being busy.

    Args:
        failures: so many in a row, and an endpoint is left out.
        eject_seconds: for so long at first, up to a fifth less. Then one request is let through, a safe one if there is
            any; if it succeeds, the endpoint is in again, otherwise it is left out for twice as long as before.
        eject_longest_seconds: for so long at most; after so long without being left out, it begins with `eject_seconds`
            again.
        eject_share: of all endpoints at most so many are left out, rounded up, and never the last one. When none is
            left that works, all are asked.
        retries: how often a request goes on to yet another endpoint: one of which nothing was sent, whatever it is; one
            that was sent, if it is GET, HEAD or OPTIONS without a body, and nothing of an answer went to the client.
        retry_share, retries_per_second: of what was sent, so much is repeated at most: a share of all requests, and so
            many more in a second, both counted over some 10 seconds.
        attempt_seconds: so long an endpoint may take for the head of an answer to what can be repeated, but for watches
            and the like; then another one is asked. None: as long as the request itself.
        requests: so many are under way at most, over all endpoints, watches and WebSockets included; more are refused
            at once. None: as many as the connections allow.
        sticky: keep callers at one endpoint, as long as it is not left out: by "identity", the user's name; by
            "client", the address that it comes from, which is also taken where there is no identity. "": everybody goes
            where the least is under way.

    Raises:
        ValueError: an option that is out of bounds.
    """

    failures: int = 5
    eject_seconds: float = 10.0
    eject_longest_seconds: float = 300.0
    eject_share: float = 0.5
    retries: int = 2
    retry_share: float = 0.2
    retries_per_second: float = 10.0
    attempt_seconds: float | None = None
    requests: int | None = None
    sticky: str = ""

    def __repr__(self) -> str:
        given = [(each.name, getattr(self, each.name), each.default) for each in fields(self)]
        return f"Balancing({', '.join(f'{name}={value!r}' for name, value, usual in given if value != usual)})"

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:  # also when it is no number at all
                raise ValueError(f"{name} must be at least {least:g}, not {value!r}")
        if not 0 <= self.eject_share <= 1:
            raise ValueError(f"eject_share must be from 0 to 1, not {self.eject_share!r}")
        if self.eject_longest_seconds < self.eject_seconds:
            raise ValueError("eject_longest_seconds must not be less than eject_seconds")
        if self.sticky not in STICKY:
            raise ValueError(f"sticky must be one of {', '.join(map(repr, STICKY))}, not {self.sticky!r}")
