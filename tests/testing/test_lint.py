"""The linter lets pass what the ASGI specification allows, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from aggmw.asgi.types import Message, Receive, Scope, Send
from aggmw.testing import LintError, lint

HTTP = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "method": "GET",
    "path": "/",
    "query_string": b"",
    "headers": [(b"host", b"h")],
}
WEBSOCKET = {**HTTP, "type": "websocket", "subprotocols": ["a"], "extensions": {"websocket.http.response": {}}}
LIFESPAN = {"type": "lifespan", "asgi": {"version": "3.0"}}

START = {"type": "http.response.start", "status": 200}
BODY = {"type": "http.response.body"}
MORE = {"type": "http.response.body", "body": b"x", "more_body": True}
ACCEPT = {"type": "websocket.accept"}
TEXT = {"type": "websocket.send", "text": "x"}
CLOSE = {"type": "websocket.close"}
DENY = {"type": "websocket.http.response.start", "status": 403}
DENIED = {"type": "websocket.http.response.body", "body": b"no"}
STARTUP = {"type": "lifespan.startup"}
SHUTDOWN = {"type": "lifespan.shutdown"}


def start(*headers: Any, **more: Any) -> Message:
    """A response start with these header fields."""
    return {**START, "headers": list(headers), **more}


async def run(
    scope: Scope, sent: list[Message], received: list[Message] | None = None, *, strict_head: bool = False
) -> list[Message]:
    """An application that receives all of `received` and then sends `sent`, linted; gives what came through."""
    through: list[Message] = []
    inbound = iter(received or [])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in received or []:
            await receive()
        for message in sent:
            await send(message)

    async def receive() -> Message:
        return next(inbound)

    async def send(message: Message) -> None:
        through.append(message)

    await lint(app, strict_head=strict_head)(scope, receive, send)
    return through


@pytest.mark.parametrize(
    ("scope", "sent"),
    [
        (HTTP, [START, BODY]),
        (HTTP, [START, MORE, MORE, BODY]),
        (HTTP, [start((b"content-length", b"1")), MORE, BODY]),
        (HTTP, [start([b"a", b"b"], (b"a", b"")), BODY]),
        (HTTP, [START]),
        (HTTP, []),
        ({**HTTP, "method": "HEAD"}, [start((b"content-length", b"5")), BODY]),
        ({**HTTP, "method": "HEAD"}, [start((b"content-length", b"1")), MORE, BODY]),
        (HTTP, [start((b"content-length", b"5"), status=304), BODY]),
        ({**HTTP, "extensions": {"http.response.push": {}}}, [{"type": "http.response.push"}, START, BODY]),
        (WEBSOCKET, [{**ACCEPT, "subprotocol": "a", "headers": [(b"x", b"y")]}, TEXT, CLOSE]),
        (WEBSOCKET, [ACCEPT, {"type": "websocket.send", "bytes": b"", "text": None}]),
        (WEBSOCKET, [CLOSE]),
        (WEBSOCKET, [DENY, DENIED]),
        (WEBSOCKET, [DENY, {**DENIED, "more_body": True}, DENIED]),
    ],
)
async def test_allowed(scope: Scope, sent: list[Message]) -> None:
    """What the specification allows goes through unchanged."""
    assert await run(scope, sent) == sent


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ([BODY], "before 'http.response.start'"),
        ([START, START], "sent twice"),
        ([START, BODY, BODY], "after the response was complete"),
        ([START, BODY, START], "sent twice"),
        ([{"type": "http.response.start"}], "status None"),
        ([{**START, "status": "200"}], "'status' is a str"),
        ([{**START, "status": True}], "'status' is a bool"),
        ([{**START, "status": 101}], "status 101"),
        ([{**START, "headers": {b"a": b"b"}}], "headers are a dict"),
        ([start((b"a", "b"))], "not a pair of byte strings"),
        ([start((b"a", b"b", b"c"))], "not a pair"),
        ([start((b"A", b"b"))], "not in lower case"),
        ([start((b":status", b"200"))], "pseudo header"),
        ([start((b"a b", b"c"))], "not a token"),
        ([start((b"", b"c"))], "not a token"),
        ([start((b"a", b"b\r\nc: d"))], "line break or NUL"),
        ([start((b"content-length", b"1"), (b"content-length", b"1"))], "more than one content-length"),
        ([start((b"content-length", b"-1"))], "content-length b'-1'"),
        ([start((b"content-length", b"0")), MORE], "longer than its content-length 0"),
        ([start((b"content-length", b"2")), MORE, BODY], "ends after 1 bytes"),
        ([{**START, "status": 204}, MORE], "a 204 has no body"),
        ([{**START, "status": 304}, MORE], "a 304 has no body"),
        ([START, {**BODY, "body": "x"}], "'body' is a str"),
        ([START, {**BODY, "body": None}], "'body' is None"),
        ([START, {**BODY, "more_body": 1}], "'more_body' is a int"),
        ([{"type": "http.response.push"}], "does not offer it"),
        ([{"type": "http.response.other"}], "was sent on an HTTP request"),
        ([ACCEPT], "was sent on an HTTP request"),
    ],
)
async def test_http_refused(sent: list[Message], problem: str) -> None:
    """What the specification forbids an HTTP application to send is an error that says what and where."""
    with pytest.raises(LintError, match=problem):
        await run(HTTP, sent)


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ([TEXT], "before the socket was accepted"),
        ([ACCEPT, ACCEPT], "sent twice"),
        ([ACCEPT, CLOSE, TEXT], "after the WebSocket was closed"),
        ([CLOSE, CLOSE], "after the WebSocket was closed"),
        ([{**ACCEPT, "subprotocol": "b"}], "did not offer"),
        ([{**ACCEPT, "headers": [(b"sec-websocket-protocol", b"a")]}], "belongs into 'subprotocol'"),
        ([{**ACCEPT, "headers": [("a", "b")]}], "not a pair of byte strings"),
        ([ACCEPT, {"type": "websocket.send"}], "exactly one"),
        ([ACCEPT, {"type": "websocket.send", "bytes": b"", "text": ""}], "exactly one"),
        ([ACCEPT, {"type": "websocket.send", "text": b"x"}], "'text' is a bytes"),
        ([ACCEPT, {**CLOSE, "code": "1000"}], "'code' is a str"),
        ([ACCEPT, {**CLOSE, "reason": "ü" * 62}], "longer than 123 bytes"),
        ([ACCEPT, DENY], "after the socket was accepted"),
        ([DENIED], "before 'websocket.http.response.start'"),
        ([DENY, ACCEPT], "in the middle of a refusal"),
        ([DENY, DENIED, DENIED], "after the WebSocket was closed"),
        ([START], "was sent on a WebSocket"),
    ],
)
async def test_websocket_refused(sent: list[Message], problem: str) -> None:
    """The same for a WebSocket application."""
    with pytest.raises(LintError, match=problem):
        await run(WEBSOCKET, sent)


async def test_refusal_must_be_offered() -> None:
    """A response in place of a WebSocket needs the extension in the scope."""
    with pytest.raises(LintError, match="does not offer it"):
        await run({**WEBSOCKET, "extensions": {}}, [DENY])


@pytest.mark.parametrize(
    ("scope", "received", "problem"),
    [
        (HTTP, [{"type": "http.request"}, {"type": "http.request"}], "after the request was complete"),
        (HTTP, [{"type": "http.disconnect"}, {"type": "http.request"}], "after 'http.disconnect'"),
        (HTTP, [{"type": "http.request", "body": "x"}], "'body' is a str"),
        (HTTP, [{"type": "websocket.connect"}], "was received on an HTTP request"),
        (WEBSOCKET, [{"type": "websocket.connect"}, {"type": "websocket.connect"}], "received twice"),
        (WEBSOCKET, [{"type": "websocket.receive", "text": "x"}], "before the socket was accepted"),
        (WEBSOCKET, [{"type": "http.request"}], "was received on a WebSocket"),
        (LIFESPAN, [SHUTDOWN], "before the start-up was complete"),
        (LIFESPAN, [STARTUP, STARTUP], "received twice"),
        (LIFESPAN, [{"type": "http.request"}], "received in a lifespan"),
    ],
)
async def test_received(scope: Scope, received: list[Message], problem: str) -> None:
    """What a server, or a middleware around the application, gives to `receive` is checked as well."""
    with pytest.raises(LintError, match=problem):
        await run(scope, [], received)


@pytest.mark.parametrize(
    ("received", "sent", "problem"),
    [
        ([], [{"type": "lifespan.startup.complete"}], "before 'lifespan.startup' was received"),
        ([STARTUP], [{"type": "lifespan.shutdown.complete"}], "before 'lifespan.shutdown' was received"),
        ([STARTUP], [{"type": "lifespan.startup.complete"}, {"type": "lifespan.startup.failed"}], "had been answered"),
        ([STARTUP], [{"type": "lifespan.startup.done"}], "was sent in a lifespan"),
        ([STARTUP], [START], "was sent in a lifespan"),
    ],
)
async def test_lifespan_refused(received: list[Message], sent: list[Message], problem: str) -> None:
    """In a lifespan each phase is answered once, after it was asked for."""
    with pytest.raises(LintError, match=problem):
        await run(LIFESPAN, sent, received)


async def test_strict_head() -> None:
    """On demand a body in answer to HEAD is an error."""
    with pytest.raises(LintError, match="HEAD"):
        await run({**HTTP, "method": "HEAD"}, [START, MORE], strict_head=True)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "http2"},
        {"asgi": None},
        {"http_version": "1.2"},
        {"method": "get"},
        {"path": b"/"},
        {"raw_path": b"/?a"},
        {"query_string": ""},
        {"headers": [("a", "b")]},
        {"headers": [(b"A", b"b")]},
        {"headers": None},
        {"state": []},
        {"client": ("127.0.0.1",)},
    ],
)
async def test_scope_refused(change: dict[str, Any]) -> None:
    """A scope that a middleware has spoilt is an error for the application inside."""
    with pytest.raises(LintError):
        await run({**HTTP, **change}, [])


async def test_caught_inside() -> None:
    """An application that catches everything cannot hide what it did."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(BODY)
        except AssertionError:
            raise KeyError("translated") from None

    async def nothing(*_: Any) -> Any:
        return None

    with pytest.raises(LintError):
        await lint(app)(HTTP, nothing, nothing)


async def test_sent_after_returning() -> None:
    """A task that outlives the application cannot send any more."""
    kept: list[Send] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        kept.append(send)

    async def nothing(*_: Any) -> Any:
        return None

    await lint(app)(HTTP, nothing, nothing)
    with pytest.raises(LintError, match="had returned"):
        await kept[0](START)
