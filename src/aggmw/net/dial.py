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
        timeout: seconds for everything: name, connection, handshake.

    Raises:
        UpstreamUnreachable: with a reason that names no address; the address is in the log.
    """
    try:
        async with asyncio.timeout(timeout):
            connected = await _connect(host, port)
            try:
                _, made = await asyncio.get_running_loop().create_connection(
                    protocol,
                    sock=connected,
                    ssl=context,
                    server_hostname=(server_name or host) if context is not None else None,
                )
            except BaseException:
                connected.close()
                raise
            return made
    except (OSError, TimeoutError, UnicodeError) as error:
        reason = _reason(error)
        _log.warning("dialling failed", host=host, port=port, reason=reason)
        raise UpstreamUnreachable(reason) from error


async def _connect(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    failure: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        candidate = socket.socket(family, kind, protocol)
        try:
            candidate.setblocking(False)
            candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await loop.sock_connect(candidate, address)
        except OSError as error:
            candidate.close()
            failure = error
        except BaseException:
            candidate.close()
            raise
        else:
            return candidate
    raise failure


def _reason(error: Exception) -> str:
    """The cause in words: no address, no name of ours, nothing of the peer's certificate."""
    if isinstance(error, TimeoutError):
        return "timed out connecting"
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in (62, 63, 64):  # X509_V_ERR_HOSTNAME_MISMATCH and its kin
            return "its certificate is for another name"
        return "its certificate expired" if error.verify_code == 10 else "its certificate is not trusted"
    if isinstance(error, ssl.SSLError):
        return "the TLS handshake failed"
    if isinstance(error, socket.gaierror | UnicodeError):
        return "its name does not resolve"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionResetError):
        return "connection reset"
    return "it cannot be reached"
