"""WsgiApplication: what a WSGI application sees, and what becomes of what it does. The rest is in tests/conformance."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from starlette.applications import Starlette
from structlog.testing import capture_logs

from aggmw import APIService, FrontProxy, Identity, PathService
from aggmw.asgi.types import Message, Receive, Scope, Send
from aggmw.backend import RequestHeaderAuthentication, WsgiApplication
from aggmw.middleware.authentication import StaticTokens
from aggmw.middleware.authorization import AllowAll
from aggmw.testing import Client, IncompleteResponse, WebSocketClosed
from aggmw.testing.transports import pieces_of

ALICE = Identity("ålice", "uid-1", ("dev", "ops"), {"scopes": ("a", "b"), "example.com/x": ("y",)})
GROUP = "notes.example.com"
TOKEN = {"Authorization": "Bearer t0k"}


class App:
    """Answers with the body it read, and remembers what it saw."""

    def __init__(self, answer: Callable[[dict[str, Any], Any], Iterable[bytes]] | None = None) -> None:
        self.seen: list[dict[str, Any]] = []
        self._answer = answer

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.seen.append(environ)
        if self._answer is not None:
            return self._answer(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["wsgi.input"].read()]


def as_alice(app: Any) -> Any:
    """The application in a front proxy's process."""

    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "aggmw.identity": ALICE}, receive, send)

    return called


async def seen_of(*headers: tuple[str, str], **request: Any) -> dict[str, Any]:
    """What the application sees of a request of alice."""
    app = App()
    client = Client(as_alice(WsgiApplication(app)))
    assert (await client.request("GET", request.pop("target", "/"), headers, **request)).status == 200
    return app.seen[0]


async def test_what_an_application_sees() -> None:
    """The variables of PEP 3333: path decoded, query not, fields by their names, several of one joined."""
    environ = await seen_of(
        *(("Content-Type", "text/x"), ("X-A", "1"), ("X-A", "2"), ("Cookie", "a=1"), ("Cookie", "b=2")),
        target="/a%2Fb/%C3%A9?x=%C3%A9&y",
    )
    wanted = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a/b/\xc3\xa9",
        "QUERY_STRING": "x=%C3%A9&y",
        "REQUEST_URI": "/a%2Fb/%C3%A9?x=%C3%A9&y",
        "CONTENT_TYPE": "text/x",
        "HTTP_X_A": "1,2",
        "HTTP_COOKIE": "a=1;b=2",
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.run_once": False,
    }
    assert {name: environ.get(name) for name in wanted} == wanted
    assert "CONTENT_LENGTH" not in environ


async def test_mounted_below_a_path() -> None:
    """SCRIPT_NAME and PATH_INFO part the path where the mount does, whatever the environment of the process says."""
    app = App()
    client = Client(WsgiApplication(app), root_path="/mnt")
    os.environ["SCRIPT_NAME"] = "/other"
    try:
        await client.request("GET", "/a")
    finally:
        del os.environ["SCRIPT_NAME"]
    assert (app.seen[0]["SCRIPT_NAME"], app.seen[0]["PATH_INFO"]) == ("/mnt", "/a")


# The caller


async def test_the_caller() -> None:
    """As a value, as REMOTE_USER, and in the words of a front proxy; text is UTF-8 in WSGI's way of writing bytes."""
    environ = await seen_of()
    assert environ["aggmw.identity"] == ALICE
    assert environ["REMOTE_USER"].encode("latin-1").decode() == "ålice"
    assert environ["HTTP_X_REMOTE_USER"] == environ["REMOTE_USER"]
    assert environ["HTTP_X_REMOTE_UID"] == "uid-1"
    assert environ["HTTP_X_REMOTE_GROUP"] == "dev,ops"
    assert environ["HTTP_X_REMOTE_EXTRA_SCOPES"] == "a,b"


FORGED = [
    "X-Remote-User",
    "X_Remote_User",
    "x.remote.user",
    "X-Remote_Group",
    "x_remote-extra-scopes",
    "X__Remote__User",
]
OTHERS = ["Impersonate-User", "X-Aggmw-User", "Client_Cert", "X_Forwarded_For", "Content_Length", "Remote_User"]


@pytest.mark.parametrize("name", [*FORGED, *OTHERS])
async def test_c2_cve_2025_64484_no_spelling_forges_a_variable(name: str) -> None:
    """C2, CVE-2025-64484: names that WSGI would fold into one are not there, whoever hands them to us."""
    honest, environ = await seen_of(), await seen_of((name, "root"))
    differing = {
        key
        for key in honest.keys() | environ.keys()
        if not key.startswith("wsgi.") and honest.get(key) != environ.get(key)
    }
    assert differing == set()


async def test_cve_2016_5385_no_proxy_for_clients() -> None:
    """`Proxy` does not become `HTTP_PROXY`, by which HTTP clients are told where to send what they ask for."""
    assert not any("PROXY" in variable for variable in await seen_of(("Proxy", "http://evil.example:3128")))


async def test_without_a_caller_there_is_none() -> None:
    """Header fields alone are nobody: neither REMOTE_USER nor X-Remote-*."""
    app = App()
    await Client(WsgiApplication(app)).request(
        "GET", "/", {"X-Remote-User": "root", "X-Remote-Group": "system:masters"}
    )
    assert not [
        name for name in app.seen[0] if ("REMOTE_" in name and not name.startswith("REMOTE_")) or "USER" in name
    ]


async def test_in_a_front_proxy() -> None:
    """As an API group and behind a path: the caller is who the front proxy found, whatever the client says."""
    app = App()
    wsgi = WsgiApplication(app)
    front = FrontProxy(
        authentication=[StaticTokens({"t0k": Identity("alice", groups=("dev",))})],
        authorization=AllowAll(),
        services=[APIService.local(GROUP, "v1", app=wsgi), PathService("/billing/", app=wsgi, strip_prefix=True)],
    )
    client = Client(front)
    forged = [*TOKEN.items(), ("X-Remote-User", "root"), ("X_Remote_User", "root"), ("X_Remote_Group", "root")]
    async with client.lifespan():
        for path in (f"/apis/{GROUP}/v1/notes", "/billing/invoices"):
            answer = await client.request("POST", path, forged, body=b"hello")
            assert (answer.status, answer.body) == (200, b"hello")
            environ = next(each for each in app.seen if each["REQUEST_METHOD"] == "POST")
            app.seen.clear()
            assert environ["aggmw.identity"].user == environ["REMOTE_USER"] == environ["HTTP_X_REMOTE_USER"] == "alice"
            assert environ["HTTP_X_REMOTE_GROUP"] == "dev,system:authenticated"
            assert "HTTP_AUTHORIZATION" not in environ
            assert environ["CONTENT_LENGTH"] == "5"
        assert (environ["PATH_INFO"], environ["HTTP_X_FORWARDED_PREFIX"]) == ("/invoices", "/billing")


async def test_behind_request_headers() -> None:
    """On a server of its own: `RequestHeaderAuthentication` around it is who may say who asks."""
    app = App()
    client = Client(RequestHeaderAuthentication(WsgiApplication(app), accept_any_peer=True))
    assert (await client.request("GET", "/", {"X-Remote-User": "bob"})).status == 200
    assert app.seen[0]["REMOTE_USER"] == "bob"
    assert (await client.request("GET", "/")).status == 401


# Bodies


def reading(read: Callable[[Any], Any]) -> tuple[App, list[Any]]:
    found: list[Any] = []

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        found.append(read(environ["wsgi.input"]))
        start_response("200 OK", [])
        return []

    return App(answer), found


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda source: source.read(), b"one\ntwo\nthree"),
        (lambda source: [source.read(5), source.read(0), source.read(99)], [b"one\nt", b"", b"wo\nthree"]),
        (lambda source: [source.readline(), source.readline(2), source.readline(99)], [b"one\n", b"tw", b"o\n"]),
        (lambda source: source.readlines(), [b"one\n", b"two\n", b"three"]),
        (lambda source: list(source), [b"one\n", b"two\n", b"three"]),
    ],
)
async def test_ways_to_read(read: Callable[[Any], Any], expected: Any) -> None:
    """`wsgi.input` is a file, whatever the pieces in which a body comes."""
    app, found = reading(read)
    pieces = [b"o", b"ne\ntw", b"", b"o\nth", b"ree"]
    await Client(WsgiApplication(app)).request("POST", "/", {"Content-Length": "13"}, body=pieces_of(*pieces))
    assert found == [expected]


@pytest.mark.parametrize("chunked", [True, False])
async def test_bodies_of_unknown_length(chunked: bool) -> None:
    """An application that would take such a body for none does not get it."""
    app = App()
    client = Client(WsgiApplication(app, chunked=chunked))
    answer = await client.request("POST", "/", {"Transfer-Encoding": "chunked"}, body=pieces_of(b"one", b"two"))
    if chunked:
        assert (answer.status, answer.body) == (200, b"onetwo")
    else:
        assert (answer.status, answer.json()["reason"], app.seen) == (411, "LengthRequired", [])


async def test_a_body_that_breaks_off_is_not_whole() -> None:
    """It raises where it is read."""
    raised: list[BaseException] = []
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            environ["wsgi.input"].read()
        except ConnectionResetError as error:
            raised.append(error)
        loop.call_soon_threadsafe(done.set)
        start_response("400 Bad Request", [])
        return []

    messages: list[Message] = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        """Nobody listens."""

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": [(b"content-length", b"9")]}
    await WsgiApplication(App(answer))(scope, receive, send)
    await done.wait()
    assert [str(error) for error in raised] == ["the client is gone"]


# Answers


def plain(*chunks: bytes, status: str = "200 OK", headers: Any = ()) -> App:
    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(status, list(headers))
        return list(chunks)

    return App(answer)


async def test_a_single_chunk_has_a_length() -> None:
    """A whole answer is said to be one."""
    answer = await Client(WsgiApplication(plain(b"hello"))).request("GET", "/")
    assert (answer.header("content-length"), answer.body) == (b"5", b"hello")
    answer = await Client(WsgiApplication(plain(b"hel", b"lo"))).request("GET", "/")
    assert (answer.header("content-length"), answer.body) == (None, b"hello")
    assert (await Client(WsgiApplication(plain())).request("GET", "/")).body == b""


async def test_a_class_whose_instances_are_the_answers() -> None:
    """PEP 3333 has one for an example of an application."""

    class Answer:
        def __init__(self, environ: dict[str, Any], start_response: Any) -> None:
            self._start = start_response

        def __iter__(self) -> Iterator[bytes]:
            self._start("200 OK", [])
            yield b"hello"

    assert (await Client(WsgiApplication(Answer)).request("GET", "/")).body == b"hello"


async def test_write() -> None:
    """The old way to send: what `start_response` returns."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        write = start_response("200 OK", [])
        write(b"one ")
        write(b"two ")
        return [b"three"]

    assert (await Client(WsgiApplication(App(answer))).request("GET", "/")).body == b"one two three"


async def test_the_head_can_be_replaced_until_it_is_sent() -> None:
    """An error handler may begin again as long as there is no body; afterwards it gets its exception back."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("X-A", "b")])
        if environ["PATH_INFO"] == "/late":
            yield b"body"
        try:
            raise ValueError("of the application")
        except ValueError:
            start_response("500 Oh", [], sys.exc_info())
            yield b"error"

    client = Client(WsgiApplication(App(answer)))
    early = await client.request("GET", "/")
    assert (early.status, early.header("x-a"), early.body) == (500, None, b"error")
    with pytest.raises(ValueError, match="of the application"):
        await client.request("GET", "/late")


class Closing:
    """An iterable with a `close`."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self.closed = threading.Event()
        self.thread = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        self.thread = threading.get_ident()
        self.closed.set()


def failing() -> Iterator[bytes]:
    yield b"half"
    raise ZeroDivisionError


def endless() -> Iterator[bytes]:
    while True:
        yield b"x" * 10_000


async def test_iterables_are_closed() -> None:
    """After their end, after an exception, and when the client has left; never on the event loop's thread."""

    def closing(chunks: Iterable[bytes]) -> tuple[WsgiApplication, Closing]:
        made = Closing(chunks)

        def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            start_response("200 OK", [])
            return made

        return WsgiApplication(App(answer)), made

    app, whole = closing([b"one"])
    assert (await Client(app).request("GET", "/")).body == b"one"
    app, broken = closing(failing())
    with pytest.raises(ZeroDivisionError):
        await Client(app).request("GET", "/")
    app, left = closing(endless())
    async with Client(app).stream("GET", "/") as response:
        assert await anext(aiter(response))
        await response.disconnect()
    for each in (whole, broken, left):
        assert await asyncio.to_thread(each.closed.wait, 5)
        assert each.thread != threading.get_ident()


async def test_every_thread_comes_back(clock: Any) -> None:
    """Clients leave in the middle of endless answers, more of them than there are threads; the next one is served."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"fine"] if environ["PATH_INFO"] == "/fine" else endless()

    app = WsgiApplication(App(answer), threads=2)
    front = FrontProxy(authorization=AllowAll(), authentication=[StaticTokens({"t0k": Identity("alice")})],
                       services=[PathService("/x/", app=app, strip_prefix=True)])  # fmt: skip
    client = Client(front)
    async with client.lifespan():
        for _ in range(5):
            async with client.stream("GET", "/x/", TOKEN) as response:
                assert await anext(aiter(response))
                await response.disconnect()
            await clock.advance(2)
        assert (await client.request("GET", "/x/fine", TOKEN)).body == b"fine"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration()])
async def test_nothing_it_raises_ends_the_process(error: BaseException) -> None:
    """What would end a program, or a generator, is this request's failure."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        raise error

    with pytest.raises(RuntimeError):
        await Client(WsgiApplication(App(answer))).request("GET", "/")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda environ, start: [b"no head"], "start_response was not called before the body"),
        (lambda environ, start: (start("200 OK", []), start("200 OK", [])), "called twice"),
        (lambda environ, start: start("junk", []), "invalid literal"),
        (lambda environ, start: [start("200 OK", []) and "text"], "string"),
        (lambda environ, start: start("200 OK", []), "not iterable"),
    ],
)
async def test_mistakes_of_an_application(answer: Any, words: str) -> None:
    """They are raised, which is a 500 of this application."""
    with pytest.raises((RuntimeError, ValueError, TypeError), match=words):
        await Client(WsgiApplication(App(answer))).request("GET", "/")


async def test_in_the_middle_it_is_cut() -> None:
    """In a front proxy: without a head a 500 that says nothing of the exception, in the middle a broken answer."""

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/half":
            raise ValueError("password=hunter2")
        start_response("200 OK", [])
        return failing()

    front = FrontProxy(authorization=AllowAll(), authentication=[StaticTokens({"t0k": Identity("alice")})],
                       services=[PathService("/x/", app=WsgiApplication(App(answer)), strip_prefix=True)])  # fmt: skip
    client = Client(front)
    with capture_logs() as logs:
        async with client.lifespan():
            answered = await client.request("GET", "/x/", TOKEN)
            assert (answered.status, answered.json()["reason"]) == (500, "InternalError")
            with pytest.raises(IncompleteResponse):
                await client.request("GET", "/x/half", TOKEN)
    assert "hunter2" not in answered.text + str(logs)


# Threads


class Gate:
    """An application whose requests wait until it is opened."""

    def __init__(self) -> None:
        self.running = asyncio.Semaphore(0)
        self._open = threading.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self._loop.call_soon_threadsafe(self.running.release)
        assert self._open.wait(60)
        start_response("200 OK", [])
        return [b"done"]

    def open(self) -> None:
        self._open.set()


async def test_so_many_at_a_time() -> None:
    """`threads` run, `waiting` wait, and more are 503 with Retry-After; who has left does not take a turn."""
    gate = Gate()
    client = Client(WsgiApplication(gate, threads=2, waiting=1))
    tasks = [asyncio.ensure_future(client.request("GET", "/")) for _ in range(3)]
    for _ in range(2):
        await gate.running.acquire()
    refused = await client.request("GET", "/")
    assert (refused.status, refused.header("retry-after")) == (503, b"1")
    tasks[2].cancel()
    await asyncio.wait({tasks[2]})
    gate.open()
    assert [(await task).body for task in tasks[:2]] == [b"done"] * 2
    assert (await client.request("GET", "/")).status == 200


async def test_it_runs_in_the_context_of_its_request() -> None:
    """What was bound for the request is bound in the thread."""
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("bound")
    found: list[str] = []

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        found.append(variable.get("unbound"))
        start_response("200 OK", [])
        return []

    await Client(WsgiApplication(App(answer))).request("GET", "/")
    assert found == ["bound"]


async def test_threads_end_with_the_lifespan() -> None:
    """None is left behind, and a second lifespan has new ones."""
    client = Client(WsgiApplication(App()))
    await asyncio.to_thread(int)  # the event loop's own thread
    before = set(threading.enumerate())
    for _ in range(2):
        async with client.lifespan():
            await client.request("GET", "/")
            threads = [each for each in threading.enumerate() if each not in before]
            assert threads
        for thread in threads:
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()


def test_a_thread_that_hangs_does_not_hold_up_the_end() -> None:
    """A process ends although an application does not."""
    program = """
import asyncio, threading
from aggmw.backend import WsgiApplication
from aggmw.testing import Client
hanging = threading.Event()
def app(environ, start_response):
    hanging.set()
    threading.Event().wait()
async def main():
    task = asyncio.ensure_future(Client(WsgiApplication(app)).request("GET", "/"))
    await asyncio.to_thread(hanging.wait, 5)
    task.cancel()
    await asyncio.wait({task})
asyncio.run(main())
print("ended")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "ended\n", done.stderr


async def test_no_websocket() -> None:
    """A handshake is refused with a reason."""
    async with Client(WsgiApplication(App())).websocket("/") as websocket:
        with pytest.raises(WebSocketClosed):
            await websocket.receive()


@pytest.mark.parametrize(
    ("app", "options", "error"),
    [
        (object(), {}, "app must be a WSGI application, not object"),
        (App, {}, "app must be a WSGI application, not the class App"),
        (Starlette(), {}, "Starlette takes no environ and start_response: it looks like an ASGI application"),
        (App(), {"threads": 0}, "threads must be at least 1"),
        (App(), {"waiting": -1}, "waiting at least 0"),
    ],
)
def test_misuse(app: Any, options: dict[str, Any], error: str) -> None:
    """What cannot work is said when it is made."""
    with pytest.raises((TypeError, ValueError), match=error):
        WsgiApplication(app, **options)
