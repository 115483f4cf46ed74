"""Rules that people wrote: all those of the Gateway API's definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aggmw.objects.cel import compile  # noqa: A004

_RULES: list[str] = json.loads((Path(__file__).parent / "gateway-api-rules.json").read_bytes())


@pytest.mark.parametrize("rule", _RULES, ids=range(len(_RULES)))
def test_compiles(rule: str) -> None:
    """Every function and macro in them exists."""
    assert str(compile(rule, {"self": "dyn", "oldSelf": "dyn"}).type) in ("bool", "dyn")


def test_there_are_many() -> None:
    """The file is there."""
    assert len(_RULES) > 70


@pytest.mark.parametrize(
    ("rule", "value", "holds"),
    [
        ("self.all(h, !isIP(h))", ["example.com"], True),
        ("self.all(h, !isIP(h))", ["example.com", "10.0.0.1"], False),
        ("self.all(l1, self.exists_one(l2, l1.name == l2.name))", [{"name": "a"}, {"name": "b"}], True),
        ("self.all(l1, self.exists_one(l2, l1.name == l2.name))", [{"name": "a"}, {"name": "a"}], False),
        ("has(self.a) ? size(self.a) > 0 : true", {}, True),
        ("!(has(self.group) && self.group != '') || self.kind == 'X'", {"group": "g", "kind": "Y"}, False),
    ],
)
def test_decides(rule: str, value: Any, holds: bool) -> None:
    """Forms that such rules have, with values that they are for and against."""
    assert compile(rule, {"self": "dyn"}).evaluate(self=value) is holds
