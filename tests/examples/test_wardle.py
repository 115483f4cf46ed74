"""The demo's API server, requested as the front proxy would."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from examples.wardle.app import make_app
from examples.wardle.storage import Storage
from examples.wardle.tables import age
from examples.wardle.trust import FrontProxyOnly

from aggmw.contracts.connection import Connection
from aggmw.pki.make import KeyPair, issue_client, issue_server, make_ca
from aggmw.pki.read import pem_certificates
from aggmw.testing import Client, Response, StreamedResponse, VirtualClock

BASE = "/apis/wardle.example.com/v1alpha1"
DEV = f"{BASE}/namespaces/dev/flunders"
TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)
WATCH_LIST = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
ALICE = [("X-Remote-User", "alice")]
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

CA = make_ca("front proxy CA")
FRONT_PROXY = issue_client(CA, "front-proxy-client")


def connection(leaf: KeyPair = FRONT_PROXY, ca: KeyPair = CA, *, trailers_apart: bool = True) -> Connection:
    chain = pem_certificates(leaf.certificate + ca.certificate)
    return Connection(tls=True, chain=chain, trailers_apart=trailers_apart)


class Wardle:
    """The server with a client that speaks as alice."""

    def __init__(self, *, ready_after: float = 0.0, history: int = 1000) -> None:
        self.log: list[dict[str, Any]] = []
        self.storage = Storage(history=history)
        self.app = FrontProxyOnly(
            make_app(self.storage, ready_after=ready_after),
            authority=CA.certificate,
            allowed_names=["front-proxy-client"],
            log=lambda line: self.log.append(json.loads(line)),
        )
        self.client = Client(self.app, connection=connection())

    async def send(self, method: str, target: str, body: object = None, **headers: str) -> Response:
        fields = [*ALICE, *((name.replace("_", "-"), value) for name, value in headers.items())]
        return await self.client.request(method, target, fields, b"" if body is None else json.dumps(body).encode())

    async def create(self, name: str, namespace: str = "dev", **metadata: Any) -> dict[str, Any]:
        answer = await self.send("POST", f"{BASE}/namespaces/{namespace}/flunders", flunder(name, **metadata))
        assert answer.status == 201
        created: dict[str, Any] = answer.json()
        return created

    async def patch(self, target: str, body: object) -> Response:
        return await self.send("PATCH", target, body, content_type="application/merge-patch+json")

    @asynccontextmanager
    async def watch(self, target: str, **headers: str) -> AsyncIterator["Events"]:
        fields = [*ALICE, *((name.replace("_", "-"), value) for name, value in headers.items())]
        async with self.client.stream("GET", target, fields) as response:
            assert response.status == 200
            yield Events(response)


class Events:
    def __init__(self, response: StreamedResponse) -> None:
        self.response = response

    async def next(self) -> tuple[str, dict[str, Any]]:
        line = await anext(self.response)
        assert line.endswith(b"\n")
        event = json.loads(line)
        return event["type"], event["object"]

    async def names(self, count: int) -> list[tuple[str, str]]:
        return [(kind, object_["metadata"]["name"]) for kind, object_ in [await self.next() for _ in range(count)]]

    async def rest(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (await self.response.read()).splitlines()]


def flunder(name: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "wardle.example.com/v1alpha1",
        "kind": "Flunder",
        "metadata": {"name": name, **metadata},
        "spec": {"reference": "r"},
    }


def revision(object_: dict[str, Any]) -> int:
    return int(object_["metadata"]["resourceVersion"])


def assert_status(response: Response, code: int, reason: str, message: str) -> None:
    status = response.json()
    assert (response.status, status["code"], status["reason"]) == (code, code, reason)
    assert status["message"] == message
    assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")


@pytest.fixture
def wardle() -> Wardle:
    return Wardle()


# --- whom it believes ------------------------------------------------------------------------------------------------


async def test_the_front_proxy_is_believed(wardle: Wardle) -> None:
    """Identity headers count on a connection of the front proxy, and the log tells all of them."""
    headers = [
        ("X-Remote-User", "alice"),
        ("X-Remote-Uid", "u-1"),
        ("X-Remote-Group", "dev"),
        ("X-Remote-Group", "system:authenticated"),
        ("X-Remote-Extra-Example.com%2Fscopes", "a"),
    ]
    assert (await wardle.client.request("GET", f"{DEV}?limit=1", headers)).status == 200
    assert wardle.log == [
        {
            "method": "GET",
            "path": DEV,
            "query": "limit=1",
            "status": 200,
            "user": "alice",
            "uid": "u-1",
            "groups": ["dev", "system:authenticated"],
            "extra": {"example.com/scopes": ["a"]},
            "certificate": "front-proxy-client",
        }
    ]


OTHER_CA = make_ca("front proxy CA")
NO_CERTIFICATE = Connection(tls=True, trailers_apart=True)


@pytest.mark.parametrize(
    "stranger",
    [
        None,
        NO_CERTIFICATE,
        connection(issue_client(CA, "somebody")),
        connection(issue_client(OTHER_CA, "front-proxy-client"), OTHER_CA),
        connection(issue_server(CA, "front-proxy-client", names=["x"])),
        connection(issue_client(CA, "front-proxy-client", lifetime=timedelta(minutes=-1))),
    ],
    ids=["unknown", "no certificate", "another name", "another CA", "a server's", "expired"],
)
async def test_nobody_else_is_believed(wardle: Wardle, stranger: Connection | None) -> None:
    """C2: identity headers of anybody else are worth nothing: 401, and the log names no user."""
    client = Client(wardle.app, connection=stranger)
    assert_status(await client.request("GET", DEV, ALICE), 401, "Unauthorized", "Unauthorized")
    assert (wardle.log[0]["user"], wardle.log[0]["groups"], wardle.log[0]["certificate"]) == ("", [], "")


async def test_trailers_as_headers(wardle: Wardle) -> None:
    """C5.1: under a server that mixes trailers into the headers, a request with trailers is nobody's."""
    client = Client(wardle.app, connection=connection(trailers_apart=False))
    answer = await client.request("GET", DEV, [*ALICE, ("Transfer-Encoding", "chunked")])
    assert_status(answer, 401, "Unauthorized", "Unauthorized")


async def test_a_front_proxy_that_names_nobody(wardle: Wardle) -> None:
    """Without a user there is no caller, also from the front proxy."""
    assert (await wardle.client.request("GET", DEV, [("X-Remote-Group", "system:masters")])).status == 401


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
async def test_health_is_for_everybody(wardle: Wardle, path: str) -> None:
    """Health needs no certificate."""
    response = await Client(wardle.app, connection=NO_CERTIFICATE).request("GET", path)
    assert (response.status, response.text) == (200, "ok")
    assert (wardle.log[0]["user"], wardle.log[0]["certificate"]) == ("system:anonymous", "")


@pytest.mark.parametrize("path", ["/", "/apis", "/healthz/", "//healthz", "/openapi/v3", BASE])
async def test_nothing_else_is(wardle: Wardle, path: str) -> None:
    """What is not exactly a health path needs the front proxy."""
    assert (await Client(wardle.app, connection=NO_CERTIFICATE).request("GET", path)).status == 401


# --- discovery -------------------------------------------------------------------------------------------------------


async def test_aggregated_discovery(wardle: Wardle) -> None:
    """`/apis` tells everything at once to whom it asks for it, in any order of parameters."""
    for accept in (AGGREGATED, "application/json;v=v2;as=APIGroupDiscoveryList;g=apidiscovery.k8s.io,*/*"):
        response = await wardle.send("GET", "/apis", accept=accept)
        assert response.header(b"content-type") == AGGREGATED.encode()
        (group,) = response.json()["items"]
        (resource,) = group["versions"][0]["resources"]
        assert (group["metadata"]["name"], resource["resource"], resource["scope"]) == (
            "wardle.example.com", "flunders", "Namespaced",
        )  # fmt: skip
        (status,) = resource["subresources"]
        assert (status["subresource"], status["verbs"]) == ("status", ["get", "patch", "update"])


@pytest.mark.parametrize("accept", ["application/json", "*/*", ""])
async def test_legacy_discovery(wardle: Wardle, accept: str) -> None:
    """Everybody else gets the documents one by one, with and without a slash."""
    expected = {"/apis": "APIGroupList", "/apis/wardle.example.com": "APIGroup", BASE: "APIResourceList"}
    for path, kind in expected.items():
        for target in (path, path + "/"):
            response = await wardle.send("GET", target, accept=accept)
            assert response.json()["kind"] == kind
            assert response.header(b"content-type") == b"application/json"


async def test_legacy_resources(wardle: Wardle) -> None:
    """The subresource is a line of its own."""
    listed = (await wardle.send("GET", BASE)).json()["resources"]
    assert [each["name"] for each in listed] == ["flunders", "flunders/status"]


async def test_no_openapi(wardle: Wardle) -> None:
    """It has no OpenAPI: the front proxy makes a document for it."""
    assert_status(
        await wardle.send("GET", "/openapi/v3"), 404, "NotFound", "the server could not find the requested resource"
    )


# --- writing ---------------------------------------------------------------------------------------------------------


async def test_create(wardle: Wardle) -> None:
    """The server sets uid, time, generation, resourceVersion and condition; what the client says of them is dropped."""
    made = await wardle.create("one", uid="mine", creationTimestamp="2000-01-01T00:00:00Z", labels={"a": "b"})
    metadata = made["metadata"]
    assert metadata["uid"] != "mine"
    assert not metadata["creationTimestamp"].startswith("2000")
    assert (metadata["namespace"], metadata["labels"], metadata["generation"]) == ("dev", {"a": "b"}, 1)
    assert made["status"]["conditions"][0] | {"lastTransitionTime": ""} == {
        "type": "Ready", "status": "True", "reason": "Settled", "message": "", "lastTransitionTime": "",
    }  # fmt: skip
    assert (await wardle.send("GET", f"{DEV}/one")).json() == made


async def test_create_without_a_content_type(wardle: Wardle) -> None:
    """No Content-Type means JSON (wire contract §9.12)."""
    assert (await wardle.send("POST", DEV, flunder("one"))).status == 201


async def test_create_twice(wardle: Wardle) -> None:
    """A name is taken once."""
    await wardle.create("one")
    answer = await wardle.send("POST", DEV, flunder("one"))
    assert_status(answer, 409, "AlreadyExists", 'flunders.wardle.example.com "one" already exists')
    assert answer.json()["details"] == {"name": "one", "group": "wardle.example.com", "kind": "flunders"}


async def test_generate_name(wardle: Wardle) -> None:
    """A generated name is the base, cut to 58, and five characters."""
    answer = await wardle.send("POST", DEV, flunder("", generateName="x" * 70))
    name = answer.json()["metadata"]["name"]
    assert (name[:58], len(name)) == ("x" * 58, 63)


async def test_dry_run_keeps_nothing(wardle: Wardle) -> None:
    """dryRun=All answers as if, and stores nothing."""
    before = wardle.storage.revision
    assert (await wardle.send("POST", f"{DEV}?dryRun=All", flunder("one"))).status == 201
    assert wardle.storage.revision == before
    await wardle.create("two")
    assert (await wardle.send("DELETE", f"{DEV}/two", {"dryRun": ["All"]})).status == 200
    assert (await wardle.send("GET", f"{DEV}/two")).status == 200


WRONG_BODIES = {
    "not JSON": (b"{", "the body of the request is not JSON"),
    "deep": (b"[" * 100_000, "the body of the request is not JSON"),
    "too deep": (b"[" * 101 + b"]" * 101, "the body of the request is nested more than 100 deep"),
    "a list": (b"[]", "the body of the request is not a JSON object"),
    "another kind": (
        b'{"apiVersion":"v1","kind":"Pod"}',
        "Flunder in version \"v1alpha1\" cannot be handled as a Flunder: no kind 'Pod' is served in 'v1' here",
    ),
    "spec": (
        json.dumps({**flunder("one"), "spec": []}).encode(),
        'Flunder in version "v1alpha1" cannot be handled as a Flunder: metadata and spec are objects',
    ),
    "reference": (
        json.dumps({**flunder("one"), "spec": {"reference": 1}}).encode(),
        'Flunder in version "v1alpha1" cannot be handled as a Flunder: spec.reference is a string',
    ),
    "labels": (
        json.dumps(flunder("one", labels={"a": 1})).encode(),
        'Flunder in version "v1alpha1" cannot be handled as a Flunder: metadata.labels maps strings to strings',
    ),
    "namespace": (
        json.dumps(flunder("one", namespace="prod")).encode(),
        "the namespace of the provided object does not match the namespace sent on the request",
    ),
    "resourceVersion": (
        json.dumps(flunder("one", resourceVersion="1")).encode(),
        "resourceVersion should not be set on objects to be created",
    ),
}


@pytest.mark.parametrize("case", WRONG_BODIES)
async def test_bodies_that_are_refused(wardle: Wardle, case: str) -> None:
    """What cannot be a flunder is a 400 that says why."""
    body, message = WRONG_BODIES[case]
    assert_status(await wardle.client.request("POST", DEV, ALICE, body), 400, "BadRequest", message)


async def test_strict_validation(wardle: Wardle) -> None:
    """kubectl asks for strict validation: an unknown field is named."""
    sent = flunder("one") | {"spec": {"referense": "x"}, "sepc": {}}
    answer = await wardle.send("POST", f"{DEV}?fieldManager=kubectl-create&fieldValidation=Strict", sent)
    message = (
        'Flunder in version "v1alpha1" cannot be handled as a Flunder: '
        'strict decoding error: unknown field "sepc", unknown field "spec.referense"'
    )
    assert_status(answer, 400, "BadRequest", message)


@pytest.mark.parametrize("name", ["UPPER", "a_b", "-a", "a/b", "x" * 254, "é"])
async def test_names_that_are_refused(wardle: Wardle, name: str) -> None:
    """A name is a DNS subdomain."""
    answer = await wardle.send("POST", DEV, flunder(name))
    message = (
        f'Flunder.wardle.example.com "{name}" is invalid: metadata.name: '
        f"Invalid value: {json.dumps(name)}: not a lowercase RFC 1123 subdomain"
    )
    assert_status(answer, 422, "Invalid", message)


async def test_a_body_that_is_too_large(wardle: Wardle) -> None:
    """A body ends at 3 MiB."""
    answer = await wardle.client.request("POST", DEV, ALICE, b" " * (3 * 1024 * 1024 + 1))
    assert_status(answer, 413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728")


PATCHES = "application/merge-patch+json, application/json-patch+json"


@pytest.mark.parametrize(
    ("method", "content_type", "accepted"),
    [
        ("POST", "application/vnd.kubernetes.protobuf", "application/json"),
        ("PATCH", "application/strategic-merge-patch+json", PATCHES),
        ("PATCH", "application/json", PATCHES),
        ("PATCH", "application/apply-patch+yaml", PATCHES),
    ],
)
async def test_media_types_that_are_refused(wardle: Wardle, method: str, content_type: str, accepted: str) -> None:
    """Another format is a 415 that names what is accepted (wire contract §0.2)."""
    target = DEV if method == "POST" else f"{DEV}/one"
    answer = await wardle.send(method, target, {}, content_type=content_type)
    message = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
    assert_status(answer, 415, "UnsupportedMediaType", message)


async def test_update(wardle: Wardle) -> None:
    """An update with the latest resourceVersion is stored; a new spec counts the generation up."""
    made = await wardle.create("one")
    answer = await wardle.send("PUT", f"{DEV}/one", made | {"spec": {"reference": "new"}, "status": {}})
    assert answer.status == 200
    assert answer.json()["spec"] == {"reference": "new"}
    assert answer.json()["status"] == made["status"]
    assert answer.json()["metadata"]["generation"] == 2
    assert revision(answer.json()) > revision(made)


async def test_update_conflict(wardle: Wardle) -> None:
    """An update of what has changed is a conflict in the words that clients look for."""
    made = await wardle.create("one")
    await wardle.patch(f"{DEV}/one", {"spec": {"reference": "new"}})
    message = (
        'Operation cannot be fulfilled on flunders.wardle.example.com "one": '
        "the object has been modified; please apply your changes to the latest version and try again"
    )
    assert_status(await wardle.send("PUT", f"{DEV}/one", made), 409, "Conflict", message)


async def test_update_needs_a_resource_version(wardle: Wardle) -> None:
    """There is no unconditional update."""
    await wardle.create("one")
    message = (
        'Flunder.wardle.example.com "one" is invalid: metadata.resourceVersion: '
        "Invalid value: 0: must be specified for an update"
    )
    assert_status(await wardle.send("PUT", f"{DEV}/one", flunder("one")), 422, "Invalid", message)


async def test_update_of_another_object(wardle: Wardle) -> None:
    """Name and uid of the body are those of the stored object."""
    made = await wardle.create("one")
    other = made | {"metadata": made["metadata"] | {"name": "two"}}
    message = "the name of the object (two) does not match the name on the URL (one)"
    assert_status(await wardle.send("PUT", f"{DEV}/one", other), 400, "BadRequest", message)
    other = made | {"metadata": made["metadata"] | {"uid": "x"}}
    assert (await wardle.send("PUT", f"{DEV}/one", other)).status == 409


async def test_merge_patch(wardle: Wardle) -> None:
    """A merge patch changes what it names; null removes; what the server sets stays."""
    made = await wardle.create("one", labels={"a": "1", "b": "2"})
    patch = {"metadata": {"labels": {"a": None, "c": "3"}, "uid": made["metadata"]["uid"]}, "status": None}
    answer = await wardle.patch(f"{DEV}/one", patch)
    assert answer.json()["metadata"]["labels"] == {"b": "2", "c": "3"}
    assert answer.json()["status"] == made["status"]
    assert answer.json()["metadata"]["generation"] == 1


async def test_a_patch_that_changes_nothing(wardle: Wardle) -> None:
    """A write without a change makes no revision and no event."""
    made = await wardle.create("one")
    answer = await wardle.patch(f"{DEV}/one", {"spec": {"reference": "r"}})
    assert answer.json() == made
    assert wardle.storage.revision == revision(made)


async def test_patch_conflict(wardle: Wardle) -> None:
    """A patch that names an old resourceVersion is a conflict; one that names none is not."""
    await wardle.create("one")
    assert (await wardle.patch(f"{DEV}/one", {"metadata": {"resourceVersion": "1"}})).status == 409
    assert (await wardle.patch(f"{DEV}/one", {"metadata": {"labels": {"x": "y"}}})).status == 200


async def test_json_patch(wardle: Wardle) -> None:
    """A JSON patch changes what it names; a wrong `test` in it changes nothing."""
    made = await wardle.create("one", labels={"a": "1"})
    patch = [
        {"op": "test", "path": "/spec/reference", "value": "r"},
        {"op": "replace", "path": "/spec/reference", "value": "s"},
        {"op": "add", "path": "/metadata/labels/b~1c", "value": "2"},
        {"op": "remove", "path": "/status"},
    ]
    answer = await wardle.send("PATCH", f"{DEV}/one", patch, content_type="application/json-patch+json")
    assert (answer.status, answer.json()["spec"]) == (200, {"reference": "s"})
    assert answer.json()["metadata"]["labels"] == {"a": "1", "b/c": "2"}
    assert answer.json()["status"] == made["status"]
    again = await wardle.send("PATCH", f"{DEV}/one", patch, content_type="application/json-patch+json")
    message = "the patch cannot be applied: operation 0, test '/spec/reference': the value is another one"
    assert_status(again, 422, "Invalid", message)
    assert (await wardle.send("GET", f"{DEV}/one")).json() == answer.json()


# --- status ----------------------------------------------------------------------------------------------------------

CONDITION = {"type": "Painted", "status": "True"}


async def test_status_is_read(wardle: Wardle) -> None:
    """The subresource shows the whole object."""
    made = await wardle.create("one")
    assert (await wardle.send("GET", f"{DEV}/one/status")).json() == made


@pytest.mark.parametrize("content_type", ["application/json", *PATCHES.split(", ")])
async def test_status_is_written(wardle: Wardle, content_type: str) -> None:
    """An update or a patch of the subresource changes the status and nothing else."""
    made = await wardle.create("one", labels={"a": "1"})
    sent: object = made | {"spec": {"reference": "new"}, "status": {"conditions": [CONDITION]}}
    if content_type == "application/json-patch+json":
        sent = [{"op": "replace", "path": f"/{key}", "value": value} for key, value in made.items()]
        sent += [{"op": "replace", "path": "/status/conditions", "value": [CONDITION]}]
        sent += [{"op": "replace", "path": "/spec/reference", "value": "new"}]
    method = "PUT" if content_type == "application/json" else "PATCH"
    answer = await wardle.send(method, f"{DEV}/one/status", sent, content_type=content_type)
    assert answer.status == 200
    changed = answer.json()
    assert changed["status"] == {"conditions": [CONDITION]}
    assert revision(changed) > revision(made)
    made["metadata"]["resourceVersion"] = changed["metadata"]["resourceVersion"]
    assert {**changed, "status": made["status"]} == made


async def test_status_update_conflict(wardle: Wardle) -> None:
    """The subresource has the object's resourceVersion."""
    made = await wardle.create("one")
    await wardle.patch(f"{DEV}/one", {"spec": {"reference": "new"}})
    assert (await wardle.send("PUT", f"{DEV}/one/status", made)).status == 409
    assert (await wardle.send("GET", f"{DEV}/two/status")).status == 404


@pytest.mark.parametrize("status", ["x", {"conditions": "x"}, {"conditions": ["x"]}, {"conditions": [{"type": "x"}]}])
async def test_status_that_is_refused(wardle: Wardle, status: object) -> None:
    """A status that its own tables could not show is a 400."""
    await wardle.create("one")
    message = (
        'Flunder in version "v1alpha1" cannot be handled as a Flunder: '
        "status.conditions is a list of objects with the strings type and status"
    )
    assert_status(await wardle.patch(f"{DEV}/one/status", {"status": status}), 400, "BadRequest", message)
    assert (await wardle.send("GET", DEV, accept=TABLE)).status == 200


async def test_unknown_fields_of_a_status(wardle: Wardle) -> None:
    """Strict validation looks into the status too."""
    await wardle.create("one")
    answer = await wardle.patch(f"{DEV}/one/status?fieldValidation=Strict", {"status": {"colour": "red"}})
    assert (answer.status, 'unknown field "status.colour"' in answer.json()["message"]) == (400, True)


# --- deleting --------------------------------------------------------------------------------------------------------


async def test_delete(wardle: Wardle) -> None:
    """The answer names the uid, by which kubectl waits (wire contract §11.10)."""
    made = await wardle.create("one")
    answer = await wardle.send("DELETE", f"{DEV}/one", {"propagationPolicy": "Background"})
    assert answer.json() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {
            "name": "one",
            "group": "wardle.example.com",
            "kind": "flunders",
            "uid": made["metadata"]["uid"],
        },
    }
    for method in ("GET", "DELETE"):
        answer = await wardle.send(method, f"{DEV}/one")
        assert_status(answer, 404, "NotFound", 'flunders.wardle.example.com "one" not found')


async def test_delete_preconditions(wardle: Wardle) -> None:
    """A precondition that does not hold keeps the object."""
    made = await wardle.create("one")
    answer = await wardle.send("DELETE", f"{DEV}/one", {"preconditions": {"uid": "other"}})
    assert answer.status == 409
    uid = made["metadata"]["uid"]
    assert (await wardle.send("DELETE", f"{DEV}/one", {"preconditions": {"uid": uid}})).status == 200


async def test_delete_collection(wardle: Wardle) -> None:
    """What the selector selects in the namespace goes, and comes back as a list."""
    for name, namespace in (("a", "dev"), ("b", "dev"), ("a", "prod")):
        await wardle.create(name, namespace, labels={"n": name})
    answer = (await wardle.send("DELETE", f"{DEV}?labelSelector=n%3Da")).json()
    assert answer["kind"] == "FlunderList"
    assert [item["metadata"]["name"] for item in answer["items"]] == ["a"]
    left = (await wardle.send("GET", f"{BASE}/flunders")).json()["items"]
    assert [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in left] == [("dev", "b"), ("prod", "a")]


@pytest.mark.parametrize("options", [[], {"dryRun": "All"}, {"preconditions": ["x"]}, {"dryRun": [1]}])
async def test_delete_options_that_are_none(wardle: Wardle, options: object) -> None:
    """Options of another shape delete nothing."""
    await wardle.create("one")
    assert (await wardle.send("DELETE", f"{DEV}/one", options)).status in (400, 422)
    assert (await wardle.send("GET", f"{DEV}/one")).status == 200


async def test_methods_that_are_refused(wardle: Wardle) -> None:
    """Creating without a namespace in the URL is no method of the resource."""
    answer = await wardle.send("POST", f"{BASE}/flunders", flunder("one"))
    message = "the server does not allow this method on the requested resource"
    assert_status(answer, 405, "MethodNotAllowed", message)


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def filled(wardle: Wardle) -> Wardle:
    for name, namespace, labels in (("b", "dev", {"x": "1"}), ("a", "prod", {"x": "2"}), ("a", "dev", {})):
        await wardle.create(name, namespace, labels=labels)
    return wardle


def names(response: Response) -> list[str]:
    return [f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in response.json()["items"]]


async def test_list(filled: Wardle) -> None:
    """A list is ordered by namespace and name and carries the revision to watch from."""
    answer = await filled.send("GET", f"{BASE}/flunders?limit=500")
    assert names(answer) == ["dev/a", "dev/b", "prod/a"]
    assert (answer.json()["kind"], answer.json()["apiVersion"]) == ("FlunderList", "wardle.example.com/v1alpha1")
    assert revision(answer.json()) == filled.storage.revision
    assert names(await filled.send("GET", DEV)) == ["dev/a", "dev/b"]


async def test_an_empty_list(wardle: Wardle) -> None:
    """No items is an empty list, never null."""
    assert (await wardle.send("GET", DEV)).json()["items"] == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("labelSelector=x%3D1", ["dev/b"]),
        ("labelSelector=x%3D%3D2", ["prod/a"]),
        ("labelSelector=x!%3D1", ["dev/a", "prod/a"]),
        ("labelSelector=x", ["dev/b", "prod/a"]),
        ("labelSelector=%21x", ["dev/a"]),
        ("labelSelector=x,x!%3D2", ["dev/b"]),
        ("fieldSelector=metadata.name%3Da", ["dev/a", "prod/a"]),
        ("fieldSelector=metadata.name!%3Da", ["dev/b"]),
        ("fieldSelector=metadata.name%3Da,metadata.namespace%3Ddev", ["dev/a"]),
        ("fieldSelector=metadata.name%3Da,", ["dev/a", "prod/a"]),
        ("fieldSelector=metadata.name%3Da&labelSelector=x", ["prod/a"]),
    ],
)
async def test_selectors(filled: Wardle, query: str, expected: list[str]) -> None:
    """Labels by equality and existence, fields by name and namespace."""
    assert names(await filled.send("GET", f"{BASE}/flunders?{query}")) == expected


REFUSED_LISTS = {
    "labelSelector=x%20in%20(a)": (400, "BadRequest"),
    "labelSelector=!x%3D1": (400, "BadRequest"),
    "fieldSelector=spec.reference%3Dr": (400, "BadRequest"),
    "fieldSelector=metadata.name": (400, "BadRequest"),
    "continue=abc": (400, "BadRequest"),
    "resourceVersion=x": (400, "BadRequest"),
    "resourceVersion=-1": (400, "BadRequest"),
    "resourceVersionMatch=Exact": (422, "Invalid"),
    "resourceVersion=1&resourceVersionMatch=Exact": (410, "Expired"),
    "watch=true&sendInitialEvents=true": (422, "Invalid"),
    "watch=true&resourceVersionMatch=NotOlderThan": (422, "Invalid"),
    "watch=true&sendInitialEvents=true&resourceVersionMatch=Exact": (422, "Invalid"),
    "watch=true&timeoutSeconds=x": (400, "BadRequest"),
}


@pytest.mark.parametrize("query", REFUSED_LISTS)
async def test_queries_that_are_refused(filled: Wardle, query: str) -> None:
    """What cannot be answered is refused, not guessed."""
    answer = await filled.send("GET", f"{DEV}?{query}")
    assert (answer.status, answer.json()["reason"]) == REFUSED_LISTS[query]


async def test_a_revision_of_the_future(wardle: Wardle) -> None:
    """A list at a revision that does not exist yet is a time-out that says when to ask again."""
    answer = await wardle.send("GET", f"{DEV}?resourceVersion=99")
    assert_status(answer, 504, "Timeout", "Timeout: Too large resource version: 99, current: 1")
    assert answer.header(b"retry-after") == b"1"


async def test_table(filled: Wardle) -> None:
    """kubectl's table has columns, cells, partial objects and the list's revision."""
    answer = (await filled.send("GET", f"{DEV}?limit=500", accept=TABLE)).json()
    assert (answer["kind"], answer["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    assert [column["name"] for column in answer["columnDefinitions"]] == ["Name", "Reference", "Ready", "Age"]
    assert [row["cells"][:3] for row in answer["rows"]] == [["a", "r", "True"], ["b", "r", "True"]]
    assert answer["rows"][0]["cells"][3].endswith("s")
    assert answer["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert answer["rows"][0]["object"]["metadata"]["name"] == "a"
    assert "spec" not in answer["rows"][0]["object"]
    assert revision(answer) == filled.storage.revision


async def test_table_of_one(filled: Wardle) -> None:
    """A single object is a table of one row."""
    answer = (await filled.send("GET", f"{DEV}/a", accept=TABLE)).json()
    assert [row["cells"][0] for row in answer["rows"]] == ["a"]


async def test_included_objects(filled: Wardle) -> None:
    """includeObject says what rows carry."""
    rows = (await filled.send("GET", f"{DEV}?includeObject=Object", accept=TABLE)).json()["rows"]
    assert rows[0]["object"]["spec"] == {"reference": "r"}
    rows = (await filled.send("GET", f"{DEV}?includeObject=None", accept=TABLE)).json()["rows"]
    assert "object" not in rows[0]
    assert (await filled.send("GET", f"{DEV}?includeObject=x", accept=TABLE)).status == 400


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "FlunderList"),
        ("*/*", "FlunderList"),
        ("application/*", "FlunderList"),
        ("application/yaml, application/json;q=0.5", "FlunderList"),
        ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json", "FlunderList"),
        ("application/json;q=0.1,application/json;as=Table;v=v1;g=meta.k8s.io", "Table"),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", "Table"),
    ],
)
async def test_negotiation(filled: Wardle, accept: str, kind: str) -> None:
    """The first clause that can be met, by quality and order."""
    assert (await filled.send("GET", DEV, accept=accept)).json()["kind"] == kind


@pytest.mark.parametrize("accept", ["application/yaml", "text/html", "application/json;q=0", "application/json;q=x"])
async def test_not_acceptable(filled: Wardle, accept: str) -> None:
    """No clause that can be met is a 406."""
    answer = await filled.send("GET", DEV, accept=accept)
    assert (answer.status, answer.json()["reason"]) == (406, "NotAcceptable")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (600, "10m"), (10799, "179m"),
        (10800, "3h"), (12000, "3h20m"), (8 * 3600, "8h"), (47 * 3600, "47h"), (48 * 3600, "2d"), (50 * 3600, "2d2h"),
        (8 * 86400, "8d"),
    ],
)  # fmt: skip
def test_age(seconds: int, text: str) -> None:
    """An age is coarser the longer it is, as kubectl's own."""
    assert age(seconds) == text


# --- watching --------------------------------------------------------------------------------------------------------


async def test_watch_from_a_list(wardle: Wardle) -> None:
    """List, then watch from its revision: every later change, in order, and nothing earlier."""
    await wardle.create("one")
    start = revision((await wardle.send("GET", DEV)).json())
    async with wardle.watch(f"{DEV}?watch=true&resourceVersion={start}") as events:
        assert events.response.header(b"content-type") == b"application/json"
        assert events.response.header(b"content-length") is None
        await wardle.create("two")
        await wardle.patch(f"{DEV}/two", {"spec": {"reference": "x"}})
        await wardle.send("DELETE", f"{DEV}/one")
        seen = [await events.next() for _ in range(3)]
    assert [(kind, object_["metadata"]["name"]) for kind, object_ in seen] == [
        ("ADDED", "two"), ("MODIFIED", "two"), ("DELETED", "one"),
    ]  # fmt: skip
    assert [revision(object_) for _, object_ in seen] == [start + 1, start + 2, start + 3]


@pytest.mark.parametrize("query", ["watch=true", "watch=1&resourceVersion=0"])
async def test_watch_from_nothing(filled: Wardle, query: str) -> None:
    """Without a revision, or from "0", a watch begins with what there is."""
    async with filled.watch(f"{DEV}?{query}") as events:
        assert await events.names(2) == [("ADDED", "a"), ("ADDED", "b")]
        await filled.create("c")
        assert await events.names(1) == [("ADDED", "c")]


async def test_watch_list(filled: Wardle) -> None:
    """sendInitialEvents: all objects, then a bookmark that says so, then changes (wire contract §9.10)."""
    async with filled.watch(f"{DEV}?{WATCH_LIST}") as events:
        assert await events.names(2) == [("ADDED", "a"), ("ADDED", "b")]
        kind, bookmark = await events.next()
        assert (kind, bookmark) == (
            "BOOKMARK",
            {
                "kind": "Flunder",
                "apiVersion": "wardle.example.com/v1alpha1",
                "metadata": {
                    "resourceVersion": str(filled.storage.revision),
                    "annotations": {"k8s.io/initial-events-end": "true"},
                },
            },
        )
        await filled.create("c")
        assert await events.names(1) == [("ADDED", "c")]


async def test_watch_without_initial_events(filled: Wardle) -> None:
    """sendInitialEvents=false begins now."""
    async with filled.watch(f"{DEV}?watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan") as events:
        await filled.create("c")
        assert await events.names(1) == [("ADDED", "c")]


async def test_watch_of_one_object(filled: Wardle) -> None:
    """A single object is watched by its name, as `kubectl wait` does."""
    async with filled.watch(f"{DEV}?{WATCH_LIST}&fieldSelector=metadata.name%3Db") as events:
        assert await events.names(1) == [("ADDED", "b")]
        assert (await events.next())[0] == "BOOKMARK"
        await filled.send("DELETE", f"{DEV}/a")
        await filled.send("DELETE", f"{DEV}/b")
        assert await events.names(1) == [("DELETED", "b")]


async def test_a_path_with_a_name_is_a_get(filled: Wardle) -> None:
    """`watch` in the query of a single object is ignored: who may get may not stream (wire contract §9.10)."""
    answer = await filled.send("GET", f"{DEV}/a?watch=true")
    assert answer.json()["kind"] == "Flunder"


async def test_entering_and_leaving_a_selection(wardle: Wardle) -> None:
    """Seen through a selector, an object appears when it begins to match and goes when it ends to."""
    await wardle.create("one")
    async with wardle.watch(f"{DEV}?watch=1&labelSelector=x%3D1") as events:
        await wardle.patch(f"{DEV}/one", {"metadata": {"labels": {"x": "1"}}})
        kind, object_ = await events.next()
        assert (kind, object_["metadata"]["labels"]) == ("ADDED", {"x": "1"})
        await wardle.patch(f"{DEV}/one", {"metadata": {"labels": {"x": "2"}}})
        kind, object_ = await events.next()
        assert (kind, object_["metadata"]["labels"]) == ("DELETED", {"x": "1"})
        assert revision(object_) == wardle.storage.revision


async def test_watch_too_old() -> None:
    """Changes that are forgotten: 200, one ERROR event with 410, and the end."""
    wardle = Wardle(history=2)
    for name in "abcd":
        await wardle.create(name)
    async with wardle.watch(f"{DEV}?watch=1&resourceVersion=2") as events:
        (event,) = await events.rest()
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")
    assert event["object"]["message"] == "too old resource version: 2 (3)"


async def test_the_oldest_known_revision() -> None:
    """From the revision before the first kept change nothing is missing."""
    wardle = Wardle(history=2)
    for name in "abcd":
        await wardle.create(name)
    async with wardle.watch(f"{DEV}?watch=1&resourceVersion=3") as events:
        assert await events.names(2) == [("ADDED", "c"), ("ADDED", "d")]


async def test_bookmarks(wardle: Wardle, clock: VirtualClock) -> None:
    """A quiet watch gets a bookmark every minute, with the revision to go on from."""
    async with wardle.watch(f"{DEV}?watch=1&allowWatchBookmarks=true&resourceVersion=1") as events:
        await wardle.create("one", "prod")
        await clock.advance(61)
        kind, object_ = await events.next()
        assert (kind, object_["metadata"]) == ("BOOKMARK", {"resourceVersion": "2"})


async def test_timeout(wardle: Wardle, clock: VirtualClock) -> None:
    """timeoutSeconds ends a watch properly, with a last bookmark for whoever understands it."""
    async with wardle.watch(f"{DEV}?watch=1&timeoutSeconds=5&allowWatchBookmarks=1") as events:
        await clock.advance(6)
        assert [event["type"] for event in await events.rest()] == ["BOOKMARK"]
    async with wardle.watch(f"{DEV}?watch=1&timeoutSeconds=5") as events:
        await clock.advance(6)
        assert await events.rest() == []


async def test_the_server_ends(wardle: Wardle) -> None:
    """Watches end properly when the server does."""
    async with wardle.watch(f"{DEV}?watch=1") as events:
        wardle.storage.close()
        assert await events.rest() == []


async def test_the_client_goes(wardle: Wardle) -> None:
    """A client that goes away ends its watch at once, though nothing changes."""
    async with wardle.watch(f"{DEV}?watch=1") as events:
        await events.response.disconnect()
        await events.response.finished()


async def test_watch_as_table(filled: Wardle) -> None:
    """Events for `kubectl get -w`: tables of one row, columns in the first only."""
    async with filled.watch(f"{DEV}?{WATCH_LIST}", accept=TABLE) as events:
        first, second, bookmark = [(await events.next()) for _ in range(3)]
    assert [kind for kind, _ in (first, second, bookmark)] == ["ADDED", "ADDED", "BOOKMARK"]
    assert {object_["kind"] for _, object_ in (first, second, bookmark)} == {"Table"}
    assert [len(object_["columnDefinitions"]) for _, object_ in (first, second, bookmark)] == [4, 0, 0]
    assert first[1]["rows"][0]["cells"][0] == "a"
    (row,) = bookmark[1]["rows"]
    assert row["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert revision(bookmark[1]) == filled.storage.revision


async def test_an_error_in_a_table_watch() -> None:
    """An ERROR is a Status, whatever form events have."""
    wardle = Wardle(history=1)
    await wardle.create("a")
    await wardle.create("b")
    async with wardle.watch(f"{DEV}?watch=1&resourceVersion=1", accept=TABLE) as events:
        kind, object_ = await events.next()
    assert (kind, object_["kind"]) == ("ERROR", "Status")


# --- readiness -------------------------------------------------------------------------------------------------------


async def test_becoming_ready(clock: VirtualClock) -> None:
    """A flunder becomes Ready after a while, which a watch sees."""
    wardle = Wardle(ready_after=1.0)
    made = await wardle.create("one")
    assert made["status"]["conditions"][0]["status"] == "False"
    async with wardle.watch(f"{DEV}?watch=1&resourceVersion={revision(made)}") as events:
        await clock.advance(1.1)
        kind, object_ = await events.next()
    assert (kind, object_["status"]["conditions"][0]["status"]) == ("MODIFIED", "True")


async def test_becoming_ready_keeps_conditions_of_others(clock: VirtualClock) -> None:
    """What a client wrote into the status in the meantime stays."""
    wardle = Wardle(ready_after=1.0)
    await wardle.create("one")
    await wardle.patch(f"{DEV}/one/status", {"status": {"conditions": [CONDITION]}})
    await clock.advance(1.1)
    found = (await wardle.send("GET", f"{DEV}/one")).json()["status"]["conditions"]
    assert [(each["type"], each["status"]) for each in found] == [("Ready", "True"), ("Painted", "True")]


async def test_another_object_of_the_same_name_waits_for_itself(clock: VirtualClock) -> None:
    """The first one's timer does not make the second one Ready."""
    wardle = Wardle(ready_after=1.0)
    await wardle.create("one")
    await clock.advance(0.5)
    await wardle.send("DELETE", f"{DEV}/one")
    await wardle.create("one")
    await clock.advance(0.7)
    found = (await wardle.send("GET", f"{DEV}/one")).json()
    assert found["status"]["conditions"][0]["status"] == "False"
