"""Drain tells everybody once."""

from __future__ import annotations

from aggmw.contracts.drain import Drain


def test_begin_calls_each_callback_once() -> None:
    """A second begin tells nobody again."""
    drain, called = Drain(), []
    drain.add(lambda: called.append("a"))
    drain.add(lambda: called.append("b"))
    drain.begin()
    drain.begin()
    assert sorted(called) == ["a", "b"]
    assert drain.begun


def test_late_callback_is_called_at_once() -> None:
    """Who registers after the beginning is told immediately: no stream can miss it."""
    drain, called = Drain(), []
    drain.begin()
    drain.add(lambda: called.append("late"))
    assert called == ["late"]


def test_removed_callback_is_not_called() -> None:
    """A stream that ended before is not called; removing what is not there is no error."""
    drain, called = Drain(), []

    def callback() -> None:
        called.append("x")

    drain.add(callback)
    drain.remove(callback)
    drain.remove(callback)
    drain.begin()
    assert called == []
