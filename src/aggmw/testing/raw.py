"""HTTP/1.1 as bytes: building answers, and taking requests apart. For tests; it believes what it reads."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from aggmw.asgi.types import Headers
from aggmw.testing._scopes import HeaderInput

__all__ = ["ReceivedRequest", "body_length", "chunk_length", "respond"]


def respond(
    status: int = 200, headers: HeaderInput = (), body: bytes = b"", *, reason: str | None = None, chunked: bool = False
) -> bytes:
    """A raw response.

    `Content-Length` is added unless `headers` frame the body, or the status has none (1xx, 204, 304).

    Args:
        status: the status code.
        headers: fields in order, in the spelling that is sent.
        body: the body.
        reason: the reason phrase; None takes the usual one.
        chunked: send the body as one chunk, with `Transfer-Encoding: chunked`.
    """
    pairs = headers.items() if hasattr(headers, "items") else headers
    lines = [(_raw(name), _raw(value)) for name, value in pairs]
    framed = any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in lines)
    if chunked:
        lines.append((b"Transfer-Encoding", b"chunked"))
        body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    elif not framed and status >= 200 and status not in (204, 304):
        lines.append((b"Content-Length", str(len(body)).encode()))
    if reason is None:
        reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
    head = f"HTTP/1.1 {status} {reason}\r\n".encode("latin-1")
    return head + b"".join(b"%s: %s\r\n" % line for line in lines) + b"\r\n" + body


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One request taken apart.

    Args:
        method: as sent.
        target: as sent, in bytes.
        headers: fields in order, names in lower case, blanks around values removed.
        body: the body, chunks joined; trailers are dropped.
    """

    method: str
    target: bytes
    headers: Headers
    body: bytes

    @classmethod
    def of(cls, raw: bytes) -> ReceivedRequest:
        """Take apart one raw request: an element of `BackendConnection.exchanges`, or what a handler gets."""
        head, _, rest = raw.partition(b"\r\n\r\n")
        line, *fields = head.split(b"\r\n")
        method, target, _ = line.split(b" ", 2)
        pairs = (field.partition(b":") for field in fields)
        headers = tuple((name.lower(), value.strip(b" \t")) for name, _, value in pairs)
        return cls(method.decode("latin-1"), target, headers, _joined(rest) if body_length(raw) is None else rest)

    def header(self, name: bytes | str) -> bytes | None:
        """The first value of a field, or None."""
        return next(iter(self.values(name)), None)

    def values(self, name: bytes | str) -> list[bytes]:
        """All values of a field, in order."""
        wanted = _raw(name).lower()
        return [value for key, value in self.headers if key == wanted]


def body_length(raw: bytes) -> int | None:
    """The length of a request's body by its head; None when it is chunked."""
    length = 0
    for line in raw.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"transfer-encoding" and value.strip().lower().endswith(b"chunked"):
            return None
        if name.lower() == b"content-length":
            length = int(value)
    return length


def chunk_length(line: bytes) -> int:
    """The length that a chunk's first line declares."""
    return int(line.partition(b";")[0], 16)


def _joined(chunks: bytes) -> bytes:
    body = b""
    while True:
        line, _, chunks = chunks.partition(b"\r\n")
        length = chunk_length(line)
        if length == 0:
            return body
        body += chunks[:length]
        chunks = chunks[length + 2 :]


def _raw(text: bytes | str) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else bytes(text)
