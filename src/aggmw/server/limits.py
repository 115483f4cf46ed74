"""What one client may cost: the bounds that the door keeps."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["DoorLimits"]


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """Bounds on one connection. Sizes are bytes, times seconds.

    Times are kept by one sweep over all connections, so they end up to a quarter of themselves (at most half a second)
    late.

    Args:
        head_bytes: request line and header fields together; a request's trailers and chunk extensions are held to the
            same. More is 431.
        head_fields: how many header fields, and how many trailers. More is 431.
        head_seconds: from the first byte of a head to its last (408), and how long a new connection may stay silent
            before it is closed without a word.
        body_seconds: how long the application may wait for `body_bytes` of a request body. Time in which the
            application does not ask for the body does not count. Longer is 408, or the end of the connection when the
            response has begun.
        body_bytes: how much each `body_seconds` of waiting must bring; 1 means any progress will do.
        write_seconds: how long a client may leave a full send buffer untouched before the connection is cut.
        linger_seconds: how long a connection that is to be closed is still read, so that a client in the middle of
            sending gets to see its answer.
        surplus_bytes: how much is read and thrown away: what comes behind a request that is not answered yet, the rest
            of a body that nobody wants, and what arrives while lingering; what comes after that then stays unread. An
            answer that is ready before the rest of a larger body says that the connection ends with it.
        connections: open connections of the server in all, WebSockets among them; further ones are closed at once, with
            a warning in the log. What memory a process can need follows from it, see the page about cancellation and
            memory; it needs as many file descriptors, and one more for each connection to a backend. 0 is no limit.
        connections_per_peer: open connections from one address; further ones are closed at once. 0 is no limit, and the
            default: behind a load balancer or an address translation every client has the same address, and a limit
            would be an outage. Set it where clients connect directly.
    """

    head_bytes: int = 65_536
    head_fields: int = 200
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    body_bytes: int = 1_024
    write_seconds: float = 60.0
    linger_seconds: float = 2.0
    surplus_bytes: int = 262_144
    connections: int = 10_000
    connections_per_peer: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            least = 0 if field.name.startswith("connections") else 1e-9
            if getattr(self, field.name) < least:
                raise ValueError(f"{field.name} must be positive")

    @property
    def tick(self) -> float:
        """How often the sweep has to look."""
        shortest = min(self.head_seconds, self.body_seconds, self.write_seconds, self.linger_seconds)
        return max(0.01, min(0.5, shortest / 4))
