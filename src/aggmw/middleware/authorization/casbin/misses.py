"""The rules that nearly allowed a request: in what each of them differs from it, the nearest first."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from heapq import nsmallest
from typing import NamedTuple

from aggmw.contracts.authorization import Attributes, Miss
from aggmw.middleware.authorization.casbin import functions
from aggmw.middleware.authorization.casbin.closures import Closures, Pending, Uncompilable
from aggmw.middleware.authorization.casbin.index import Request
from aggmw.middleware.authorization.casbin.inputs import Names
from aggmw.middleware.authorization.casbin.matcher import field_of, shown
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.snapshot import Snapshot

__all__ = ["Difference", "Near", "caller_subjects", "covers", "near", "request_values", "told"]

_MOST = 5
_FAR = 4.0
_BEHIND = 1.0  # how much farther than the nearest another one may be
_ALIKE = 0.75


class Difference(NamedTuple):
    """One thing in which a rule and a request differ.

    Attributes:
        what: its name, as in `Miss.differs`.
        rule, request: what each has.
        cost: how far that is: a wrong verb is nearer than another resource.
        column: the rule's column that would have to say something else; -1 for none.
    """

    what: str
    rule: str
    request: str
    cost: float = 1.0
    column: int = -1


class Near(NamedTuple):
    """A rule that allows, and all in which the request differs from it."""

    rule: Row
    differences: tuple[Difference, ...]

    @property
    def cost(self) -> float:
        return sum(one.cost for one in self.differences)


def near(snapshot: Snapshot, attributes: Attributes) -> list[Near]:
    """The rules nearest to a request that none of them allows; those that match it, if any do, come first."""
    key = f"p{snapshot.suffix(attributes)}"
    columns = snapshot.model.definitions[key].columns
    effect = columns.index("eft") if "eft" in columns else -1
    rows = [row for row in snapshot.report.rows if row.ptype == key and (effect < 0 or row[effect] == "allow")]
    compare = _shipped(snapshot, attributes) if snapshot.report.shipped else _own(snapshot, attributes)
    compared = (Near(row, found) for row in rows if (found := compare(row)) is not None)
    nearest = nsmallest(_MOST, (one for one in compared if one.cost <= _FAR), key=lambda one: one.cost)
    return [one for one in nearest if one.cost <= nearest[0].cost + _BEHIND]


def told(some: Iterable[Near]) -> tuple[Miss, ...]:
    """The same for whoever asked why."""
    return tuple(
        Miss(str(one.rule), tuple((each.what, each.rule, each.request) for each in one.differences)) for one in some
    )


# The model that ships


def caller_subjects(snapshot: Snapshot, attributes: Attributes) -> frozenset[str]:
    """The caller's own names, and every role of these."""
    own = [f"user:{attributes.identity.user}", *(f"group:{group}" for group in attributes.identity.groups)]
    return frozenset(own).union(*(snapshot.graphs["g"].roles_of(name) for name in own))


def request_values(attributes: Attributes) -> tuple[str, ...]:
    """What a rule's columns after the subject would say to match the request and little else; "" where that is `*`."""
    if not attributes.is_resource:
        return (attributes.verb, attributes.path)
    resource, below = attributes.resource, attributes.subresource
    return (
        attributes.verb,
        attributes.api_group or "core",
        f"{resource}/{below}" if below else resource,
        attributes.namespace,
        attributes.name,
    )


def _shipped(snapshot: Snapshot, attributes: Attributes) -> Callable[[Row], tuple[Difference, ...] | None]:
    """Compares by the columns, which have a meaning that is known."""
    subjects, user = caller_subjects(snapshot, attributes), attributes.identity.user

    def compare(row: Row) -> tuple[Difference, ...] | None:
        found = list(_about(row, attributes))
        if row[0] not in subjects:
            kind, _, name = row[0].partition(":")
            if set(row[1:-1]) == {"*"}:
                return None  # that administrators may do everything helps nobody else
            who = Difference(kind, row[0] if kind == "role" else name, user, 2.5 if kind == "user" else 1.5, 0)
            found.insert(0, who)
        return tuple(found)

    return compare


def covers(row: Row, attributes: Attributes) -> bool:
    """Whether a rule is about a request, whoever makes it."""
    return next(_about(row, attributes), None) is None


def _about(row: Row, attributes: Attributes) -> Iterator[Difference]:
    """In what a rule and a request differ besides whom they concern."""
    verb, *values = request_values(attributes)
    if not functions.one_of(row[1])(verb):
        yield Difference("verb", row[1], verb, 1.2, 1)
    if not attributes.is_resource:
        if not functions.path_match(row[2])(values[0]):
            yield Difference("path", row[2], values[0], _distance(row[2], values[0]), 2)
        return
    group, resource, namespace, name = values
    if not functions.api_group_match(row[2])(attributes.api_group):
        yield Difference("apiGroup", row[2], group, 1.5, 2)
    if not functions.resource_match(row[3])(attributes.resource, attributes.subresource):
        yield Difference("resource", row[3], resource, _distance(row[3], resource), 3)
    if not functions.one_of(row[4])(namespace):
        yield Difference("namespace", row[4], namespace or "none: it is for all namespaces, or the cluster", 1.0, 4)
    if not functions.one_of(row[5])(name):
        yield Difference("name", row[5], name or "none: it is for no object in particular", 1.0, 5)


def _distance(pattern: str, value: str) -> float:
    """How far a pattern's nearest alternative is from a value: another subresource, or a slip of the pen, is near."""
    for one in pattern.split("|"):
        if one.partition("/")[0] == value.partition("/")[0] != "" or one.rstrip("*/") == value.rstrip("/"):
            return 1.0
        if SequenceMatcher(None, one, value).ratio() >= _ALIKE:
            return 1.0
    return 2.0


# Models of one's own


def _own(snapshot: Snapshot, attributes: Attributes) -> Callable[[Row], tuple[Difference, ...] | None]:
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
        except (Pending, functions.Unmatchable):
            return None
        except Exception:  # noqa: BLE001  whatever a function or a comparison raised, the rule does not match
            return None

    def difference(self, request: Request, row: Row) -> Difference:
        """How the request differs, knowing that it does."""
        node = self._node
        match node:
            case ast.Call(func=ast.Name(id=name), args=[held, role, *domain]) if name in self._snapshot.graphs:
                return self._member(request, row, held, role, domain)
            case ast.Compare(left=left, ops=[ast.In()], comparators=[held]) if self._set(held):
                return self._member(request, row, held, left, ())
            case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
                pair = (left, right) if (field_of(left) or "").startswith("r") else (right, left)
                return self._pair(request, row, *pair)
            case ast.Call(args=[value, pattern]) if self._closures.column(pattern) >= 0:
                return self._pair(request, row, value, pattern)
        return Difference(shown(node), self._fields("p", request, row), self._fields("r", request, row))

    def _pair(self, request: Request, row: Row, value: ast.expr, pattern: ast.expr) -> Difference:
        """Of a field of the request and a column."""
        field, column = field_of(value), self._closures.column(pattern)
        if field is None or column < 0:
            return Difference(
                shown(self._node), self._fields("p", request, row), self._fields("r", request, row), column=column
            )
        asked = self._tried(self._value(value), request, row)
        text = asked if isinstance(asked, str) else _listed(asked)
        distance = _distance(row[column], text) if field.endswith(("path", "obj", "resource")) else 1.0
        return Difference(field.partition(".")[2], row[column], text or "none", distance, column)

    def _member(
        self, request: Request, row: Row, held: ast.expr, role: ast.expr, domain: Sequence[ast.expr]
    ) -> Difference:
        names = self._tried(self._value(held), request, row)
        wanted = str(self._tried(self._value(role), request, row))
        column = self._closures.column(role)
        if domain:
            within = self._tried(self._value(domain[0]), request, row)
            return Difference("role", f"{wanted} in {within}", _listed(names), 1.5, column)
        kind, _, name = wanted.partition(":")
        if kind in ("user", "group") and self._set(held):
            return Difference(kind, name, _listed(names), 1.5, column)
        return Difference("role", wanted, _listed(names), 1.5, column)

    def _set(self, node: ast.expr) -> bool:
        return (field_of(node) or "").partition(".")[2] in ("subjects", "groups")

    def _fields(self, letter: str, request: Request, row: Row) -> str:
        """The values of the fields that a condition names."""
        values = {}
        for node in ast.walk(self._node):
            field = field_of(node)
            if field is not None and field.startswith(letter) and isinstance(node, ast.expr):
                values[field] = _listed(self._tried(self._value(node), request, row))
        return ", ".join(f"{field}={value}" for field, value in values.items())


def _listed(value: object) -> str:
    """A value for people: of a caller's names, the first, which is the user's."""
    if isinstance(value, str):
        return value
    if isinstance(value, Names):
        own = sorted(value.own())
        users = [one.removeprefix("user:") for one in own if one.startswith("user:")]
        return users[0] if users else ", ".join(own) or "nobody"
    return str(value)
