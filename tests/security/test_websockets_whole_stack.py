"""WebSockets through the whole front proxy: who may open one, and what the server behind it sees."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from aggmw import APIService, FrontProxy, Identity, PathService
from aggmw.contracts.drain import Drain
from aggmw.middleware.authentication import StaticTokens
from aggmw.middleware.authorization import AllowAll, CasbinAuthorizer
from aggmw.middleware.metrics import Metrics
from aggmw.testing import Client, ReceivedRequest, ScriptedBackend, WebSocketClosed
from aggmw.testing.frames import BINARY, AcceptWebSocket, EndWebSocket, close_frame, frame, read_frame

POLICY = """\
p, user:alice, get, core, pods, *, *
p, user:alice, get, core, pods/exec, *, *
p, user:bob, get, core, pods/exec, *, *
p, user:bob, create, core, pods/exec, *, *
"""
EXEC = "/api/v1/namespaces/default/pods/p/exec?command=sh&stdin=true"
CHANNEL = "v5.channel.k8s.io"


def token_entry(token: bytes) -> str:
    return "base64url.bearer.authorization.k8s.io." + base64.urlsafe_b64encode(token).decode().rstrip("=")


def front(backend: ScriptedBackend, *, authorization: Any = None, **options: Any) -> FrontProxy:
    """The core group is served by the backend."""
    tokens = StaticTokens({"t-alice": Identity("alice"), "t-bob": Identity("bob", groups=("ops",))})
    return FrontProxy(
        authentication=[tokens],
        authorization=authorization or AllowAll(),
        services=[APIService.remote("", "v1", backend.url), PathService("/live/", backend.url)],
        **options,
    )


async def echo_once(connection: Any) -> None:
    received = await read_frame(connection)
    await connection.send(frame(received.opcode, b"\x01" + received.payload) + close_frame(1000))
    await EndWebSocket(answer=False).run(connection)


def handshakes(backend: ScriptedBackend) -> list[ReceivedRequest]:
    """Without those that ask for discovery."""
    found = [ReceivedRequest.of(each) for each in backend.requests if each]
    return [each for each in found if each.header("upgrade") is not None]


class Behind(ScriptedBackend):
    """Answers discovery with 404, and handshakes by the script."""

    def __init__(self, *script: Any) -> None:
        async def serve(connection: Any) -> None:
            head = await connection.read_until(b"\r\n\r\n")
            if b"upgrade: websocket" not in head.lower():
                await connection.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            connection._unread[:0] = head
            for step in script:
                if isinstance(step, bytes):
                    await connection.send(step)
                elif hasattr(step, "run"):
                    await step.run(connection)
                else:
                    await step(connection)

        super().__init__([serve])


@pytest.mark.parametrize("by", ["header", "subprotocol"])
async def test_a_shell_with_a_token(by: str) -> None:
    """§6.5, §11.13: a token in Authorization, or as a subprotocol as browsers have to; no server gets to see it."""
    subprotocols = [CHANNEL]
    headers = [("Authorization", "Bearer t-bob")]
    if by == "subprotocol":
        headers, subprotocols = [], [token_entry(b"t-bob"), CHANNEL]
    async with Behind(AcceptWebSocket(CHANNEL), echo_once) as backend:
        async with front(backend, authorization=CasbinAuthorizer.from_text(POLICY)) as proxy:
            socket = await Client(proxy).websocket(EXEC, headers, subprotocols)
            assert (socket.accepted, socket.subprotocol) == (True, CHANNEL)
            assert socket.header("audit-id") is not None
            await socket.send(b"\x00ls\n")
            assert await socket.receive() == b"\x01\x00ls\n"
            with pytest.raises(WebSocketClosed):
                await socket.receive()
            await socket.finished()
        (request,) = handshakes(backend)
        assert request.target == EXEC.encode()
        assert request.values("sec-websocket-protocol") == [CHANNEL.encode()]
        assert request.header("authorization") is None
        assert (request.values("x-remote-user"), request.values("x-remote-group")) == (
            [b"bob"],
            [b"ops", b"system:authenticated"],
        )
        assert not any(b"t-bob" in each or b"dC1ib2I" in each for each in backend.requests)


@pytest.mark.parametrize(
    ("headers", "subprotocols", "status", "words"),
    [
        ([], [CHANNEL], 401, "Unauthorized"),
        ([("Authorization", "Bearer wrong")], [CHANNEL], 401, "Unauthorized"),
        ([], [token_entry(b"wrong"), CHANNEL], 401, "Unauthorized"),
        ([], [token_entry(b"t-bob")], 401, "Unauthorized"),
        ([], [token_entry(b"t-bob"), token_entry(b"t-alice"), CHANNEL], 401, "Unauthorized"),
        ([("Authorization", "Bearer t-alice")], [CHANNEL], 403, "cannot create resource"),
    ],
)
async def test_who_may_not(headers: Any, subprotocols: Any, status: int, words: str) -> None:
    """§7.4b: decided before it is accepted, with the Status of any refusal; `get pods/exec` is not a shell."""
    async with Behind(AcceptWebSocket(CHANNEL)) as backend:
        async with front(backend, authorization=CasbinAuthorizer.from_text(POLICY)) as proxy:
            socket = await Client(proxy).websocket(EXEC, headers, subprotocols)
            assert (socket.accepted, socket.status) == (False, status)
            assert words in json.loads(socket.body)["message"]
        assert handshakes(backend) == []


async def test_spdy() -> None:
    """§2.5: what kubectl falls back to is a 400 that says what works."""
    async with Behind() as backend, front(backend) as proxy:
        headers = [("Authorization", "Bearer t-bob"), ("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")]
        response = await Client(proxy).request("POST", EXEC, headers)
        assert response.status == 400
        assert "use a WebSocket" in response.json()["message"]
        assert handshakes(backend) == []


async def test_metrics() -> None:
    """It is long-running while it is open, and counted as 101 when it is over."""
    metrics = Metrics()
    script = [AcceptWebSocket(), frame(BINARY, b"x"), EndWebSocket()]
    async with Behind(*script) as backend, front(backend, metrics=metrics) as proxy:
        socket = await Client(proxy).websocket("/live/feed", [("Authorization", "Bearer t-bob")])
        assert await socket.receive() == b"x"
        page = (await metrics.page()).body.decode()
        assert _value(page, "apiserver_longrunning_requests") == 1.0
        await socket.close()
        page = (await metrics.page()).body.decode()
        assert _value(page, "apiserver_longrunning_requests") == 0.0
        assert 'code="101"' in page


def _value(page: str, name: str) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines() if line.startswith(f"{name}{{"))


async def test_it_stops() -> None:
    """The front proxy's own drain reaches both sides."""
    drain = Drain()
    end = EndWebSocket()
    async with Behind(AcceptWebSocket(), end) as backend, front(backend, drain=drain) as proxy:
        socket = await Client(proxy).websocket("/live/feed", [("Authorization", "Bearer t-bob")])
        drain.begin()
        with pytest.raises(WebSocketClosed) as closed:
            await socket.receive()
        assert closed.value.code == 1001
        await socket.finished()
    assert end.frames[-1].close[0] == 1001
