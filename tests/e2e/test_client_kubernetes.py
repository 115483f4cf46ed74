"""The Python client `kubernetes`: CustomObjectsApi, DynamicClient and the asyncio client, through the front proxy."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kubernetes import aio, client, config, dynamic, watch
from kubernetes.dynamic import exceptions
from tests.e2e.flunders import (
    API_VERSION,
    GROUP,
    KIND,
    PAINTED,
    PLURAL,
    TABLE,
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

FLUNDERS = {"group": GROUP, "version": VERSION, "plural": PLURAL}
DEV = {**FLUNDERS, "namespace": "dev"}
MERGE_PATCH, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"


@pytest.fixture
def connect(demo: Demo) -> Iterator[Callable[[str | Path], client.ApiClient]]:
    """Clients with the kubeconfig of a user, or with one of one's own; closed at the end."""
    made: list[client.ApiClient] = []

    def connected(who: str | Path) -> client.ApiClient:
        kubeconfig = who if isinstance(who, Path) else demo.kubeconfig(who)
        made.append(config.new_client_from_config(str(kubeconfig)))
        return made[-1]

    yield connected
    for each in made:
        each.close()
    gc.collect()  # urllib3 closes connections when their pool is collected, and exceptions keep it in a cycle


@pytest.fixture
def admin(connect: Callable[[str | Path], client.ApiClient]) -> client.ApiClient:
    return connect("admin")


@pytest.fixture
def alice(connect: Callable[[str | Path], client.ApiClient]) -> client.ApiClient:
    return connect("alice")


def dynamic_flunders(api: client.ApiClient, tmp_path: Path) -> dynamic.Resource:
    """The resource as the DynamicClient discovers it, without a cache of another test."""
    found = dynamic.DynamicClient(api, cache_file=str(tmp_path / "discovery.json"))
    return found.resources.get(api_version=API_VERSION, kind=KIND)


def status_of(error: client.ApiException) -> dict[str, Any]:
    """The Status in an exception, which has to agree with the exception's own fields."""
    status: dict[str, Any] = json.loads(error.body)
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", error.status)
    return status


# --- what there is ---------------------------------------------------------------------------------------------------


def test_discovery(admin: client.ApiClient) -> None:
    """Version, groups and resources, each from its own document."""
    assert client.VersionApi(admin).get_code().minor == "37"
    assert client.CoreApi(admin).get_api_versions().kind == "APIVersions"
    groups = {group.name: group for group in client.ApisApi(admin).get_api_versions().groups}
    assert groups[GROUP].preferred_version.group_version == API_VERSION
    listed = client.CustomObjectsApi(admin).get_api_resources(GROUP, VERSION)
    assert [(each.name, each.namespaced, each.kind) for each in listed.resources] == [
        (PLURAL, True, KIND),
        (f"{PLURAL}/status", True, KIND),
    ]


def test_dynamic_discovery(admin: client.ApiClient, tmp_path: Path) -> None:
    """The DynamicClient finds the resource by group and kind, with its subresource."""
    found = dynamic.DynamicClient(admin, cache_file=str(tmp_path / "discovery.json"))
    assert found.version["kubernetes"]["gitVersion"].startswith("v1.37.")
    flunders = found.resources.get(api_version=API_VERSION, kind=KIND)
    assert (flunders.name, flunders.namespaced, flunders.short_names) == (PLURAL, True, ["fl"])
    assert list(flunders.subresources) == ["status"]
    assert flunders in found.resources.search(group=GROUP)
    with pytest.raises(exceptions.ResourceNotFoundError):
        found.resources.get(api_version=API_VERSION, kind="Fischer")


def test_no_core_resources(admin: client.ApiClient) -> None:
    """The demo has no namespaces: the typed client gets a 404 that it can read."""
    with pytest.raises(client.exceptions.NotFoundException) as caught:
        client.CoreV1Api(admin).list_namespace()
    assert status_of(caught.value)["reason"] == "NotFound"


# --- working with objects --------------------------------------------------------------------------------------------


def test_create_get_and_list(admin: client.ApiClient, name: str) -> None:
    """One, many, and many over all namespaces."""
    flunders = client.CustomObjectsApi(admin)
    for namespace in ("dev", "default"):
        created = flunders.create_namespaced_custom_object(
            **FLUNDERS, namespace=namespace, body=flunder(name, namespace=namespace)
        )
        assert created["metadata"]["uid"]
    found = flunders.get_namespaced_custom_object(**DEV, name=name)
    assert (found["apiVersion"], found["kind"], found["spec"]) == (API_VERSION, KIND, {"reference": "hello"})
    selected = {"label_selector": f"test={name}"}
    listed = flunders.list_namespaced_custom_object(**DEV, **selected)
    assert (listed["kind"], [item["metadata"]["name"] for item in listed["items"]]) == (f"{KIND}List", [name])
    listed = flunders.list_cluster_custom_object(**FLUNDERS, **selected, limit=1)
    assert [item["metadata"]["namespace"] for item in listed["items"]] == ["default", "dev"]
    with pytest.raises(client.exceptions.ConflictException) as caught:
        flunders.create_namespaced_custom_object(**DEV, body=flunder(name))
    assert status_of(caught.value)["reason"] == "AlreadyExists"


def test_table(admin: client.ApiClient, name: str) -> None:
    """Who asks for a table gets the server's."""
    flunders = client.CustomObjectsApi(admin)
    flunders.create_namespaced_custom_object(**DEV, body=flunder(name))
    table = flunders.list_namespaced_custom_object(**DEV, label_selector=f"test={name}", _headers={"Accept": TABLE})
    assert table["kind"] == "Table"
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Reference", "Ready", "Age"]
    assert [row["cells"][:2] for row in table["rows"]] == [[name, "hello"]]


def test_watch(admin: client.ApiClient, name: str) -> None:
    """Each event comes while the watch is open: the test changes the object only after it has seen the event before."""
    flunders = client.CustomObjectsApi(admin)
    flunders.create_namespaced_custom_object(**DEV, body=flunder(name, "first"))
    watched = watch.Watch()
    select = {"label_selector": f"test={name}", "field_selector": f"metadata.name={name}"}
    with closing(watched.stream(flunders.list_namespaced_custom_object, **DEV, **select)) as events:
        assert seen(next(events)) == ("ADDED", "first")
        flunders.patch_namespaced_custom_object(**DEV, name=name, body={"spec": {"reference": "second"}})
        while seen(event := next(events)) != ("MODIFIED", "second"):
            assert seen(event) == ("MODIFIED", "first")  # it became Ready
        flunders.delete_namespaced_custom_object(**DEV, name=name)
        while (event := next(events))["type"] != "DELETED":
            assert seen(event) == ("MODIFIED", "second")
        watched.stop()
        assert list(events) == []


def seen(event: dict[str, Any]) -> tuple[str, str]:
    return event["type"], event["object"]["spec"]["reference"]


def test_watch_that_ends_by_itself(admin: client.ApiClient, name: str) -> None:
    """`timeoutSeconds` is the end of a watch, and a proper one."""
    events = watch.Watch().stream(
        client.CustomObjectsApi(admin).list_cluster_custom_object,
        **FLUNDERS,
        label_selector=f"test={name}",
        timeout_seconds=1,
    )
    assert list(events) == []


def test_watch_from_a_revision_that_is_gone(admin: client.ApiClient) -> None:
    """A 410 inside the stream is an exception with code and reason."""
    events = watch.Watch().stream(
        client.CustomObjectsApi(admin).list_cluster_custom_object, **FLUNDERS, resource_version="1", timeout_seconds=5
    )
    with closing(events), pytest.raises(client.ApiException, match="Expired: too old resource version: 1") as caught:
        next(events)
    assert caught.value.status == 410


def test_patch(admin: client.ApiClient, name: str) -> None:
    """Merge patches are the default; JSON patches are asked for by their type."""
    flunders = client.CustomObjectsApi(admin)
    flunders.create_namespaced_custom_object(**DEV, body=flunder(name))
    merged = flunders.patch_namespaced_custom_object(**DEV, name=name, body={"spec": {"reference": "merged"}})
    assert merged["spec"] == {"reference": "merged"}
    operations = [
        {"op": "test", "path": "/spec/reference", "value": "merged"},
        {"op": "replace", "path": "/spec/reference", "value": "patched"},
    ]
    patch = {"name": name, "body": operations, "_content_type": JSON_PATCH}
    patched = flunders.patch_namespaced_custom_object(**DEV, **patch)
    assert patched["spec"] == {"reference": "patched"}
    with pytest.raises(client.exceptions.UnprocessableEntityException, match="the value is another one") as caught:
        flunders.patch_namespaced_custom_object(**DEV, **patch)
    assert status_of(caught.value)["reason"] == "Invalid"


def test_status(admin: client.ApiClient, name: str) -> None:
    """The subresource is read, patched and replaced apart from the rest."""
    flunders = client.CustomObjectsApi(admin)
    flunders.create_namespaced_custom_object(**DEV, body=flunder(name))
    settle(flunders, name)
    body = {"spec": {"reference": "ignored"}, "status": {"conditions": [PAINTED]}}
    patched = flunders.patch_namespaced_custom_object_status(**DEV, name=name, body=body)
    assert (patched["spec"], PAINTED in patched["status"]["conditions"]) == ({"reference": "hello"}, True)
    found = flunders.get_namespaced_custom_object_status(**DEV, name=name)
    found["status"] = {"conditions": []}
    replaced = flunders.replace_namespaced_custom_object_status(**DEV, name=name, body=found)
    assert replaced["status"] == {"conditions": []}


def settle(flunders: client.CustomObjectsApi, name: str) -> None:
    """Until the server has made the flunder Ready: then nobody but the test changes it."""
    events = watch.Watch().stream(
        flunders.list_namespaced_custom_object, **DEV, field_selector=f"metadata.name={name}", timeout_seconds=60
    )
    with closing(events):
        for event in events:
            conditions = event["object"]["status"]["conditions"]
            if any((each["type"], each["status"]) == ("Ready", "True") for each in conditions):
                return
    pytest.fail("the flunder did not become Ready")


def test_update_and_conflict(admin: client.ApiClient, name: str) -> None:
    """An update of what has changed is a conflict, told as such."""
    flunders = client.CustomObjectsApi(admin)
    flunders.create_namespaced_custom_object(**DEV, body=flunder(name))
    settle(flunders, name)
    found = flunders.get_namespaced_custom_object(**DEV, name=name)
    found["spec"]["reference"] = "updated"
    assert flunders.replace_namespaced_custom_object(**DEV, name=name, body=found)["spec"] == {"reference": "updated"}
    found["spec"]["reference"] = "late"
    with pytest.raises(client.exceptions.ConflictException) as caught:
        flunders.replace_namespaced_custom_object(**DEV, name=name, body=found)
    status = status_of(caught.value)
    assert (status["reason"], status["message"]) == ("Conflict", modified(name))
    assert status["details"] == about(name)


def test_delete(admin: client.ApiClient, name: str) -> None:
    """What is deleted is gone, one or by selector."""
    flunders = client.CustomObjectsApi(admin)
    flunders.create_namespaced_custom_object(**DEV, body=flunder(name))
    deleted = flunders.delete_namespaced_custom_object(**DEV, name=name)
    assert (deleted["status"], deleted["details"]["name"]) == ("Success", name)
    with pytest.raises(client.exceptions.NotFoundException) as caught:
        flunders.get_namespaced_custom_object(**DEV, name=name)
    assert status_of(caught.value)["details"] == about(name)
    flunders.create_namespaced_custom_object(**DEV, body=flunder(name))
    flunders.delete_collection_namespaced_custom_object(**DEV, label_selector=f"test={name}")
    assert flunders.list_namespaced_custom_object(**DEV, label_selector=f"test={name}")["items"] == []


def test_dynamic_client(admin: client.ApiClient, name: str, tmp_path: Path) -> None:
    """The DynamicClient does all of it with the resource that it discovered."""
    flunders = dynamic_flunders(admin, tmp_path)
    one = {"name": name, "namespace": "dev"}
    assert flunders.create(body=flunder(name)).metadata.uid
    assert flunders.get(**one).spec.reference == "hello"
    listed = flunders.get(label_selector=f"test={name}")
    assert [item.metadata.namespace for item in listed.items] == ["dev"]
    with closing(flunders.watch(name=name, namespace="dev", timeout=60)) as events:
        assert next(events)["type"] == "ADDED"
        merged = flunders.patch(**one, body={"spec": {"reference": "merged"}}, content_type=MERGE_PATCH)
        assert merged.spec.reference == "merged"
        while (event := next(events))["object"].spec.reference != "merged":
            pass
        assert event["type"] == "MODIFIED"
    operations = [{"op": "replace", "path": "/spec/reference", "value": "patched"}]
    assert flunders.patch(**one, body=operations, content_type=JSON_PATCH).spec.reference == "patched"
    with pytest.raises(exceptions.DynamicApiError) as caught:
        flunders.patch(**one, body={"spec": {"reference": "strategic"}})
    assert (caught.value.status, caught.value.summary()) == (415, UNSUPPORTED)
    body = {"status": {"conditions": [PAINTED]}}
    painted = flunders.status.patch(**one, body=body, content_type=MERGE_PATCH)
    assert painted.status.conditions[-1].to_dict() == PAINTED
    late = flunder(name) | {"metadata": {**one, "resourceVersion": "1"}}
    with pytest.raises(exceptions.ConflictError) as conflict:
        flunders.replace(body=late)
    assert conflict.value.summary() == modified(name)
    assert flunders.delete(**one).status == "Success"
    with pytest.raises(exceptions.NotFoundError):
        flunders.get(**one)


async def test_asyncio_client(demo: Demo, name: str) -> None:
    """The client's asyncio half: create, watch while it is open, patch, delete, a refusal."""
    async with await aio.config.new_client_from_config(str(demo.kubeconfig("alice"))) as alice:
        flunders = aio.client.CustomObjectsApi(alice)
        await flunders.create_namespaced_custom_object(**DEV, body=flunder(name, "first"))
        async with aio.watch.Watch() as watched:
            events = watched.stream(flunders.list_namespaced_custom_object, **DEV, label_selector=f"test={name}")
            assert seen(await anext(events)) == ("ADDED", "first")
            await flunders.patch_namespaced_custom_object(**DEV, name=name, body={"spec": {"reference": "second"}})
            while seen(event := await anext(events)) != ("MODIFIED", "second"):
                assert seen(event) == ("MODIFIED", "first")
            await flunders.delete_namespaced_custom_object(**DEV, name=name)
            while (event := await anext(events))["type"] != "DELETED":
                assert seen(event) == ("MODIFIED", "second")
        with pytest.raises(aio.client.ApiException) as caught:
            await flunders.list_cluster_custom_object(**FLUNDERS)
        assert json.loads(caught.value.body)["message"] == forbidden("alice", "list")


# --- who may ---------------------------------------------------------------------------------------------------------


def test_alice_comes_with_a_token(alice: client.ApiClient, demo: Demo, name: str) -> None:
    """alice works in her namespace; the server behind hears her name from the front proxy, and never her token."""
    flunders = client.CustomObjectsApi(alice)
    flunders.create_namespaced_custom_object(**DEV, body=flunder(name))
    flunders.delete_namespaced_custom_object(**DEV, name=name)
    created, deleted = demo.requests(method="POST", path=path("dev"))[-1], demo.requests(path=path("dev", name))[-1]
    for line in (created, deleted):
        assert (line["user"], line["uid"], line["groups"]) == (
            "alice", "alice-1", ["flunder-people", "system:authenticated"],
        )  # fmt: skip
        assert line["certificate"] == "front-proxy-client"


def test_alice_elsewhere(alice: client.ApiClient, tmp_path: Path) -> None:
    """What alice may not do is an exception of its own with Kubernetes' words, from both clients."""
    flunders = client.CustomObjectsApi(alice)
    calls = {
        "": lambda: flunders.list_cluster_custom_object(**FLUNDERS),
        "default": lambda: flunders.list_namespaced_custom_object(**FLUNDERS, namespace="default"),
    }
    for namespace, call in calls.items():
        with pytest.raises(client.exceptions.ForbiddenException) as caught:
            call()
        status = status_of(caught.value)
        assert (status["reason"], status["message"]) == ("Forbidden", forbidden("alice", "list", namespace))
        assert status["details"] == {"group": GROUP, "kind": PLURAL}
    with pytest.raises(exceptions.ForbiddenError) as refused:
        dynamic_flunders(alice, tmp_path).get(namespace="default")
    assert refused.value.summary() == forbidden("alice", "list", "default")


def test_a_forbidden_watch(alice: client.ApiClient) -> None:
    """A watch that is refused is an exception, not a stream without events."""
    flunders = client.CustomObjectsApi(alice)
    events = watch.Watch().stream(flunders.list_cluster_custom_object, **FLUNDERS)
    with closing(events), pytest.raises(client.exceptions.ForbiddenException) as caught:
        next(events)
    assert caught.value.status == 403


def test_the_administrator_comes_with_a_certificate(admin: client.ApiClient, demo: Demo, name: str) -> None:
    """The client certificate of the kubeconfig is who the administrator is."""
    client.CustomObjectsApi(admin).list_cluster_custom_object(**FLUNDERS, label_selector=f"test={name}")
    (line,) = [line for line in demo.requests(path=path()) if name in line["query"]]
    assert (line["user"], line["groups"]) == ("admin", ["system:masters", "system:authenticated"])


def test_a_wrong_token(connect: Callable[[str | Path], client.ApiClient], wrong_token: Path, tmp_path: Path) -> None:
    """A token that nobody has is a 401 with an exception of its own, from both clients."""
    with pytest.raises(client.exceptions.UnauthorizedException) as caught:
        client.CustomObjectsApi(connect(wrong_token)).list_namespaced_custom_object(**DEV)
    assert status_of(caught.value)["message"] == "Unauthorized"
    with pytest.raises(exceptions.UnauthorizedError):
        dynamic_flunders(connect(wrong_token), tmp_path)
