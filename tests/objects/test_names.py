"""Which names are names."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.work import measured

from aggmw.objects.names import is_group, is_kind, is_resource, is_service, is_subresource, is_version, is_word

CASES: list[tuple[Callable[[object], bool], list[str], list[object]]] = [
    (is_group, ["apps", "a.b-c.d", "0a"], ["", "A", "a..b", ".a", "a-", "a_b", "a" * 254, None, b"a"]),
    (is_version, ["v1", "v2alpha1"], ["", "1", "v1-", "V1", "v" * 64, 1]),
    (is_service, ["s", "0"], ["", "a.b", "-a", "a" * 64]),
    (is_resource, ["pods", "Pods", "a.b_c"], ["", "a/b", "../x", "a ", "a\n", "é", ["a"]]),
    (is_subresource, ["log", "a/b/c"], ["", "/a", "a//b", "..", "a/b/c/d/e"]),
    (is_kind, ["Pod", "pod2"], ["", "2Pod", "Po d", "Pod\u2028", {}]),
    (is_word, ["get", "a:b", "x.y-z_1"], ["", "-a", "a" * 64, "\x1b[31m"]),
]


@pytest.mark.parametrize(("check", "good", "bad"), CASES, ids=[check.__name__ for check, _, _ in CASES])
def test_names(check: Callable[[object], bool], good: list[str], bad: list[object]) -> None:
    """As Kubernetes has them; whatever is no text is no name."""
    assert [each for each in good if not check(each)] == []
    assert [each for each in bad if check(each)] == []


@pytest.mark.parametrize("check", [check for check, _, _ in CASES])
def test_long_names_cost_nothing(check: Callable[[object], bool]) -> None:
    """Names come from backends: none of them holds anybody up."""
    with measured() as work:
        for text in ("a" * 100_000, "a-" * 50_000, "a." * 50_000, "a/" * 50_000 + "!"):
            assert not check(text)
    assert work.seconds < 0.5
