"""Recovery: one id on every response, and a Status for whatever nobody caught."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggmw.asgi.types import Receive, Scope, Send
from aggmw.errors import MissingInput, StatusError
from aggmw.middleware.recovery import RecoveryMiddleware
from aggmw.middleware.recovery.request_ids import RequestIds
from aggmw.testing import Client, IncompleteResponse

SECRET = "s3cr3t-token"


def raising(error: Exception) -> RecoveryMiddleware:
    """An application that fails before it answered."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return RecoveryMiddleware(app)


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers 200 with an audit id of its own."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"audit-id", b"theirs")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def test_callers_audit_id_is_echoed_once() -> None:
    """§0.4: the request's own Audit-ID comes back, and the application's copy does not."""
    response = await Client(RecoveryMiddleware(fine)).request("GET", "/", headers=[(b"audit-id", b"abc-1")])
    assert [value for name, value in response.headers if name == b"audit-id"] == [b"abc-1"]


@pytest.mark.parametrize("given_id", [b"", b"x" * 65, b"a b", b'"', b"\xc3\xa9"])
async def test_unfit_audit_id_is_replaced(given_id: bytes) -> None:
    """Only 1 to 64 token characters are repeated; anything else gets an id of ours."""
    response = await Client(RecoveryMiddleware(fine)).request("GET", "/", headers=[(b"audit-id", given_id)])
    assert re.fullmatch(rb"[0-9a-f]{16}-[0-9a-f]{8}", response.header(b"audit-id") or b"")


@given(st.integers(1, 50))
def test_ids_are_unique(number: int) -> None:
    """No two requests of a process share an id, nor two processes."""
    ids, others = RequestIds(), RequestIds()
    assert len({maker.of(()) for _ in range(number) for maker in (ids, others)}) == 2 * number


async def test_unexpected_error_shows_nothing() -> None:
    """A fault is 500 with the request's id and not a word of the fault."""
    response = await Client(raising(RuntimeError(SECRET))).request("GET", "/", headers=[(b"audit-id", b"id-7")])
    assert response.status == 500
    assert response.json()["reason"] == "InternalError"
    assert response.json()["message"] == "Internal error occurred: the request failed; its id is id-7"
    assert SECRET.encode() not in response.body


async def test_missing_stage_names_both() -> None:
    """Rule 3: a stage without its input is 500 naming both stages, never an anonymous guest."""
    response = await Client(raising(MissingInput("authorization", "an identity", "authentication"))).request("GET", "/")
    assert response.status == 500
    assert "put authentication in front of authorization" in response.json()["message"]


async def test_status_error_is_its_answer() -> None:
    """An error that is meant for the client arrives as it is."""
    response = await Client(raising(StatusError(418, "Teapot", "short and stout"))).request("GET", "/")
    assert (response.status, response.json()["message"]) == (418, "short and stout")


async def test_failure_after_the_head_cuts_the_response() -> None:
    """When the response began, it is not completed and nothing reaches the server's error log."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError(SECRET)

    async with Client(RecoveryMiddleware(app)).stream("GET", "/") as response:
        assert response.status == 200
        with pytest.raises(IncompleteResponse):
            await response.read()


async def test_warnings_reach_the_head() -> None:
    """Texts collected inside become `Warning: 299` fields, quotes escaped, controls gone."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["aggmw.exchange"].warnings.append('say "this"\r\nX-Evil: 1')
        await fine(scope, receive, send)

    response = await Client(RecoveryMiddleware(app)).request("GET", "/")
    assert response.header(b"warning") == b'299 - "say \\"this\\"  X-Evil: 1"'
