"""What a review of the whole found, so that it stays mended."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from aggmw import FrontProxy, Identity
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.identity import Presented
from aggmw.errors import ConfigurationError, InvalidIdentity, fault
from aggmw.middleware.authentication import Anonymous
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.recovery import RecoveryMiddleware
from aggmw.server.directory import Directory
from aggmw.server.serving import make_server
from aggmw.testing import Client

SECRET = "s3cr3t"


@pytest.mark.parametrize("selector", ["labelSelector", "fieldSelector"])
@pytest.mark.parametrize("text", ["a={blanks}!", "{blanks}!", "a in {blanks}(", "a{blanks}b", "!{blanks}!"])
async def test_selectors_take_linear_time(selector: str, text: str) -> None:
    """One request without credentials must not hold the loop: every test that blocks it for a second fails."""
    blanks = "+" * 30_000
    target = f"/api/v1/pods?fieldSelector=x&{selector}={text.format(blanks=blanks).replace('=', '%3D')}"
    response = await Client(FrontProxy()).request("GET", target.replace("fieldSelector=x&fieldS", "fieldS"))
    assert response.status in (400, 401)


@pytest.mark.parametrize("query", ["watch=fal%C5%BFe", "watch=%EF%BC%90"])
async def test_watch_that_servers_fold_differently(query: str) -> None:
    """C2: Go reads `falſe` as false, Python does not: refused."""
    response = await Client(FrontProxy()).request("GET", f"/api/v1/pods?{query}")
    assert response.status == 400


class Leaving:
    """An authenticator that ends the program, as `sys.exit` in some library would."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def authenticate(self, presented: Presented) -> Identity | None:
        raise self._error


@pytest.mark.parametrize(
    "error", [SystemExit(SECRET), KeyboardInterrupt(SECRET), BaseExceptionGroup(SECRET, [SystemExit(1)])], ids=repr
)
async def test_a_request_cannot_end_the_server(error: BaseException, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever is raised inside ends its own request with 500, and its text is neither shown nor logged."""
    proxy = FrontProxy(authentication=[Leaving(error)])
    server = make_server(proxy, port=0, drain=proxy.drain, grace=1, loop="asyncio", signals=False)
    task = asyncio.create_task(server.serve())
    await server.up.wait()
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /x HTTP/1.1\r\nHost: door\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 500"), answer
        assert SECRET.encode() not in answer
    server.stop()
    await task
    assert SECRET not in "".join(capfd.readouterr())


async def test_faults_are_logged_by_type_and_place() -> None:
    """Neither text nor frames of an exception reach a logger: some print the variables of every frame."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError(SECRET)

    with capture_logs() as logs:
        headers = [(b"authorization", SECRET.encode())]
        await Client(RecoveryMiddleware(app)).request("GET", f"/?token={SECRET}", headers=headers)
    (line,) = logs
    assert (line["event"], line["error"]) == ("request failed", "RuntimeError")
    assert line["where"].startswith("test_review.py:")
    assert "exc_info" not in line
    assert SECRET not in repr(logs)


def test_fault_without_a_traceback() -> None:
    """An exception that was never raised has a type and no place."""
    assert fault(ValueError(SECRET)) == {"error": "ValueError"}


def test_fault_of_a_group_is_its_first_member() -> None:
    """Where tasks are awaited says nothing about what went wrong in one of them."""
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        group = ExceptionGroup(SECRET, [error])
    assert fault(group)["error"] == "ValueError"
    assert fault(group)["where"].startswith("test_review.py:")


def test_values_do_not_show_credentials() -> None:
    """A request's values can be printed without printing what the caller presented."""
    headers = ((b"authorization", SECRET.encode()),)
    scope: dict[str, Any] = {"type": "http", "headers": headers}
    assert SECRET not in repr(Presented(headers)) + repr(Exchange(scope, headers))


def test_unfit_identities_are_not_repeated() -> None:
    """§12.4: what came from outside and is refused does not go into messages."""
    for identity in (
        {"user": f"{SECRET} "},
        {"user": "a", "groups": (f" {SECRET}",)},
        {"user": "a", "extra": {SECRET.upper(): ()}},
    ):
        with pytest.raises(InvalidIdentity) as refused:
            Identity(**identity)  # type: ignore[arg-type]
        assert SECRET not in str(refused.value).lower()


def test_a_directory_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C5 17: whoever owns the directory could put keys and authorities in place."""
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        Directory.open(tmp_path)


async def test_one_audit_id_in_any_case() -> None:
    """The application's own audit id is replaced also when it does not write it in lower case."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Audit-ID", b"theirs")]})
        await send({"type": "http.response.body", "body": b""})

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await RecoveryMiddleware(app)(scope, receive, send)
    assert [name.lower() for name, _ in sent[0]["headers"]] == [b"audit-id"]


@pytest.mark.parametrize("accepted", [True, False])
async def test_websocket_handshakes_are_not_logged(accepted: bool, caplog: pytest.LogCaptureFixture) -> None:
    """§12.5: at debug the WebSocket library writes every field of a handshake; behind our door it is mute."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("no lifespan")
        await receive()
        await send({"type": "websocket.accept"} if accepted else {"type": "websocket.close"})
        if accepted:
            await send({"type": "websocket.close", "code": 1000})

    proxy = FrontProxy(app, anonymous=Anonymous.everywhere(), authorization=AllowAll())
    caplog.set_level("DEBUG")
    server = make_server(proxy, port=0, drain=proxy.drain, grace=1, loop="asyncio", signals=False, log_level="debug")
    task = asyncio.create_task(server.serve())
    await server.up.wait()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    lines = [
        f"GET /x?token={SECRET} HTTP/1.1", "Host: door", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", f"Cookie: a={SECRET}", "", "",
    ]  # fmt: skip
    writer.write("\r\n".join(lines).encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    server.stop()
    await task
    assert answer.startswith(b"HTTP/1.1 101" if accepted else b"HTTP/1.1 403")
    assert SECRET not in caplog.text
