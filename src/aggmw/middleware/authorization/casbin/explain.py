"""Why a verdict is what it is: computed when somebody asks, from the snapshot that decided."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from aggmw.contracts.authorization import Attributes, Verdict
from aggmw.middleware.authorization.casbin.closures import Closures
from aggmw.middleware.authorization.casbin.inputs import Names
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.snapshot import Snapshot

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict and where it comes from.

    Attributes:
        verdict: the verdict.
        rule: the rule that decided, `file:line: p, …`; empty where none did.
        ways: for each role that the rule is about, how the request comes by it: the caller's name first, the role last.
    """

    verdict: Verdict
    rule: str = ""
    ways: tuple[tuple[str, ...], ...] = ()


def explain(snapshot: Snapshot, attributes: Attributes, verdict: Verdict, rule: Row | None) -> Explanation:
    """The explanation of a verdict that this snapshot gave, by this rule."""
    if rule is None:
        return Explanation(verdict)
    suffix = snapshot.suffix(attributes)
    request = snapshot.values(attributes)
    closures = Closures(snapshot.scope(suffix))
    ways = []
    for node in ast.walk(snapshot.report.matchers[suffix].tree):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[held, role, *domain]) if name in snapshot.graphs:
                values = [closures.value(one)(request, rule) for one in (held, role, *domain)]
                way = snapshot.graphs[name].way(values[0], *map(str, values[1:]))
            case ast.Compare(left=ast.Name() as role, ops=[ast.In()], comparators=[ast.Name() as held]):
                names = closures.value(held)(request, rule)
                if "g" not in snapshot.graphs or not isinstance(names, Names):
                    continue
                way = snapshot.graphs["g"].way(tuple(names.own()), str(closures.value(role)(request, rule)))
            case _:
                continue
        if len(way) > 1:
            ways.append(way)
    return Explanation(verdict, str(rule), tuple(ways))
