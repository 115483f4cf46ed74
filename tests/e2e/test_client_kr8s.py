"""The Python client `kr8s`, synchronous and asynchronous, through the front proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import kr8s
import kr8s.asyncio
import pytest
from kr8s._async_utils import as_sync_func
from kr8s.asyncio.objects import new_class as new_async_class
from kr8s.objects import Table, new_class
from tests.e2e.conftest import PATIENCE
from tests.e2e.flunders import API_VERSION, GROUP, KIND, PAINTED, PLURAL, about, flunder, forbidden, modified, path

if TYPE_CHECKING:
    from tests.e2e.conftest import Demo

pytestmark = [
    pytest.mark.usefixtures("clean_environment"),
    # The demo speaks as Kubernetes 1.37; kr8s knows 1.28 to 1.35 and warns of others.
    pytest.mark.filterwarnings("ignore:Kubernetes version v1.37.* is not supported:UserWarning:kr8s._api"),
]

Flunder = new_class(kind=KIND, version=API_VERSION, namespaced=True)
AsyncFlunder = new_async_class(kind=KIND, version=API_VERSION, namespaced=True)


@pytest.fixture(scope="module", autouse=True)
def _thread() -> None:
    """The synchronous half runs in a thread of kr8s' own, which stays from the first call on."""
    as_sync_func(anyio.sleep)(0)


def close(api: kr8s.Api) -> None:
    """Close what it holds open, in kr8s' thread, and wait until its event loop has done so."""
    as_sync_func(api._session.aclose)()
    for _ in range(3):  # a transport closes its socket in the next round
        as_sync_func(anyio.sleep)(0)


@pytest.fixture
def connect(demo: Demo) -> Iterator[Callable[[str], kr8s.Api]]:
    """Clients with the kubeconfig of a user. kr8s has no way to close them: what they hold open is closed here."""
    made: list[kr8s.Api] = []

    def connected(user: str) -> kr8s.Api:
        made.append(kr8s.api(kubeconfig=str(demo.kubeconfig(user))))
        return made[-1]

    yield connected
    for each in made:
        close(each)


@pytest.fixture
async def connect_async(demo: Demo) -> AsyncIterator[Callable[[str], Awaitable[kr8s.asyncio.Api]]]:
    """The same for the asynchronous half."""
    made: list[kr8s.asyncio.Api] = []

    async def connected(user: str) -> kr8s.asyncio.Api:
        made.append(await kr8s.asyncio.api(kubeconfig=str(demo.kubeconfig(user))))
        return made[-1]

    yield connected
    for each in made:
        await each._session.aclose()


@pytest.fixture
def admin(connect: Callable[[str], kr8s.Api]) -> kr8s.Api:
    return connect("admin")


@pytest.fixture
def alice(connect: Callable[[str], kr8s.Api]) -> kr8s.Api:
    return connect("alice")


def status_of(error: kr8s.ServerError) -> dict[str, Any]:
    """The Status in an exception, which has to agree with the exception's own words."""
    status: dict[str, Any] = error.status
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", error.response.status_code)
    assert str(error) == status["message"]
    return status


# --- what there is ---------------------------------------------------------------------------------------------------


def test_discovery(admin: kr8s.Api) -> None:
    """Version, group versions and resources, which it reads from the documents one by one."""
    assert admin.version()["minor"] == "37"
    assert API_VERSION in list(admin.api_versions())
    (found,) = [each for each in admin.api_resources() if each["version"] == API_VERSION]
    assert (found["name"], found["kind"], found["namespaced"], found["shortNames"]) == (PLURAL, KIND, True, ["fl"])
    for spelling in (PLURAL, "fl", "flunder", KIND, f"{PLURAL}.{GROUP}"):
        assert admin.lookup_kind(spelling) == (f"flunder.{API_VERSION}", PLURAL, True)


# --- working with objects --------------------------------------------------------------------------------------------


def test_create_get_and_list(admin: kr8s.Api, name: str) -> None:
    """One, many, and many over all namespaces, by class and by the name of the resource."""
    for namespace in ("dev", "default"):
        created = Flunder(flunder(name, namespace=namespace), api=admin)
        created.create()
        assert created.metadata.uid
        assert created.exists()
    found = Flunder.get(name, namespace="dev", api=admin)
    assert (found.version, found.kind, found.spec) == (API_VERSION, KIND, {"reference": "hello"})
    (found,) = admin.get("flunders", name, namespace="dev")
    assert found.spec.reference == "hello"
    everywhere = admin.get(Flunder, namespace=kr8s.ALL, label_selector={"test": name})
    assert [each.namespace for each in everywhere] == ["default", "dev"]
    with pytest.raises(kr8s.ServerError) as caught:
        Flunder(flunder(name), api=admin).create()
    assert status_of(caught.value)["reason"] == "AlreadyExists"


def test_table(admin: kr8s.Api, name: str) -> None:
    """Who asks for a table gets the server's."""
    Flunder(flunder(name), api=admin).create()
    (table,) = admin.get(Flunder, namespace="dev", label_selector=f"test={name}", as_object=Table)
    assert [column["name"] for column in table.column_definitions] == ["Name", "Reference", "Ready", "Age"]
    assert [row["cells"][:2] for row in table.rows] == [[name, "hello"]]


def test_watch(admin: kr8s.Api, name: str) -> None:
    """Each event comes while the watch is open: the test changes the object only after it has seen the event before."""
    watched = Flunder(flunder(name, "first"), api=admin)
    watched.create()
    with closing(admin.watch(Flunder, namespace="dev", label_selector=f"test={name}")) as events:
        assert seen(next(events)) == ("ADDED", "first")
        watched.patch({"spec": {"reference": "second"}})
        while seen(event := next(events)) != ("MODIFIED", "second"):
            assert seen(event) == ("MODIFIED", "first")  # it became Ready
        watched.delete()
        while seen(event := next(events)) != ("DELETED", "second"):
            assert seen(event) == ("MODIFIED", "second")


def seen(event: tuple[str, Any]) -> tuple[str, str]:
    kind, object_ = event
    return kind, object_.spec.reference


def test_wait(admin: kr8s.Api, name: str) -> None:
    """It waits for a condition, and for the end."""
    waiting = Flunder(flunder(name), api=admin)
    waiting.create()
    waiting.wait("condition=Ready", timeout=PATIENCE)
    waiting.delete()
    waiting.wait("delete", timeout=PATIENCE)
    assert not waiting.exists()


def test_patch(admin: kr8s.Api, name: str) -> None:
    """Merge patches are the default; JSON patches are asked for."""
    patched = Flunder(flunder(name), api=admin)
    patched.create()
    patched.patch({"spec": {"reference": "merged"}})
    assert patched.spec.reference == "merged"
    operations = [
        {"op": "test", "path": "/spec/reference", "value": "merged"},
        {"op": "replace", "path": "/spec/reference", "value": "patched"},
    ]
    patched.patch(operations, type="json")
    assert patched.spec.reference == "patched"
    patched.label({"more": "yes"})
    assert Flunder.get(name, namespace="dev", api=admin).labels == {"test": name, "more": "yes"}
    with pytest.raises(kr8s.ServerError, match="the value is another one") as caught:
        patched.patch(operations, type="json")
    assert status_of(caught.value)["code"] == 422


def test_status(admin: kr8s.Api, name: str) -> None:
    """The subresource is patched apart from the rest."""
    painted = Flunder(flunder(name), api=admin)
    painted.create()
    body = {"spec": {"reference": "ignored"}, "status": {"conditions": [PAINTED]}}
    painted.patch(body, subresource="status")
    assert (painted.spec.reference, PAINTED in painted.status.conditions) == ("hello", True)


def test_conflict(admin: kr8s.Api, name: str) -> None:
    """kr8s has no update; a patch from an old resourceVersion is a conflict, told as such."""
    late = Flunder(flunder(name), api=admin)
    late.create()
    with pytest.raises(kr8s.ServerError) as caught:
        late.patch({"metadata": {"resourceVersion": "1"}, "spec": {"reference": "late"}})
    status = status_of(caught.value)
    assert (status["code"], status["reason"], status["message"]) == (409, "Conflict", modified(name))
    assert status["details"] == about(name)


def test_delete(admin: kr8s.Api, name: str) -> None:
    """What is deleted is gone, which is an exception of its own."""
    deleted = Flunder(flunder(name), api=admin)
    deleted.create()
    deleted.delete()
    with pytest.raises(kr8s.NotFoundError):
        deleted.refresh()


async def test_asyncio(connect_async: Callable[[str], Awaitable[kr8s.asyncio.Api]], name: str) -> None:
    """The asynchronous half: discovery, create, list, watch while it is open, patch, status, delete, a refusal."""
    alice = await connect_async("alice")
    assert API_VERSION in [version async for version in alice.api_versions()]
    created = await AsyncFlunder(flunder(name, "first"), api=alice)
    await created.create()
    assert [each.name async for each in alice.get("flunders", label_selector=f"test={name}")] == [name]
    async with aclosing(alice.watch(AsyncFlunder, namespace="dev", label_selector=f"test={name}")) as events:
        assert seen(await anext(events)) == ("ADDED", "first")
        await created.patch({"spec": {"reference": "second"}})
        while seen(event := await anext(events)) != ("MODIFIED", "second"):
            assert seen(event) == ("MODIFIED", "first")
        paint = [{"op": "replace", "path": "/status/conditions", "value": [PAINTED]}]
        await created.patch(paint, subresource="status", type="json")
        while (event := await anext(events))[1].status.conditions != [PAINTED]:
            assert seen(event) == ("MODIFIED", "second")
        await created.delete()
        while seen(event := await anext(events)) != ("DELETED", "second"):
            assert seen(event) == ("MODIFIED", "second")
    with pytest.raises(kr8s.ServerError) as caught:
        [each async for each in alice.get(AsyncFlunder, namespace=kr8s.ALL)]
    assert status_of(caught.value)["message"] == forbidden("alice", "list")


# --- who may ---------------------------------------------------------------------------------------------------------


def test_alice_comes_with_a_token(alice: kr8s.Api, demo: Demo, name: str) -> None:
    """alice works in the namespace of her kubeconfig; the server behind hears her name from the front proxy."""
    assert alice.namespace == "dev"
    Flunder(flunder(name), api=alice).create()
    line = demo.requests(method="POST", path=path("dev"))[-1]
    assert (line["user"], line["uid"], line["groups"]) == (
        "alice", "alice-1", ["flunder-people", "system:authenticated"],
    )  # fmt: skip
    assert line["certificate"] == "front-proxy-client"


@pytest.mark.parametrize("namespace", ["default", kr8s.ALL])
def test_alice_elsewhere(alice: kr8s.Api, namespace: str) -> None:
    """What alice may not do is kr8s' exception with Kubernetes' words; it asks four times before it believes a 403."""
    with pytest.raises(kr8s.ServerError) as caught:
        list(alice.get(Flunder, namespace=namespace))
    status = status_of(caught.value)
    where = "" if namespace == kr8s.ALL else namespace
    assert (status["code"], status["reason"]) == (403, "Forbidden")
    assert status["message"] == forbidden("alice", "list", where)
    assert status["details"] == {"group": GROUP, "kind": PLURAL}


def test_a_forbidden_watch(alice: kr8s.Api) -> None:
    """A watch that is refused is an exception, not a stream without events."""
    with closing(alice.watch(Flunder, namespace="default")) as events, pytest.raises(kr8s.ServerError) as caught:
        next(events)
    assert status_of(caught.value)["message"] == forbidden("alice", "watch", "default")


def test_the_administrator_comes_with_a_certificate(admin: kr8s.Api, demo: Demo, name: str) -> None:
    """The client certificate of the kubeconfig is who the administrator is, which the client knows too."""
    assert admin.whoami() == "admin"
    assert list(admin.get(Flunder, namespace=kr8s.ALL, label_selector={"test": name})) == []
    (line,) = [line for line in demo.requests(path=path()) if name in line["query"]]
    assert (line["user"], line["groups"]) == ("admin", ["system:masters", "system:authenticated"])


def test_a_wrong_token(wrong_token: Path) -> None:
    """A token that nobody has is a 401 from the first request on, which asks for the version."""
    with pytest.raises(kr8s.ServerError) as caught:
        kr8s.api(kubeconfig=str(wrong_token))
    for apis in kr8s.Api._instances.values():  # nobody was given this one to close
        for each in apis.values():
            close(each)
    status = status_of(caught.value)
    assert (status["code"], status["reason"], status["message"]) == (401, "Unauthorized", "Unauthorized")
