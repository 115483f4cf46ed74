"""Listening sockets, and what asyncio's transports do not offer of connected ones."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import struct
import sys
from contextlib import suppress
from pathlib import Path

from aggmw.errors import ConfigurationError, Problem
from aggmw.net.keepalive import keep_asking

if sys.platform != "win32":
    from fcntl import ioctl
    from termios import TIOCOUTQ

__all__ = [
    "BACKLOG",
    "address_of",
    "bind",
    "bind_beside",
    "bind_path",
    "descriptor",
    "reset_on_close",
    "unsent",
    "url_of",
]

BACKLOG = 2_048
"""Connections that may wait to be accepted."""

_APART = sys.platform == "linux"  # others know SO_REUSEPORT, too, but do not spread connections
_RESET = struct.pack("ii", 1, 0)  # linger on, for no time

_WHY = {
    errno.EADDRINUSE: "the address is already in use: stop what listens there, or choose another port",
    errno.EACCES: "permission denied: ports below 1024 need privileges, choose another port",
    errno.EADDRNOTAVAIL: "this machine has no such address",
}


def address_of(listener: socket.socket) -> str:
    """`host:port` with the port that was really taken, or the path of a Unix socket."""
    name = listener.getsockname()
    if isinstance(name, tuple):
        host, port = name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(name)


def url_of(listener: socket.socket) -> str:
    """Where clients of this machine reach a TLS server: an unspecified address is replaced by localhost."""
    url = f"https://{address_of(listener)}"
    return url.replace("//0.0.0.0:", "//localhost:").replace("//[::]:", "//localhost:")


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening TCP socket. It listens at once, so that a port in use is found before anything is started.

    Args:
        host: an address, or a name of this machine.
        port: 0 for a free one; `getsockname()` tells which.
        shared: others may be bound beside it, by `bind_beside`.

    Raises:
        ConfigurationError: cannot listen there, and why, in one line.
    """
    where = f"listen [{host}]:{port}" if ":" in host else f"listen {host}:{port}"
    if not 0 <= port <= 65_535:  # the resolver would take the rest of a division
        raise ConfigurationError([Problem(where, "the port must be between 0 and 65535")])
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ConfigurationError([Problem(where, "the host is not known here")]) from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere the option would let two processes share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keep_asking(listener)  # what it accepts inherits that
        listener.bind(address)
        if shared and _APART:  # only now: it must not be bound beside another server
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError([Problem(where, _reason(error))]) from None
    listener.setblocking(False)
    return listener


def bind_beside(listener: socket.socket) -> socket.socket:
    """One more socket at a shared address. On Linux it gets connections of its own, from when it listens.

    The kernel spreads connections evenly over sockets; processes that accept from one and the same do not, because the
    first to wake up takes what there is. Elsewhere it is the same socket again.

    Raises:
        ConfigurationError: cannot listen there, and why, in one line.
    """
    if not _APART:
        return listener.dup()
    other = socket.socket(listener.family, listener.type, listener.proto)
    try:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keep_asking(other)
        other.bind(listener.getsockname())
    except OSError as error:
        other.close()
        raise ConfigurationError([Problem(f"listen {address_of(listener)}", _reason(error))]) from None
    other.setblocking(False)
    return other


def bind_path(path: str) -> socket.socket:
    """A listening Unix socket, for the owner and the group. One that nobody listens on any more is replaced.

    Raises:
        ConfigurationError: cannot listen there, and why, in one line.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        listener.bind(path)
        os.chmod(path, stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IWGRP)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError([Problem(f"listen {path}", _reason(error))]) from None
    listener.setblocking(False)
    return listener


def _clear(path: str) -> None:
    """Remove a socket that a process left behind.

    Raises:
        OSError: something else is there, or somebody listens.
    """
    if not Path(path).is_socket():
        return  # a file of any other kind makes `bind` fail
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "in use")


def _reason(error: OSError) -> str:
    return _WHY.get(error.errno or 0) or (error.strerror or "cannot listen there").lower()


def descriptor(transport: asyncio.BaseTransport) -> int | None:
    """The transport's file descriptor; None without one, and once it is closed."""
    found = transport.get_extra_info("socket")
    number: int = -1 if found is None else found.fileno()
    return number if number >= 0 else None


def reset_on_close(transport: asyncio.BaseTransport) -> None:
    """Let the closing of a TCP connection be a reset, which nobody can take for the end of a body."""
    number = descriptor(transport)
    if number is None:
        return
    with suppress(OSError), socket.socket(fileno=os.dup(number)) as same:  # uvloop's own stand-in sets no options
        if same.family != socket.AF_UNIX:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def unsent(transport: asyncio.Transport) -> int:
    """How many bytes wait to be sent, or for the other side to have them; 0 once everything is the kernel's.

    A client that reads takes from the kernel first, which comes for more only when a third of its megabytes are free.
    """
    try:
        waiting = transport.get_write_buffer_size()
    except (AttributeError, RuntimeError):  # asyncio's TLS transport has lost its protocol; uvloop's is closed
        return 0
    return waiting + _in_the_kernel(transport) if waiting else 0


def _in_the_kernel(transport: asyncio.BaseTransport) -> int:
    """How many bytes are sent, as far as the transport knows, that the other side has not; 0 where nobody tells."""
    number = descriptor(transport)
    if number is None or sys.platform == "win32":
        return 0
    found = bytearray(4)
    with suppress(OSError):
        ioctl(number, TIOCOUTQ, found)
    return int.from_bytes(found, sys.byteorder)
