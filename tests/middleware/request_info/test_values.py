"""Durations and selectors as Kubernetes reads them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.middleware.request_info.durations import seconds_of
from aggmw.objects.selectors import exact_name, is_label_selector


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("+0", 0),
        ("5s", 5),
        ("+5s", 5),
        ("-5s", -5),
        ("1m30s", 90),
        ("1h", 3600),
        ("1h1m1s", 3661),
        ("300ms", 0.3),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("1.s", 1),
        ("1us", 1e-6),
        ("1µs", 1e-6),
        ("1μs", 1e-6),
        ("7ns", 7e-9),
        ("1s1s", 2),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """`time.ParseDuration`: signed numbers with a unit each, in any order."""
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("-", 'time: invalid duration "-"'),
        ("s", 'time: invalid duration "s"'),
        (".", 'time: invalid duration "."'),
        (".s", 'time: invalid duration ".s"'),
        ("- 5s", 'time: invalid duration "- 5s"'),
        ("3", 'time: missing unit in duration "3"'),
        ("1m3", 'time: missing unit in duration "1m3"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("1 s", 'time: unknown unit " s" in duration "1 s"'),
        ("1S", 'time: unknown unit "S" in duration "1S"'),
        ("1e3s", 'time: unknown unit "e" in duration "1e3s"'),
        ("٣s", 'time: invalid duration "\\u0663s"'),
        ("9999999h", 'time: invalid duration "9999999h"'),
        ("x" * 99, f'time: invalid duration "{"x" * 64}\\u2026"'),
    ],
)
def test_bad_durations(text: str, message: str) -> None:
    """Go's messages, on one line and bounded."""
    with pytest.raises(ValueError, match="time: ") as refused:
        seconds_of(text)
    assert str(refused.value) == message


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_none(text: str) -> None:
    """Nothing but a number or a ValueError comes out."""
    with contextlib.suppress(ValueError):
        assert isinstance(seconds_of(text), float)


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ("metadata.name=a", "a"),
        ("metadata.name==a", "a"),
        ("metadata.name=a,", "a"),
        (",metadata.name=a", "a"),
        ("spec.x!=y,metadata.name=a", "a"),
        (r"spec.x=\,metadata.name\=b,metadata.name=a", "a"),
        (r"metadata.name=a\,b", "a,b"),
        (r"metadata.name=a\=b\\", "a=b\\"),
        ("", ""),
        ("metadata.name", ""),
        ("metadata.name=", ""),
        ("metadata.name===a", ""),
        ("metadata.name=a=b", ""),
        ("metadata.name!=a", ""),
        (" metadata.name=a", ""),
        ("xmetadata.name=a", ""),
        ("metadata.name=a,metadata.name=b", ""),
        ("metadata.name=a,x", ""),
        (r"metadata.name=a\b", ""),
        ("metadata.name=a\\", ""),
        (r"spec.x=\,metadata.name=b", ""),
        ("metadata.name=.", ""),
        ("metadata.name=..", ""),
        ("metadata.name=a/b", ""),
        ("metadata.name=a%", ""),
    ],
)
def test_exact_names(selector: str, name: str) -> None:
    """`fields.ParseSelector` and `RequiresExactMatch("metadata.name")`; in doubt there is no name."""
    assert exact_name(selector) == name


@pytest.mark.parametrize(
    "selector",
    [
        "",
        " ",
        "a",
        "!a",
        "! a",
        "a=b",
        "a==b",
        "a = b",
        "a!=b",
        "a=",
        "a in (b)",
        "a in(b, c)",
        "a notin (b,)",
        "a in ()",
        "a<5",
        "a > 5",
        "a=b,c",
        " a = b , !c ",
        "example.com/a=b",
        "a.b-c_d=1",
        "in=b",
        "a in (in)",
        "A=B",
        "a=b,a=c",
    ],
)
def test_label_selectors(selector: str) -> None:
    """`labels.Parse` takes these."""
    assert is_label_selector(selector)


@pytest.mark.parametrize(
    "selector",
    [
        "=",
        "a=b,",
        ",a",
        "a b",
        "a=b c",
        "a in b",
        "a in (b",
        "a in (b) c",
        "ain (b)",
        "(a)",
        "a=-b",
        "a=b-",
        "-a",
        "a<b",
        "!",
        "!a=b",
        "/a",
        "a/",
        "a//b",
        "a/b/c",
        "Example.com/a",
        "a=é",
        "é",
        "a" * 64,
        "a=" + "b" * 64,
        "a=b/c",
        "a=b;c",
        f"{'a' * 254}/b",
        "a\x0b=b",
    ],
)
def test_bad_label_selectors(selector: str) -> None:
    """`labels.Parse` takes none of these."""
    assert not is_label_selector(selector)


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="ab.=!,\\() in<5metadata.name", max_size=24))
def test_selectors_never_fail(selector: str) -> None:
    """Callers choose selectors: any text has an answer."""
    assert isinstance(exact_name(selector), str)
    assert is_label_selector(selector) in (True, False)


def test_selectors_are_linear() -> None:
    """A hostile selector costs time in proportion to its length (the test would hang)."""
    assert not is_label_selector("a=b," * 20_000 + "!")
    assert not is_label_selector("a" * 100_000 + "!")
    assert not is_label_selector(" " * 50_000 + "(")
    assert not is_label_selector("a in (" + "b," * 50_000)
    assert not is_label_selector("a." * 120 + "-/" + "b")
    assert exact_name("\\" * 100_001) == ""
    assert exact_name("metadata.name=" + "\\," * 50_000) == "," * 50_000
