"""The Autobahn cases through a front proxy end as straight at the server behind it; what differs is on a page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "reference" / "websockets.md"
SECONDS = 180
GROUPS = {"1": 16, "2": 11, "3": 7, "4": 10, "5": 20, "6": 145, "7": 37, "10": 1}

Found = dict[str, list[str]]


@pytest.fixture(scope="module")
def found() -> dict[str, Found]:
    """All cases, three times, in some fifteen seconds."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.conformance.autobahn"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Found] = json.loads(done.stdout.splitlines()[-1])
    return results


def on_the_page(heading: str) -> set[str]:
    """The cases in the first column of the table under a heading."""
    section = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d[^|]*)\|", section, flags=re.MULTILINE)
    return {case.strip() for row in rows for case in row.split(",")}


@pytest.mark.parametrize("how", ["straight", "proxied", "backend"])
def test_all_cases_ran(found: dict[str, Found], how: str) -> None:
    """Groups 1 to 7 and 10, none left out."""
    counts: dict[str, int] = {}
    for case in found[how]:
        group = case.partition(".")[0]
        counts[group] = counts.get(group, 0) + 1
    assert counts == GROUPS


def test_through_the_proxy_as_straight(found: dict[str, Found]) -> None:
    """Each case ends in the same class, but those on the page, which are as good as conforming there, too."""
    straight, proxied = found["straight"], found["proxied"]
    excepted = on_the_page("Autobahn cases")
    assert {case for case in straight if proxied[case] != straight[case]} <= excepted
    assert excepted <= set(straight)
    for case in excepted:
        assert proxied[case][0] in ("OK", "NON-STRICT")
        assert proxied[case][1] == "OK"


@pytest.mark.parametrize("how", ["proxied", "backend"])
def test_nothing_fails(found: dict[str, Found], how: str) -> None:
    """At the door, and at its client before a server that sends whatever is wrong, no case fails."""
    passing = {"OK", "NON-STRICT", "INFORMATIONAL"}
    assert {case: each for case, each in found[how].items() if not passing.issuperset(each)} == {}
