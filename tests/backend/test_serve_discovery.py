"""ServeDiscovery: a few declared resources, as `kubectl` and a front proxy ask for them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw import APIService, FrontProxy, Identity
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.backend import ServeDiscovery, resource
from aggmw.contracts.catalog import APIResource, APISubresource, APIVersion, GroupVersionKind
from aggmw.contracts.identity import Presented
from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import AllowAll
from aggmw.middleware.discovery.aggregated import parse_group_discovery_list
from aggmw.middleware.discovery.documents import parse_resource_list
from aggmw.testing import Client, Response

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
GROUP = "notes.example.com"
NOTE = GroupVersionKind(GROUP, "v1", "Note")
SCALE = GroupVersionKind("autoscaling", "v1", "Scale")
NOTES = resource(
    "notes",
    "Note",
    verbs=["get", "list", "create"],
    short_names=["nt"],
    categories=["all"],
    subresources=[APISubresource("status", verbs=("get", "patch")), APISubresource("scale", SCALE, ("get",))],
)
BOARDS = resource("boards", kind="Board", namespaced=False)


async def inside(scope: Scope, receive: Receive, send: Send) -> None:
    """The application: 418."""
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})


APP = ServeDiscovery(
    inside, groups={GROUP: {"v1": [NOTES, BOARDS], "v1beta1": [NOTES]}, "more.example.com": {"v2": []}}
)


async def get(path: str, accept: str = "application/json", method: str = "GET", **headers: str) -> Response:
    fields = {"accept": accept, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await Client(APP).request(method, path, {name: value for name, value in fields.items() if value})


async def test_group_list() -> None:
    """`/apis`: every group, the first version preferred."""
    document = (await get("/apis")).json()
    assert (document["kind"], document["apiVersion"]) == ("APIGroupList", "v1")
    assert [group["name"] for group in document["groups"]] == [GROUP, "more.example.com"]
    assert document["groups"][0]["preferredVersion"] == {"groupVersion": f"{GROUP}/v1", "version": "v1"}


async def test_group() -> None:
    """`/apis/G`: as in the list."""
    document = (await get(f"/apis/{GROUP}")).json()
    assert (document["kind"], document["name"]) == ("APIGroup", GROUP)
    assert [each["version"] for each in document["versions"]] == ["v1", "v1beta1"]


async def test_resource_list() -> None:
    """`/apis/G/V`: resources and subresources; kinds of elsewhere with their group and version."""
    document = (await get(f"/apis/{GROUP}/v1")).json()
    assert (document["kind"], document["groupVersion"]) == ("APIResourceList", f"{GROUP}/v1")
    notes, status, scale, boards = document["resources"]
    assert notes == {
        "name": "notes",
        "singularName": "note",
        "namespaced": True,
        "kind": "Note",
        "verbs": ["get", "list", "create"],
        "shortNames": ["nt"],
        "categories": ["all"],
    }
    assert (status["name"], status["kind"], "group" in status) == ("notes/status", "Note", False)
    assert (scale["name"], scale["group"], scale["version"], scale["kind"]) == (
        "notes/scale",
        "autoscaling",
        "v1",
        "Scale",
    )
    assert (boards["name"], boards["namespaced"], boards["verbs"]) == ("boards", False, ["get", "list"])


async def test_aggregated() -> None:
    """`/apis` in the form of whom asks for it, each kind in the version that it is listed in."""
    response = await get("/apis", f"{AGGREGATED},application/json")
    assert response.header("content-type") == AGGREGATED.encode()
    found = parse_group_discovery_list(response.json(), {(GROUP, "v1"), (GROUP, "v1beta1"), ("more.example.com", "v2")})
    version = found[GROUP, "v1beta1"]
    assert isinstance(version, APIVersion)
    assert version.resources[0].kind == GroupVersionKind(GROUP, "v1beta1", "Note")
    assert found["more.example.com", "v2"] == APIVersion("v2")


async def test_negotiation() -> None:
    """§3.1: only `/apis` itself has the other form; what cannot be had is 406."""
    assert (await get("/apis/", f"{AGGREGATED},application/json")).json()["kind"] == "APIGroupList"
    assert (await get("/apis", "")).json()["kind"] == "APIGroupList"
    assert (await get(f"/apis/{GROUP}/v1", AGGREGATED)).status == 406
    assert (await get("/apis", "text/html")).status == 406
    assert (await get("/apis")).header("vary") == b"Accept"


async def test_unchanged() -> None:
    """A client that has it already gets 304; each form has a tag of its own."""
    tags = [((await get("/apis", accept)).header("etag") or b"").decode() for accept in ("*/*", AGGREGATED)]
    assert len(set(tags)) == 2
    assert (await get("/apis", if_none_match=tags[0])).status == 304
    assert (await get("/apis", if_none_match=tags[1])).status == 200


@pytest.mark.parametrize("path", ["/apis", "/apis/", f"/apis/{GROUP}", f"/apis/{GROUP}/", f"/apis/{GROUP}/v1/"])
async def test_methods(path: str) -> None:
    """Documents are read; a HEAD gets the head."""
    assert (await get(path)).status == 200
    assert (await get(path, method="HEAD")).body == b""
    refused = await get(path, method="POST")
    assert (refused.status, refused.json()["reason"], refused.header("allow")) == (
        405,
        "MethodNotAllowed",
        b"GET, HEAD",
    )


ELSEWHERE = ["/", "/api", "/api/v1", "/apis/other", "/apis//", "/APIS", "/openapi/v3", "/version", "/healthz"]


@pytest.mark.parametrize("path", [*ELSEWHERE, f"/apis/{GROUP}/v2", f"/apis/{GROUP}/v1/notes"])
async def test_nothing_else(path: str) -> None:
    """Everything else is the application's."""
    assert (await get(path)).status == 418
    assert (await get(path, method="POST")).status == 418


async def test_below_a_mount() -> None:
    """Paths are those below `root_path`."""
    client = Client(APP, root_path="/there")
    assert (await client.request("GET", "/apis")).status == 200
    assert (await client.request("GET", "/there/apis")).status == 418


async def test_websockets_and_lifespan_pass() -> None:
    """Documents are not for WebSockets."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})

    served = ServeDiscovery(app, groups={GROUP: {"v1": [NOTES]}})
    await Client(served).websocket("/apis")
    await served({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["websocket", "lifespan"]


class Anybody:
    """Everybody is alice."""

    async def authenticate(self, presented: Presented) -> Identity | None:
        return Identity("alice")


async def test_listed_by_a_front_proxy() -> None:
    """What is declared is what a front proxy lists, after asking as it does."""
    services = [APIService.local(GROUP, "v1", app=APP), APIService.local(GROUP, "v1beta1", app=APP, version_priority=5)]
    async with FrontProxy(authentication=[Anybody()], authorization=AllowAll(), services=services) as proxy:
        client = Client(proxy)
        while not proxy.ready:
            await client.request("GET", "/readyz")
        [group] = (await client.request("GET", "/apis", {"accept": AGGREGATED})).json()["items"]
        assert [version["version"] for version in group["versions"]] == ["v1", "v1beta1"]
        assert [each["resource"] for each in group["versions"][0]["resources"]] == ["notes", "boards"]
        listed = (await client.request("GET", f"/apis/{GROUP}/v1")).json()
        assert listed == (await get(f"/apis/{GROUP}/v1")).json()


# Declaring


def test_resource() -> None:
    """The helper's defaults: namespaced, get and list, the singular from the kind."""
    assert APIResource("boards", GroupVersionKind(kind="Board"), False, "board", ("get", "list")) == BOARDS
    assert resource("sheep", "Sheep", singular="one-sheep").singular == "one-sheep"


@pytest.mark.parametrize("option", ["verbs", "short_names", "categories"])
def test_one_string_is_not_several(option: str) -> None:
    """A string would be a list of letters."""
    with pytest.raises(TypeError, match=rf"{option} takes a list of words, not one string: {option}=\['get'\]"):
        resource("notes", "Note", **{option: "get"})  # type: ignore[arg-type]


def made(groups: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        ServeDiscovery(inside, groups=groups)
    return str(refused.value)


def test_every_mistake_at_once() -> None:
    """All names that nobody could use, each with its place."""
    groups = {
        "": {"v1": [NOTES]},
        "Notes.example.com": {"V1": []},
        GROUP: {
            "v1": [
                resource("a/b", "Note"),
                resource("notes", "No te"),
                resource("notes", "Note", singular="../x", verbs=["get\n"], short_names=["-"], categories=[""]),
                APIResource("more", GroupVersionKind("a..b", "v1", "More")),
                APIResource("most", GroupVersionKind("apps", "", "Most")),
                resource(
                    "boards",
                    "Board",
                    subresources=[APISubresource("/x"), APISubresource("y\n", GroupVersionKind(kind="?"), ("\x00",))],
                ),
            ]
        },
        "empty.example.com": {},
    }
    assert made(groups).splitlines() == [
        "group '': the name must be a DNS-1123 subdomain: notes.example.com",
        "group 'Notes.example.com': the name must be a DNS-1123 subdomain: notes.example.com",
        "'Notes.example.com/V1': the version must be a DNS-1035 label: v1",
        "'notes.example.com/v1': 'a/b': is no name of a resource",
        "'notes.example.com/v1': 'notes': is listed twice",
        "'notes.example.com/v1': 'notes': the singular 'no te' is no name",
        "'notes.example.com/v1': 'notes': the kind 'No te' is no name of a kind",
        "'notes.example.com/v1': 'notes': is listed twice",
        "'notes.example.com/v1': 'notes': the singular '../x' is no name",
        "'notes.example.com/v1': 'notes': 'get\\n' is no verb, short name or category",
        "'notes.example.com/v1': 'notes': '-' is no verb, short name or category",
        "'notes.example.com/v1': 'notes': '' is no verb, short name or category",
        "'notes.example.com/v1': 'more': its kind's group 'a..b' and version 'v1' are none",
        "'notes.example.com/v1': 'most': its kind's group 'apps' and version '' are none",
        "'notes.example.com/v1': 'boards//x': is no name of a subresource",
        "'notes.example.com/v1': 'boards/y\\n': is no name of a subresource",
        "'notes.example.com/v1': 'boards/y\\n': the kind '?' is no name of a kind",
        "'notes.example.com/v1': 'boards/y\\n': '\\x00' is no verb, short name or category",
        "group 'empty.example.com': has no version",
    ]


def test_nothing_to_list() -> None:
    """An empty declaration is a mistake, with an example."""
    assert made({}) == (
        'groups: there is nothing to list: groups={"notes.example.com": {"v1": [resource("notes", "Note")]}}'
    )


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ([], "groups takes mappings, not list: "),
        ({GROUP: [NOTES]}, "groups takes mappings, not list: "),
        ({GROUP: {"v1": NOTES}}, "each version takes a list of resources: "),
        ({GROUP: {"v1": ["notes"]}}, "each version takes a list of resources: "),
        ({GROUP: {"v1": "notes"}}, "each version takes a list of resources: "),
    ],
)
def test_other_shapes(groups: Any, text: str) -> None:
    """Another shape is a mistake, with an example."""
    with pytest.raises(TypeError, match=text):
        ServeDiscovery(inside, groups=groups)


def test_repr() -> None:
    """The paths, and what is inside."""
    served = ServeDiscovery(inside, groups={GROUP: {"v1": [NOTES]}})
    assert repr(served) == f"ServeDiscovery(/apis, /apis/{GROUP}, /apis/{GROUP}/v1) → inside"


names = st.from_regex(r"[a-z][-a-z0-9]{0,6}[a-z0-9]", fullmatch=True)
words = st.lists(st.sampled_from(["get", "list", "watch", "create"]), max_size=3)
kinds = st.from_regex(r"[A-Z][A-Za-z0-9]{0,6}", fullmatch=True)
below = st.lists(
    st.builds(APISubresource, names, st.sampled_from([GroupVersionKind(), NOTE, SCALE]), words.map(tuple)),
    unique_by=lambda each: each.name,
    max_size=2,
)
declarations = st.lists(
    st.builds(
        resource,
        names,
        kinds,
        namespaced=st.booleans(),
        singular=names | st.just(""),
        verbs=words,
        short_names=words,
        categories=words,
        subresources=below,
    ),
    unique_by=lambda each: each.name,
    max_size=3,
)


@settings(deadline=None, max_examples=60)
@given(declarations)
async def test_whatever_is_declared_is_read(resources: list[APIResource]) -> None:
    """Both forms, read by the front proxy's own readers, say the same of what was declared."""
    client = Client(ServeDiscovery(inside, groups={GROUP: {"v1": resources}}))
    aggregated = (await client.request("GET", "/apis", {"accept": AGGREGATED})).json()
    version = parse_group_discovery_list(aggregated, {(GROUP, "v1")})[GROUP, "v1"]
    assert isinstance(version, APIVersion)
    listed = json.loads((await client.request("GET", f"/apis/{GROUP}/v1")).body)
    assert parse_resource_list(listed, GROUP, "v1") == version.resources
    assert [(each.name, each.kind.kind) for each in version.resources] == [(x.name, x.kind.kind) for x in resources]
    for each in version.resources:
        assert (each.kind.group, each.kind.version) == (GROUP, "v1")
        assert all(below.kind.kind for below in each.subresources)
