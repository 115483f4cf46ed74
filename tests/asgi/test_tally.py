"""Tally: status and bytes of an answer, from the messages that it is sent in."""

from __future__ import annotations

import pytest

from aggmw.asgi.tally import Tally
from aggmw.asgi.types import Message


@pytest.mark.parametrize(
    ("messages", "status", "size"),
    [
        ([], 0, 0),
        ([{"type": "http.response.start", "status": 204}, {"type": "http.response.body"}], 204, 0),
        (
            [{"type": "http.response.start", "status": 200}, *[{"type": "http.response.body", "body": b"abc"}] * 2],
            200,
            6,
        ),
        (
            [{"type": "websocket.accept"}, {"type": "websocket.send", "bytes": b"abc"}, {"type": "websocket.close"}],
            101,
            0,
        ),
        ([{"type": "websocket.close"}], 403, 0),
        (
            [
                {"type": "websocket.http.response.start", "status": 401},
                {"type": "websocket.http.response.body", "body": b"who?"},
            ],
            401,
            4,
        ),
    ],
)
def test_counts(messages: list[Message], status: int, size: int) -> None:
    """One status, and the bytes of the body; what goes through a WebSocket is no body."""
    tally = Tally()
    for message in messages:
        tally.note(message)
    assert (tally.status, tally.size) == (status, size)
    assert tally.seconds > 0
