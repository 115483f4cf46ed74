"""In what a rule of a model of one's own differs from a request: condition by condition, as the matcher has them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from aggmw.contracts.authorization import Attributes
from aggmw.middleware.authorization.casbin.closures import Closures, Pending, Uncompilable
from aggmw.middleware.authorization.casbin.differences import Difference, distance
from aggmw.middleware.authorization.casbin.functions import Unmatchable
from aggmw.middleware.authorization.casbin.index import Request
from aggmw.middleware.authorization.casbin.inputs import SETS, Names
from aggmw.middleware.authorization.casbin.matcher import field_of, shown
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.snapshot import Snapshot

__all__ = ["own_model"]


def own_model(snapshot: Snapshot, attributes: Attributes) -> Callable[[Row], tuple[Difference, ...] | None]:
    """Compares by the conditions of the matcher, one by one; of alternatives, by the one that is nearest."""
    suffix = snapshot.suffix(attributes)
    tree = snapshot.report.matchers[suffix].tree
    request: Request = [*snapshot.values(attributes), {}]
    ways = [[_Part(snapshot, suffix, part) for part in _operands(way, ast.And)] for way in _operands(tree, ast.Or)]

    def compare(row: Row) -> tuple[Difference, ...]:
        tried = (tuple(part.difference(request, row) for part in way if not part.holds(request, row)) for way in ways)
        return min(tried, key=lambda some: sum(one.cost for one in some))

    return compare


def _operands(node: ast.expr, operator: type[ast.boolop]) -> Sequence[ast.expr]:
    return node.values if isinstance(node, ast.BoolOp) and isinstance(node.op, operator) else [node]


class _Part:
    """One condition of a matcher."""

    def __init__(self, snapshot: Snapshot, suffix: str, node: ast.expr) -> None:
        self._snapshot = snapshot
        self._node = node
        self._closures = Closures(snapshot.scope(suffix))
        self._test = self._value(node)

    def _value(self, node: ast.expr) -> Callable[[Request, Row], object]:
        try:
            return self._closures.value(node)
        except Uncompilable:
            return lambda r, p: None

    def holds(self, request: Request, row: Row) -> bool:
        """Whether it does; what cannot be evaluated does not."""
        return bool(self._tried(self._test, request, row))

    def _tried(self, test: Callable[[Request, Row], object], request: Request, row: Row) -> object:
        try:
            return test(request, row)
        except (Pending, Unmatchable):
            return None
        except Exception:  # noqa: BLE001  whatever a function or a comparison raised, the rule does not match
            return None

    def difference(self, request: Request, row: Row) -> Difference:
        """How the request differs, knowing that it does."""
        node = self._node
        match node:
            case ast.Call(func=ast.Name(id=name), args=[held, role, *domain]) if name in self._snapshot.graphs:
                return self._member(request, row, held, role, domain, name)
            case ast.Compare(left=left, ops=[ast.In()], comparators=[held]) if _field_name(held) in SETS:
                return self._member(request, row, held, left, (), "g")
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
                pair = (left, right) if (field_of(left) or "").startswith("r") else (right, left)
                return self._pair(request, row, *pair)
            case ast.Call(args=[value, pattern]) if self._closures.column(pattern) >= 0:
                return self._pair(request, row, value, pattern)
        return self._whole(request, row)

    def _whole(self, request: Request, row: Row) -> Difference:
        """Of a condition of which no more is known than what it names; no row can change what names none of them."""
        rule = self._fields("p", request, row)
        return Difference(shown(self._node), rule, self._fields("r", request, row), 1.5 if rule else 2.0)

    def _pair(self, request: Request, row: Row, value: ast.expr, pattern: ast.expr) -> Difference:
        """Of a field of the request and a column."""
        field, column = field_of(value), self._closures.column(pattern)
        if field is None or column < 0:
            return self._whole(request, row)
        asked = self._tried(self._value(value), request, row)
        text = asked if isinstance(asked, str) else _listed(asked)
        far = distance(row[column], text) if field.endswith(("path", "obj", "resource")) else 1.0
        known = asked if isinstance(asked, str) else ""
        return Difference(_field_name(value), row[column], text or "none", far, column, known)

    def _member(
        self, request: Request, row: Row, held: ast.expr, role: ast.expr, domain: Sequence[ast.expr], graph: str
    ) -> Difference:
        """Of the caller's names and what the rule is about."""
        names = self._tried(self._value(held), request, row)
        wanted = str(self._tried(self._value(role), request, row))
        column, caller = self._closures.column(role), _listed(names)
        within = tuple(str(self._tried(self._value(one), request, row)) for one in domain)
        name = names if isinstance(names, str) else f"user:{caller}" if _field_name(held) == "subjects" else ""
        membership = (graph, name, wanted, *within) if name and graph in self._snapshot.graphs else ()
        kind, _, called = wanted.partition(":")
        if kind in ("user", "group") and not isinstance(names, str):
            return Difference(kind, called, caller, 1.5, column, name)
        shown_role = " in ".join((wanted, *within))
        return Difference("role", shown_role, caller, 1.5, column, name, membership)

    def _fields(self, letter: str, request: Request, row: Row) -> str:
        """The values of the fields that a condition names."""
        values = {}
        for node in ast.walk(self._node):
            field = field_of(node)
            if field is not None and field.startswith(letter) and isinstance(node, ast.expr):
                values[field] = _listed(self._tried(self._value(node), request, row))
        return ", ".join(f"{field}={value}" for field, value in values.items())


def _field_name(node: ast.expr) -> str:
    return (field_of(node) or "").partition(".")[2]


def _listed(value: object) -> str:
    """A value for people: of a caller's names, the first, which is the user's."""
    if isinstance(value, str):
        return value
    if isinstance(value, Names):
        own = sorted(value.own())
        users = [one.removeprefix("user:") for one in own if one.startswith("user:")]
        return users[0] if users else ", ".join(own) or "nobody"
    return str(value)
