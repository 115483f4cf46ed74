"""The stage: three answers, anonymous callers, groups, impersonation, 401 (wire contract §6.1, §6.9, §12.9)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aggmw.asgi.exchanges import Stages
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.exchange import Answer, Exchange
from aggmw.contracts.identity import Identity, Presented
from aggmw.errors import InvalidCredentials, InvalidIdentity
from aggmw.middleware.authentication import (
    Anonymous,
    Authentication,
    AuthenticationMiddleware,
    AuthenticatorUnion,
    StaticTokens,
)
from aggmw.testing import Client

ALICE = Identity("alice", groups=("dev",))
TOKENS = StaticTokens({"t0k": ALICE})
TOKEN = [("Authorization", "Bearer t0k")]


class Says:
    """An authenticator with one fixed answer, which counts how often it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Presented] = []

    async def authenticate(self, presented: Presented) -> Identity | None:
        self.asked.append(presented)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]  # also what an authenticator must not return


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with who is asking and which fields are left."""
    identity: Identity = scope["aggmw.identity"]
    fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
    body = {"user": identity.user, "groups": identity.groups, "headers": fields}
    await JSONResponse(body)(scope, receive, send)


def app(*authenticators: Any, **options: Any) -> Client:
    return Client(AuthenticationMiddleware(echo, authenticators=authenticators, **options))


def assert_unauthorized(response: Any) -> None:
    """§6.9, to the letter."""
    assert response.status == 401
    assert response.json() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Unauthorized",
        "reason": "Unauthorized",
        "code": 401,
    }
    assert response.header("www-authenticate") is None


async def test_known_caller() -> None:
    """§6.1: who is known is in `system:authenticated` too."""
    response = await app(TOKENS).request("GET", "/", TOKEN)
    assert (response.json()["user"], response.json()["groups"]) == ("alice", ["dev", "system:authenticated"])


@pytest.mark.parametrize(
    ("identity", "groups"),
    [
        (Identity("a"), ["system:authenticated"]),
        (Identity("a", groups=("system:authenticated", "b")), ["system:authenticated", "b"]),
        (Identity("a", groups=("system:unauthenticated",)), ["system:unauthenticated"]),
        (Identity("system:anonymous", groups=("b",)), ["b"]),
    ],
)
async def test_group_of_the_authenticated(identity: Identity, groups: list[str]) -> None:
    """§6.1: added unless the caller is anonymous or says already which of the two it is."""
    assert (await app(Says(identity)).request("GET", "/")).json()["groups"] == groups


async def test_nothing_configured_is_401() -> None:
    """Nothing configured means denied."""
    assert_unauthorized(await app().request("GET", "/healthz"))
    assert_unauthorized(await app(TOKENS).request("GET", "/healthz"))


BAD = [InvalidCredentials("expired"), InvalidIdentity("a group name is empty"), RuntimeError("boom"), KeyError("x")]


@pytest.mark.parametrize("error", BAD, ids=lambda error: type(error).__name__)
async def test_failure_does_not_stop_the_union(error: Exception) -> None:
    """§12.9: a client-CA certificate makes the front-proxy authenticator fail on every request."""
    first, last = Says(error), Says(None)
    assert (await app(first, TOKENS, last).request("GET", "/", TOKEN)).json()["user"] == "alice"
    assert (len(first.asked), len(last.asked)) == (1, 0)


@pytest.mark.parametrize("error", BAD, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("order", [1, -1])
async def test_failure_forbids_anonymous(error: Exception, order: int) -> None:
    """§6.1: what is presented and bad is 401, never an anonymous caller."""
    union = [Says(error), Says(None)][::order]
    assert_unauthorized(await app(*union, anonymous=Anonymous.everywhere()).request("GET", "/healthz"))


LOOKALIKE = SimpleNamespace(user="root", uid="", groups=("system:masters", "system:authenticated"), extra={})


@pytest.mark.parametrize("answer", [True, "alice", {"user": "alice"}, 0, LOOKALIKE], ids=str)
async def test_wrong_answers_are_broken(answer: object) -> None:
    """An authenticator that returns something else lets nobody in, also not what only looks like an identity: its
    values were never checked (§12.4)."""
    assert_unauthorized(await app(Says(answer), anonymous=Anonymous.everywhere()).request("GET", "/"))


async def test_broken_authenticator_is_logged_by_type_only() -> None:
    """A broken authenticator is an error even where another one knew the caller; its text may hold a token."""
    with structlog.testing.capture_logs() as logs:
        await app(Says(RuntimeError("t0p-secret")), TOKENS).request("GET", "/", TOKEN)
    assert logs == [
        {
            "event": "authenticator broken",
            "log_level": "error",
            "authenticator": "Says",
            "error": "RuntimeError",
            "request_id": "",
        }
    ]


async def test_refused_credentials_are_logged_where_they_decided() -> None:
    """Nothing is logged for a request that succeeds."""
    with structlog.testing.capture_logs() as logs:
        await app(Says(InvalidCredentials("expired")), TOKENS).request("GET", "/", TOKEN)
        assert logs == []
        await app(TOKENS).request("GET", "/", [("Authorization", "Bearer wr0ng")])
    assert [(log["event"], log["authenticator"], log["reason"]) for log in logs] == [
        ("credentials refused", "StaticTokens", "unknown bearer token")
    ]
    assert "wr0ng" not in str(logs)


async def test_cancellation_is_no_answer() -> None:
    """A cancelled request ends; it is not mistaken for a broken authenticator."""
    with pytest.raises(asyncio.CancelledError):
        await AuthenticatorUnion([Says(asyncio.CancelledError()), TOKENS]).authenticate(Presented())


async def test_unions_nest() -> None:
    """A union is an authenticator with the same three answers, and names its members' credentials."""
    union = AuthenticatorUnion([AuthenticatorUnion([Says(None)]), TOKENS])
    presented = Presented(((b"authorization", b"Bearer t0k"),))
    assert await union.authenticate(presented) == ALICE.with_groups(("dev", "system:authenticated"))
    assert await union.authenticate(Presented()) is None
    assert union.credentials == {b"authorization"}
    with pytest.raises(InvalidCredentials):
        await union.authenticate(Presented(((b"authorization", b"Bearer x"),)))


@pytest.mark.parametrize(
    ("anonymous", "path", "status"),
    [
        (Anonymous(["/healthz"]), "/healthz", 200),
        (Anonymous(["/healthz"]), "/healthz?verbose", 200),
        (Anonymous(["/healthz"]), "/healthz/", 401),
        (Anonymous(["/healthz"]), "/healthz/etcd", 401),
        (Anonymous(["/healthz"]), "/Healthz", 401),
        (Anonymous(["/healthz"]), "/", 401),
        (Anonymous([]), "/healthz", 401),
        (Anonymous.everywhere(), "/anything", 200),
        (None, "/healthz", 401),
    ],
)
async def test_anonymous(anonymous: Anonymous | None, path: str, status: int) -> None:
    """§6.6: exact path equality; an empty list lets nobody in; everywhere has to be said."""
    response = await app(TOKENS, anonymous=anonymous).request("GET", path)
    assert response.status == status
    if status == 200:
        assert response.json()["user"] == "system:anonymous"
        assert response.json()["groups"] == ["system:unauthenticated"]


async def test_anonymous_under_a_mount() -> None:
    """§12.3: conditions are below the mount, with and without the request_info stage."""
    middleware = AuthenticationMiddleware(echo, authenticators=[], anonymous=Anonymous(["/healthz", "/"]))
    client = Client(middleware, root_path="/k8s")
    assert (await client.request("GET", "/healthz")).status == 200
    assert (await client.request("GET", "")).status == 200
    assert (await client.request("GET", "/k8s/healthz")).status == 401


async def test_path_can_be_replaced() -> None:
    """Architecture rule 3: a keyword replaces what the request_info stage leaves."""
    client = app(anonymous=Anonymous(["/open"]), path=lambda exchange: "/open")
    assert (await client.request("GET", "/closed")).status == 200


def test_anonymous_mistakes() -> None:
    """A string would be a list of its letters."""
    with pytest.raises(TypeError, match="takes a list of paths, not one string"):
        Anonymous("/healthz")
    with pytest.raises(ValueError, match="the anonymous path 'healthz' does not begin with a slash"):
        Anonymous(["healthz"])
    assert repr(Anonymous(["/b", "/a"])) == "Anonymous(['/a', '/b'])"
    assert repr(Anonymous.everywhere()) == "Anonymous.everywhere()"


@pytest.mark.parametrize("name", ["Impersonate-User", "impersonate_user", "Impersonate.Group", "IMPERSONATE-EXTRA-a"])
async def test_impersonation_is_403(name: str) -> None:
    """§12.6: never ignored, never forwarded, for every caller on every route."""
    client = app(TOKENS, anonymous=Anonymous(["/healthz"]))
    for path, headers in [("/healthz", []), ("/api/v1/pods", TOKEN)]:
        response = await client.request("GET", path, [*headers, (name, "root")])
        assert (response.status, response.json()["reason"]) == (403, "Forbidden")
        assert response.json()["message"] == (
            "forbidden: nobody can be impersonated here; send the request without Impersonate- headers"
        )


async def test_unknown_callers_learn_nothing_of_impersonation() -> None:
    """§0.4: 401 comes before 403."""
    client = app(TOKENS, anonymous=Anonymous(["/healthz"]))
    for headers in ([], [("Authorization", "Bearer wrong")]):
        assert_unauthorized(await client.request("GET", "/api", [*headers, ("Impersonate-User", "root")]))


async def test_impersonation_stage_gets_its_headers() -> None:
    """With such a stage behind, the fields are left to it; other identity fields still go."""
    client = app(TOKENS, impersonation=True)
    response = await client.request("GET", "/", [*TOKEN, ("Impersonate-User", "bob"), ("X-Remote-User", "eve")])
    names = [name for name, _ in response.json()["headers"]]
    assert "impersonate-user" in names
    assert "x-remote-user" not in names


async def test_warnings_are_left_for_the_outer_stages() -> None:
    """§6.5: two spaces before the token are ignored, with a warning on the exchange."""
    exchange = Exchange({"type": "http", "path": "/"}, ((b"authorization", b"Bearer  t0k"),))
    assert await Authentication([TOKENS], anonymous=Anonymous.everywhere()).decide(exchange) is None
    assert len(exchange.warnings) == 1


async def test_starlette_conventions() -> None:
    """`request.user`, `request.auth` and `@requires` work, with groups as scopes."""

    @requires("dev")
    async def only_dev(request: Request) -> Response:
        return JSONResponse([request.user.display_name, request.user.is_authenticated, request.auth.scopes])

    @requires("ops")
    async def only_ops(request: Request) -> Response:
        raise AssertionError("unreachable")

    routes = [Route("/dev", only_dev), Route("/ops", only_ops)]
    middleware = AuthenticationMiddleware(
        Starlette(routes=routes), authenticators=[TOKENS], anonymous=Anonymous.everywhere()
    )
    client = Client(middleware)
    assert (await client.request("GET", "/dev", TOKEN)).json() == [
        *("alice", True),
        ["authenticated", "dev", "system:authenticated"],
    ]
    assert (await client.request("GET", "/ops", TOKEN)).status == 403
    assert (await client.request("GET", "/dev")).status == 403


async def test_fused_with_other_stages() -> None:
    """Architecture rule 10: the same decision beside another stage in one coroutine."""

    class After:
        async def decide(self, exchange: Exchange) -> Answer | None:
            assert exchange.identity is not None
            return Answer(200, (), exchange.identity.user.encode())

    client = Client(Stages(echo, Authentication([TOKENS]), After()))
    assert (await client.request("GET", "/", TOKEN)).body == b"alice"
    assert_unauthorized(await client.request("GET", "/"))
