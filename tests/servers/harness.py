"""One raw connection to a server, and what came of it on both sides."""

from __future__ import annotations

import asyncio
import re

from tests.servers.corpus import Case, Sent

from aggmw.testing import ReceivedRequest

__all__ = ["faults", "outcome", "seen", "sent_of", "talk"]

ANSWER_SECONDS = 60.0
SILENCE_SECONDS = 0.6
OURS = (
    b"host", b"x-forwarded-uri", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-for", b"audit-id",
    b"x-remote-user", b"x-remote-group",
)  # fmt: skip
FRAMING = (b"content-length", b"transfer-encoding")


class Client(asyncio.Protocol):
    """Keeps what came before the connection ended, however it did."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = asyncio.Event()
        self.changed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.changed.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set()
        self.changed.set()

    async def sees(self, what: str) -> None:
        """Until that is what the client saw, or nothing more comes."""
        while seen(self.received, ended=False) != what and not self.ended.is_set():
            self.changed.clear()
            await self.changed.wait()


async def talk(port: int, *packets: bytes, stays: str | None = None) -> tuple[bytes, bool]:
    """Send packets, one write each, and read to the end: what came, and whether the server ended the connection.

    Args:
        port: the server's, on loopback.
        packets: what is sent.
        stays: the connection is expected to go on, after the client saw this and a moment of silence.
    """
    transport, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    try:
        for packet in packets:
            transport.write(packet)
            await asyncio.sleep(0)
        if stays is not None:
            async with asyncio.timeout(ANSWER_SECONDS):
                await client.sees(stays)
        async with asyncio.timeout(ANSWER_SECONDS if stays is None else SILENCE_SECONDS):
            await client.ended.wait()
    except TimeoutError:
        pass
    ended = client.ended.is_set()
    transport.abort()
    return client.received, ended


def seen(received: bytes, *, ended: bool) -> str:
    """What the client saw: the codes of the answers, and whether the connection is still open."""
    codes = [code for code in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received) if code != b"100"]
    if received and not codes:
        return "HTTP/2" if received[3:4] == b"\x04" else f"{received!r}"  # a frame of settings
    words = [code.decode() for code in codes] + ([] if ended else ["open"])
    return " ".join(words) or "closed"


def sent_of(raw: bytes) -> Sent:
    """What a service got, besides the front proxy's own fields and the framing."""
    request = ReceivedRequest.of(raw)
    fields = tuple(field for field in request.headers if field[0] not in (*OURS, *FRAMING))
    return Sent(request.method, request.target, request.body, fields)


def outcome(case: Case, client: str, requests: list[bytes]) -> str:
    """What came of a case: what the client saw, and what the service got if that does not follow from it.

    Args:
        case: what was sent.
        client: from `seen`.
        requests: what the service got, in order.
    """
    words = [client]
    expected = [
        sent for code, sent in zip(client.split(), (case.sent, Sent(target=b"/things/smuggled")), strict=False)
        if code == "200"
    ]  # fmt: skip
    if len(requests) != client.split().count("200"):
        words.append(f"{len(requests)} forwarded")
        expected = [case.sent]
    for raw, right in zip(requests, expected, strict=False):
        sent = sent_of(raw)
        words += [f"other {name}" for name in Sent.__slots__ if getattr(sent, name) != getattr(right, name)]
    return ", ".join(words)


def faults(requests: list[bytes]) -> list[str]:
    """What must never be, under any server: a client's framing, none of ours, or a field of ours from a client."""
    found = []
    for raw in requests:
        request = ReceivedRequest.of(raw)
        framing = [value for name in FRAMING for value in request.values(name)]
        if len(framing) > 1 or (request.body and not framing):
            found.append(f"framed by {framing}")
        ours = [request.values(name) for name in OURS]
        path = request.target.partition(b"?")[0]
        if any(len(values) != 1 for values in ours) or ours[1] != [path] or ours[-2] != [b"system:anonymous"]:
            found.append(f"fields of ours: {request.headers}")
    return found
