"""A policy that is edited while a front proxy runs takes effect by itself; a broken one is told and changes nothing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from aggmw.config import load
from aggmw.config.compose import Composed, Credentials, compose
from aggmw.contracts.drain import Drain
from aggmw.net.tls import ClientCertificatePair
from aggmw.pki.make import issue_client, make_ca
from aggmw.testing import Client

ASK = {"authorization": "Bearer token"}
HEALTH = "p2, user:alice, get, /readyz|/metrics\n"
ALLOWED = HEALTH + "p2, user:alice, get, /x\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with credentials, and alice, who may not get /x."""
    ca = make_ca("clients")
    (tmp_path / "clients.crt").write_bytes(ca.certificate)
    pair = issue_client(ca, "front-proxy")
    (tmp_path / "front-proxy.crt").write_bytes(pair.certificate)
    (tmp_path / "front-proxy.key").write_bytes(pair.key)
    (tmp_path / "tokens.csv").write_text("token,alice,1\n")
    (tmp_path / "policy.csv").write_text(HEALTH)
    return tmp_path


def composed(place: Path, authorization: str = "policy: policy.csv") -> Composed:
    (place / "config.yaml").write_text(
        f"authentication: {{tokenFile: tokens.csv}}\nauthorization: {{{authorization}}}\n"
    )
    pair = ClientCertificatePair(place / "front-proxy.crt", place / "front-proxy.key")
    return compose(load(place / "config.yaml"), Credentials(place / "clients.crt", pair), Drain())


@asynccontextmanager
async def running(made: Composed) -> AsyncIterator[Callable[[str], Awaitable[tuple[int, str]]]]:
    async with made.front_proxy:
        client = Client(made.front_proxy)

        async def ask(path: str) -> tuple[int, str]:
            response = await client.request("GET", path, headers=ASK)
            return response.status, response.body.decode()

        yield ask


async def until(ask: Callable[[str], Awaitable[tuple[int, str]]], path: str, wanted: Callable[[str], bool]) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    async with asyncio.timeout(60):
        while not wanted((await ask(path))[1]):
            await asyncio.sleep(0.01)
    return time.monotonic() - began


async def test_edited(place: Path) -> None:
    """Issue 7: what is written takes effect within a second, in place or renamed; the revision says so everywhere."""
    async with running(composed(place)) as ask:
        assert (await ask("/x"))[0] == 403
        before = (await ask("/readyz?verbose"))[1]
        with capture_logs() as logs:
            (place / "policy.csv").write_text(ALLOWED)
            took = await until(ask, "/x", lambda body: "forbidden" not in body)
            await until(ask, "/readyz?verbose", lambda body: body != before)
        revision = logs[-1]["revision"]
        assert (logs[-1]["event"], logs[-1]["what"]) == ("reloaded", "policy")
        assert f"[+]authorization-policy ok: revision {revision}\n" in (await ask("/readyz?verbose"))[1]
        page = (await ask("/metrics"))[1]
        labels = f'policy="{place / "policy.csv"}"'
        assert f'aggmw_authorization_policy_revision_info{{{labels},revision="{revision}"}} 1.0' in page
        assert f'aggmw_authorization_policy_reloads_total{{{labels},result="success"}} 2.0' in page
        (place / "new").write_text(HEALTH)
        os.replace(place / "new", place / "policy.csv")
        took = max(took, await until(ask, "/x", lambda body: "forbidden" in body))
        assert (await ask("/readyz?verbose"))[1] == before
    assert took < 20  # on a machine that has nothing else to do: 0.3 to 0.5 s


async def test_broken(place: Path) -> None:
    """A broken policy is in the log, line by line, in the readiness and in the figures; the old one decides."""
    (place / "policy.csv").write_text(ALLOWED)
    async with running(composed(place)) as ask:
        with capture_logs() as logs:
            (place / "policy.csv").write_text("p, alice\nrule, x\n")
            await until(ask, "/readyz?verbose", lambda body: "stale" in body)
        assert [(log["log_level"], log["event"], Path(log["path"]).name) for log in logs] == [
            ("error", "not reloaded", "policy.csv:1"),
            ("error", "not reloaded", "policy.csv:2"),
        ]
        status, body = await ask("/readyz?verbose")
        assert status == 200
        assert ", stale: what is there now cannot be used" in body
        assert (await ask("/x"))[0] == 404  # allowed
        page = (await ask("/metrics"))[1]
        assert 'result="failure"} 1.0' in page
        assert "aggmw_authorization_policy_stale{" in page
        (place / "policy.csv").write_text(HEALTH)
        await until(ask, "/x", lambda body: "forbidden" in body)
        assert "stale" not in (await ask("/readyz?verbose"))[1]


async def test_not_watched(place: Path) -> None:
    """With `watch: false` nothing looks at the files: they are read again when somebody says so."""
    made = composed(place, "policy: policy.csv, watch: false")
    async with running(made) as ask:
        assert not [task for task in asyncio.all_tasks() if "watching" in task.get_name()]
        (place / "policy.csv").write_text(ALLOWED)
        assert (await ask("/x"))[0] == 403
        await made.reloads["policy"]()  # type: ignore[misc]  # it is a coroutine function
        assert (await ask("/x"))[0] == 404


async def test_watched_by_default(place: Path) -> None:
    """One background task looks at them; it ends with the front proxy."""
    async with running(composed(place)):
        assert [task for task in asyncio.all_tasks() if task.get_name() == "watching the policy"]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "watching the policy"]
