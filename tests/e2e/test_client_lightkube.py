"""The Python client `lightkube`, synchronous and asynchronous, through the front proxy. It uses no discovery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from lightkube import ALL_NS, ApiError, AsyncClient, Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace
from lightkube.types import PatchType
from tests.e2e.conftest import PATIENCE
from tests.e2e.flunders import (
    API_VERSION,
    GROUP,
    KIND,
    PAINTED,
    PLURAL,
    UNSUPPORTED,
    VERSION,
    about,
    flunder,
    forbidden,
    modified,
    path,
)

if TYPE_CHECKING:
    from tests.e2e.conftest import Demo

pytestmark = pytest.mark.usefixtures("clean_environment")

Flunder = create_namespaced_resource(GROUP, VERSION, KIND, PLURAL)


def new(name: str, reference: str = "hello", namespace: str = "dev") -> Flunder:
    """A flunder to create."""
    fields = flunder(name, reference, namespace)
    return Flunder(metadata=ObjectMeta.from_dict(fields["metadata"]), spec=fields["spec"])


@pytest.fixture
def connect(demo: Demo) -> Iterator[Callable[[str | Path], Client]]:
    """Clients with the kubeconfig of a user, or with one of one's own; closed at the end."""
    made: list[Client] = []

    def connected(who: str | Path) -> Client:
        made.append(Client(config=KubeConfig.from_file(who if isinstance(who, Path) else demo.kubeconfig(who))))
        return made[-1]

    yield connected
    for each in made:
        each.close()


@pytest.fixture
def admin(connect: Callable[[str | Path], Client]) -> Client:
    return connect("admin")


@pytest.fixture
def alice(connect: Callable[[str | Path], Client]) -> Client:
    return connect("alice")


def details_of(error: ApiError) -> dict[str, str]:
    """The details of the Status in an exception, which has to agree with the exception's own words."""
    assert (error.status.code, error.status.status) == (error.response.status_code, "Failure")
    assert str(error) == error.status.message
    details = error.status.details
    return {key: value for key in ("name", "group", "kind") if (value := getattr(details, key))}


# --- working with objects --------------------------------------------------------------------------------------------


def test_create_get_and_list(admin: Client, name: str) -> None:
    """One, many, and many over all namespaces."""
    for namespace in ("dev", "default"):
        assert admin.create(new(name, namespace=namespace)).metadata.uid
    found = admin.get(Flunder, name, namespace="dev")
    assert (found.apiVersion, found.kind, found.spec) == (API_VERSION, KIND, {"reference": "hello"})
    assert found.metadata.creationTimestamp.tzinfo is not None
    selected = {"labels": {"test": name}}
    assert [each.metadata.name for each in admin.list(Flunder, namespace="dev", **selected)] == [name]
    everywhere = admin.list(Flunder, namespace=ALL_NS, chunk_size=1, **selected)
    assert [each.metadata.namespace for each in everywhere] == ["default", "dev"]
    assert int(everywhere.resourceVersion) > 0
    with pytest.raises(ApiError) as caught:
        admin.create(new(name))
    assert (caught.value.status.reason, details_of(caught.value)) == ("AlreadyExists", about(name))


def test_no_core_resources(admin: Client) -> None:
    """The demo has no namespaces: a typed resource is a 404 that it can read."""
    with pytest.raises(ApiError) as caught:
        list(admin.list(Namespace))
    assert (caught.value.status.code, caught.value.status.reason) == (404, "NotFound")


def test_watch(admin: Client, name: str) -> None:
    """Each event comes while the watch is open: the test changes the object only after it has seen the event before."""
    admin.create(new(name, "first"))
    with closing(admin.watch(Flunder, namespace="dev", labels={"test": name}, server_timeout=60)) as events:
        assert seen(next(events)) == ("ADDED", "first")
        admin.patch(Flunder, name, {"spec": {"reference": "second"}}, namespace="dev", patch_type=PatchType.MERGE)
        while seen(event := next(events)) != ("MODIFIED", "second"):
            assert seen(event) == ("MODIFIED", "first")  # it became Ready
        admin.delete(Flunder, name, namespace="dev")
        while seen(event := next(events)) != ("DELETED", "second"):
            assert seen(event) == ("MODIFIED", "second")


def seen(event: tuple[str, Any]) -> tuple[str, str]:
    kind, object_ = event
    return kind, object_.spec["reference"]


def test_watch_from_a_revision_that_is_gone(admin: Client) -> None:
    """A 410 inside the stream is an exception with the Status."""
    with (
        closing(admin.watch(Flunder, namespace="dev", resource_version="1")) as events,
        pytest.raises(ApiError) as caught,
    ):
        next(events)
    assert (caught.value.status.code, caught.value.status.reason) == (410, "Expired")


def test_wait(admin: Client, name: str) -> None:
    """It waits for a condition."""
    admin.create(new(name))
    ready = admin.wait(Flunder, name, for_conditions=["Ready"], namespace="dev")
    assert ready.status["conditions"][0]["status"] == "True"


def test_patch(admin: Client, name: str) -> None:
    """Merge and JSON patches; strategic ones, its default, and server-side apply are not what this server has."""
    admin.create(new(name))

    def patch(body: object, kind: PatchType) -> Any:
        return admin.patch(Flunder, name, body, namespace="dev", patch_type=kind, field_manager="test").spec

    assert patch({"spec": {"reference": "merged"}}, PatchType.MERGE) == {"reference": "merged"}
    operations = [
        {"op": "test", "path": "/spec/reference", "value": "merged"},
        {"op": "replace", "path": "/spec/reference", "value": "patched"},
    ]
    assert patch(operations, PatchType.JSON) == {"reference": "patched"}
    with pytest.raises(ApiError, match="the value is another one") as caught:
        patch(operations, PatchType.JSON)
    assert (caught.value.status.code, caught.value.status.reason) == (422, "Invalid")
    for kind in (PatchType.STRATEGIC, PatchType.APPLY):
        with pytest.raises(ApiError) as caught:
            patch({"spec": {"reference": "x"}}, kind)
        assert (caught.value.status.code, str(caught.value)) == (415, UNSUPPORTED)


def test_status(admin: Client, name: str) -> None:
    """The subresource is read, patched and replaced apart from the rest."""
    admin.create(new(name))
    admin.wait(Flunder, name, for_conditions=["Ready"], namespace="dev")  # which replaces the condition of that name
    body = {"spec": {"reference": "ignored"}, "status": {"conditions": [PAINTED]}}
    patched = admin.patch(Flunder.Status, name, body, namespace="dev", patch_type=PatchType.MERGE)
    assert (patched.spec, PAINTED in patched.status["conditions"]) == ({"reference": "hello"}, True)
    found = admin.get(Flunder.Status, name, namespace="dev")
    found["status"] = {"conditions": []}
    assert admin.replace(found, name).status == {"conditions": []}


def test_update_and_conflict(admin: Client, name: str) -> None:
    """An update of what has changed is a conflict, told as such."""
    admin.create(new(name))
    found = admin.wait(Flunder, name, for_conditions=["Ready"], namespace="dev")
    found.spec["reference"] = "updated"
    assert admin.replace(found).spec == {"reference": "updated"}
    found.spec["reference"] = "late"
    with pytest.raises(ApiError) as caught:
        admin.replace(found)
    assert (caught.value.status.reason, caught.value.status.message) == ("Conflict", modified(name))
    assert details_of(caught.value) == about(name)


def test_delete(admin: Client, name: str) -> None:
    """What is deleted is gone, one or all that a namespace has."""
    admin.create(new(name))
    admin.delete(Flunder, name, namespace="dev")
    with pytest.raises(ApiError) as caught:
        admin.get(Flunder, name, namespace="dev")
    assert (caught.value.status.reason, details_of(caught.value)) == ("NotFound", about(name))
    admin.create(new(name))
    admin.deletecollection(Flunder, namespace="dev")
    assert list(admin.list(Flunder, namespace="dev")) == []


async def test_asyncio(demo: Demo, name: str) -> None:
    """The asynchronous client: create, list, watch while it is open, patch, delete, a refusal."""
    async with AsyncClient(config=KubeConfig.from_file(demo.kubeconfig("alice"))) as alice, asyncio.timeout(PATIENCE):
        await alice.create(new(name, "first"))
        assert [each.metadata.name async for each in alice.list(Flunder, labels={"test": name})] == [name]
        async with aclosing(alice.watch(Flunder, labels={"test": name})) as events:
            assert seen(await anext(events)) == ("ADDED", "first")
            await alice.patch(Flunder, name, {"spec": {"reference": "second"}}, patch_type=PatchType.MERGE)
            while seen(event := await anext(events)) != ("MODIFIED", "second"):
                assert seen(event) == ("MODIFIED", "first")
            await alice.delete(Flunder, name)
            while seen(event := await anext(events)) != ("DELETED", "second"):
                assert seen(event) == ("MODIFIED", "second")
        with pytest.raises(ApiError) as caught:
            [each async for each in alice.list(Flunder, namespace=ALL_NS)]
        assert str(caught.value) == forbidden("alice", "list")


# --- who may ---------------------------------------------------------------------------------------------------------


def test_alice_comes_with_a_token(alice: Client, demo: Demo, name: str) -> None:
    """alice works in the namespace of her kubeconfig; the server behind hears her name from the front proxy."""
    assert alice.namespace == "dev"
    alice.create(new(name))
    line = demo.requests(method="POST", path=path("dev"))[-1]
    assert (line["user"], line["uid"], line["groups"]) == (
        "alice", "alice-1", ["flunder-people", "system:authenticated"],
    )  # fmt: skip
    assert line["certificate"] == "front-proxy-client"


@pytest.mark.parametrize("namespace", ["default", ALL_NS])
def test_alice_elsewhere(alice: Client, namespace: str) -> None:
    """What alice may not do is lightkube's exception with Kubernetes' words."""
    with pytest.raises(ApiError) as caught:
        list(alice.list(Flunder, namespace=namespace))
    where = "" if namespace == ALL_NS else namespace
    assert (caught.value.status.code, caught.value.status.reason) == (403, "Forbidden")
    assert caught.value.status.message == forbidden("alice", "list", where)
    assert details_of(caught.value) == {"group": GROUP, "kind": PLURAL}


def test_a_forbidden_watch(alice: Client) -> None:
    """A watch that is refused is an exception, not a stream without events; lightkube does not read the Status then."""
    with closing(alice.watch(Flunder, namespace="default")) as events, pytest.raises(httpx2.HTTPStatusError) as caught:
        next(events)
    assert caught.value.response.status_code == 403


def test_the_administrator_comes_with_a_certificate(admin: Client, demo: Demo, name: str) -> None:
    """The client certificate of the kubeconfig is who the administrator is."""
    assert list(admin.list(Flunder, namespace=ALL_NS, labels={"test": name})) == []
    (line,) = [line for line in demo.requests(path=path()) if name in line["query"]]
    assert (line["user"], line["groups"]) == ("admin", ["system:masters", "system:authenticated"])


def test_a_wrong_token(connect: Callable[[str | Path], Client], wrong_token: Path) -> None:
    """A token that nobody has is a 401 with a Status."""
    with pytest.raises(ApiError) as caught:
        list(connect(wrong_token).list(Flunder, namespace="dev"))
    status = caught.value.status
    assert (status.code, status.reason, status.message) == (401, "Unauthorized", "Unauthorized")
