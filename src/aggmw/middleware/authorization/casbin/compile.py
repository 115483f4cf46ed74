"""A matcher taken apart: the ways in which a rule can match, and the conditions of each that an index knows."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from aggmw.middleware.authorization.casbin.closures import Closures, Scope
from aggmw.middleware.authorization.casbin.index import Condition, NotText, Request, Test
from aggmw.middleware.authorization.casbin.inputs import Names
from aggmw.middleware.authorization.casbin.keys import ANYTHING, CERTAIN, KEYS, TEXTS, Keys
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.roles import RoleGraph

__all__ = ["NO_ROW", "Compiled", "Guard", "NoTruthValue", "Way", "compile_matcher"]

Guard: TypeAlias = Test
"""A test that looks at the request alone."""

NO_ROW = Row((), "", "")


class NoTruthValue(RuntimeError):
    """A matcher whose value is neither true nor false."""


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways in which a rule can match: all guards and all conditions hold.

    Args:
        guards: what depends on the request alone.
        conditions: what depends on the rule too.
    """

    guards: tuple[Guard, ...]
    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A matcher.

    Attributes:
        whole: the value of all of it.
        ways: the same, taken apart.
    """

    whole: Test
    ways: tuple[Way, ...]


def compile_matcher(tree: ast.expr, scope: Scope, rules: Iterable[Row]) -> Compiled:
    """A matcher's tree as closures.

    Args:
        rules: whose expressions it may evaluate.

    Raises:
        Uncompilable: it uses what there is no closure for.
    """
    compiler = _Compiler(scope)
    parts = tree.values if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.Or) else [tree]
    ways = tuple(compiler.way(part, last=part is parts[-1]) for part in parts)
    compiled = Compiled(compiler.truth(tree), ways)
    compiler.prepare(rules)
    return compiled


def _truth(value: object) -> object:
    """The value at the end of a matcher, which has to be one of truth."""
    if value is True or value is False or isinstance(value, float):
        return value
    raise NoTruthValue("a matcher's value is neither true nor false")


def _stop(value: object) -> object:
    """The value of a condition that others follow: what is not true ends the matcher."""
    return value if value else _truth(value)


def _go_on(value: object) -> object:
    """The value of an alternative that others follow: what is true ends the matcher."""
    return _truth(value) if value else value


def _checked(value: Test, check: Callable[[object], object], r: Request, p: Row) -> object:
    return check(value(r, p))


class _Compiler(Closures):
    # The matcher taken apart

    def way(self, node: ast.expr, *, last: bool) -> Way:
        parts = node.values if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And) else [node]
        guards: list[Guard] = []
        conditions: list[Condition] = []
        for part in parts:
            value = self.value(part)
            if not self._is_truth(part):
                # The last part's value may be the matcher's, and so may that of one before it which is not true.
                check = (_truth if last else _go_on) if part is parts[-1] else _stop if last else None
                value = value if check is None else partial(_checked, value, check)
            if self._names_rule(part):
                conditions.append(self._condition(part, value))
            elif self._is_truth(part):
                guards.append(value)
            else:
                # It may be an error, which it is not before a rule is tried.
                conditions.append(Condition(value))
        return Way(tuple(guards), tuple(conditions))

    def truth(self, node: ast.expr) -> Test:
        value = self.value(node)
        return value if self._is_truth(node) else partial(_checked, value, _truth)

    def _is_truth(self, node: ast.expr) -> bool:
        """Whether a value is sure to be one of truth."""
        if isinstance(node, ast.BoolOp):
            return all(map(self._is_truth, node.values))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return node.func.id in self._scope.roles or node.func.id in self._scope.keyed
        if isinstance(node, ast.Compare):
            return all(self._is_plain(one) for one in (node.left, *node.comparators))
        return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)

    def _is_plain(self, node: ast.expr) -> bool:
        """Whether comparing a value cannot give anything but a truth value."""
        return isinstance(node, ast.Constant | ast.Tuple | ast.List) or (
            isinstance(node, ast.Name) and (node.id in self._policy or node.id in self._request)
        )

    def _names_rule(self, node: ast.expr) -> bool:
        return any(isinstance(one, ast.Name) and one.id in self._policy for one in ast.walk(node))

    def _condition(self, node: ast.expr, test: Test) -> Condition:
        return self._lookup(node, test) or Condition(test)

    def _lookup(self, node: ast.expr, test: Test) -> Condition | None:
        """How a condition is looked up, if it can be."""
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return self._comparison(node.ops[0], node.left, node.comparators[0], test)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            name, arguments = node.func.id, node.args
            if name in self._scope.roles and len(arguments) > 1:
                return self._role(self._scope.roles[name], arguments, test)
            if name in self._scope.keyed:
                return self._pattern(name, arguments, test)
        if isinstance(node, ast.BoolOp):
            if isinstance(node.op, ast.Or):
                return self._either(node.values, test)
            for part in node.values:
                found = self._lookup(part, test)
                if found is not None:
                    return Condition(test, found.column, found.keys, found.exact, found.text)
        return None

    def _comparison(self, kind: ast.cmpop, left: ast.expr, right: ast.expr, test: Test) -> Condition | None:
        if isinstance(kind, ast.Eq):
            if self.column(left) >= 0:
                left, right = right, left
            column = self.column(right)
            if column < 0 or self._names_rule(left):
                return None
            if isinstance(left, ast.Constant):
                return Condition(test, column, partial(_like, left.value), _nothing, None, True)
            return Condition(test, column, _itself, partial(_text_alone, self.value(left)), None, True)
        if isinstance(kind, ast.In) and self.column(left) >= 0 and not self._names_rule(right):
            members = partial(_members, self.value(right))
            return Condition(test, self.column(left), _itself, members, None, True)
        return None

    def _role(self, graph: RoleGraph, arguments: Sequence[ast.expr], test: Test) -> Condition | None:
        column = self.column(arguments[1])
        if column < 0 or self._names_rule(arguments[0]):
            return None
        name = self.value(arguments[0])
        if len(arguments) == 2:
            return Condition(test, column, _itself, partial(_roles, graph, name, None), None, True)
        if self._names_rule(arguments[2]):
            return Condition(test, column, _itself, partial(_roles_anywhere, graph, name))
        return Condition(test, column, _itself, partial(_roles, graph, name, self.value(arguments[2])), None, True)

    def _pattern(self, function: str, arguments: Sequence[ast.expr], test: Test) -> Condition | None:
        *values, pattern = arguments
        column = self.column(pattern)
        if column < 0 or any(map(self._names_rule, values)) or len(values) != (2 if function == "resourceMatch" else 1):
            return None
        first = self.value(values[0])
        text: Callable[[Request], str] | None = None
        exact: Callable[[Request], Iterable[str]] = partial(_text_alone, first)
        if function == "inGroups":
            exact = partial(_members, first)
        elif function == "apiGroupMatch":
            exact = partial(_api_group, first)
        elif function == "resourceMatch":
            exact = partial(_resource, first, self.value(values[1]))
        elif function != "oneOf":
            text = partial(_text, first, TEXTS.get(function))
            exact = partial(_spelled_alone, text) if function in TEXTS else exact
        return Condition(test, column, KEYS[function], exact, text, function in CERTAIN)

    def _either(self, nodes: Sequence[ast.expr], test: Test) -> Condition | None:
        """Of alternatives that all look the same field up: where any of them would find it."""
        found = [self._lookup(node, test) for node in nodes]
        first = found[0]
        if first is None or any(one is None or one.column != first.column for one in found):
            return None
        parts = [one for one in found if one is not None]
        texts = [one.text for one in parts if one.text is not None]
        if len(texts) > 1:
            return None
        return Condition(
            test,
            first.column,
            partial(_all_keys, [one.keys for one in parts if one.keys is not None]),
            partial(_all_exact, [one.exact for one in parts if one.exact is not None]),
            texts[0] if texts else None,
        )


# What a request is looked up by


def _itself(value: str) -> Keys:
    return Keys((value,))


def _like(constant: object, value: str) -> Keys:
    return ANYTHING if value == constant else Keys()


def _nothing(request: Request) -> Iterable[str]:
    return ()


def _all_keys(parts: Sequence[Callable[[str], Keys]], value: str) -> Keys:
    found = [part(value) for part in parts]
    if any(keys.anything for keys in found):
        return ANYTHING
    return Keys(
        tuple(dict.fromkeys(key for keys in found for key in keys.exact)),
        tuple(dict.fromkeys(key for keys in found for key in keys.prefixes)),
    )


def _all_exact(parts: Sequence[Callable[[Request], Iterable[str]]], request: Request) -> Iterable[str]:
    return {key for part in parts for key in part(request)}


def _text(value: Test, spell: Callable[[str], str] | None, request: Request) -> str:
    text = value(request, NO_ROW)
    if type(text) is not str:
        raise NotText
    return text if spell is None else spell(text)


def _text_alone(value: Test, request: Request) -> Iterable[str]:
    text = value(request, NO_ROW)
    if type(text) is not str:
        raise NotText
    return (text,)


def _spelled_alone(text: Callable[[Request], str], request: Request) -> Iterable[str]:
    return (text(request),)


def _members(value: Test, request: Request) -> Iterable[str]:
    """The names in a set."""
    names = value(request, NO_ROW)
    if isinstance(names, Names):
        return names.known()
    if isinstance(names, tuple | list | set | frozenset) and all(type(name) is str for name in names):
        return names
    raise NotText


def _api_group(value: Test, request: Request) -> Iterable[str]:
    (group,) = _text_alone(value, request)
    return () if group == "core" else (group or "core",)


def _resource(resource: Test, subresource: Test, request: Request) -> Iterable[str]:
    (name,), (below,) = _text_alone(resource, request), _text_alone(subresource, request)
    return (f"{name}/{below}", f"*/{below}") if below else (name,)


def _roles(graph: RoleGraph, name: Test, domain: Test | None, request: Request) -> Iterable[str]:
    within = "" if domain is None else str(domain(request, NO_ROW))
    names = name(request, NO_ROW)
    if type(names) is str:
        return (names, *graph.roles_of(names, within))
    return {role for one in _members(name, request) for role in (one, *graph.roles_of(one, within))}


def _roles_anywhere(graph: RoleGraph, name: Test, request: Request) -> Iterable[str]:
    names = name(request, NO_ROW)
    some = (names,) if type(names) is str else _members(name, request)
    return {role for one in some for role in (one, *graph.roles_anywhere(one))}
