"""MountedAt: the path as it was sent, below a root that the framework does not tell."""

from __future__ import annotations

import pytest

from aggmw.asgi.mounts import MountedAt
from aggmw.asgi.types import Receive, Scope, Send
from aggmw.middleware.request_info import RequestInfoMiddleware
from aggmw.testing import Client


async def target(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what the parser found below the mount."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["aggmw.request_info"].target})


class Cutting:
    """A framework that rewrites `path`, as Litestar's mounts do."""

    def __init__(self, path: str) -> None:
        self.app = MountedAt(RequestInfoMiddleware(target), path)
        self.path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rest = scope["path"].removeprefix(scope["root_path"] + self.path).strip("/")
        await self.app({**scope, "path": f"/{rest}/"}, receive, send)


@pytest.mark.parametrize("sent", ["/apis", "/apis/", "/apis/g/v1?a=%20b", "/x%20y", "/%C3%A4"])
@pytest.mark.parametrize("root_path", ["", "/outer"])
async def test_as_it_was_sent(sent: str, root_path: str) -> None:
    """§12.3: what is parsed is below the mount, byte for byte, whatever the framework made of `path`."""
    response = await Client(Cutting("/k8s"), root_path=root_path).request("GET", f"/k8s{sent}")
    assert (response.status, response.text) == (200, sent)


@pytest.mark.parametrize("sent", ["/k8s/a//b", "/k8s/../b", "/k8s/%2e%2e/b", "/k8sx", "/other/apis"])
async def test_refusals_stay(sent: str) -> None:
    """What is ambiguous, or not below the mount, is 400 as without it."""
    assert (await Client(Cutting("/k8s")).request("GET", sent)).status == 400


async def test_server_without_raw_path() -> None:
    """Where nobody knows what was sent, nothing is guessed."""

    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        await Cutting("/k8s")({key: value for key, value in scope.items() if key != "raw_path"}, receive, send)

    response = await Client(bare).request("GET", "/k8s/apis")
    assert (response.status, response.json()["message"]) == (
        500,
        "Internal error occurred: MountedAt needs raw_path, which this server does not give",
    )


@pytest.mark.parametrize("path", ["", "k8s", "/k8s/", "/", "/a b", "/%6b8s"])
def test_paths_that_are_none(path: str) -> None:
    """A mount is a plain path."""
    with pytest.raises(ValueError, match="must begin and not end with a slash, and need no escapes"):
        MountedAt(target, path)
