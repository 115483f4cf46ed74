"""What would allow a request under a model of one's own: found by trying it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from aggmw.contracts.authorization import Attributes, Change
from aggmw.middleware.authorization.casbin.changes import line
from aggmw.middleware.authorization.casbin.misses import Near
from aggmw.middleware.authorization.casbin.own_model import own_model
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.snapshot import Snapshot

__all__ = ["Trial", "tried_changes"]

Trial: TypeAlias = Callable[[Sequence[Row]], Snapshot | None]
"""The same model with other rows; None where these are a mistake."""

_MOST = 3
_ROWS = 2_000
_NEW = "new"
_NOBODYS = "\N{REPLACEMENT CHARACTER}"  # what no request says
_USUAL = {"eft": "allow", "priority": "1"}
_PATTERN = re.compile(r"[*?+|^$\\()\[\]{}]|^/.*:")  # what might stand for more than itself
_Candidate: TypeAlias = tuple[Change, tuple[Row, ...], Row | None]


def tried_changes(
    snapshot: Snapshot, attributes: Attributes, nearest: Sequence[Near], rule: Row | None, trial: Trial
) -> tuple[Change, ...]:
    """Rows like the nearest ones that the request would match, memberships, and a rule that denies taken out; or, where
    none of them is enough, a row about just this request.

    Each is tried on a policy of its own: only what does allow the request is told. Of large policies, and of models
    that call coroutine functions, nothing is.

    Args:
        rule: that denied it, if one did.
    """
    rows = snapshot.report.rows
    if len(rows) > _ROWS:
        return ()
    found: dict[tuple[str, ...], Change] = {}

    def enough(some: Iterable[_Candidate]) -> None:
        for change, added, gone in some:
            kept = [row for row in rows if row is not gone]
            changed = trial([*kept, *added])
            verdict = None if changed is None else changed.verdict(attributes)
            if verdict is not None and verdict.allowed:
                found.setdefault((*change.add, *change.remove), change)
            if len(found) == _MOST:
                break

    enough(_candidates(nearest, rule))
    if not found:
        enough(_own_row(snapshot, attributes))
    return tuple(found.values())


def _own_row(snapshot: Snapshot, attributes: Attributes) -> Iterator[_Candidate]:
    """A row that says what the request says, as far as the matcher shows which column that would be."""
    ptype = f"p{snapshot.suffix(attributes)}"
    names = snapshot.model.definitions[ptype].columns
    columns = [_USUAL.get(name, "") for name in names]
    for one in own_model(snapshot, attributes)(Row(tuple(_NOBODYS for _ in names), ptype, _NEW)) or ():
        if one.column < 0 or not one.value or _PATTERN.search(one.value):
            return
        columns[one.column] = one.value
    if all(columns):
        change = Change("add a rule for just this", (line(columns, ptype),))
        yield change, (Row(tuple(columns), ptype, _NEW),), None


def _candidates(nearest: Sequence[Near], rule: Row | None) -> Iterator[_Candidate]:
    if rule is not None:
        yield Change(f"take out the rule that denies it ({rule.where}), or narrow it", remove=(str(rule),)), (), rule
    for near in nearest:
        columns = list(near.rule)
        for one in near.differences:
            if one.column < 0 or not one.value:
                break
            columns[one.column] = one.value
        else:
            if near.differences:
                text = line(columns, near.rule.ptype)
                change = Change(f"add a rule like that at {near.rule.where}, and as wide as that", (text,))
                yield change, (Row(tuple(columns), near.rule.ptype, _NEW),), None
        if len(near.differences) == 1 and near.differences[0].membership:
            ptype, *names = near.differences[0].membership
            change = Change(f"make {names[0]} a member of {' in '.join(names[1:])}", (line(names, ptype),))
            yield change, (Row(tuple(names), ptype, _NEW),), None
