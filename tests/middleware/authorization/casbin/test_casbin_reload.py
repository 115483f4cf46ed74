"""A policy is replaced while it is asked: as a whole, beside the loop, and the old one is gone afterwards."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any
from weakref import ref

import pytest

from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import Identity
from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import CasbinAuthorizer

OWN = """
[request_definition]
r = sub, act
[policy_definition]
p = sub, act, eft
[role_definition]
g = _, _
[policy_effect]
e = {effect}
[matchers]
m = g(r.sub, p.sub) && r.act == p.act
"""
ALLOW = "some(where (p.eft == allow))"
AWAITED = """
[request_definition]
r = sub, act
[policy_definition]
p = sub, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && known(r.act, p.act)
"""


def policy(verb: str, number: int) -> str:
    """All users may do one thing, each by rules of their own."""
    rows = [f"p, user:u{index}, {verb}, core, pods, ns-{index}, *" for index in range(number)]
    return "\n".join([*rows, *(f"g, user:u{index}, role:r{index % 7}" for index in range(number))])


def asked(index: int, verb: str) -> Attributes:
    return Attributes(Identity(f"u{index}"), verb, True, "", "v1", "pods", namespace=f"ns-{index}")


async def test_never_mixed_and_never_waiting(tmp_path: Path) -> None:
    """While policies come and go, each decision is by one of them alone; and decisions go on all the time."""
    number = 2000
    path = tmp_path / "policy.csv"
    path.write_text(policy("get", number))
    authorizer = CasbinAuthorizer.from_files(path, cache=0)
    revisions = {authorizer.revision}
    during = 0
    for verb in ("list", "get", "watch"):
        path.write_text(policy(verb, number))
        task = asyncio.create_task(authorizer.refresh())
        old = {"list": "get", "get": "list", "watch": "get"}[verb]
        seen_new = False
        while not task.done():
            await asyncio.sleep(0)
            for index in (0, number // 2, number - 1):
                by_new = await authorizer.authorize(asked(index, verb))
                by_old = await authorizer.authorize(asked(index, old))
                # Between two awaits the policy may be swapped, so neither may hold, once; never the old after the new.
                seen_new = seen_new or by_new.allowed
                assert by_new.allowed or by_old.allowed or not seen_new
            during += 1
        revisions.add(await task)
        assert (await authorizer.authorize(asked(5, verb))).allowed
        assert not (await authorizer.authorize(asked(5, old))).allowed
    assert during > 30
    assert len(revisions) == 3


async def test_decision_that_waits_keeps_its_policy() -> None:
    """A decision that awaits a function is made by the policy that it began with, however often that is replaced."""
    going, gate = asyncio.Event(), asyncio.Event()

    async def known(act: str, wanted: str) -> bool:
        going.set()
        await gate.wait()
        return act == wanted

    authorizer = CasbinAuthorizer.from_rows([("p", "alice", "get")], model=AWAITED, functions={"known": known})
    old = asyncio.create_task(authorizer.authorize(Attributes(Identity("alice"), "get", True)))
    await going.wait()
    change = asyncio.create_task(authorizer.change(add=[("p", "bob", "get")], remove=[("p", "alice", "get")]))
    while "bob" not in str(authorizer._snapshot.report.rows):  # type: ignore[union-attr]  # it is loaded
        await asyncio.sleep(0)
    gate.set()
    assert (await old).allowed
    await change
    assert (await authorizer.authorize(Attributes(Identity("alice"), "get", True))).outcome is Outcome.NO_OPINION


async def test_many_refreshes_are_few_readings(tmp_path: Path) -> None:
    """Never two at once, and the last one to ask gets what was there when they asked."""
    calls: list[int] = []
    at_once = threading.Lock()

    class Counting:
        def load_policy(self, model: Any) -> None:
            assert at_once.acquire(blocking=False)
            calls.append(len(calls))
            model.add_policy("p", "p", [f"user:u{len(calls)}", "get", "*", "*", "*", "*", "allow"])
            at_once.release()

    authorizer = CasbinAuthorizer.from_adapter(Counting())
    first = asyncio.create_task(authorizer.refresh())
    await asyncio.sleep(0)
    others = await asyncio.gather(*(authorizer.refresh() for _ in range(50)))
    assert len(calls) <= 4  # the first, the one that ran, and the one for all who came later
    assert set(others) == {authorizer.revision}
    await first


def test_old_policy_is_freed(tmp_path: Path) -> None:
    """A policy that was replaced is gone without help of the collector, from which a server hides what it loaded."""
    own = OWN.format(effect=ALLOW)
    uncompiled = own.replace("r.act == p.act", "r.act in [x for x in (p.act, 'x')]")
    models = {"shipped": None, "own": own, "uncompiled": uncompiled}
    text = {"shipped": policy("get", 50), "own": "p, a, get, allow\ng, b, a", "uncompiled": "p, a, get, allow"}
    gc.disable()
    try:
        for name, model in models.items():
            authorizer = CasbinAuthorizer.from_text(text[name], model=model)
            asyncio.run(authorizer.authorize(asked(1, "get")))
            asyncio.run(authorizer.explain(asked(1, "list")))
            snapshot = authorizer._snapshot
            assert snapshot is not None
            parts = (snapshot, *snapshot.graphs.values(), *filter(None, snapshot._sections.values()))
            known = [ref(part) for part in parts]
            del snapshot, parts
            authorizer.reload()
            assert [each() for each in known] == [None] * len(known), name
    finally:
        gc.enable()


async def test_broken_policy_is_stale(tmp_path: Path, outcome: Callable[..., Outcome]) -> None:
    """A broken file leaves the old one in force; that is told by the check and the figures until it is mended."""
    path = tmp_path / "policy.csv"
    path.write_text("p, user:alice, get, *, *, *, *")
    authorizer = CasbinAuthorizer.from_files(path)
    revision = authorizer.revision
    path.write_text("p, alice, GET")
    for read_again in (authorizer.refresh, lambda: asyncio.to_thread(authorizer.reload)):
        with pytest.raises(ConfigurationError):
            await read_again()
    assert outcome(authorizer, "alice", "get", "pods") is Outcome.ALLOW
    assert authorizer.revision == revision
    (check,) = authorizer.checks
    assert check.check() is None
    assert check.note() == f"revision {revision}, stale: what is there now cannot be used"  # type: ignore[attr-defined]  # this one has it
    path.write_text("p, user:alice, get, *, *, *, *\n# mended")
    assert await authorizer.refresh() == revision
    assert check.note() == f"revision {revision}"  # type: ignore[attr-defined]  # the same


def test_unexpected_failure_leaves_the_old_one_too(outcome: Callable[..., Outcome]) -> None:
    """Whatever fails, what was in force stays so, and the settings of the process are as before."""

    class Breaks:
        name, foreign = "broken", False

        def read(self) -> Any:
            raise MemoryError

    authorizer = CasbinAuthorizer.from_text("p, user:alice, get, *, *, *, *")
    authorizer._policy = Breaks()
    interval = sys.getswitchinterval()
    with pytest.raises(MemoryError):
        authorizer.reload()
    assert outcome(authorizer, "alice", "get", "pods") is Outcome.ALLOW
    assert authorizer._record.stale
    assert (gc.isenabled(), sys.getswitchinterval()) == (True, interval)


# Revisions


def revision(text: str, **options: Any) -> str:
    return CasbinAuthorizer.from_text(text, **options).revision


def test_same_rules_same_revision(tmp_path: Path) -> None:
    """White space, comments, repeated rows, a default that is written out, and the order do not count."""
    one = "p, user:alice, get, *, *, *, *\ng, user:bob, role:r"
    other = (
        '# a comment\n g,user:bob , role:r\r\np, "user:alice", get, *, *, *, *, allow\np, user:alice, get, *, *, *, *'
    )
    (tmp_path / "policy.csv").write_text(other)
    found = revision(one)
    assert found == revision(other) == CasbinAuthorizer.from_files(tmp_path / "policy.csv").revision
    assert len(found) == 12
    assert int(found, 16)


@pytest.mark.parametrize(
    "other",
    [
        "p, user:alice, get, *, *, *, *, deny",
        "p, user:alice, get, *, *, *, *\ng, user:alice, role:r",
        "p2, user:alice, get, *",
        "p, user:alic, eget, *, *, *, *",
        "",
    ],
)
def test_other_rules_other_revision(other: str) -> None:
    """Whatever a decision could depend on counts."""
    assert revision(other) != revision("p, user:alice, get, *, *, *, *")


def test_other_model_other_revision() -> None:
    """So does the model; and the order of rules where the effect asks for the first."""
    rules = ["p, a, get, allow", "p, b, get, deny"]
    one, other = "\n".join(rules), "\n".join(reversed(rules))
    either, first = OWN.format(effect=ALLOW), OWN.format(effect="priority(p.eft) || deny")
    assert revision(one, model=either) == revision(other, model=either)
    assert revision(one, model=first) != revision(other, model=first)
    assert revision(one, model=either) != revision(one, model=first)


async def test_revision_is_in_explanations(attributes: Callable[..., Attributes]) -> None:
    """Who asks why learns by which policy."""
    authorizer = CasbinAuthorizer.from_text("p, user:alice, get, *, *, *, *")
    for user in ("alice", "bob"):
        explanation = await authorizer.explain(attributes(user, "get", "pods"))
        assert explanation.revision == authorizer.revision


async def test_watch_is_a_controller(tmp_path: Path, logs: list[MutableMapping[str, Any]]) -> None:
    """With `watch` both files are looked at; without it there is nothing to be run."""
    (tmp_path / "policy.csv").write_text("p, alice, get, allow")
    (tmp_path / "model.conf").write_text(OWN.format(effect=ALLOW))
    files = tmp_path / "policy.csv", tmp_path / "model.conf"
    assert CasbinAuthorizer.from_files(files[0], model=files[1]).controllers == ()
    authorizer = CasbinAuthorizer.from_files(files[0], model=files[1], watch=True)
    (watcher,) = authorizer.controllers
    assert repr(watcher) == f"FileWatcher({files[0]}, {files[1]})"
    files[1].write_text(OWN.format(effect=ALLOW).replace("r.act == p.act", "true"))
    for _ in range(2):
        await watcher.look()  # type: ignore[attr-defined]  # it is a FileWatcher
    assert logs[-1]["event"] == "not reloaded"
    assert logs[-1]["path"] == f"{files[1]}:11"
    files[1].write_text(OWN.format(effect=ALLOW).replace("r.act == p.act", "p.act != r.act"))
    for _ in range(2):
        await watcher.look()  # type: ignore[attr-defined]  # the same
    assert (logs[-1]["event"], logs[-1]["revision"]) == ("reloaded", authorizer.revision)
    verdict: Verdict | None = authorizer.verdict(Attributes(Identity("alice"), "list", True))
    assert verdict is not None
    assert verdict.allowed


async def test_broken_policies_leave_nothing(tmp_path: Path) -> None:
    """However often a policy is broken and mended again, what was built of the broken ones does not stay."""
    path = tmp_path / "policy.csv"
    rules = "\n".join(f"p, user:u{number}, get, *, *, *, *, allow" for number in range(2000))
    path.write_text(rules)
    authorizer = CasbinAuthorizer.from_files(path)
    frozen: list[int] = []
    gc.freeze()
    try:
        for _ in range(4):
            path.write_text(f"{rules}\np, broken\n")
            with pytest.raises(ConfigurationError):
                await authorizer.refresh()
            path.write_text(rules)
            await authorizer.refresh()
            frozen.append(gc.get_freeze_count())
    finally:
        gc.unfreeze()
    assert frozen[-1] - frozen[1] < 1000


async def test_disk_that_hangs(tmp_path: Path) -> None:
    """Who waits for a file keeps neither the collector off, nor other policies from being loaded."""
    os.mkfifo(tmp_path / "slow.csv")
    waiting = asyncio.create_task(asyncio.to_thread(CasbinAuthorizer.from_files, tmp_path / "slow.csv"))
    async with asyncio.timeout(60):
        while True:
            try:
                writing = os.open(tmp_path / "slow.csv", os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:  # nobody waits yet
                await asyncio.sleep(0.01)
        try:
            assert gc.isenabled()
            await asyncio.to_thread(CasbinAuthorizer.from_text, "")
            assert not waiting.done()
        finally:
            os.close(writing)
        await waiting
