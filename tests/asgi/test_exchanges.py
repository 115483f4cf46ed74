"""Exchanges in and out of scopes; stages in one coroutine and alone do the same."""

from __future__ import annotations

from typing import Any

from starlette.authentication import has_required_scope
from starlette.requests import HTTPConnection

from aggmw.asgi.exchanges import Stages, enter, leave
from aggmw.asgi.folding import fold
from aggmw.asgi.types import ASGIApp, Receive, Scope, Send
from aggmw.contracts.connection import UNKNOWN, Connection
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.identity import ANONYMOUS, Identity
from aggmw.errors import StatusError
from aggmw.testing import Client

OK = Answer(200, ((b"content-type", b"text/plain"),), b"stage")


def http(**more: Any) -> Scope:
    """A scope of the smallest request."""
    return {"type": "http", "method": "GET", "path": "/", "headers": [], **more}


class Recorder:
    """An application that keeps the scope it got and answers 204."""

    def __init__(self) -> None:
        self.scope: Scope = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Note:
    """A stage that writes its name on the exchange and then answers, raises or goes on."""

    def __init__(self, name: str, outcome: Answer | StatusError | None = None) -> None:
        self._name = name
        self._outcome = outcome

    async def decide(self, exchange: Exchange) -> Answer | None:
        exchange.warnings.append(self._name)
        if isinstance(self._outcome, StatusError):
            raise self._outcome
        return self._outcome


def test_headers_are_frozen_on_entry() -> None:
    """http-facts §1: a server that appends trailers to its list after the request began changes nothing here."""
    live = [(b"host", b"a")]
    exchange = enter(http(headers=live))
    live.append((b"x-remote-user", b"root"))
    assert exchange.headers == ((b"host", b"a"),)


def test_outer_scope_is_never_changed() -> None:
    """Rule 8: inside gets a copy, extensions included."""
    scope = http(extensions={"a": {}})
    before = {**scope, "extensions": dict(scope["extensions"])}
    exchange = enter(scope)
    exchange.identity = Identity("alice")
    inner = leave(exchange)
    inner["extensions"]["marker"] = {}
    inner["headers"].append((b"x", b"y"))
    assert scope == before


def test_a_change_between_stages_counts() -> None:
    """What an application between two stages leaves in the headers is what the next stage reads."""
    inner = leave(enter(http(headers=[(b"host", b"a")])))
    inner["headers"] = [(b"host", b"b")]
    assert enter(inner).headers == ((b"host", b"b"),)


def test_connection_is_believed_by_type_only() -> None:
    """A value of another type under the key is not a connection."""
    connection = Connection(("127.0.0.1", 1))
    assert enter(http(state={"aggmw.connection": connection})).connection is connection
    assert enter(http(state={"aggmw.connection": {"peer": "x"}})).connection is UNKNOWN
    assert enter(http()).connection is UNKNOWN


def test_starlette_conventions() -> None:
    """`request.user` and `@requires` read what we leave; the anonymous caller is not authenticated."""
    exchange = enter(http())
    exchange.identity = Identity("alice", groups=("dev",))
    request = HTTPConnection(leave(exchange))
    assert request.user.is_authenticated
    assert request.user.display_name == "alice"
    assert has_required_scope(request, ["authenticated", "dev"])
    exchange.identity = ANONYMOUS
    request = HTTPConnection(leave(exchange))
    assert not request.user.is_authenticated
    assert not has_required_scope(request, ["authenticated"])


async def test_first_answer_ends() -> None:
    """Stages run in order until one answers; the application is not called."""
    app = Recorder()
    response = await Client(Stages(app, Note("a"), Note("b", OK), Note("c"))).request("GET", "/")
    assert (response.status, response.body) == (200, b"stage")
    assert app.scope == {}


async def test_raised_status_is_an_answer() -> None:
    """A StatusError is the same as returning its answer."""
    stages = Stages(Recorder(), Note("a", StatusError(409, "Conflict", "changed")))
    response = await Client(stages).request("GET", "/")
    assert response.status == 409
    assert response.json()["message"] == "changed"


async def test_single_and_fused_leave_the_same() -> None:
    """Rule 10: two stages folded into one run leave what two middlewares leave."""
    fused, nested = Recorder(), Recorder()
    await Client(Stages(fused, Note("a"), Note("b"))).request("GET", "/x")
    await Client(Stages(Stages(nested, Note("b")), Note("a"))).request("GET", "/x")
    assert fused.scope["aggmw.exchange"].warnings == nested.scope["aggmw.exchange"].warnings == ["a", "b"]
    assert fused.scope.keys() == nested.scope.keys()


async def test_head_answer_has_length_and_no_body() -> None:
    """A HEAD request gets the head that GET would get."""
    response = await Client(Stages(Recorder(), Note("a", OK))).request("HEAD", "/")
    assert response.header(b"content-length") == b"5"
    assert response.body == b""


async def test_lifespan_passes() -> None:
    """What is not a request is the application's."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        return {}

    await Stages(app, Note("a", OK))({"type": "lifespan"}, nothing, nothing)
    assert seen == ["lifespan"]


async def test_websocket_is_refused_before_it_is_accepted() -> None:
    """A stage's answer reaches a WebSocket client as a response where the server can, else as a close."""
    client = Client(Stages(Recorder(), Note("a", OK)), extensions={"websocket.http.response": {}})
    denied = await client.websocket("/")
    assert (denied.status, denied.body) == (200, b"stage")


def test_fold_joins_neighbours_and_splits_at_middlewares() -> None:
    """A foreign middleware between two stages splits the run; the order stays."""

    class Foreign:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        def __repr__(self) -> str:
            return f"Foreign → {self.app!r}"

    class Core:
        def __repr__(self) -> str:
            return "core"

    stack = fold(Core(), [Note("a"), Note("b"), Foreign, Note("c")])  # type: ignore[arg-type, list-item]
    assert repr(stack) == "Stages(Note, Note) → Foreign → Stages(Note) → core"
