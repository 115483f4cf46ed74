"""Status bodies (wire contract §0.2)."""

from __future__ import annotations

import json

from aggmw.errors import StatusError
from aggmw.objects.status import answer_of, qualified, status_answer, status_object


def test_shape() -> None:
    """The keys of metav1.Status, code and HTTP status agreeing, nosniff on every error."""
    answer = status_answer(404, "NotFound", 'widgets.example.com "w" not found', {"name": "w"})
    assert answer.status == 404
    assert json.loads(answer.body) == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'widgets.example.com "w" not found',
        "reason": "NotFound",
        "details": {"name": "w"},
        "code": 404,
    }
    assert (b"x-content-type-options", b"nosniff") in answer.headers
    assert (b"content-type", b"application/json") in answer.headers


def test_retry_after_is_in_body_and_header() -> None:
    """§0.2: a positive retryAfterSeconds is also sent as Retry-After."""
    answer = status_answer(429, "TooManyRequests", "later", {"retryAfterSeconds": 3})
    assert (b"retry-after", b"3") in answer.headers


def test_error_and_answer_agree() -> None:
    """A raised StatusError stands for exactly one answer."""
    error = StatusError(400, "BadRequest", "no", None, [(b"x", b"y")])
    answer = answer_of(error)
    assert answer.status == 400
    assert answer.headers[-1] == (b"x", b"y")


def test_the_object_alone() -> None:
    """A watch's `ERROR` event carries what an answer's body is."""
    arguments = (410, "Expired", "old", {"retryAfterSeconds": 3})
    assert json.loads(status_answer(*arguments).body) == status_object(*arguments)
    assert "details" not in status_object(410, "Expired", "old")


def test_qualified() -> None:
    """The core group adds nothing to a resource's name."""
    assert qualified("pods", "") == "pods"
    assert qualified("widgets", "example.com") == "widgets.example.com"
