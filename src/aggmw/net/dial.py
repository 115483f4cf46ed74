"""Dialling: addresses in order, TLS, and every foreign exception translated into words that are safe to show."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

import structlog

from aggmw.errors import UpstreamUnreachable

__all__ = ["dial"]

_P = TypeVar("_P", bound=asyncio.Protocol)
_log = structlog.get_logger("aggmw.net")

_OTHER_NAME = (62, 63, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, _EMAIL_, _IP_ADDRESS_
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED

_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "timed out connecting"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted"),
    (ssl.SSLError, "the TLS handshake failed"),
    (socket.gaierror, "its name does not resolve"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionResetError, "connection reset"),
    (OSError, "it cannot be reached"),
    (ValueError, "its name does not resolve"),
    (OverflowError, "it cannot be reached"),
)
"""What is shown for what went wrong; the first that fits."""


_GOODBYE_SECONDS = 1.0
"""How long a TLS connection that is given up in the moment it stands may wait for the other side's goodbye."""


async def dial(
    protocol: Callable[[], _P],
    host: str,
    port: int,
    *,
    context: ssl.SSLContext | None = None,
    server_name: str = "",
    timeout: float = 5.0,
) -> _P:
    """Connect to the first address that answers; the name is resolved at each call.

    Args:
        protocol: makes the protocol of the new connection.
        host, port: what is dialled.
        context: None for plain TCP.
        server_name: SNI and the name to verify; the host when it is empty.
        timeout: seconds for everything: name, connection, handshake. An address that does not answer leaves the
            others their share of it.

    Raises:
        UpstreamUnreachable: with a reason that names no address; the address is in the log.
    """
    ends = asyncio.get_running_loop().time() + timeout
    try:
        async with asyncio.timeout_at(ends):
            addresses = await _resolve(host, port)
            name = (server_name or host) if context is not None else None
            if context is not None:
                _check(context, name)
            return await _connect(protocol, addresses, port, context, name, ends)
    except (OSError, ValueError, OverflowError) as error:
        reason = _reason(error)
        _log.warning("dialling failed", host=host, port=port, reason=reason)
        raise UpstreamUnreachable(reason) from error


def _check(context: ssl.SSLContext, name: str | None) -> None:
    """Find out that TLS refuses a name before there is a socket, which the event loop would not close then.

    Raises:
        ValueError: it does.
    """
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except TypeError as error:
        raise ValueError("the server name holds a NUL") from error


async def _resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, in order; no thread is needed for what is an address already."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return [host]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for _, _, _, _, sockaddr in found]


async def _connect(
    protocol: Callable[[], _P],
    addresses: list[str],
    port: int,
    context: ssl.SSLContext | None,
    name: str | None,
    ends: float,
) -> _P:
    """The first connection that stands, its handshake done.

    The event loop makes the socket, so that there is one owner to close it whenever this is cancelled.
    """
    loop = asyncio.get_running_loop()
    secured = {} if context is None else {"server_hostname": name, "ssl_shutdown_timeout": _GOODBYE_SECONDS}
    failure: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
    for number, address in enumerate(addresses):
        share = (ends - loop.time()) / (len(addresses) - number)
        try:
            async with asyncio.timeout(share):
                transport, made = await loop.create_connection(protocol, address, port, ssl=context, **secured)  # type: ignore[call-overload]  # the stubs know no such dictionary
        except ssl.SSLError:
            raise  # somebody answered
        except OSError as error:
            failure = error
        else:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connected: _P = made
            return connected
    raise failure


def _reason(error: Exception) -> str:
    """The cause in words: no address, no name of ours, nothing of the peer's certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_NAME:
            return "its certificate is for another name"
        if error.verify_code == _EXPIRED:
            return "its certificate expired"
    return next(reason for kind, reason in _REASONS if isinstance(error, kind))
