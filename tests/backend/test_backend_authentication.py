"""RequestHeaderAuthentication as ASGI: who gets in, and what the application inside finds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.websockets import WebSocket
from structlog.testing import capture_logs
from tests.pki.certificates import NOW, authority, connection, leaf

from aggmw import APIService, FrontProxy
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.backend import RequestHeaderAuthentication
from aggmw.contracts.connection import Connection
from aggmw.contracts.identity import Identity, Presented
from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import AllowAll
from aggmw.testing import Client

CA = authority("front proxies")
OTHER = authority("others")
SHOWN = connection(leaf(CA), CA)
NO_CERTIFICATE = Connection(tls=True, trailers_apart=True)
BAD = connection(leaf(OTHER), OTHER)
ALICE = [("X-Remote-User", "alice"), ("X-Remote-Group", "dev")]
GROUPS = ["dev", "system:authenticated"]


class Seen:
    """An application that keeps the scopes of its requests."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            websocket = WebSocket(scope, receive, send)
            await websocket.accept()
            await websocket.send_json(scope["user"].display_name)
            await websocket.close()
        elif scope["type"] == "http":
            identity = scope["aggmw.identity"]
            body = json.dumps([identity.user, *identity.groups]).encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})

    @property
    def names(self) -> list[bytes]:
        """The header fields of the last request."""
        return [name for name, _ in self.scopes[-1]["headers"]]


def protected(app: Any, *, anonymous_paths: Any = ("/healthz",), **options: Any) -> RequestHeaderAuthentication:
    given = {} if {"accept_any_peer", "in_process_only"} & options.keys() else {"ca": CA.pem, "clock": NOW.timestamp}
    return RequestHeaderAuthentication(app, anonymous_paths=anonymous_paths, **given, **options)


async def get(
    shown: Connection | None, path: str = "/a", headers: Iterable[tuple[str, str]] = ALICE, **options: Any
) -> Any:
    """The status of a refusal, else whom the application found."""
    response = await Client(protected(Seen(), **options), connection=shown).request("GET", path, headers)
    if response.status == 401:
        assert response.json()["kind"] == "Status"
        assert (response.json()["reason"], response.json()["message"]) == ("Unauthorized", "Unauthorized")
        return 401
    return response.json()


# Who gets in


async def test_the_front_proxy() -> None:
    """§6.3: believed, with `system:authenticated` added."""
    assert await get(SHOWN) == ["alice", *GROUPS]
    assert await get(SHOWN, "/healthz") == ["alice", *GROUPS]


@pytest.mark.parametrize(
    ("shown", "headers", "elsewhere", "health"),
    [
        (NO_CERTIFICATE, ALICE, 401, ["system:anonymous", "system:unauthenticated"]),
        (NO_CERTIFICATE, [], 401, ["system:anonymous", "system:unauthenticated"]),
        (SHOWN, [], 401, ["system:anonymous", "system:unauthenticated"]),
        (SHOWN, [("X-Remote-Group", "system:masters")], 401, ["system:anonymous", "system:unauthenticated"]),
        (BAD, ALICE, 401, 401),
        (BAD, [], 401, 401),
        (SHOWN, [*ALICE, *ALICE], 401, 401),
        (SHOWN, [("X-Remote-User", "\xff")], 401, 401),
    ],
    ids=["no certificate", "nothing", "no user", "groups alone", "bad", "bad, no headers", "two users", "not UTF-8"],
)
async def test_everybody_else(
    shown: Connection, headers: list[tuple[str, str]], elsewhere: object, health: object
) -> None:
    """§6.1, §6.3, §12.9: nothing usable is anonymous where that is allowed; anything bad is 401 everywhere."""
    assert await get(shown, "/a", headers) == elsewhere
    assert await get(shown, "/healthz", headers) == health


@pytest.mark.parametrize("path", ["/", "/healthz/", "/healthz/x", "//healthz", "/Healthz", "/a/../healthz"])
async def test_anonymous_paths_are_exact(path: str) -> None:
    """envoy#46586: an exempt path is that path, and nothing that looks like it."""
    assert await get(NO_CERTIFICATE, path) == 401


async def test_nothing_configured_nobody_anonymous() -> None:
    """§7 of the rules: without a list nobody is let in."""
    assert await get(NO_CERTIFICATE, "/healthz", anonymous_paths=()) == 401


async def test_anonymous_paths_below_a_mount() -> None:
    """Paths are those below `root_path`."""
    client = Client(protected(Seen()), connection=NO_CERTIFICATE, root_path="/notes")
    assert (await client.request("GET", "/healthz")).status == 200
    assert (await client.request("GET", "/a")).status == 401


async def test_c5_1_trailers_are_401_everywhere() -> None:
    """C5.1: identity that may have come as a trailer is bad, not missing, on anonymous paths too."""
    mixed = Connection(tls=True, chain=SHOWN.chain)
    headers = [*ALICE, ("Transfer-Encoding", "chunked")]
    assert await get(mixed, "/healthz", headers) == 401
    assert await get(mixed) == ["alice", *GROUPS]
    assert await get(None, "/healthz", headers, accept_any_peer=True) == 401


async def test_c5_1_late_trailers_reach_nobody() -> None:
    """C5.1, http-facts §1: what a server appends to its list afterwards is not in ours."""
    seen = Seen()
    live: list[tuple[bytes, bytes]] = [(b"x-remote-user", b"alice")]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        live.append((b"x-remote-group", b"system:masters"))
        await seen(scope, receive, send)

    inside = protected(app)

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        await inside({**scope, "headers": live}, receive, send)

    assert (await Client(server, connection=SHOWN).request("GET", "/")).json() == ["alice", "system:authenticated"]
    assert seen.scopes[0]["headers"] == []


async def test_anybody_where_that_is_said() -> None:
    """`accept_any_peer`: whoever comes is whom they say."""
    for shown in (None, NO_CERTIFICATE, BAD):
        assert await get(shown, accept_any_peer=True) == ["alice", *GROUPS]
        assert await get(shown, headers=[], accept_any_peer=True) == 401


async def test_a_server_that_says_nothing() -> None:
    """Under plain uvicorn nobody is believed, not even as anonymous; one log line says what to do."""
    client = Client(protected(Seen()))
    with capture_logs() as logs:
        for path in ("/a", "/healthz", "/a"):
            assert (await client.request("GET", path, ALICE)).status == 401
    assert logs == [
        {
            "event": "every request is refused: the server does not say whose certificate a connection has",
            "log_level": "error",
            "remedy": "run it with: uvicorn --http aggmw.server.door:Door",
        }
    ]


async def test_refusals_are_logged_without_what_was_sent() -> None:
    """The reason is for the log; header values are for nobody."""
    with capture_logs() as logs:
        await get(BAD, headers=[("X-Remote-User", "s3cret")])
        await get(SHOWN, headers=[("X-Remote-User", "s3cret\xff")])
        await get(NO_CERTIFICATE, headers=[("X-Remote-User", "s3cret")])
        await get(NO_CERTIFICATE, "/healthz", headers=[("X-Remote-User", "s3cret")])
    assert [line["reason"] for line in logs] == [
        "the client certificate is not signed by the front-proxy CA",
        "an identity header is not UTF-8",
        "nothing counts here: no client certificate (uvicorn asks for one with --ssl-cert-reqs 1), or no user named",
    ]
    assert "s3cret" not in repr(logs)


# In one process


async def test_c5_13_a_typed_identity_is_believed() -> None:
    """C5.13: an `Identity` in the scope is a front proxy's in this process; headers beside it count for nothing."""
    seen = Seen()
    inside = protected(seen)

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        await inside({**scope, "aggmw.identity": Identity("bob", groups=("ops",))}, receive, send)

    for shown in (None, NO_CERTIFICATE, BAD):
        response = await Client(front, connection=shown).request("GET", "/a", ALICE)
        assert response.json() == ["bob", "ops", "system:authenticated"]
        assert seen.names == [b"host"]


@pytest.mark.parametrize("value", ["alice", b"alice", {"user": "alice"}, None, ("alice", "", (), {})])
async def test_c5_13_by_its_type_alone(value: object) -> None:
    """C5.13: anything else under that key is not believed."""
    inside = protected(Seen())

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        await inside({**scope, "aggmw.identity": value}, receive, send)

    assert (await Client(front, connection=NO_CERTIFICATE).request("GET", "/a", ALICE)).status == 401


async def test_in_process_only() -> None:
    """Without a CA, and without believing anybody on the network: only the type counts."""
    inside = protected(Seen(), in_process_only=True)

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        await inside({**scope, "aggmw.identity": Identity("bob")}, receive, send)

    assert (await Client(front).request("GET", "/a", ALICE)).json() == ["bob", "system:authenticated"]
    for shown in (None, NO_CERTIFICATE, SHOWN, Connection(trailers_apart=True)):
        assert (await Client(inside, connection=shown).request("GET", "/a", ALICE)).status == 401
        response = await Client(inside, connection=shown).request("GET", "/healthz", ALICE)
        assert response.json() == ["system:anonymous", "system:unauthenticated"]


@pytest.mark.parametrize("option", [{"ca": CA.pem}, {"allowed_names": ["a"]}, {"accept_any_peer": True}])
def test_in_process_only_excludes_the_others(option: dict[str, Any]) -> None:
    """One or the other is a mistake, and it is not for us to say which."""
    with pytest.raises(ConfigurationError, match="in_process_only=True believes no headers: leave it out, or"):
        RequestHeaderAuthentication(Seen(), in_process_only=True, **option)


class Header:
    """Believes a header of the test."""

    async def authenticate(self, presented: Presented) -> Identity | None:
        return Identity("carol") if presented.header(b"authorization") else None


async def test_as_a_local_api_group() -> None:
    """The same application serves in the front proxy's process, without a certificate."""
    seen = Seen()
    service = APIService.local("notes.example.com", "v1", app=protected(seen))
    proxy = FrontProxy(authentication=[Header()], authorization=AllowAll(), services=[service])
    async with proxy:
        client = Client(proxy)
        path = "/apis/notes.example.com/v1/notes"
        response = await client.request("GET", path, [("Authorization", "x"), ("X-Remote-User", "root")])
        assert response.json() == ["carol", "system:authenticated"]
        assert (await client.request("GET", path, ALICE)).status == 401


# What the application finds


async def test_starlette_conventions() -> None:
    """`request.user` and `request.auth` are the caller's."""
    seen = Seen()
    await Client(protected(seen), connection=SHOWN).request("GET", "/a", ALICE)
    user, auth = seen.scopes[0]["user"], seen.scopes[0]["auth"]
    assert (user.is_authenticated, user.display_name, user.groups) == (True, "alice", tuple(GROUPS))
    assert auth.scopes == ["authenticated", *GROUPS]
    await Client(protected(seen), connection=NO_CERTIFICATE).request("GET", "/healthz")
    assert seen.scopes[1]["user"].is_authenticated is False
    assert seen.scopes[1]["auth"].scopes == ["system:unauthenticated"]


FORGED = ["X_Remote_User", "x.remote.user", "X-Remote_Group", "X-Remote-Extra-A", "X-Aggmw-Identity", "Client-Cert"]


@pytest.mark.parametrize("name", [*FORGED, "X-Forwarded-Client-Cert", "Impersonate-User", "X-Remote-User "])
@pytest.mark.parametrize(("shown", "path"), [(SHOWN, "/a"), (NO_CERTIFICATE, "/healthz")])
async def test_c2_no_spelling_is_left(name: str, shown: Connection, path: str) -> None:
    """C2, CVE-2025-64484: on every path, whoever asks, no field is left that could tell who is asking."""
    seen = Seen()
    headers = [("Accept", "*/*"), (name, "root"), *ALICE, ("X-Request-Id", "1"), ("Authorization", "theirs")]
    await Client(protected(seen), connection=shown).request("GET", path, headers)
    assert seen.names == [b"host", b"accept", b"x-request-id", b"authorization"]


async def test_the_scope_of_the_server_is_left_alone() -> None:
    """Rule 8: the outer scope, its headers and its extensions are not changed."""
    kept: list[Any] = []
    seen = Seen()
    inside = protected(seen)

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        before = {**scope, "headers": list(scope["headers"]), "extensions": dict(scope["extensions"])}
        await inside(scope, receive, send)
        kept.append(scope == before)

    await Client(server, connection=SHOWN, extensions={"x": {}}).request("GET", "/a", ALICE)
    assert kept == [True]
    assert seen.scopes[0]["extensions"] == {"x": {}}


async def test_websockets() -> None:
    """A handshake is decided like a request: accepted with the caller, or refused before it is accepted."""
    client = Client(protected(Seen()), connection=SHOWN)
    async with client.websocket("/a", ALICE) as websocket:
        assert json.loads(await websocket.receive()) == "alice"
    for shown in (BAD, NO_CERTIFICATE):
        refused = await Client(protected(Seen()), connection=shown).websocket("/a", ALICE)
        assert (refused.status, json.loads(refused.body)["reason"]) == (401, "Unauthorized")


async def test_lifespan_and_others_pass() -> None:
    """What is neither a request nor a handshake is not ours."""
    seen = Seen()
    await protected(seen)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    await protected(seen)({"type": "webtransport"}, None, None)  # type: ignore[arg-type]
    assert [scope["type"] for scope in seen.scopes] == ["lifespan", "webtransport"]


# Options


def test_mistakes_are_found_when_it_is_made() -> None:
    """No CA, a path without a slash, one string for several: before the first request."""
    with pytest.raises(ConfigurationError, match="accept_any_peer=True where nobody but"):
        RequestHeaderAuthentication(Seen())
    with pytest.raises(ConfigurationError, match="holds no PEM certificate"):
        RequestHeaderAuthentication(Seen(), ca=b"x")
    with pytest.raises(ValueError, match="does not begin with a slash"):
        protected(Seen(), anonymous_paths=["healthz"])
    with pytest.raises(TypeError, match="takes a list of paths"):
        protected(Seen(), anonymous_paths="/healthz")
    with pytest.raises(TypeError, match="app must be an ASGI application"):
        protected(None)


def test_repr() -> None:
    """The stack, and how much is trusted; no certificate, no key."""
    assert repr(protected(Seen(), allowed_names=["front-proxy-client"])) == (
        "RequestHeaderAuthentication(RequestHeaders(1 authorities, allowed_names=['front-proxy-client']),"
        " Anonymous(['/healthz'])) → Seen"
    )
    assert repr(protected(Seen(), in_process_only=True, anonymous_paths=())) == (
        "RequestHeaderAuthentication(in_process_only=True, Anonymous([])) → Seen"
    )
