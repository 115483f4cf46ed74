"""The audit stage: every outcome of a request becomes events, whoever answered, and nothing secret is in them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tests.middleware.audit.sinks import Collected, policy

from aggmw import FrontProxy, Identity, PathService
from aggmw.asgi.types import Message, Receive, Scope, Send
from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.errors import MisplacedStage
from aggmw.middleware.audit import Audit, AuditMiddleware
from aggmw.middleware.authentication import AuthenticationMiddleware, StaticTokens
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.recovery import RecoveryMiddleware
from aggmw.middleware.request_info import RequestInfoMiddleware, parse
from aggmw.testing import Client, WebSocketClosed

ALICE = Identity("alice", "u-1", ("dev",), {"scopes": ("a", "b")})
TOKENS = StaticTokens({"t0k": ALICE})
TOKEN = {"Authorization": "Bearer t0k"}
PODS = "/api/v1/namespaces/dev/pods"
JSON = {"content-type": "application/json"}
POD = b'{"kind":"Pod","metadata":{"name":"p","managedFields":[{"manager":"kubectl"}]}}'


class ByVerb:
    """Allows everything but what is deleted."""

    async def authorize(self, attributes: Attributes) -> Verdict:
        if attributes.verb == "delete":
            return Verdict(Outcome.DENY, "nobody deletes")
        return Verdict(Outcome.ALLOW, "everybody reads")


async def core(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body, and answers by the path."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        return
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    if scope["path"].endswith("/broken"):
        raise LookupError("s3cr3t")
    plain = scope["path"].endswith("/plain")
    fields = [(b"content-type", b"text/plain" if plain else b"application/json")]
    await send({"type": "http.response.start", "status": 201, "headers": fields})
    await send({"type": "http.response.body", "body": POD[:10], "more_body": True})
    await send({"type": "http.response.body", "body": POD[10:]})


def front(sink: Collected, level: str = "Metadata", **options: Any) -> FrontProxy:
    required = options.pop("required", False)
    audit = Audit(
        options.pop("policy", None) or policy(level), [sink], required=required, clock=lambda: 1_700_000_000.5
    )
    return FrontProxy(core, **{"authentication": [TOKENS], "authorization": ByVerb(), "audit": audit, **options})


async def asked(proxy: FrontProxy, method: str, target: str, headers: Any = TOKEN, body: bytes = b"") -> int:
    async with proxy:
        response = await Client(proxy).request(method, target, headers, body)
        assert response.header("audit-id")
        return response.status


async def test_event_of_metadata() -> None:
    """§10.4: the whole event, to the letter."""
    sink = Collected()
    headers = {**TOKEN, "User-Agent": "kubectl/1.37", "Audit-ID": "an-id", "X-Forwarded-For": "10.1.2.3, nonsense"}
    assert await asked(front(sink), "GET", f"{PODS}/p?timeout=32s", headers) == 201
    user = {
        "username": "alice",
        "uid": "u-1",
        "groups": ["dev", "system:authenticated"],
        "extra": {"scopes": ["a", "b"]},
    }
    common = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": "an-id",
        "requestURI": f"{PODS}/p?timeout=32s",
        "verb": "get",
        "user": user,
        "sourceIPs": ["10.1.2.3", "127.0.0.1"],
        "userAgent": "kubectl/1.37",
        "objectRef": {"resource": "pods", "namespace": "dev", "name": "p", "apiVersion": "v1"},
        "requestReceivedTimestamp": "2023-11-14T22:13:20.500000Z",
        "stageTimestamp": "2023-11-14T22:13:20.500000Z",
    }
    verdict = {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "everybody reads"}
    assert sink.events == [
        {**common, "stage": "RequestReceived"},
        {
            **common,
            "stage": "ResponseComplete",
            "responseStatus": {"metadata": {}, "code": 201},
            "annotations": verdict,
        },
    ]
    json.dumps(sink.events)


async def test_refused_authorization() -> None:
    """A 403 is recorded with its reason."""
    sink = Collected()
    assert await asked(front(sink), "DELETE", f"{PODS}/p") == 403
    assert sink.events[-1]["responseStatus"] == {"metadata": {}, "status": "Failure", "code": 403}
    assert sink.events[-1]["annotations"]["authorization.k8s.io/decision"] == "forbid"
    assert sink.events[-1]["annotations"]["authorization.k8s.io/reason"] == "nobody deletes"


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "Authentication failed, no credentials provided"),
        ({"Authorization": "Bearer s3cr3t"}, "Authentication failed, attempted: bearer"),
        ({"Authorization": "basic s3cr3t"}, "Authentication failed, attempted: basic"),
    ],
)
async def test_refused_authentication(headers: dict[str, str], message: str) -> None:
    """Whom authentication refused stands in the log, as nobody, with what was tried and never with the token."""
    sink = Collected()
    assert await asked(front(sink), "GET", PODS, headers) == 401
    (event,) = sink.events
    assert (event["user"], event["stage"]) == ({}, "ResponseComplete")
    assert event["responseStatus"] == {"metadata": {}, "status": "Failure", "message": message, "code": 401}
    assert "s3cr3t" not in json.dumps(sink.events)


async def test_refused_without_an_impersonation_stage() -> None:
    """Also a known caller whose impersonation is refused by authentication itself, which leaves no identity."""
    sink = Collected()
    assert await asked(front(sink), "GET", PODS, {**TOKEN, "Impersonate-User": "root"}) == 403
    assert sink.events[-1]["responseStatus"]["code"] == 403


async def test_impersonation_shows_both() -> None:
    """`user` is who really asks, `impersonatedUser` whom they act as, and the constraint that let them."""
    sink = Collected()
    headers = {**TOKEN, "Impersonate-User": "bob", "Impersonate-Group": "ops"}
    assert await asked(front(sink, impersonation=True), "GET", PODS, headers) == 201
    first, last = sink.events
    assert "impersonatedUser" not in first
    assert last["user"]["username"] == "alice"
    assert last["impersonatedUser"] == {"username": "bob", "groups": ["ops", "system:authenticated"]}
    assert last["authenticationMetadata"] == {"impersonationConstraint": "impersonate:user-info"}


async def test_refused_impersonation_leaves_a_trace() -> None:
    """Who tried it, and whom they wanted to be."""
    sink = Collected()
    proxy = front(sink, impersonation=True, authorization=None)
    assert await asked(proxy, "GET", PODS, {**TOKEN, "Impersonate-User": "root"}) == 403
    last = sink.events[-1]
    assert (last["user"]["username"], last["responseStatus"]["code"]) == ("alice", 403)
    assert "impersonatedUser" not in last
    assert last["annotations"] == {"impersonation.aggmw/asked-for": "root"}


async def test_panic() -> None:
    """An exception is the stage Panic with 500; its text is not recorded."""
    sink = Collected()
    assert await asked(front(sink), "GET", "/broken") == 500
    assert sink.stages == ["RequestReceived", "Panic"]
    assert sink.events[-1]["responseStatus"]["code"] == 500
    assert "s3cr3t" not in json.dumps(sink.events)


async def test_websocket_has_started() -> None:
    """A handshake is long-running: its beginning and its end are events."""
    sink = Collected()
    proxy = front(sink)
    async with proxy, Client(proxy).websocket(f"{PODS}/p/exec", TOKEN) as socket:
        with pytest.raises(WebSocketClosed):
            await socket.receive()
    assert sink.stages == ["RequestReceived", "ResponseStarted", "ResponseComplete"]
    assert [event.get("responseStatus", {}).get("code") for event in sink.events] == [None, 101, 101]


async def test_watch_has_started() -> None:
    """§10.4: ResponseStarted for what is long-running, and only for that."""
    sink = Collected()
    assert await asked(front(sink), "GET", f"{PODS}?watch=true") == 201
    assert sink.stages == ["RequestReceived", "ResponseStarted", "ResponseComplete"]


async def test_departed_client() -> None:
    """A client that leaves before an answer is recorded without a code."""
    sink = Collected()

    async def leaves(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.disconnect"

    stage = AuditMiddleware(
        leaves, audit=Audit(policy(), [sink]), identity=lambda exchange: ALICE, request_info=lambda exchange: _pods()
    )

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        raise AssertionError("nothing was to be sent")

    await stage({"type": "http", "method": "GET", "path": PODS, "headers": []}, receive, send)
    assert sink.events[-1]["responseStatus"] == {"metadata": {}, "message": "the client left before an answer"}


def _pods() -> Any:
    return parse("GET", PODS.encode(), b"")


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        ("Metadata", set()),
        ("Request", {"requestObject"}),
        ("RequestResponse", {"requestObject", "responseObject"}),
    ],
)
async def test_bodies_by_level(level: str, keys: set[str]) -> None:
    """Request adds the request's body, RequestResponse the answer's; the application sees both as ever."""
    sink = Collected()
    assert await asked(front(sink, level), "POST", PODS, {**TOKEN, **JSON}, POD) == 201
    last = sink.events[-1]
    assert {key for key in last if key.endswith("Object")} == keys
    for key in keys:
        assert last[key] == json.loads(POD)
    assert not {key for key in sink.events[0] if key.endswith("Object")}


async def test_managed_fields_are_left_out() -> None:
    """`omitManagedFields` shortens both bodies."""
    sink = Collected()
    rules = policy("RequestResponse", omitManagedFields=True)
    await asked(front(sink, policy=rules), "POST", PODS, {**TOKEN, **JSON}, POD)
    assert sink.events[-1]["requestObject"]["metadata"] == {"name": "p"}
    assert sink.events[-1]["responseObject"]["metadata"] == {"name": "p"}


@pytest.mark.parametrize(
    ("headers", "body", "why"),
    [
        (JSON, b"{", "it is not JSON"),
        (JSON, b"[" * 100_000, "it is not JSON"),
        (JSON, b'{"a": NaN}', "it is not JSON"),
        (JSON, b"-Infinity", "it is not JSON"),
        (JSON, b'"' + b"x" * 131_072 + b'"', "it has more than 131072 bytes"),
        ({"content-type": "application/vnd.kubernetes.protobuf"}, b"k8s\0", "it is not JSON"),
        ({**JSON, "content-encoding": "gzip"}, b"\x1f\x8b", "it is compressed"),
    ],
)
async def test_bodies_that_are_left_out(headers: dict[str, str], body: bytes, why: str) -> None:
    """Bounded, and only JSON: the rest is left out, and an annotation says why."""
    sink = Collected()
    assert await asked(front(sink, "Request"), "POST", PODS, {**TOKEN, **headers}, body) == 201
    last = sink.events[-1]
    assert "requestObject" not in last
    assert last["annotations"]["audit.aggmw/requestObject-left-out"] == why


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/dev/secrets",
        "/api/v1/namespaces/dev/serviceaccounts/builder/token",
        "/apis/authentication.k8s.io/v1/tokenreviews",
        "/login",
        "/cluster/api/v1/namespaces/dev/secrets",
    ],
)
async def test_no_secret_body_is_recorded(path: str) -> None:
    """Secrets, token requests, TokenReviews and requests for paths are at Metadata, whatever the policy says."""
    sink = Collected()
    await asked(front(sink, "RequestResponse"), "POST", path, {**TOKEN, **JSON}, b'{"data":{"a":"s3cr3t"}}')
    assert sink.events[-1]["level"] == "Metadata"
    assert "s3cr3t" not in json.dumps(sink.events)


@pytest.mark.parametrize(
    "key",
    [
        "token",
        "access_token",
        "%74oken",
        "%0Atoken",
        "to%0Aken_jwt",
        "X-Amz-Signature",
        "client_secret",
        "code",
        "apiKey",
    ],
)
async def test_no_credential_of_a_query_is_recorded(key: str) -> None:
    """The value of a query key that may be a credential is replaced, however the key is spelt."""
    sink = Collected()
    await asked(front(sink), "GET", f"/x?limit=5&{key}=s3cr3t&a=b")
    assert sink.events[0]["requestURI"] == f"/x?limit=5&{key}=REDACTED&a=b"


async def test_required_audit_refuses() -> None:
    """No audit, no service: what cannot be recorded does not happen, and that is recorded as far as possible."""
    sink = Collected(writable=False)
    audit = Audit(policy(), [sink], required=True)
    reached = False

    async def unreachable(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal reached
        reached = scope["type"] != "lifespan"

    proxy = FrontProxy(unreachable, authentication=[TOKENS], authorization=AllowAll(), audit=audit)
    async with proxy:
        response = await Client(proxy).request("GET", PODS, TOKEN)
    assert (response.status, reached) == (500, False)
    assert "cannot be recorded in the audit log" in response.json()["message"]
    assert {sample.name: sample.value for sample in audit.samples()}["apiserver_audit_requests_rejected_total"] == 1


async def test_required_audit_does_not_wait_for_room() -> None:
    """A sink that fails and is full will have no room: with `required` that is a 500 at once."""
    sink = Collected(writable=False)
    sink.full = True
    assert await asked(front(sink, required=True), "GET", PODS) == 500


async def test_without_required_audit_goes_on() -> None:
    """By default a sink that fails stops nobody."""
    assert await asked(front(Collected(writable=False)), "GET", PODS) == 201


async def test_full_sink_makes_requests_wait() -> None:
    """A sink without room holds requests back before anything is done for them."""
    sink = Collected()
    sink.full = True
    proxy = front(sink)
    async with proxy:
        task = asyncio.ensure_future(Client(proxy).request("GET", PODS, TOKEN))
        while not sink.events:
            await asyncio.sleep(0)
        assert sink.stages == ["RequestReceived"]
        sink.full = False
        sink.has_room.set()
        assert (await task).status == 201


async def test_level_none_leaves_no_trace() -> None:
    """What the policy does not want is not recorded, and counted as that."""
    sink = Collected()
    proxy = front(sink, "None")
    assert await asked(proxy, "GET", PODS) == 201
    assert sink.events == []


async def test_reload() -> None:
    """A new policy holds from the next request on."""
    sink = Collected()
    audit = Audit(policy("None"), [sink])
    proxy = FrontProxy(core, authentication=[TOKENS], authorization=AllowAll(), audit=audit)
    await asked(proxy, "GET", PODS)
    audit.reload(policy())
    await asked(proxy, "GET", PODS)
    assert sink.stages == ["RequestReceived", "ResponseComplete"]


async def test_sinks_run_with_the_front_proxy() -> None:
    """The lifespan runs each sink, once; without it the front proxy says so."""
    sink = Collected()
    proxy = front(sink)
    assert (await Client(proxy).request("GET", PODS, TOKEN)).status == 500
    async with proxy, proxy:
        await asyncio.sleep(0)
        assert sink.runs == 1


async def test_annotations_of_inner_stages() -> None:
    """Whoever stands behind may annotate; what was said first stays."""
    sink = Collected()

    async def annotating(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["aggmw.exchange"].audit.annotate("example.com/a", "1")
            scope["aggmw.exchange"].audit.annotate("example.com/a", "2")
            await PlainTextResponse("ok")(scope, receive, send)

    proxy = FrontProxy(annotating, authentication=[TOKENS], authorization=AllowAll(), audit=Audit(policy(), [sink]))
    await asked(proxy, "GET", "/x")
    assert sink.events[-1]["annotations"]["example.com/a"] == "1"


async def test_forwarded_request_is_recorded() -> None:
    """What a backend answered, also that it could not be reached."""
    sink = Collected()
    proxy = front(sink, services=[PathService("/billing/", "http://127.0.0.1:1")])
    assert await asked(proxy, "GET", "/billing/x") == 503
    assert sink.events[-1]["responseStatus"]["code"] == 503


async def test_in_a_foreign_application() -> None:
    """Alone, in an application of Starlette's, with recovery outside telling of what authentication refused."""
    sink = Collected()
    audit = Audit(policy(), [sink])

    async def fine(request: Request) -> PlainTextResponse:
        return PlainTextResponse("fine")

    stack = RecoveryMiddleware(
        RequestInfoMiddleware(
            AuthenticationMiddleware(
                AuditMiddleware(Starlette(routes=[Route("/fine", fine)]), audit=audit), authenticators=[TOKENS]
            )
        ),
        observers=[audit],
    )
    async with audit.running():
        await Client(stack).request("GET", "/fine", TOKEN)
        await Client(stack).request("GET", "/fine")
    codes = [event.get("responseStatus", {}).get("code") for event in sink.events]
    assert codes == [None, 200, 401]


async def test_missing_stages_are_named() -> None:
    """Without a caller or a parsed request it is a 500 that names both stages, never a record of a guest."""
    audit = Audit(policy(), [Collected()])
    response = await Client(RequestInfoMiddleware(AuditMiddleware(core, audit=audit))).request("GET", "/")
    assert response.status == 500
    assert "audit needs an identity, which authentication leaves" in response.json()["message"]
    with pytest.raises(MisplacedStage, match="audit stands around authentication"):
        AuditMiddleware(AuthenticationMiddleware(core, authenticators=[]), audit=audit)
