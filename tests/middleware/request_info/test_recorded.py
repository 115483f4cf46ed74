"""Requests that real clients sent must parse, and to what their commands mean.

`recorded.txt` holds each distinct method and target (74) of 504 requests recorded from kubectl 1.37.1 and helm 4.3.1,
with a command behind it. What is expected of those was filled in by a pattern per shape of path, apart from the parser,
and then read through. The last 19 lines are no recordings: target and expectation were written by hand after wire
contract §11.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from aggmw.middleware.request_info import parse

CASES = [
    line.split("\t")
    for line in (Path(__file__).parent / "recorded.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]}")
def test_recorded_requests(case: list[str]) -> None:
    """§11: nothing that real clients send is refused, and each is authorised as what it is."""
    method, target, verb, where, *_ = case
    path, _, query = target.encode().partition(b"?")
    info = parse(method, path, query)
    assert info.verb == verb
    assert info.target == target.encode()
    if where == "-":
        assert not info.is_resource
    else:
        group = f".{info.api_group}" if info.api_group else ""
        subresource = f"/{info.subresource}" if info.subresource else ""
        assert f"{info.namespace}:{info.resource}{group}{subresource}:{info.name}" == where
    assert (info.timeout is None) == info.long_running


def test_recording_is_whole() -> None:
    """The file is not cut off."""
    assert len(CASES) > 80
