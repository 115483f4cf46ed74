"""Blocking clients for what wrk cannot do: one connection, one exchange at a time."""

from __future__ import annotations

import socket
import ssl

from benchmarks.site import Server
from benchmarks.workspace import TOKEN

__all__ = ["Client", "head"]

_CHUNK = 1 << 20
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def head(method: str, path: str, *, length: int | None = None, upgrade: bool = False) -> bytes:
    """A request head with the token; with `upgrade` the handshake of a WebSocket."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {TOKEN}"]
    if length is not None:
        lines += [f"Content-Length: {length}", "Content-Type: application/json"]
    if upgrade:
        lines += [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {_KEY}",
        ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Client:
    """One connection. Reads answers that have a Content-Length.

    Args:
        server: where to.
        port: another port of it.
    """

    def __init__(self, server: Server, port: int | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port or server.port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if server.tls:
            context = ssl._create_unverified_context()
            self._socket = context.wrap_socket(self._socket, server_hostname="localhost")
        self._buffer = bytearray(_CHUNK)

    def close(self) -> None:
        self._socket.close()

    def exchange(self, request: bytes) -> int:
        """Send a request without a body, read the answer; the size of its body.

        Raises:
            OSError: the answer is not a whole 200.
        """
        self._socket.sendall(request)
        return self._answer()

    def upload(self, path: str, size: int) -> None:
        """Send `size` bytes, read the answer."""
        self._socket.sendall(head("PUT", path, length=size))
        block = memoryview(self._buffer)
        while size:
            size -= self._socket.send(block[: min(size, _CHUNK)])
        self._answer()

    def _answer(self) -> int:
        received = b""
        while b"\r\n\r\n" not in received:
            piece = self._socket.recv(65536)
            if not piece:
                raise OSError("the connection ended before the head of an answer")
            received += piece
        answer, _, body = received.partition(b"\r\n\r\n")
        status, *fields = answer.split(b"\r\n")
        if b" 200" not in status:
            raise OSError(f"answered {status.decode('latin-1')}")
        size = next(int(each.partition(b":")[2]) for each in fields if each.lower().startswith(b"content-length:"))
        left = size - len(body)
        while left > 0:
            count = self._socket.recv_into(self._buffer)
            if not count:
                raise OSError("the connection ended in the middle of a body")
            left -= count
        return size
