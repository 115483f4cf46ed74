"""An index over rules: a tree that asks, at each step, for what leaves the fewest of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from aggmw.middleware.authorization.aside import drain
from aggmw.middleware.authorization.casbin.keys import Keys
from aggmw.middleware.authorization.casbin.policy import Row

__all__ = ["Condition", "Found", "Leaf", "Node", "NotText", "Request", "Test", "build"]

Request: TypeAlias = Sequence[object]
"""The values of a request definition's fields, in its order."""

Test: TypeAlias = Callable[[Request, Row], object]
_ENOUGH = 8
_MOST_COPIES = 8  # of a rule that stands under several keys, over all steps


class NotText(Exception):
    """A value of a request that is no text, so that no index can be asked for it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One of the conditions of which a rule has to meet all.

    Attributes:
        test: whether a request and a rule meet it.
        column: the policy's field that it can be looked up by; -1 for none.
        keys: where a value of this field is to be found.
        exact: what a request is looked up by among the exact keys; raises `NotText`.
        text: what a request is looked up by among the beginnings; raises `NotText`.
        certain: whether a rule that is found meets it.
    """

    test: Test
    column: int = -1
    keys: Callable[[str], Keys] | None = None
    exact: Callable[[Request], Iterable[str]] | None = None
    text: Callable[[Request], str] | None = None
    certain: bool = False


class Leaf(NamedTuple):
    """Rules, by number, and what is left to be tested for each."""

    numbers: tuple[int, ...]
    tests: tuple[Test, ...]


Found: TypeAlias = "list[Leaf]"


@dataclass(slots=True)
class Node:
    """Rules by one condition."""

    condition: Condition
    exact: Mapping[str, Node | Leaf] = field(default_factory=dict)
    prefixes: Sequence[tuple[int, Mapping[str, Node | Leaf]]] = ()
    rest: Node | Leaf | None = None

    def collect(self, request: Request, found: Found) -> None:
        """Put what the request could meet into `found`, some of it perhaps twice.

        Raises:
            NotText: see there.
        """
        below: list[Node | Leaf] = []
        if self.exact:
            get = self.exact.get
            below = [child for key in self.condition.exact(request) if (child := get(key)) is not None]  # type: ignore[misc]  # conditions with a column have it
        if self.prefixes:
            text = self.condition.text(request)  # type: ignore[misc]  # the same
            for length, children in self.prefixes:
                child = children.get(text[:length])
                if child is not None:
                    below.append(child)
        if self.rest is not None:
            below.append(self.rest)
        for child in below:
            if type(child) is Leaf:
                found.append(child)
            else:
                child.collect(request, found)  # type: ignore[union-attr]  # a Node


def build(numbers: Sequence[int], rules: Sequence[Row], conditions: Sequence[Condition]) -> Node | Leaf:
    """The index over some of the rules, for conditions all of which have to be met."""
    builder = _Builder(rules)
    built = builder.build(tuple(numbers), tuple(conditions), frozenset(), 1)
    drain(builder.keys)
    return built


class _Builder:
    def __init__(self, rules: Sequence[Row]) -> None:
        self._rules = rules
        self.keys: dict[tuple[int, str], Keys] = {}

    def build(
        self, numbers: tuple[int, ...], conditions: tuple[Condition, ...], asked: frozenset[int], copies: float
    ) -> Node | Leaf:
        """Of conditions; those that were `asked` above are not asked again, and each rule is there so many times."""
        if len(numbers) > _ENOUGH:
            best, least, grown = -1, 0.75 * len(numbers), copies
            for position, condition in enumerate(conditions):
                if condition.column >= 0 and id(condition) not in asked:
                    left, entries = self._left(numbers, condition)
                    if left < least and copies * entries <= _MOST_COPIES * len(numbers):
                        best, least, grown = position, left, copies * max(1.0, entries / len(numbers))
            if best >= 0:
                return self._node(numbers, conditions, best, asked, grown)
        return Leaf(numbers, tuple(condition.test for condition in conditions))

    def _node(
        self,
        numbers: tuple[int, ...],
        conditions: tuple[Condition, ...],
        best: int,
        asked: frozenset[int],
        copies: float,
    ) -> Node:
        condition = conditions[best]
        asked = asked | {id(condition)}
        if condition.certain:
            conditions = conditions[:best] + conditions[best + 1 :]
        exact: dict[str, list[int]] = {}
        prefixes: dict[str, list[int]] = {}
        rest: list[int] = []
        for number in numbers:
            keys = self._keys_of(condition, number)
            for key in keys.exact:
                exact.setdefault(key, []).append(number)
            for key in keys.prefixes:
                prefixes.setdefault(key, []).append(number)
            if keys.anything:
                rest.append(number)
        lengths: dict[int, dict[str, Node | Leaf]] = {}
        for key, some in prefixes.items():
            lengths.setdefault(len(key), {})[key] = self.build(tuple(some), conditions, asked, copies)
        return Node(
            condition,
            {key: self.build(tuple(some), conditions, asked, copies) for key, some in exact.items()},
            sorted(lengths.items(), key=lambda item: item[0]),
            self.build(tuple(rest), conditions, asked, copies) if rest else None,
        )

    def _keys_of(self, condition: Condition, number: int) -> Keys:
        value = self._rules[number][condition.column]
        place = (id(condition), value)
        keys = self.keys.get(place)
        if keys is None:
            keys = self.keys[place] = condition.keys(value)  # type: ignore[misc]  # conditions with a column have them
        return keys

    def _left(self, numbers: tuple[int, ...], condition: Condition) -> tuple[float, int]:
        """How many rules a request that asks for what is there often has to look at then, and the entries of that."""
        sizes: dict[str, int] = {}
        get = sizes.get
        rest = 0
        for number in numbers:
            exact, prefixes, anything = self._keys_of(condition, number)
            rest += anything
            for key in exact:
                sizes[key] = get(key, 0) + 1
            for key in prefixes:
                sizes[key] = get(key, 0) + 1
        entries = sum(sizes.values())
        often = sum(size * size for size in sizes.values()) / entries if entries else 0
        return rest + often, entries + rest
