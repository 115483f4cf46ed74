"""Flights: one question for all who ask the same at the same time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggmw.middleware.authorization.flights import Flights

STEPS = st.lists(
    st.tuples(st.sampled_from(["join", "leave", "answer", "fail", "turn"]), st.integers(0, 7)), min_size=1, max_size=40
)


@given(STEPS)
async def test_any_order_of_events(steps: list[tuple[str, int]]) -> None:
    """Whoever stays gets the answer to a question of its own key that ended after it asked; nothing stays behind."""
    flights: Flights[int] = Flights()
    open_questions: dict[int, list[asyncio.Future[int]]] = {0: [], 1: []}
    joined: list[tuple[int, asyncio.Task[int]]] = []

    async def ask(key: int) -> int:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        open_questions[key].append(answer)
        try:
            return await answer
        finally:
            open_questions[key].remove(answer)

    for step, number in steps:
        key = number % 2
        match step:
            case "join":
                joined.append((key, asyncio.create_task(flights.join(key, lambda key=key: ask(key)))))
            case "leave" if joined:
                joined[number % len(joined)][1].cancel()
            case "answer":
                for question in [one for one in open_questions[key] if not one.done()]:
                    question.set_result(key)
            case "fail":
                for question in [one for one in open_questions[key] if not one.done()]:
                    question.set_exception(KeyError(key))
            case "turn":
                await asyncio.sleep(0)
        assert len(open_questions[key]) <= 2  # one, and perhaps one that everybody has left
    for _ in range(5):
        await asyncio.sleep(0)
    for key in (0, 1):
        for question in [one for one in open_questions[key] if not one.done()]:
            question.set_result(key)
    for key, task in joined:
        await asyncio.wait([task])
        if not task.cancelled():
            error = task.exception()
            assert task.result() == key if error is None else error.args == (key,)
    await asyncio.sleep(0)
    assert open_questions == {0: [], 1: []}
    assert len(flights) == 0


async def test_who_comes_after_the_answer_asks_anew() -> None:
    """Nothing is remembered here."""
    flights: Flights[int] = Flights()
    asked = iter((1, 2))

    async def ask() -> int:
        return next(asked)

    assert [await flights.join("k", ask), await flights.join("k", ask)] == [1, 2]


async def test_cancelled_question_is_not_joined() -> None:
    """Who comes while the last one goes away asks anew, and is not cancelled with it."""
    flights: Flights[int] = Flights()
    begun = asyncio.Event()

    async def never() -> int:
        begun.set()
        await asyncio.Event().wait()
        return 0

    async def soon() -> int:
        return 1

    first = asyncio.create_task(flights.join("k", never))
    await begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await flights.join("k", soon) == 1
