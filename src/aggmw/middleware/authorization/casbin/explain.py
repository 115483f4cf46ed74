"""Why a verdict is what it is: computed when somebody asks, from the snapshot that decided."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace

from aggmw.contracts.authorization import Attributes, Explanation, Verdict
from aggmw.middleware.authorization.casbin.changes import changes
from aggmw.middleware.authorization.casbin.closures import Closures, Pending, Uncompilable
from aggmw.middleware.authorization.casbin.inputs import Names, text_of, unfit
from aggmw.middleware.authorization.casbin.misses import near, told
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.snapshot import Snapshot
from aggmw.middleware.authorization.casbin.trials import Trial, tried_changes

__all__ = ["explain"]


def explain(
    snapshot: Snapshot, attributes: Attributes, verdict: Verdict, rule: Row | None, trial: Trial
) -> Explanation:
    """The explanation of a verdict that this snapshot gave, by this rule. Takes longer the more rules there are.

    Args:
        trial: makes snapshots of other rows.
    """
    ways: tuple[tuple[str, ...], ...] = ()
    if rule is not None:
        tree = snapshot.report.matchers[snapshot.suffix(attributes)].tree
        ways = tuple(way for way in _ways(tree, snapshot, attributes, rule) if len(way) > 1)
    decided = Explanation(verdict, "" if rule is None else str(rule), ways, revision=snapshot.revision)
    if verdict.allowed:
        return decided
    if unfit(attributes, text_of(attributes)):
        why = "the request holds control characters, or a / inside a name: no rule is for those, so write it without"
        return replace(decided, note=why)
    nearest = near(snapshot, attributes) if snapshot.has_rules else []
    if snapshot.report.shipped:
        changed = changes(snapshot, attributes, nearest)
    else:
        changed = tried_changes(snapshot, attributes, nearest, rule, trial)
    if not snapshot.has_rules:
        return replace(decided, changes=changed, note="the policy has no rule, so everything is denied")
    allowing = next((one.rule for one in nearest if not one.differences), None)
    if allowing is not None:
        return replace(decided, changes=changed, note=f"without that, this rule would allow it: {allowing}")
    return replace(decided, misses=told(nearest), changes=changed)


def _ways(tree: ast.expr, snapshot: Snapshot, attributes: Attributes, rule: Row) -> Iterator[tuple[str, ...]]:
    """How the request comes by each role that a matcher looks up for the rule."""
    request = [*snapshot.values(attributes), {}]
    closures = Closures(snapshot.scope(snapshot.suffix(attributes)))
    for node in ast.walk(tree):
        try:
            match node:
                case ast.Call(func=ast.Name(id=name), args=[held, role, *domain]) if name in snapshot.graphs:
                    names, *texts = [closures.value(one)(request, rule) for one in (held, role, *domain)]
                    yield snapshot.graphs[name].way(names, *map(str, texts))
                case ast.Compare(left=ast.Name() as role, ops=[ast.In()], comparators=[ast.Name() as held]):
                    names = closures.value(held)(request, rule)
                    if "g" in snapshot.graphs and isinstance(names, Names):
                        yield snapshot.graphs["g"].way(tuple(names.own()), str(closures.value(role)(request, rule)))
        except (Uncompilable, Pending):
            continue  # what has to be awaited, or casbin alone can evaluate, is not shown
