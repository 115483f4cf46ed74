"""Dialling: the address that answers first, TLS, and every foreign exception translated into words safe to show."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import structlog
from aiohappyeyeballs import start_connection

from aggmw.errors import UpstreamUnreachable
from aggmw.net.addresses import AddressRules
from aggmw.net.keepalive import keep_asking

__all__ = ["dial", "reason_of"]

_P = TypeVar("_P")  # has the methods of `asyncio.Protocol`; that it is one nobody asks
_AddressInfo: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]  # as from getaddrinfo

_log = structlog.get_logger("aggmw.net")

_OTHER_NAME = (62, 63, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, _EMAIL_, _IP_ADDRESS_
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED


class _Denied(OSError):
    """No address that may be dialled."""


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (_Denied, "its address is not allowed"),
    (TimeoutError, "timed out connecting"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted"),
    (ssl.SSLError, "the TLS handshake failed"),
    (socket.gaierror, "its name does not resolve"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionResetError, "connection reset"),
    (FileNotFoundError, "its socket does not exist"),
    (PermissionError, "permission denied"),
    (BlockingIOError, "it takes no more connections"),
    (OSError, "it cannot be reached"),
    (ValueError, "its name does not resolve"),
    (OverflowError, "it cannot be reached"),
)
"""What is shown for what went wrong; the first that fits."""

_NEXT_ADDRESS_SECONDS = 0.25
"""So long an address may take before the next one is tried beside it (RFC 8305, Connection Attempt Delay)."""

_GOODBYE_SECONDS = 1.0
"""How long a TLS connection that is given up in the moment it stands may wait for the other side's goodbye."""


async def dial(
    protocol: Callable[[], _P],
    host: str,
    port: int,
    *,
    unix: str = "",
    context: ssl.SSLContext | None = None,
    server_name: str = "",
    timeout: float = 5.0,
    rules: AddressRules | None = None,
) -> _P:
    """Connect to the address that answers first; the name is resolved at each call.

    The addresses are tried in their order, IPv6 and IPv4 in turn; one that does not answer holds up the next for a
    quarter of a second.

    Args:
        protocol: makes the protocol of the new connection.
        host, port: what is dialled.
        unix: path of a Unix socket that is dialled instead of them.
        context: None for plain TCP.
        server_name: SNI and the name to verify; the host when it is empty.
        timeout: seconds for everything: name, connection, handshake.
        rules: which addresses may be dialled; None: all. Of those that a name leads to, others are left alone.

    Raises:
        UpstreamUnreachable: with a reason that names no address; the address is in the log.
    """
    try:
        async with asyncio.timeout(timeout):
            secured: dict[str, Any] = {}
            if context is not None:
                name = server_name or host
                _check(context, name)
                secured = {"ssl": context, "server_hostname": name, "ssl_shutdown_timeout": _GOODBYE_SECONDS}
            made: _P
            if unix:
                if rules is not None and not rules.unix:
                    raise _Denied
                made = await _connect_path(protocol, unix, secured)
            else:
                transport, made = await _connect(protocol, _permitted(await _resolve(host, port), rules), secured)
                keep_asking(transport.get_extra_info("socket"))
            return made
    except (OSError, ValueError, OverflowError) as error:
        reason = reason_of(error)
        where: dict[str, Any] = {"path": unix} if unix else {"host": host, "port": port}
        _log.warning("dialling failed", **where, reason=reason, error=str(error))
        raise UpstreamUnreachable(reason) from error


def _permitted(addresses: list[_AddressInfo], rules: AddressRules | None) -> list[_AddressInfo]:
    """Those that may be dialled.

    Raises:
        _Denied: none of them.
    """
    if rules is None:
        return addresses
    permitted = [each for each in addresses if rules.permit(each[4][0])]
    if not permitted:
        raise _Denied(f"denied: {', '.join(each[4][0] for each in addresses)}")
    return permitted


def _check(context: ssl.SSLContext, name: str) -> None:
    """Find out that TLS refuses a name before there is a socket, which the event loop would not close then.

    Raises:
        ValueError: it does.
    """
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except TypeError as error:
        raise ValueError("the server name holds a NUL") from error


async def _resolve(host: str, port: int) -> list[_AddressInfo]:
    """The addresses of a host, in order; no thread is needed for what is an address already."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "no address")
    return [*found]


async def _connect_path(protocol: Callable[[], Any], path: str, secured: dict[str, Any]) -> Any:
    """A connection to a Unix socket."""
    transport, made = await asyncio.get_running_loop().create_unix_connection(protocol, path, **secured)
    if transport.get_extra_info("peername") is None:
        # So many wait to be accepted that there is no room for another; asyncio takes that for a connection.
        transport.abort()
        raise BlockingIOError(errno.EAGAIN, "too many connections wait to be accepted")
    return made


async def _connect(
    protocol: Callable[[], Any], addresses: list[_AddressInfo], secured: dict[str, Any]
) -> tuple[asyncio.BaseTransport, Any]:
    """A connection, its handshake done. Whoever made a socket closes it, at whatever point this is cancelled."""
    loop = asyncio.get_running_loop()
    if len(addresses) == 1:
        host, port, *_ = addresses[0][4]
        return await loop.create_connection(protocol, host, port, **secured)
    connected = await _first(addresses)
    # Nothing is awaited in between, and from here on the event loop closes it.
    try:
        return await loop.create_connection(protocol, sock=connected, **secured)
    except BaseException:
        if not isinstance(loop, asyncio.BaseEventLoop):
            # uvloop before 0.23 closes the descriptor and leaves its number with us, to be closed again when it is
            # somebody else's.
            connected.detach()
        raise


async def _first(addresses: list[_AddressInfo]) -> socket.socket:
    """A socket that is connected to one of the addresses. No other is left open, however this ends.

    Raises:
        OSError: none of them answers.
    """
    task = asyncio.current_task()
    assert task is not None
    cancellations = task.cancelling()
    connected = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS)
    if task.cancelling() > cancellations:
        # A cancellation that comes while the winner waits for the losers to end is lost on them.
        connected.close()
        raise asyncio.CancelledError
    return connected


def reason_of(error: Exception) -> str:
    """The cause in words: no address, no name of ours, nothing of the peer's certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_NAME:
            return "its certificate is for another name"
        if error.verify_code == _EXPIRED:
            return "its certificate expired"
    return next(reason for kind, reason in _REASONS if isinstance(error, kind))
