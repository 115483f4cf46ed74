"""`docs/reference/servers.md` shows what the tests expect. `python -m tests.servers.page` prints its tables."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.docs.pages import DOCS
from tests.servers import page
from tests.servers.processes import SERVERS

PAGE = (DOCS / "reference" / "servers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("part", [page.versions, page.behaviours, page.counts, page.framing])
def test_the_page_shows_the_tables(part: Callable[[], str]) -> None:
    """Each table and figure of the page is that of the tests."""
    assert part() in PAGE


def test_each_server_is_explained() -> None:
    """How it is started, as the tests start it."""
    for name, command in SERVERS.items():
        assert f"| {name} | `" in PAGE
        if "--http" in command:
            assert f"--http {command[command.index('--http') + 1]}`" in PAGE
