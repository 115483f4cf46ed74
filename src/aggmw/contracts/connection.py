"""The connection a request came on, as the server saw it on the socket: never from a header."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["UNKNOWN", "Connection", "WhenGone"]

WhenGone: TypeAlias = Callable[[Callable[[], None] | None], None]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Connection:
    """One client connection. Compared by identity, so that what was checked once per connection can be remembered.

    `aggmw.server.door.Door` makes one per connection and leaves it in `scope["state"]["aggmw.connection"]`.

    Args:
        peer: address and port of the socket's other end; None for a Unix socket or an unknown server.
        tls: whether the client's side of the connection is encrypted and ends in this process.
        chain: the verified certificate chain in DER, leaf first, root last; empty without a client certificate and
            for a resumed session (OpenSSL does not verify those again).
        trailers_apart: whether the server keeps request trailers out of `scope["headers"]`.
        when_gone: takes what is to be called, once, when the client leaves its current request, whether or not
            somebody awaits `receive`; None takes it back. For whoever cannot ask `receive` because the body that comes
            before the departure has to wait. None where the server does not tell.
    """

    peer: tuple[str, int] | None = None
    tls: bool = False
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    trailers_apart: bool = False
    when_gone: WhenGone | None = field(default=None, repr=False)


UNKNOWN = Connection()
"""What is known under a server that tells nothing: no peer, no certificate."""
