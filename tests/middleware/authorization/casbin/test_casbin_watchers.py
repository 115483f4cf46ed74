"""Replicas that share a policy: who changes it tells the others, by a watcher of ours or of casbin's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from casbin import persist
from casbin.persist.watcher import Watcher

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.reloading import PolicyWatcher
from aggmw.middleware.authorization import CasbinAuthorizer, CasbinWatcher


class Shared:
    """A policy that several replicas read."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []

    def allow(self, user: str) -> None:
        self.rows.append(("p", f"user:{user}", "get", "*", "*", "*", "*", "allow"))

    def load_policy(self, model: Any) -> None:
        for row in self.rows:
            persist.load_policy_line(", ".join(row), model)


class Wire:
    """casbin watchers whose messages arrive in a thread of their own, as those of its Redis watcher."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[..., None]] = []

    def watcher(self) -> Watcher:
        return _Wired(self)

    def send(self, *words: str) -> None:
        def receive() -> None:
            for callback in self.callbacks:
                callback(*words)

        thread = threading.Thread(target=receive)
        thread.start()
        thread.join(60)


class _Wired(Watcher):  # type: ignore[misc]  # casbin has no types
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def set_update_callback(self, func: Callable[..., None]) -> None:
        self._wire.callbacks.append(func)

    def update(self) -> None:
        self._wire.send("changed")


class _WiredLater(_Wired):
    async def set_update_callback(self, func: Callable[..., None]) -> None:  # type: ignore[override]  # some are
        self._wire.callbacks.append(func)

    async def update(self) -> None:  # type: ignore[override]  # the same
        await asyncio.to_thread(self._wire.send)


async def allowed(authorizer: CasbinAuthorizer, one: Attributes) -> None:
    """Until it is."""
    async with asyncio.timeout(60):
        while not (await authorizer.authorize(one)).allowed:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("kind", [_Wired, _WiredLater])
async def test_replicas_follow(kind: type[_Wired], attributes: Callable[..., Attributes]) -> None:
    """Two authorizers of one policy: what one announces the other has read soon after."""
    shared, wire = Shared(), Wire()
    shared.allow("alice")
    watchers = [CasbinWatcher(kind(wire)) for _ in range(2)]
    replicas = [CasbinAuthorizer.from_adapter(shared, watcher=watcher) for watcher in watchers]
    tasks = [asyncio.create_task(each.run()) for replica in replicas for each in replica.controllers]
    async with asyncio.timeout(60):
        while len(wire.callbacks) < 2:
            await asyncio.sleep(0.001)
    shared.allow("bob")
    await watchers[0].announce()
    for replica in replicas:
        await allowed(replica, attributes("bob", "get", "pods"))
        assert (await replica.authorize(attributes("alice", "get", "pods"))).allowed
    assert replicas[0].revision == replicas[1].revision
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    wire.send()  # nobody listens any more, and nothing breaks


async def test_what_was_changed_before_it_listened(attributes: Callable[..., Attributes]) -> None:
    """Between the first reading and the time that it listens nothing is missed."""
    shared, wire = Shared(), Wire()
    authorizer = CasbinAuthorizer.from_adapter(shared, watcher=CasbinWatcher(wire.watcher()))
    shared.allow("bob")
    (follower,) = authorizer.controllers
    task = asyncio.create_task(follower.run())
    await allowed(authorizer, attributes("bob", "get", "pods"))
    task.cancel()
    await asyncio.wait({task})


def test_message_after_the_loop() -> None:
    """A message that comes when the loop is closed is for nobody."""
    wire = Wire()

    async def listen() -> None:
        changes = CasbinWatcher(wire.watcher()).changes()
        await anext(changes)
        await changes.aclose()  # type: ignore[attr-defined]  # it is a generator

    asyncio.run(listen())
    wire.send("late")


def test_what_is_no_watcher() -> None:
    """Something else is refused when it is handed in."""
    assert isinstance(CasbinWatcher(Wire().watcher()), PolicyWatcher)
    assert repr(CasbinWatcher(Wire().watcher())) == "CasbinWatcher(_Wired)"
    with pytest.raises(TypeError, match="a casbin watcher is an object with a method set_update_callback"):
        CasbinWatcher(Watcher)
    with pytest.raises(TypeError, match="watcher: "):
        CasbinAuthorizer.from_adapter(Shared(), watcher=Wire().watcher())
