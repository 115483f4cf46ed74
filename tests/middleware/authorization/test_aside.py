"""Large values are built and freed beside the event loop: what is changed for it, and that it is put back."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from typing import Any
from weakref import ref

import pytest

from aggmw.contracts.threads import in_thread
from aggmw.middleware.authorization.aside import _parts_of, beside_the_loop, drain, giving_way, let_go


@pytest.fixture
def settings() -> Iterator[None]:
    """A switch interval of one's own, and nothing frozen; what was there before comes back."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.004)
    yield
    sys.setswitchinterval(interval)
    gc.unfreeze()
    gc.enable()


class Tree:
    def __init__(self, *below: object) -> None:
        self.below = below


@pytest.mark.usefixtures("settings")
def test_what_is_changed_is_put_back() -> None:
    """No collection during a build, and other threads get their turn soon; then everything is as before."""
    with beside_the_loop():
        assert not gc.isenabled()
        assert sys.getswitchinterval() == pytest.approx(0.0005)
    assert gc.isenabled()
    assert sys.getswitchinterval() == pytest.approx(0.004)
    with pytest.raises(KeyError), beside_the_loop():
        raise KeyError
    assert gc.isenabled()
    assert sys.getswitchinterval() == pytest.approx(0.004)


@pytest.mark.usefixtures("settings")
def test_collector_that_is_off_stays_off() -> None:
    """An application that collects when it likes keeps doing so; so does one with a smaller switch interval."""
    gc.disable()
    sys.setswitchinterval(0.0004)
    with beside_the_loop():
        assert sys.getswitchinterval() == pytest.approx(0.0004, abs=2e-6)
    assert not gc.isenabled()


@pytest.mark.usefixtures("settings")
def test_frozen_where_the_process_freezes() -> None:
    """What is built is taken out of the collector's sight only where what was there before is, and if it was built."""
    with beside_the_loop():
        kept = [[number] for number in range(1000)]
    assert gc.get_freeze_count() == 0
    gc.freeze()
    before = gc.get_freeze_count()
    with beside_the_loop():
        kept += [[number] for number in range(1000)]
    frozen = gc.get_freeze_count()
    assert frozen > before + 900

    def fails() -> None:
        with beside_the_loop():
            kept.extend([number] for number in range(1000))
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert gc.get_freeze_count() <= frozen


@pytest.mark.usefixtures("settings")
def test_one_at_a_time() -> None:
    """Settings of the process have one owner: a second build waits for the first."""
    inside, leave, entered = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with beside_the_loop():
            inside.set()
            leave.wait(60)

    def second() -> None:
        with beside_the_loop():
            entered.set()

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    assert not entered.is_set()
    leave.set()
    for thread in threads:
        thread.join(60)
    assert entered.is_set()
    assert gc.isenabled()


def test_let_go_frees_the_parts() -> None:
    """Everything that only the value held is freed, without the collector."""
    gc.disable()
    try:
        leaf = Tree()
        deep = Tree({"a": [Tree(leaf), (leaf, Tree())]}, {"b": frozenset({1})})
        known, last = [ref(deep), ref(leaf)], [deep]
        del deep, leaf
        let_go(last, (Tree,))
        assert last == []
        assert [each() for each in known] == [None, None]
    finally:
        gc.enable()


async def test_what_failed_is_let_go() -> None:
    """An error that is kept does not keep what was to be made, nor does it leave circles for the collector."""
    found: list[Any] = []

    def fails() -> None:
        tree = Tree()
        found.append(ref(tree))
        try:
            raise KeyError
        except KeyError as error:
            other = Tree(error)
            found.append(ref(other))
            raise OSError("all of it") from error

    gc.disable()
    try:
        with pytest.raises(OSError, match="all of it") as caught:
            await in_thread(fails)
        assert caught.value.__traceback__ is not None
        assert [each() for each in found] == [None, None]
    finally:
        gc.enable()


def test_let_go_leaves_what_others_hold() -> None:
    """Parts that somebody else holds stay as they are."""
    kept = {"a": [1, 2]}
    let_go([[kept, [3]]])
    assert kept == {"a": [1, 2]}


def test_let_go_waits_for_who_uses_it() -> None:
    """While a decision goes on, what it is made by is whole; and it is not freed by whoever decides."""
    value = Tree([1])
    found = ref(value)
    last, done = [value], threading.Event()
    thread = threading.Thread(target=lambda: (let_go(last, (Tree,)), done.set()))
    thread.start()
    assert not done.wait(0.02)
    assert last == [value]
    del value
    assert done.wait(60)
    thread.join(60)
    assert found() is None


@pytest.mark.parametrize("held", [[*range(1234)], dict.fromkeys(range(1234), "x"), {*range(1234)}])
def test_drain(held: Any) -> None:
    """What is drained is empty."""
    drain(held)
    assert not held


def test_let_go_takes_small_steps() -> None:
    """No single step frees many objects: what holds others is freed before these."""
    last: list[object] = [{"rows": tuple(Tree() for _ in range(5000))}]
    known = [ref(tree) for tree in last[0]["rows"]]  # type: ignore[index]  # a dictionary
    fewest: list[int] = []

    class Counting(list[object]):
        def __delitem__(self, index: Any) -> None:
            before = sum(each() is not None for each in known)
            super().__delitem__(index)
            fewest.append(before - sum(each() is not None for each in known))

    parts = Counting(_parts_of(last[0], (dict, tuple, Tree)))
    last.clear()
    parts.reverse()
    drain(parts)
    assert sum(fewest) == 5000
    assert max(fewest) <= 500


@pytest.mark.usefixtures("settings")
def test_giving_way_collects_all_the_same() -> None:
    """Code of others runs with the collector on, and other threads get their turn soon; a build may follow inside."""
    with giving_way():
        assert gc.isenabled()
        assert sys.getswitchinterval() == pytest.approx(0.0005)
        with beside_the_loop():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert sys.getswitchinterval() == pytest.approx(0.0005)
    assert sys.getswitchinterval() == pytest.approx(0.004)


@pytest.mark.usefixtures("settings")
def test_giving_way_holds_up_nobody() -> None:
    """A database that hangs in one thread keeps no other policy from being built; the interval comes back later."""
    leave, inside = threading.Event(), threading.Event()

    def hangs() -> None:
        with giving_way():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=hangs)
    thread.start()
    assert inside.wait(60)
    with beside_the_loop():
        pass
    assert sys.getswitchinterval() == pytest.approx(0.0005)
    leave.set()
    thread.join(60)
    assert sys.getswitchinterval() == pytest.approx(0.004)


@pytest.mark.usefixtures("settings")
def test_the_frozen_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting goes through all of them while nobody else runs: where there are some, no further build does it."""
    asked: list[int] = []
    count = gc.get_freeze_count
    monkeypatch.setattr(gc, "get_freeze_count", lambda: asked.append(0) or count())
    gc.freeze()
    for _ in range(3):
        with beside_the_loop():
            pass
    assert len(asked) == 1
