"""The tables of `docs/reference/servers.md`, made of what the tests expect.

`python -m tests.servers.page` prints them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tests.servers.behaviours import BEHAVIOURS
from tests.servers.corpus import GROUPS, Case
from tests.servers.expected import DIFFERENCES, OTHER_BEHAVIOURS
from tests.servers.processes import SERVERS

__all__ = ["behaviours", "counts", "framing", "versions"]

ROOT = Path(__file__).parents[2]
CASES: dict[str, Case] = {name: case for group in GROUPS.values() for name, case in group.items()}
PACKAGES = {
    "door": ("uvicorn", "httptools"),
    "uvicorn-httptools": ("uvicorn", "httptools"),
    "uvicorn-h11": ("uvicorn", "h11"),
    "uvicorn-zttp": ("uvicorn", "zttp"),
    "granian": ("granian",),
    "hypercorn": ("hypercorn", "h11"),
}


def versions() -> str:
    """Which versions the tests run with."""
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text().lower(), re.MULTILINE))
    rows = [(name, ", ".join(f"{package} {pins[package]}" for package in PACKAGES[name])) for name in SERVERS]
    return _table(("server", "versions"), rows)


def behaviours() -> str:
    """What each server does of what a front proxy needs; "✓" where it is what the door does."""
    rows = []
    for name, (_, right) in BEHAVIOURS.items():
        others = OTHER_BEHAVIOURS.get(name, {})
        rows.append((name, right, *[others.get(server, "✓") for server in _others()]))
    return _table(("what is tried", *SERVERS), rows)


def framing() -> str:
    """The requests that not all servers treat as the door does; "✓" where one does."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, outcomes in DIFFERENCES.items():
        key = (CASES[name].outcome, *[outcomes.get(server, "✓") for server in _others()])
        alike.setdefault(key, []).append(_code(name))
    return _table(("request", *SERVERS), [("; ".join(names), *key) for key, names in alike.items()])


def counts() -> str:
    """How many requests there are, in words."""
    same = [case.outcome for name, case in CASES.items() if name not in DIFFERENCES]
    return (
        f"Of {len(CASES)} requests, all servers forward {same.count('200')} alike and refuse"
        f" {len(same) - same.count('200')} with the same code. The table has the others."
    )


def _others() -> list[str]:
    return [name for name in SERVERS if name != "door"]


def _code(name: str) -> str:
    """Bytes in a name as code."""
    return re.sub(r"b('.*'|\".*\")$", lambda found: f"`{found[1][1:-1]}`" if found[1][1:-1] else "nothing", name)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(versions(), behaviours(), counts(), framing(), sep="\n\n")
