"""What would allow a request under a model of one's own: found by trying it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from aggmw.contracts.authorization import Attributes, Change
from aggmw.middleware.authorization.casbin.changes import line
from aggmw.middleware.authorization.casbin.misses import Near
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.snapshot import Snapshot

__all__ = ["Trial", "tried_changes"]

Trial: TypeAlias = Callable[[Sequence[Row]], Snapshot | None]
"""The same model with other rows; None where these are a mistake."""

_MOST = 3
_ROWS = 2_000
_NEW = "new"


def tried_changes(
    snapshot: Snapshot, attributes: Attributes, nearest: Sequence[Near], rule: Row | None, trial: Trial
) -> tuple[Change, ...]:
    """Rows like the nearest ones that the request would match, memberships, and a rule that denies taken out.

    Each is tried on a policy of its own: only what does allow the request is told. Of large policies, and of models
    that call coroutine functions, nothing is.

    Args:
        rule: that denied it, if one did.
    """
    rows = snapshot.report.rows
    if len(rows) > _ROWS:
        return ()
    found: dict[tuple[str, ...], Change] = {}
    for change, added, gone in _candidates(nearest, rule):
        kept = [row for row in rows if row is not gone]
        changed = trial([*kept, *added])
        verdict = None if changed is None else changed.verdict(attributes)
        if verdict is not None and verdict.allowed:
            found.setdefault((*change.add, *change.remove), change)
        if len(found) == _MOST:
            break
    return tuple(found.values())


def _candidates(nearest: Sequence[Near], rule: Row | None) -> Iterator[tuple[Change, tuple[Row, ...], Row | None]]:
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
