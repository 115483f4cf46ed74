"""Expressions as closures over a request's and a rule's values.

The values mean what they mean to casbin's evaluator: `&&` and `||` stop where the answer is known and give the value
that they stopped at, and comparisons chain.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from aggmw.middleware.authorization.casbin.functions import PREPARED
from aggmw.middleware.authorization.casbin.index import Request, Test
from aggmw.middleware.authorization.casbin.matcher import read_matcher, shown
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.roles import RoleGraph

__all__ = ["Closures", "Pending", "Scope", "Uncompilable"]

Function: TypeAlias = Callable[..., object]


class Uncompilable(Exception):
    """What this cannot express; casbin has to evaluate it."""


class Pending(Exception):
    """A function that has to be awaited before the matcher has a value.

    Attributes:
        place: where in the request's last field the answer goes, and under which key.
        call: what to await.
    """

    def __init__(self, place: dict[object, object], key: object, call: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self.place = place
        self.key = key
        self.call = call


@dataclass(frozen=True, slots=True)
class Scope:
    """What a matcher can name.

    Args:
        suffix: "" for m, "2" for m2.
        request, policy: the fields, in their order.
        roles: who has which role, by role definition.
        functions: all functions.
        keyed: those of them that match patterns as `keys` says.
        awaited: those of them that have to be awaited.
    """

    suffix: str
    request: Sequence[str]
    policy: Sequence[str]
    roles: Mapping[str, RoleGraph]
    functions: Mapping[str, Function]
    keyed: Collection[str] = ()
    awaited: Collection[str] = ()


class Closures:
    """Makes closures of expressions."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._texts: dict[int, _Texts] = {}
        self._request = {f"r{scope.suffix}_{name}": place for place, name in enumerate(scope.request)}
        self._policy = {f"p{scope.suffix}_{name}": place for place, name in enumerate(scope.policy)}

    def prepare(self, rules: Iterable[Row]) -> None:
        """Compile the expressions that stand in rules.

        Raises:
            Uncompilable: as for a matcher.
        """
        for column, texts in self._texts.items():
            for rule in rules:
                texts[rule[column]]

    def column(self, node: ast.expr) -> int:
        """Which of the policy's fields this is; -1 for none."""
        return self._policy.get(node.id, -1) if isinstance(node, ast.Name) else -1

    def value(self, node: ast.expr) -> Test:
        """A node as a closure."""
        method = _METHODS.get(type(node))
        if method is None:
            raise Uncompilable(f"'{shown(node)}'")
        return method(self, node)

    def _constant(self, node: ast.Constant) -> Test:
        value = node.value
        return lambda r, p: value

    def _name(self, node: ast.Name) -> Test:
        if node.id in self._request:
            place = self._request[node.id]
            return lambda r, p: r[place]
        if node.id in self._policy:
            place = self._policy[node.id]
            return lambda r, p: p[place]
        raise Uncompilable(f"'{node.id}'")

    def _sequence(self, node: ast.Tuple | ast.List) -> Test:
        kind = tuple if isinstance(node, ast.Tuple) else list
        if all(isinstance(one, ast.Constant) for one in node.elts):
            constants = kind(one.value for one in node.elts if isinstance(one, ast.Constant))
            return lambda r, p: constants
        values = tuple(map(self.value, node.elts))
        return lambda r, p: kind(value(r, p) for value in values)

    def _boolean(self, node: ast.BoolOp) -> Test:
        values = tuple(map(self.value, node.values))
        if isinstance(node.op, ast.And):
            if len(values) == 2:
                one, other = values
                return lambda r, p: one(r, p) and other(r, p)
            return partial(_and, values)
        if len(values) == 2:
            one, other = values
            return lambda r, p: one(r, p) or other(r, p)
        return partial(_or, values)

    def _unary(self, node: ast.UnaryOp) -> Test:
        value = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            return lambda r, p: not value(r, p)
        if isinstance(node.op, ast.USub | ast.UAdd):
            sign = operator.neg if isinstance(node.op, ast.USub) else operator.pos
            return lambda r, p: sign(value(r, p))  # type: ignore[arg-type]  # raises where it is no number, as casbin's
        raise Uncompilable(f"'{shown(node)}'")

    def _binary(self, node: ast.BinOp) -> Test:
        apply = _ARITHMETIC.get(type(node.op))
        if apply is None:
            raise Uncompilable(f"'{shown(node)}'")
        left, right = self.value(node.left), self.value(node.right)
        return lambda r, p: apply(left(r, p), right(r, p))

    def _compare(self, node: ast.Compare) -> Test:
        values = tuple(map(self.value, (node.left, *node.comparators)))
        if len(node.ops) > 1:
            return partial(_chain, values, tuple(_COMPARISONS[type(kind)] for kind in node.ops))
        left, right = values
        kind = node.ops[0]
        if isinstance(kind, ast.Eq):
            if isinstance(node.left, ast.Name) and isinstance(node.comparators[0], ast.Name):
                one, other = self._request.get(node.left.id, -1), self._policy.get(node.comparators[0].id, -1)
                if one >= 0 and other >= 0:
                    return lambda r, p: r[one] == p[other]
            return lambda r, p: left(r, p) == right(r, p)
        compare = _COMPARISONS[type(kind)]
        return lambda r, p: compare(left(r, p), right(r, p))

    def _conditional(self, node: ast.IfExp) -> Test:
        test, body, other = self.value(node.test), self.value(node.body), self.value(node.orelse)
        return lambda r, p: body(r, p) if test(r, p) else other(r, p)

    def _attribute(self, node: ast.Attribute) -> Test:
        name = node.attr
        if name.startswith(("_", "func_")):
            raise Uncompilable(f"'{shown(node)}'")
        return partial(_attribute_of, self.value(node.value), name)

    def _subscript(self, node: ast.Subscript) -> Test:
        value, key = self.value(node.value), self.value(node.slice)
        return lambda r, p: value(r, p)[key(r, p)]  # type: ignore[index]  # raises where it has no items, as casbin's

    def _call(self, node: ast.Call) -> Test:
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise Uncompilable(f"'{shown(node)}'")
        name, scope = node.func.id, self._scope
        if name == "eval":
            return self._eval(node)
        if name in scope.roles:
            graph = scope.roles[name]
            return self._call_of(graph.has_link if len(node.args) == 2 else _in_domain(graph), node.args)
        if name in PREPARED and name in scope.keyed:
            *values, pattern = node.args
            if values and (self.column(pattern) >= 0 or isinstance(pattern, ast.Constant)):
                return self._prepared(name, values, pattern)
        function = scope.functions.get(name)
        if function is None:
            raise Uncompilable(f"{name}()")
        if name in scope.awaited:
            return partial(_awaited, name, function, tuple(map(self.value, node.args)))
        return self._call_of(function, node.args)

    def _call_of(self, function: Function, arguments: Sequence[ast.expr]) -> Test:
        values = tuple(map(self.value, arguments))
        if len(values) == 2:
            one, other = values
            return lambda r, p: function(one(r, p), other(r, p))
        return lambda r, p: function(*(value(r, p) for value in values))

    def _prepared(self, name: str, values: Sequence[ast.expr], pattern: ast.expr) -> Test:
        """A pattern of the policy's or the matcher's, compiled when it is first tried and kept."""
        table = _Table(PREPARED[name])
        read = self.value(pattern)
        if len(values) == 2:
            one, other = map(self.value, values)
            return lambda r, p: table[read(r, p)](one(r, p), other(r, p))  # type: ignore[index]  # texts
        (first,) = values
        if isinstance(first, ast.Name) and first.id in self._request and self.column(pattern) >= 0:
            place, column = self._request[first.id], self.column(pattern)
            return lambda r, p: table[p[column]](r[place])
        value = self.value(first)
        return lambda r, p: table[read(r, p)](value(r, p))  # type: ignore[index]  # the same

    def _eval(self, node: ast.Call) -> Test:
        column = self.column(node.args[0]) if len(node.args) == 1 else -1
        if column < 0:
            raise Uncompilable(f"'{shown(node)}'")
        texts = self._texts.setdefault(column, _Texts(self, self._scope.suffix))
        return partial(_evaluated, texts, column)


class _Table(dict[str, Callable[..., object]]):
    """Patterns, each compiled when it is first asked for. There are no more than the policy has."""

    def __init__(self, prepare: Callable[[str], Callable[..., object]]) -> None:
        super().__init__()
        self._prepare = prepare

    def __missing__(self, pattern: str) -> Callable[..., object]:
        test = self[pattern] = self._prepare(pattern)
        return test


class _Texts(dict[str, Test]):
    """Expressions that stand in rules."""

    def __init__(self, closures: Closures, suffix: str) -> None:
        super().__init__()
        self._closures = closures
        self._suffix = suffix

    def __missing__(self, text: str) -> Test:
        value = self[text] = self._closures.value(read_matcher(text, self._suffix).tree)
        return value


# What closures are made of


def _and(values: tuple[Test, ...], r: Request, p: Row) -> object:
    found: object = False
    for value in values:
        found = value(r, p)
        if not found:
            break
    return found


def _or(values: tuple[Test, ...], r: Request, p: Row) -> object:
    found: object = False
    for value in values:
        found = value(r, p)
        if found:
            break
    return found


def _chain(values: tuple[Test, ...], kinds: tuple[Function, ...], r: Request, p: Row) -> object:
    right = values[0](r, p)
    found: object = True
    for kind, value in zip(kinds, values[1:], strict=True):
        if not found:
            break
        left, right = right, value(r, p)
        found = kind(left, right)
    return found


def _attribute_of(value: Test, name: str, r: Request, p: Row) -> object:
    """An attribute, or an item of that name."""
    whole = value(r, p)
    try:
        return getattr(whole, name)
    except AttributeError:
        return whole[name]  # type: ignore[index]  # raises where there is none


def _awaited(name: str, function: Function, values: tuple[Test, ...], r: Request, p: Row) -> object:
    """The answer of an asynchronous function; the last of the request's values remembers it."""
    answers = r[-1]
    arguments = tuple(value(r, p) for value in values)
    key = (name, *arguments)
    if key in answers:  # type: ignore[operator]  # a dict
        return answers[key]  # type: ignore[index]  # the same
    raise Pending(answers, key, partial(function, *arguments))  # type: ignore[arg-type]  # the same; gives an awaitable


def _evaluated(texts: _Texts, column: int, r: Request, p: Row) -> object:
    return texts[p[column]](r, p)


def _in_domain(graph: RoleGraph) -> Function:
    def has_role(name: object, role: str, domain: object) -> bool:
        return graph.has_link(name, role, str(domain))

    return has_role


def _times(one: object, other: object) -> object:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one * other
    raise TypeError("only numbers are multiplied")


def _contains(one: object, other: object) -> bool:
    return one in other  # type: ignore[operator]  # raises where it is no container


def _lacks(one: object, other: object) -> bool:
    return one not in other  # type: ignore[operator]  # the same


_ARITHMETIC: Mapping[type[ast.operator], Function] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _times,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: Mapping[type[ast.cmpop], Function] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Gt: operator.gt,
    ast.Lt: operator.lt,
    ast.GtE: operator.ge,
    ast.LtE: operator.le,
    ast.In: _contains,
    ast.NotIn: _lacks,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_METHODS: Mapping[type[ast.expr], Callable[..., Test]] = {
    ast.Constant: Closures._constant,
    ast.Name: Closures._name,
    ast.Tuple: Closures._sequence,
    ast.List: Closures._sequence,
    ast.BoolOp: Closures._boolean,
    ast.UnaryOp: Closures._unary,
    ast.BinOp: Closures._binary,
    ast.Compare: Closures._compare,
    ast.IfExp: Closures._conditional,
    ast.Attribute: Closures._attribute,
    ast.Subscript: Closures._subscript,
    ast.Call: Closures._call,
}
