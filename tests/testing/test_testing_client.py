"""The streaming client behaves as a server does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.connection import Connection
from aggmw.testing import Client, IncompleteResponse, LifespanFailed, LintError

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


async def echo_scope(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what of the scope JSON can tell."""
    seen = {key: scope[key] for key in ("method", "path", "http_version", "scheme", "root_path", "client", "server")}
    seen["raw_path"] = scope["raw_path"].decode("latin-1")
    seen["query_string"] = scope["query_string"].decode("latin-1")
    seen["headers"] = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    seen["extensions"] = scope["extensions"]
    await send({**START, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


async def echo_body(scope: Scope, receive: Receive, send: Send) -> None:
    """Sends each piece of the request body back as it comes."""
    await send(START)
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    """Streams until the client is gone."""
    await send(START)

    async def pump() -> None:
        while True:
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            await asyncio.sleep(0)

    task = asyncio.create_task(pump())
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()
    await asyncio.wait([task])


async def test_request() -> None:
    """A request gives status, headers and the whole body."""
    response = await Client(echo_body).request("POST", "/", body=b"hello")
    assert (response.status, response.headers) == (200, ((b"content-type", b"text/plain"),))
    assert response.body == b"hello"
    assert response.text == "hello"
    assert response.header("Content-Type") == response.header(b"content-type") == b"text/plain"
    assert response.header(b"x-none") is None


async def test_target_as_on_the_wire() -> None:
    """raw_path and query_string are the bytes of the target; path is decoded once and holds no query."""
    seen = (await Client(echo_scope).request("GET", "/a%2Fb/%252e/ü?x=%20&y".replace("ü", "%C3%BC"))).json()
    assert seen["raw_path"] == "/a%2Fb/%252e/%C3%BC"
    assert seen["path"] == "/a/b/%2e/ü"
    assert seen["query_string"] == "x=%20&y"


async def test_target_of_bytes() -> None:
    """A target of bytes may hold what a well-behaved client would not send."""
    seen = (await Client(echo_scope).request("GET", b"/\xff/../x")).json()
    assert seen["raw_path"] == "/\xff/../x"


async def test_root_path_in_front() -> None:
    """Under a root path, path and raw_path begin with it, as under uvicorn."""
    seen = (await Client(echo_scope, root_path="/mnt").request("GET", "/apis")).json()
    assert (seen["root_path"], seen["path"], seen["raw_path"]) == ("/mnt", "/mnt/apis", "/mnt/apis")


async def test_headers_as_received() -> None:
    """Header names arrive in lower case and in order, duplicates kept."""
    seen = (await Client(echo_scope).request("GET", "/", [("X-A", "1"), (b"x-a", b"2"), ("Host", "h")])).json()
    assert seen["headers"] == [["x-a", "1"], ["x-a", "2"], ["host", "h"]]


@pytest.mark.parametrize(
    ("method", "body", "field"),
    [
        ("GET", b"", None),
        ("POST", b"", ["content-length", "0"]),
        ("GET", b"abc", ["content-length", "3"]),
    ],
)
async def test_framing_fields(method: str, body: bytes, field: list[str] | None) -> None:
    """The client sends Host and the length of its body, as clients do."""
    seen = (await Client(echo_scope).request(method, "/", body=body)).json()
    assert seen["headers"] == [["host", "aggmw.test"], *([field] if field else [])]


async def test_framing_of_a_stream() -> None:
    """A body in pieces is declared as chunked, unless the test frames it."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"ab"

    seen = (await Client(echo_scope, host=None).request("PUT", "/", body=pieces())).json()
    assert seen["headers"] == [["transfer-encoding", "chunked"]]
    seen = (await Client(echo_scope, host=None).request("PUT", "/", {"Content-Length": "2"}, pieces())).json()
    assert seen["headers"] == [["content-length", "2"]]


async def test_options_in_scope() -> None:
    """Version, scheme, addresses and extensions are in the scope as given."""
    client = Client(
        echo_scope, http_version="2", scheme="https", client=None, server=("::1", 443), extensions={"x.y": {"a": 1}}
    )
    seen = (await client.request("GET", "/")).json()
    assert (seen["http_version"], seen["scheme"], seen["client"]) == ("2", "https", None)
    assert (seen["server"], seen["extensions"]) == (["::1", 443], {"x.y": {"a": 1}})


async def test_state_copied() -> None:
    """Each request gets its own copy of the state, with the connection in it."""
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["state"]))
        scope["state"]["mine"] = True
        await echo_body(scope, receive, send)

    connection = Connection(peer=("192.0.2.1", 1))
    client = Client(app, state={"a": 1}, connection=connection)
    await client.request("GET", "/")
    await client.request("GET", "/")
    assert seen == [{"a": 1, "aggmw.connection": connection}] * 2


async def test_stream_both_ways() -> None:
    """A chunk goes in and comes out before the next one is asked for."""
    sent = []

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"two", b"three"):
            sent.append(piece)
            yield piece

    async with Client(echo_body).stream("POST", "/", body=pieces()) as response:
        async for chunk in response:
            assert chunk == sent[-1]
    assert sent == [b"one", b"two", b"three"]


async def test_start_before_body() -> None:
    """The response is there as soon as it has started."""
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await go.wait()
        await send({"type": "http.response.body", "body": b"later"})

    async with Client(app).stream("GET", "/") as response:
        assert response.status == 200
        assert not response.complete
        go.set()
        assert await response.read() == b"later"
        assert response.complete


async def test_slow_client_stops_the_application() -> None:
    """`send` returns only when the client has taken the chunk: nothing is buffered."""
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(START)
        for more in (True, True, False):
            await send({"type": "http.response.body", "body": b"x", "more_body": more})
            sent += 1

    async with Client(app).stream("GET", "/") as response:
        for _ in range(20):
            await asyncio.sleep(0)
        assert sent == 0
        await anext(response)
        for _ in range(20):
            await asyncio.sleep(0)
        assert sent == 1
        assert await response.read() == b"xx"


async def test_leaving_disconnects() -> None:
    """Leaving a stream disconnects, and waits until the application has returned."""
    async with Client(endless).stream("GET", "/") as response:
        assert await anext(response) == b"tick"


async def test_disconnect() -> None:
    """After `disconnect` the application receives http.disconnect, may send into nothing, and reading is an error."""
    received = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while not received or received[-1] != "http.disconnect":
            received.append((await receive())["type"])
        await send({"type": "http.response.body", "body": b"dropped", "more_body": True})

    async with Client(app).stream("GET", "/") as response:
        await response.disconnect()
        await response.finished()
        with pytest.raises(IncompleteResponse):
            await response.read()
    assert received == ["http.request", "http.disconnect"]


async def test_disconnect_during_upload() -> None:
    """A disconnect in the middle of the request body reaches the application, and ends the body's source."""
    ended = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            ended.set()

    received = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while len(received) < 2:
            received.append((await receive())["type"])

    async with Client(app).stream("POST", "/", body=pieces()) as response:
        await response.disconnect()
    assert received == ["http.disconnect", "http.disconnect"]
    received.clear()
    async with Client(app).stream("POST", "/", body=pieces()) as response:
        while not received:
            await asyncio.sleep(0)
    assert received == ["http.request", "http.disconnect"]
    assert ended.is_set()


async def test_receive_cancelled() -> None:
    """An application may cancel `receive` and call it again without losing a chunk."""
    go = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        await go.wait()
        yield b"kept"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await receive()
        go.set()
        message = await receive()
        await send(START)
        await send({"type": "http.response.body", "body": message["body"]})

    assert (await Client(app).request("POST", "/", body=pieces())).body == b"kept"


async def test_receive_after_the_response() -> None:
    """Once the response is complete `receive` gives http.disconnect, as under uvicorn."""
    received = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body"})
        received.append(await receive())

    await Client(app).request("POST", "/", body=b"unread")
    assert received == [{"type": "http.disconnect"}]


async def test_failing_upload() -> None:
    """What the source of the body raises is a client breaking off, and raised in the test."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"a"
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        await Client(endless).request("POST", "/", body=pieces())


async def test_head() -> None:
    """The answer to HEAD has no body, whatever the application sends."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})

    response = await Client(app).request("HEAD", "/")
    assert (response.header(b"content-length"), response.body) == (b"5", b"")
    with pytest.raises(LintError, match="HEAD"):
        await Client(app, strict_head=True).request("HEAD", "/")


async def test_trailers() -> None:
    """Trailers are kept apart from the headers."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "trailers": True})
        await send({"type": "http.response.body", "body": b"x"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

    response = await Client(app, extensions={"http.response.trailers": {}}).request("GET", "/")
    assert response.trailers == ((b"x-sum", b"1"),)
    assert response.header(b"x-sum") is None


async def test_broken_response() -> None:
    """An application that returns in the middle of its response broke it: reading says so."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with Client(app).stream("GET", "/") as response:
        assert await anext(response) == b"half"
        with pytest.raises(IncompleteResponse):
            await anext(response)


async def test_no_response() -> None:
    """An application that returns without a response is an error."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        return

    with pytest.raises(IncompleteResponse, match="without starting"):
        await Client(app).request("GET", "/")


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    """Raises; with the query `late` only when the response has begun, with `cancel` as a cancelled task."""
    if scope["query_string"] == b"cancel":
        raise asyncio.CancelledError
    if scope["query_string"] == b"late":
        await send(START)
    raise KeyError("secret")


@pytest.mark.parametrize("target", ["/", "/?late"])
async def test_app_exceptions(target: str) -> None:
    """What leaves the application is raised in the test."""
    with pytest.raises(KeyError, match="secret"):
        await Client(failing).request("GET", target)


async def test_app_exceptions_after_reading() -> None:
    """What the application raises after a complete response is raised too."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await echo_body(scope, receive, send)
        raise KeyError("late")

    with pytest.raises(KeyError, match="late"):
        await Client(app).request("GET", "/")


async def test_app_exceptions_as_a_server() -> None:
    """Without raising, an exception is what a server makes of it: a 500, or a broken response."""
    client = Client(failing, raise_app_exceptions=False)
    assert (await client.request("GET", "/")).status == 500
    with pytest.raises(IncompleteResponse):
        await client.request("GET", "/?late")


async def test_app_cancelled() -> None:
    """An application that ends as cancelled without having been cancelled is an error."""
    with pytest.raises(AssertionError, match="CancelledError"):
        await Client(failing).request("GET", "/?cancel")


async def test_own_exception_wins() -> None:
    """An exception of the test's own is not hidden by what the application does afterwards."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        raise KeyError("application")

    with pytest.raises(ZeroDivisionError):
        async with Client(app).stream("GET", "/"):
            _ = 1 / 0


async def hanging(scope: Scope, receive: Receive, send: Send) -> None:
    """Never ends, not even when the client is gone."""
    await send(START)
    await asyncio.Event().wait()


async def test_hanging_app() -> None:
    """An application that ignores the disconnect is cancelled, and the test fails saying where it hangs."""
    with pytest.raises(AssertionError, match=r"did not end within 0\.05 seconds; it waits in .*"):
        async with Client(hanging, limit=0.05).stream("GET", "/"):
            pass


async def test_waiting_for_ever() -> None:
    """Reading what never comes fails after the limit."""
    with pytest.raises(AssertionError, match=r"waited 0\.05 seconds for the next piece"):
        await Client(endless_silence, limit=0.05).request("GET", "/")


async def endless_silence(scope: Scope, receive: Receive, send: Send) -> None:
    """Starts, and then waits for the disconnect."""
    await send(START)
    while (await receive())["type"] != "http.disconnect":
        pass


async def test_lint_built_in() -> None:
    """Every exchange is checked, even when the application swallows the error and answers are not raised."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(Exception):
            await send({"type": "http.response.body"})
        await send(START)
        await send({"type": "http.response.body"})

    with pytest.raises(LintError, match="before"):
        await Client(app, raise_app_exceptions=False).request("GET", "/")


async def test_lifespan() -> None:
    """What the lifespan leaves in the state is in the scope of every request."""
    events = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            events.append(scope["state"]["pool"])
            await echo_body(scope, receive, send)
            return
        for phase in ("startup", "shutdown"):
            events.append((await receive())["type"])
            scope["state"]["pool"] = "open"
            await send({"type": f"lifespan.{phase}.complete"})

    client = Client(app)
    async with client.lifespan() as state:
        assert state == {"pool": "open"}
        await client.request("GET", "/")
    assert events == ["lifespan.startup", "open", "lifespan.shutdown"]


async def test_lifespan_failing() -> None:
    """A failed start-up is an error with the application's message; so is leaving without an answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if "message" in scope["state"]:
            await send({"type": "lifespan.startup.failed", "message": "no disk"})

    with pytest.raises(LifespanFailed, match="no disk"):
        async with Client(app, state={"message": True}).lifespan():
            pass
    with pytest.raises(LifespanFailed, match="before its startup"):
        async with Client(app).lifespan():
            pass
