"""What another proxy asks about is judged as the same request of our own would be (rule 6, C2), for any target."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.security.conftest import AllowAndRemember, BearerIsAlice
from tests.security.test_authorised_is_forwarded import methods, targets

from aggmw import FrontProxy
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.contracts.connection import Connection
from aggmw.middleware.forward_auth import PROXIES, ForwardAuth
from aggmw.testing import Client

TOKEN = ("Authorization", "Bearer alice")
paths = st.lists(
    st.sampled_from(["a", "..", ".", "%2e", "%2F", "%61", "%25", ";x", "", "%00", "\xe9", "auth", "nginx"])
)
others = paths.map(lambda pieces: "/" + "/".join(pieces))


async def served(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(methods, targets() | others)
async def test_same_verdict(method: str, target: str) -> None:
    """The same attributes are decided on, or both are refused before anybody decides; and nothing else allows."""
    authorizer = AllowAndRemember()
    front = FrontProxy(
        served,
        authentication=[BearerIsAlice()],
        authorization=authorizer,
        forward_auth={f"/ask/{proxy}": ForwardAuth(proxy, peers=["10.0.0.7"]) for proxy in PROXIES},
    )
    raw = target.encode("latin-1")
    client = Client(front, connection=Connection(peer=("10.0.0.7", 1), trailers_apart=True))
    fields = {
        "nginx": [("X-Original-Method", method), ("X-Original-URI", raw)],
        "traefik": [("X-Forwarded-Method", method), ("X-Forwarded-Uri", raw)],
        "envoy": [],
    }
    ways = {
        proxy: (("GET", f"/ask/{proxy}".encode(), said) if said else (method, b"/ask/envoy" + raw, []))
        for proxy, said in fields.items()
    }
    direct = await client.request(method, raw, [TOKEN])
    decided = list(authorizer.asked)
    for proxy, (verb, at, said) in ways.items():
        authorizer.asked.clear()
        answer = await client.request(verb, at, [TOKEN, *said])
        assert authorizer.asked == decided, proxy
        assert (answer.status == 200) is bool(decided), (proxy, answer.text)
        if not decided:
            assert direct.status >= 400
            assert answer.status == (403 if proxy == "nginx" else direct.status)
