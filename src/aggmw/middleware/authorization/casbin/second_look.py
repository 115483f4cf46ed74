"""What of a policy is worth a second look, and too much to say each time it is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from aggmw.contracts.grants import Granted
from aggmw.errors import Problem
from aggmw.middleware.authorization.analysis.regions import TooMuch
from aggmw.middleware.authorization.analysis.shadows import shadowed, unheld
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.snapshot import Snapshot

__all__ = ["second_look"]

_UNKNOWN = frozenset({"user:system:anonymous", "group:system:unauthenticated"})


def second_look(snapshot: Snapshot, granted: Granted | None, name: str) -> Iterator[Problem]:
    """Rules that change nothing, roles that nobody can have, and what gives more than it seems to.

    Args:
        snapshot: the policy.
        granted: what it grants; None for models of one's own, of which no more is known than their warnings say.
        name: of the policy.
    """
    if not snapshot.has_rules:
        yield Problem(name, "has no rule: everything is denied")
    if granted is None:
        return
    rows = snapshot.report.rows
    for row in rows:
        for text in _texts(row, granted.privileged):
            yield Problem(row.where, text)
    yield from _roles(rows, unheld(granted))
    try:
        for shadow in shadowed(granted):
            yield Problem(shadow.rule.partition(": ")[0], shadow.text)
    except TooMuch as error:
        yield Problem(rows[0].where, f"rules that change nothing were not looked for: {error}")


def _texts(row: Row, privileged: frozenset[str]) -> Iterator[str]:
    kind, _, name = row[0].partition(":")
    if kind == "group" and name in privileged:
        verb = "is about" if row.ptype != "g" else "gives a role to"
        yield f"{verb} {row[0]}, whose members are allowed everything before any rule is asked"
    if row.ptype == "g" or row[-1] == "deny":
        return
    if row.ptype == "p" and row[0] in _UNKNOWN:
        yield f"allows callers whom nobody knows ({row[0]}) to {row[1]} {row[3]}"
    if row.ptype == "p" and row[1:6] == ("*",) * 5:
        yield f"allows {row[0]} everything"
    if row.ptype == "p2":
        for path in row[2].split("|"):
            if path.endswith("*") and not path.endswith("/*") and path != "*":
                plain = path[:-1]
                yield f"covers {plain}OTHER too, by {path}: write {plain}|{plain}/* for {plain} and what is below it"


def _roles(rows: list[Row], nobody: list[str]) -> Iterator[Problem]:
    """Roles whose members are such roles only; those without any member are warned of when a policy is loaded."""
    for role in nobody:
        given = next((row for row in rows if row.ptype == "g" and row[1] == role), None)
        if given is not None:
            yield Problem(given.where, f"gives {role} to {given[0]}, and that can be had by nobody")
