"""The authorization stage: bare, as a middleware alone, and with WebSockets."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.identity import Identity
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import MissingInput
from aggmw.middleware.authorization import Authorization, AuthorizationMiddleware
from aggmw.testing import Client

ALICE = Identity("alice", groups=("dev",))
GET_POD = RequestInfo(
    True,
    "get",
    "GET",
    "/api/v1/namespaces/dev/pods/p",
    b"/api/v1/namespaces/dev/pods/p",
    "api",
    "",
    "v1",
    "dev",
    "pods",
)._replace(name="p")
HEALTH = RequestInfo(False, "get", "GET", "/healthz", b"/healthz")


class Scripted:
    """Answers by verb, and remembers what it was asked."""

    def __init__(self, **verdicts: object) -> None:
        self.verdicts = verdicts
        self.asked: list[Attributes] = []

    async def authorize(self, attributes: Attributes) -> Verdict:
        self.asked.append(attributes)
        verdict = self.verdicts.get(attributes.verb, Verdict())
        if isinstance(verdict, Exception):
            raise verdict
        return verdict  # type: ignore[return-value]  # some of these tests answer nonsense on purpose


ALLOW = Verdict(Outcome.ALLOW, "because")


def exchange(info: RequestInfo | None = GET_POD, identity: Identity | None = ALICE, kind: str = "http") -> Exchange:
    return Exchange({"type": kind}, (), request_id="id-1", request_info=info, identity=identity)


async def test_allowed_goes_on_and_leaves_the_verdict() -> None:
    """ALLOW passes; the verdict with its reason stays on the exchange, for audit."""
    one = exchange()
    assert await Authorization(Scripted(get=ALLOW)).decide(one) is None
    assert one.verdict == ALLOW


@pytest.mark.parametrize("outcome", [Outcome.ALLOW, Outcome.DENY])
async def test_verdict_that_has_to_wait(outcome: Outcome) -> None:
    """An authorizer that can answer at once is awaited where it cannot; nothing passes meanwhile."""

    class Waiting(Scripted):
        def verdict(self, attributes: Attributes) -> Verdict | None:
            return None

    one = exchange()
    answer = await Authorization(Waiting(get=Verdict(outcome))).decide(one)
    assert (answer is None) is (outcome is Outcome.ALLOW)
    assert one.verdict == Verdict(outcome)


@pytest.mark.parametrize("verdict", [Verdict(), Verdict(Outcome.DENY), Verdict(Outcome.NO_OPINION)])
async def test_everything_but_allow_is_403(verdict: Verdict) -> None:
    """Deny, no opinion at the end, and the zero verdict are all refused."""
    one = exchange()
    answer = await Authorization(Scripted(get=verdict)).decide(one)
    assert answer is not None
    assert answer.status == 403
    assert one.verdict == verdict
    assert not one.verdict.allowed


async def test_attributes_of_a_resource_request() -> None:
    """All resource fields of the request info reach the authorizer, and the path does not."""
    authorizer = Scripted()
    info = GET_POD._replace(
        verb="list", api_group="g", subresource="status", field_selector="a=b", label_selector="c=d"
    )
    await Authorization(authorizer).decide(exchange(info))
    assert authorizer.asked == [
        Attributes(ALICE, "list", True, "g", "v1", "pods", "status", "dev", "p", "", "a=b", "c=d")
    ]


async def test_attributes_of_a_path() -> None:
    """A request that names no resource is decided by its path."""
    authorizer = Scripted()
    await Authorization(authorizer).decide(exchange(HEALTH))
    assert authorizer.asked == [Attributes(ALICE, "get", False, path="/healthz")]


@pytest.mark.parametrize(("asked_by", "status"), [("", None), ("nginx", 403)])
async def test_handshake_that_may_be_one(asked_by: str, status: int | None) -> None:
    """§7.4b: a proxy that only asks does not say what is upgraded, so the right to get an exec is no shell there."""
    one = exchange(GET_POD._replace(subresource="exec"))
    one.asked_by = asked_by
    authorizer = Scripted(get=ALLOW)
    answer = await Authorization(authorizer).decide(one)
    assert (answer.status if answer else None) == status
    assert [each.verb for each in authorizer.asked] == (["get", "create"] if asked_by else ["get"])


@pytest.mark.parametrize(
    ("info", "identity", "text"),
    [
        (None, ALICE, "authorization needs the request info, which request_info leaves"),
        (GET_POD, None, "authorization needs an identity, which authentication leaves"),
    ],
)
async def test_missing_stage_is_named(info: RequestInfo | None, identity: Identity | None, text: str) -> None:
    """Architecture rule 3: without the stage before it this is an error that names both, never a guest."""
    authorizer = Scripted(get=ALLOW)
    with pytest.raises(MissingInput, match=text):
        await Authorization(authorizer).decide(exchange(info, identity))
    assert authorizer.asked == []


@pytest.mark.parametrize("part", ["user", "verb"])
async def test_empty_subject_or_verb_is_denied_unasked(part: str) -> None:
    """C4: an empty user or verb is refused before any authorizer sees it."""
    authorizer = Scripted(**{"get": ALLOW, "": ALLOW})
    identity = Identity("alice")
    if part == "user":
        object.__setattr__(identity, "user", "")
    info = GET_POD._replace(verb="") if part == "verb" else GET_POD
    one = exchange(info, identity)
    answer = await Authorization(authorizer).decide(one)
    assert answer is not None
    assert answer.status == 403
    assert authorizer.asked == []
    assert one.verdict == Verdict()


@pytest.mark.parametrize("broken", [RuntimeError("s3cr3t"), None, True])
async def test_failing_authorizer_is_500(broken: object) -> None:
    """An authorizer that raises, or answers something that is no verdict, is a 500 and never an allow."""
    one = exchange()
    with capture_logs() as logs:
        answer = await Authorization(Scripted(get=broken)).decide(one)
    assert answer is not None
    assert answer.status == 500
    assert b'"reason":"InternalError"' in answer.body
    assert b"s3cr3t" not in answer.body
    assert one.verdict == Verdict()
    [entry] = logs
    assert entry["event"] == "authorizer failed"
    assert entry["request_id"] == "id-1"
    assert "s3cr3t" not in str(entry)


@pytest.mark.parametrize("outcome", [Outcome.DENY, Outcome.NO_OPINION])
async def test_denial_with_an_error_is_500(outcome: Outcome) -> None:
    """§7.1: what was denied because something could not be found out is a 500; the log says what."""
    one = exchange()
    with capture_logs() as logs:
        answer = await Authorization(Scripted(get=Verdict(outcome, "r", "the webhook is gone"))).decide(one)
    assert answer is not None
    assert answer.status == 500
    assert b"gone" not in answer.body
    assert one.verdict is not None
    assert not one.verdict.allowed
    assert [(each["event"], each["problem"]) for each in logs] == [("authorization failed", "the webhook is gone")]


async def test_allow_with_an_error_is_an_allow() -> None:
    """§7.1: an allow stands, whatever else could not be found out."""
    assert await Authorization(Scripted(get=ALLOW._replace(error="a role is missing"))).decide(exchange()) is None


async def test_stale_verdict_does_not_survive_a_failure() -> None:
    """A verdict that something outside left is no verdict on this request."""
    one = exchange()
    one.verdict = ALLOW
    await Authorization(Scripted(get=RuntimeError())).decide(one)
    assert one.verdict == Verdict()


async def test_cancellation_is_not_swallowed() -> None:
    """A client that goes away while the authorizer thinks cancels it."""
    waiting = asyncio.Event()

    class Waits:
        async def authorize(self, attributes: Attributes) -> Verdict:
            waiting.set()
            await asyncio.Event().wait()
            return ALLOW

    task = asyncio.create_task(Authorization(Waits()).decide(exchange()))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward"])
async def test_handshake_needs_create_too(subresource: str) -> None:
    """§7.4b: over a WebSocket, exec, attach and portforward need get and create."""
    info = GET_POD._replace(subresource=subresource)
    both, only_get, only_create = Scripted(get=ALLOW, create=ALLOW), Scripted(get=ALLOW), Scripted(create=ALLOW)
    assert await Authorization(both).decide(exchange(info, kind="websocket")) is None
    assert [asked.verb for asked in both.asked] == ["get", "create"]
    answer = await Authorization(only_get).decide(exchange(info, kind="websocket"))
    assert answer is not None
    assert answer.status == 403
    assert f'cannot create resource \\"pods/{subresource}\\"'.encode() in answer.body
    answer = await Authorization(only_create).decide(exchange(info, kind="websocket"))
    assert answer is not None
    assert b"cannot get resource" in answer.body
    assert len(only_create.asked) == 1


async def test_refused_create_leaves_the_refusal() -> None:
    """§7.4b: the verdict that stays is the one that decided, not the get that was allowed before."""
    one = exchange(GET_POD._replace(subresource="exec"), kind="websocket")
    await Authorization(Scripted(get=ALLOW)).decide(one)
    assert one.verdict is not None
    assert not one.verdict.allowed


@pytest.mark.parametrize(("kind", "info"), [("http", GET_POD._replace(subresource="exec")), ("websocket", GET_POD)])
async def test_others_are_decided_once(kind: str, info: RequestInfo) -> None:
    """§7.4b is about these subresources over WebSocket; a watch over WebSocket and a GET of exec are decided once."""
    authorizer = Scripted(get=ALLOW)
    assert await Authorization(authorizer).decide(exchange(info, kind=kind)) is None
    assert len(authorizer.asked) == 1


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that says which verdict it was given."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["aggmw.verdict"].reason.encode()})


def alone(authorizer: Scripted, info: RequestInfo = HEALTH) -> AuthorizationMiddleware:
    return AuthorizationMiddleware(
        inside, authorizer=authorizer, identity=lambda one: ALICE, request_info=lambda one: info
    )


async def test_alone_in_a_foreign_application() -> None:
    """With keywords in place of both look-ups it works around any ASGI application."""
    response = await Client(alone(Scripted(get=ALLOW))).request("GET", "/healthz")
    assert (response.status, response.body) == (200, b"because")
    response = await Client(alone(Scripted())).request("GET", "/healthz")
    assert response.status == 403
    assert response.header(b"x-content-type-options") == b"nosniff"
    assert response.json()["message"] == 'forbidden: User "alice" cannot get path "/healthz"'


async def test_keywords_see_the_exchange() -> None:
    """The keywords are given the exchange, so that they can read the scope."""

    def user(one: Exchange) -> Identity:
        return Identity(dict(one.scope["headers"])[b"x-user"].decode())

    authorizer = Scripted()
    app = AuthorizationMiddleware(inside, authorizer=authorizer, identity=user, request_info=lambda one: HEALTH)
    await Client(app).request("GET", "/healthz", headers=[(b"x-user", b"carol")])
    assert authorizer.asked[0].identity.user == "carol"


async def test_keyword_without_an_answer_is_a_missing_input() -> None:
    """A look-up that finds nobody does not make a guest."""
    app = AuthorizationMiddleware(
        inside, authorizer=Scripted(get=ALLOW), identity=lambda one: None, request_info=lambda one: HEALTH
    )
    response = await Client(app).request("GET", "/healthz")
    assert response.status == 500
    assert "put authentication in front of authorization" in response.json()["message"]


async def test_websocket_is_refused_before_it_is_accepted() -> None:
    """C5.10: the decision comes before the handshake is accepted, and the refusal is the Status itself."""
    info = GET_POD._replace(subresource="exec")
    refused = await Client(alone(Scripted(get=ALLOW), info)).websocket("/api/v1/namespaces/dev/pods/p/exec")
    assert not refused.accepted
    assert refused.status == 403
    accepted = await Client(alone(Scripted(get=ALLOW, create=ALLOW), info)).websocket("/x")
    assert accepted.accepted
    await accepted.finished()


async def test_lifespan_passes() -> None:
    """What is not a request is not authorized."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> dict[str, object]:
        return {"type": "lifespan.startup"}

    async def send(message: object) -> None:
        raise AssertionError(message)

    await AuthorizationMiddleware(app, authorizer=Scripted())({"type": "lifespan"}, receive, send)
    assert seen == ["lifespan"]


def test_casbin_is_imported_when_it_is_used() -> None:
    """Importing the stage does not import casbin."""
    code = (
        "import sys, aggmw.middleware.authorization as a; assert 'casbin' not in sys.modules;"
        "a.CasbinAuthorizer; assert 'casbin' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
