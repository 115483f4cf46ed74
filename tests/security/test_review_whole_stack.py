"""The stack as a whole under hostile requests: what is logged, what is mounted, who is called like somebody else."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest
import structlog
from starlette.applications import Starlette
from starlette.routing import Mount

from aggmw import FrontProxy, Identity
from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.middleware.authentication import Anonymous, StaticTokens
from aggmw.middleware.authorization import AllowAll, CasbinAuthorizer
from aggmw.testing import Client

TOKEN = "token-secret"
BEARER = (b"authorization", b"Bearer " + TOKEN.encode())
SUBPROTOCOL = "base64url.bearer.authorization.k8s.io."


class Core:
    """The wrapped application; keeps the scopes it saw."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope)
        if scope["path"] == "/broken":
            raise ValueError("the application's own")
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Remembering:
    """Allows everything and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[Attributes] = []

    async def authorize(self, attributes: Attributes) -> Verdict:
        self.asked.append(attributes)
        return Verdict(Outcome.ALLOW)


def known() -> StaticTokens:
    return StaticTokens({TOKEN: Identity("alice")})


REFUSED = {
    "nobody": ("/x?key=query-secret", []),
    "a wrong token": ("/x?key=query-secret", [(b"authorization", b"Bearer wrong-secret")]),
    "two tokens": ("/x", [BEARER, (b"authorization", b"Bearer wrong-secret")]),
    "white space in the token": ("/x", [(b"authorization", b"Bearer wrong-secret more-secret")]),
    "impersonation": ("/x", [BEARER, (b"impersonate-user", b"header-secret")]),
    "a forged identity": ("/x", [BEARER, (b"x-remote-user", b"header-secret")]),
    "an ambiguous path": ("/a%2fpath-secret", [BEARER]),
    "an ambiguous query": ("/api/v1/pods?watch=1&watch=query-secret", [BEARER]),
    "a broken application": ("/broken?key=query-secret", [BEARER, (b"cookie", b"sid=header-secret")]),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_c3_no_secret_in_any_field_of_the_log(case: str) -> None:
    """C3, CVE-2020-8561: no token, header value or query is a field of a line, whatever goes wrong with a request."""
    target, headers = REFUSED[case]
    front = FrontProxy(Core(), authentication=[known()], authorization=AllowAll())
    with structlog.testing.capture_logs() as lines:
        await Client(front).request("GET", target, headers=headers)
    assert "secret" not in json.dumps([{key: str(value) for key, value in line.items()} for line in lines])


@pytest.mark.parametrize(
    "target",
    ["/k%38s/api/v1/pods", "/k8s%2Fapi/v1/pods", "/k8s%2fapi/v1/pods", "/k8s//api/v1/pods", "/k8s/../api/v1/pods"],
)
async def test_c5_mounts_that_are_spelt_in_another_way(target: str) -> None:
    """C5.6, §12.3: where the decoded and the raw path do not have the mount alike in front, nothing is decided."""
    core, authorizer = Core(), Remembering()
    front = FrontProxy(core, authentication=[known()], authorization=authorizer)
    response = await Client(Starlette(routes=[Mount("/k8s", app=front)])).request("GET", target, headers=[BEARER])
    assert response.status == 400
    assert core.seen == authorizer.asked == []


@pytest.mark.parametrize("mount", ["/k8s", "/a b", "/{tenant}"])
async def test_c5_mounts_below_which_is_decided(mount: str) -> None:
    """C5.6: a resource path below a mount is judged as the resource path that it is."""
    authorizer = Remembering()
    front = FrontProxy(Core(), authentication=[known()], authorization=authorizer)
    path = mount.replace(" ", "%20").replace("{tenant}", "t%20x")
    client = Client(Starlette(routes=[Mount(mount, app=front)]))
    response = await client.request("GET", f"{path}/api/v1/namespaces/n/pods/", headers=[BEARER])
    assert response.status == 200
    (asked,) = authorizer.asked
    assert (asked.is_resource, asked.verb, asked.namespace, asked.resource) == (True, "list", "n", "pods")


POLICY = """\
p, user:alice, get, core, pods, dev, *
p, role:editor, *, *, *, *, *
g, group:ops, role:editor
p, group:admins, *, *, *, *, *
p, user:*, *, *, *, *, *
"""
IMPOSTORS = {
    "called like a role": Identity("role:editor"),
    "called like a group": Identity("group:admins"),
    "called like a subject": Identity("user:alice"),
    "with an alternative in the name": Identity("alice|bob"),
    "in another case": Identity("Alice"),
    "in look-alike letters": Identity("\u0430lice"),
    "with something invisible": Identity("alice\u200b"),
    "in a group called like a user": Identity("mallory", groups=("user:alice",)),
    "in a group called like a role": Identity("mallory", groups=("role:editor",)),
    "in a group called like a rule's subject": Identity("mallory", groups=("group:admins",)),
    "in a group with a comma": Identity("mallory", groups=("admins,ops", "x|admins", "Admins")),
    "for whom a star was meant": Identity("mallory"),
}


@pytest.mark.parametrize("who", IMPOSTORS)
async def test_c4_names_that_look_like_somebody_else(who: str) -> None:
    """C4: under the shipped model a name is only itself: no role, no group, no pattern, no other spelling."""
    authorizer = CasbinAuthorizer.from_text(POLICY)
    verdict = await authorizer.authorize(Attributes(IMPOSTORS[who], "get", True, "", "v1", "pods", "", "dev", "one"))
    assert not verdict.allowed


@pytest.mark.parametrize("field", ["namespace", "name", "resource", "verb"])
@pytest.mark.parametrize("value", ["*", "dev|prod", "", "dev ", "DEV"])
async def test_c4_values_that_look_like_patterns(field: str, value: str) -> None:
    """C4: a star or an alternative in a request is a letter, and an empty value is in no list."""
    authorizer = CasbinAuthorizer.from_text("p, user:alice, dev, core, dev, dev, dev\n")
    asked = Attributes(Identity("alice"), "dev", True, "", "v1", "dev", "", "dev", "dev")
    assert (await authorizer.authorize(asked)).allowed
    assert not (await authorizer.authorize(asked._replace(**{field: value}))).allowed


def offered(*tokens: str) -> list[str]:
    return [SUBPROTOCOL + urlsafe_b64encode(each.encode()).decode().rstrip("=") for each in tokens]


@pytest.mark.parametrize(
    "subprotocols",
    [
        [*offered("wrong"), "v5"],
        offered(TOKEN),
        [*offered(TOKEN, TOKEN), "v5"],
        [offered(TOKEN)[0] + "=", "v5"],
        [offered(TOKEN)[0].upper(), "v5"],
        [SUBPROTOCOL + "____", "v5"],
    ],
)
async def test_c3_subprotocols_that_carry_no_good_token(subprotocols: list[str]) -> None:
    """C3, §6.5: a bad token among the subprotocols is 401, also where anonymous callers are let in."""
    core = Core()
    front = FrontProxy(core, authentication=[known()], anonymous=Anonymous(["/x"]), authorization=AllowAll())
    response: Any = await Client(front).websocket("/x", subprotocols=subprotocols)
    assert response.status == 401
    assert core.seen == []
