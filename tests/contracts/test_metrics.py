"""Samples: only what a page can show."""

from __future__ import annotations

from typing import Any

import pytest

from aggmw.contracts.metrics import Sample


@pytest.mark.parametrize(
    ("name", "kind", "labels"),
    [
        ("x-y", "gauge", ()),
        ("", "gauge", ()),
        ("1x", "gauge", ()),
        ("x\ny", "gauge", ()),
        ("x", "counter", ()),
        ("x_total", "gauge", ()),
        ("x", "gauge", (("a b", "c"),)),
    ],
)
def test_names(name: str, kind: Any, labels: Any) -> None:
    """A name that Prometheus would not take would cost the whole page: it is refused where it is made."""
    with pytest.raises(ValueError, match="name"):
        Sample(name, "help", kind, labels, 1)


def test_values_are_free() -> None:
    """Only label values are texts."""
    assert Sample("x_total", "help", "counter", (("a", 'b\n"c'),), 1).labels == (("a", 'b\n"c'),)
