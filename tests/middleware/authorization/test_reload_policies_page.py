"""The page on reloading policies: its code runs, and what it says of metrics and health is so."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from casbin.persist.watcher import Watcher

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.identity import Identity
from aggmw.contracts.reloading import PolicyWatcher
from aggmw.middleware.authorization import CasbinAuthorizer

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "reload-policies.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(number: int) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(CODE[number], "reload-policies.md", "exec"), names)
    return names


def allowed(authorizer: CasbinAuthorizer, user: str) -> bool:
    asked = Attributes(Identity(user), "get", True, "", "v1", "pods", namespace="dev", name="p1")
    return asyncio.run(authorizer.authorize(asked)).allowed


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A front proxy has the background work of its authorizer."""
    monkeypatch.chdir(tmp_path)
    Path("policy.csv").write_text("p, user:alice, get, core, pods, *, *\n")
    authorizer = run(0)["authorizer"]
    assert [repr(each) for each in authorizer.controllers] == ["FileWatcher(policy.csv)"]


def test_rows() -> None:
    """Who came may, and who went may not."""
    authorizer = run(1)["authorizer"]
    assert allowed(authorizer, "otto")
    assert not allowed(authorizer, "olga")


def test_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of the page keeps the effect of a rule."""
    monkeypatch.chdir(tmp_path)
    names = run(2)
    authorizer, rules = names["authorizer"], names["Base"].metadata

    async def fill() -> None:
        engine = names["Adapter"]("sqlite+aiosqlite:///policy.db", names["Rule"])._engine
        async with engine.begin() as connection:
            await connection.run_sync(rules.create_all)
        await engine.dispose()
        adapter = authorizer._policy._adapter
        await adapter.add_policy("p", "p", ["user:alice", "get", "*", "*", "*", "*", "allow"])
        await adapter.add_policy("p", "p", ["user:bob", "get", "*", "*", "*", "*", "deny"])
        await authorizer.refresh()
        await adapter._engine.dispose()

    asyncio.run(fill())
    assert allowed(authorizer, "alice")
    assert not allowed(authorizer, "bob")


def test_replicas() -> None:
    """What the function gives is an authorizer that follows, and what to announce changes with."""

    class Nothing:
        def load_policy(self, model: Any) -> None:
            pass

    authorizer, watcher = run(3)["replica"](Nothing(), Watcher())
    assert isinstance(watcher, PolicyWatcher)
    assert [repr(each) for each in authorizer.controllers] == ["Follower(CasbinWatcher(Watcher))"]


def test_metrics_that_are_named_exist() -> None:
    """An alert on a figure that is not there would never come."""
    named = set(re.findall(r"`(aggmw_\w+)`", PAGE))
    authorizer = CasbinAuthorizer.from_text("")
    assert named
    assert named <= {sample.name for sample in authorizer.samples()}
