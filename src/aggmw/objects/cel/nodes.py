"""The tree of an expression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aggmw.objects.cel.values import Value

__all__ = ["Call", "Entry", "Identifier", "Item", "Listing", "Literal", "Loop", "Mapping", "Node", "Select", "dotted"]


@dataclass(frozen=True, slots=True)
class Node:
    """Any part of an expression.

    Args:
        offset: where it begins, or its operator stands.
        depth: how many levels it has.
        size: how many nodes it has: what one evaluation without loops costs at most.
    """

    offset: int
    depth: int
    size: int


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A constant."""

    value: Value


@dataclass(frozen=True, slots=True)
class Identifier(Node):
    """A variable, a type's name, or the beginning of a dotted name. A leading dot is kept in `absolute`."""

    name: str
    absolute: bool = False


@dataclass(frozen=True, slots=True)
class Select(Node):
    """`operand.field`; `has(operand.field)` when it is a test; `operand.?field` when it is optional."""

    operand: Node
    field: str
    test: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function, a method (`target` is set) or an operator such as `_+_`. `_&&_` and `_||_` take any number."""

    function: str
    target: Node | None
    arguments: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Item:
    """One element of a list; `[?x]` when it is optional."""

    value: Node
    optional: bool


@dataclass(frozen=True, slots=True)
class Listing(Node):
    """`[a, ?b]`."""

    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a map; `{?k: v}` when it is optional."""

    key: Node
    value: Node
    optional: bool


@dataclass(frozen=True, slots=True)
class Mapping(Node):
    """`{k: v}`."""

    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Loop(Node):
    """A macro that binds names: `range.all(x, …)`, `range.map(x, filter, …)`, `cel.bind(x, range, …)`, ….

    Args:
        macro: its name.
        range: what it goes over; the value for `bind`, the optional for `optMap`.
        names: one or two variables.
        condition: the filter of `map`, `transformList` and their like; None without one.
        body: what is evaluated for each.
    """

    macro: str
    range: Node
    names: tuple[str, ...]
    condition: Node | None
    body: Node


def dotted(node: Node) -> str | None:
    """`a.b.c`, where the expression is that and no more."""
    if isinstance(node, Identifier):
        return node.name
    if isinstance(node, Select) and not node.test and not node.optional:
        head = dotted(node.operand)
        return None if head is None else f"{head}.{node.field}"
    return None
