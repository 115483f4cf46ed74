"""A policy of the model that ships as grants: what can be compared with others, whatever they are written in."""

from __future__ import annotations

from aggmw.contracts.grants import Grant, Granted, Set
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.snapshot import Snapshot

__all__ = ["granted", "mentioned"]


def granted(snapshot: Snapshot, privileged: frozenset[str]) -> Granted | None:
    """What it grants; None for a model of one's own, which may mean anything by its columns.

    Args:
        privileged: groups that are allowed everything before it is asked.
    """
    if not snapshot.report.shipped:
        return None
    roles: dict[str, list[str]] = {}
    for row in snapshot.report.rows:
        if row.ptype == "g":
            roles.setdefault(row[0], []).append(row[1])
    return Granted([_grant(row) for row in snapshot.report.rows if row.ptype != "g"], roles, privileged)


def mentioned(snapshot: Snapshot) -> frozenset[str]:
    """All texts of a policy that could be names of users or groups: whatever stands in a row."""
    return frozenset(text.removeprefix("user:").removeprefix("group:") for row in snapshot.report.rows for text in row)


def _grant(row: Row) -> Grant:
    subject, verbs, *rest = row
    denies = row[-1] == "deny"
    if row.ptype == "p2":
        return Grant(subject, str(row), denies, False, _texts(verbs), paths=_texts(rest[0]))
    group, resource, namespace, name = map(_texts, rest[:4])
    groups = None if group is None else frozenset("" if one == "core" else one for one in group)
    return Grant(subject, str(row), denies, True, _texts(verbs), groups, resource, namespace, name)


def _texts(column: str) -> Set:
    return None if column == "*" else frozenset(column.split("|"))
