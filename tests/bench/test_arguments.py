"""What may be asked of the benchmarks, and what is said of anything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.__main__ import CASES, USUAL, arguments


def test_usual_cases() -> None:
    """Without a case: the four points of throughput and latency, and what their microseconds are made of."""
    assert arguments([]).cases == list(USUAL) == ["P1", "P2", "P3", "P4", "micro"]


def test_all() -> None:
    """`all` is every case, once."""
    assert arguments(["p1", "all"]).cases == list(CASES)


def test_cases_in_any_spelling_and_order() -> None:
    """Cases are known by any spelling, and run in one order."""
    assert arguments(["MICRO", "p3", "P1", "p3"]).cases == ["P1", "P3", "micro"]


def test_json_and_rounds(tmp_path: Path) -> None:
    """Where figures go, and how often they are taken."""
    options = arguments(["P1", "--rounds", "3", "--json", str(tmp_path / "figures.json")])
    assert (options.rounds, options.json) == (3, tmp_path / "figures.json")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["P99"], "no such case: p99; the cases are P1, P2, P3, P3K, P4, micro, P5, P6, P7, P8, P11, P12, and all"),
        (["--rounds", "0"], "--rounds, --seconds, --mebibytes and --watches must be at least 1"),
        (["--rounds", "many"], "argument --rounds: invalid int value: 'many'"),
        (["--json", "/no/such/directory/x.json"], "--json: there is no directory /no/such/directory"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_mistakes(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake ends it before anything is started, with a line that says what is wrong."""
    with pytest.raises(SystemExit) as ended:
        arguments(given)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_help_says_what_is_measured_and_for_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    """--help lists every case, and which are run without one."""
    with pytest.raises(SystemExit):
        arguments(["--help"])
    shown = capsys.readouterr().out
    assert all(f"  {name:6} {text}" in shown for name, text in CASES.items())
    assert "Without a case: P1, P2, P3, P4, micro, in about five minutes" in shown
