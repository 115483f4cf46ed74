"""What a front proxy does below a path of another application, in whichever framework."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from tests.frameworks.alone import FLUNDERS, TOKEN, TOKENS

from aggmw import APIService, FrontProxy
from aggmw.asgi.types import ASGIApp
from aggmw.middleware.authentication import Anonymous
from aggmw.middleware.authorization import AllowAll
from aggmw.server.directory import Directory
from aggmw.testing import Client, ReceivedRequest, ScriptedBackend, respond

__all__ = ["check_example", "check_mounted", "check_without_lifespan", "imported"]

GROUP_VERSION = ("wardle.example.com", "v1alpha1")


def front_proxy(url: str) -> FrontProxy:
    """One that knows alice, allows everything, and has one server behind it."""
    return FrontProxy(
        authentication=[TOKENS],
        anonymous=Anonymous(["/healthz"]),
        authorization=AllowAll(),
        services=[APIService.remote(*GROUP_VERSION, url)],
    )


async def check_mounted(host: Callable[[FrontProxy], ASGIApp]) -> None:
    """Below /k8s everything is the front proxy's, byte for byte below the mount; beside it the host's own.

    Args:
        host: makes the application, with a front proxy at /k8s and a lifespan that opens it, and "own" at /own.
    """
    async with ScriptedBackend(lambda request: respond(200, body=b"{}")) as server:
        client = Client(host(front_proxy(server.url)))
        async with client.lifespan():
            assert (await client.request("GET", "/own")).json() == "own"
            assert (await client.request("GET", "/k8s/version", TOKEN)).json()["major"] == "1"
            assert (await client.request("GET", "/k8s/version")).json()["reason"] == "Unauthorized"
            assert (await client.request("GET", "/k8s/healthz")).text == "ok"
            assert (await client.request("GET", "/k8s/nothing", TOKEN)).json()["reason"] == "NotFound"
            assert (await client.request("GET", "/k8s/a%2Fb", TOKEN)).json()["reason"] == "BadRequest"
            names = [group["name"] for group in (await client.request("GET", "/k8s/apis/", TOKEN)).json()["groups"]]
            assert "wardle.example.com" in names
            target = f"{FLUNDERS}/a%20b?limit=5&x=%31"
            assert (await client.request("GET", f"/k8s{target}", TOKEN)).body == b"{}"
            assert (await client.request("POST", f"/k8s{FLUNDERS}", TOKEN, b"[1]")).body == b"{}"
        requests = [ReceivedRequest.of(raw) for each in server.connections for raw in each.exchanges]
    read, written = (one for one in requests if one.header("x-remote-user") == b"alice")
    assert (read.target, read.header("authorization")) == (target.encode(), None)
    assert (written.method, written.body) == ("POST", b"[1]")


async def check_without_lifespan(host: Callable[[FrontProxy], ASGIApp]) -> None:
    """Mounted without its lifespan it says so, and how to give it one; it serves nothing and forwards nothing.

    Args:
        host: as above, but without a lifespan that opens the front proxy.
    """
    client = Client(host(front_proxy("http://127.0.0.1:1")))
    async with client.lifespan():
        assert (await client.request("GET", "/own")).json() == "own"
        for path in ("/k8s/version", f"/k8s{FLUNDERS}"):
            response = await client.request("GET", path, TOKEN)
            assert response.status == 500
            assert "lifespan=front_proxy.lifespan(" in response.json()["message"]
            assert "async with front_proxy" in response.json()["message"]


def imported(name: str, state: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> ASGIApp:
    """The application of an example, made anew with these files and this server behind it."""
    Directory.open(state)
    (state / "tokens.csv").write_text('t0k,alice,alice-1,"dev"\n')
    (state / "policy.csv").write_text("p, group:dev, get|list, wardle.example.com, flunders, dev, *\n")
    monkeypatch.setenv("STATE", str(state))
    monkeypatch.setenv("WARDLE_URL", url)
    for module in ("front", name):
        monkeypatch.delitem(sys.modules, f"examples.frameworks.{module}", raising=False)
    app: ASGIApp = import_module(f"examples.frameworks.{name}").app
    return app


async def check_example(client: Client, server: ScriptedBackend) -> None:
    """An example's application, with a server behind it: its own route, and what is below /k8s.

    Args:
        client: of the application.
        server: what WARDLE_URL names.
    """
    async with client.lifespan():
        me = await client.request("GET", "/me", TOKEN)
        assert me.json() == {"user": "alice", "groups": ["dev", "system:authenticated"]}
        assert (await client.request("GET", "/me")).status == 401
        assert (await client.request("GET", f"/k8s{FLUNDERS}", TOKEN)).body == b"{}"
        assert (await client.request("DELETE", f"/k8s{FLUNDERS}", TOKEN)).status == 403
        assert (await client.request("GET", f"/k8s{FLUNDERS}")).status == 401
    requests = [ReceivedRequest.of(raw) for each in server.connections for raw in each.exchanges]
    (forwarded,) = [one for one in requests if one.header("x-remote-user") == b"alice"]
    assert forwarded.target == FLUNDERS.encode()
