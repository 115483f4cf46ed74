"""Functions by signature: how a library declares them, and how a call finds the one that takes its arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from aggmw.objects.cel.types import Type, parse_type
from aggmw.objects.cel.values import KINDS

__all__ = ["Function", "Functions", "Library", "Overload"]

_SIGNATURE = re.compile(
    r"(?:@(?P<space>\w+)\.|(?P<target>[^.@]+)\.)?(?P<name>[^.(]+)\((?P<parameters>.*)\) -> (?P<result>.+)"
)
Implementation = Callable[..., Any]  # of values of CEL, which have any type
F = TypeVar("F", bound=Implementation)


class Overload(NamedTuple):
    """One signature of a function.

    Attributes:
        parameters: their types, the target first.
        result: its type.
        implementation: what it does with values of these kinds; None where it is not a plain function of values.
        cost: the steps that it takes, above one; from the same values, before it runs.
        weighs: whether `cost` gets, before the values, how much each of them holds all the way down.
    """

    parameters: tuple[Type, ...]
    result: Type
    implementation: Implementation | None
    cost: Callable[..., int] | None
    weighs: bool = False

    def takes(self, kinds: Sequence[str]) -> bool:
        return len(kinds) == len(self.parameters) and all(
            each.name == kind or each.name == "dyn" or each.is_parameter
            for each, kind in zip(self.parameters, kinds, strict=True)
        )


class Function:
    """All overloads of one name."""

    __slots__ = ("_found", "name", "overloads")

    def __init__(self, name: str) -> None:
        self.name = name
        self.overloads: list[Overload] = []
        self._found: dict[tuple[type, ...], Overload | None] = {}

    def find(self, types: tuple[type, ...]) -> Overload | None:
        """The overload for values of these types, or None."""
        try:
            return self._found[types]
        except KeyError:
            kinds = [KINDS.get(each, "") for each in types]
            found = next((each for each in self.overloads if each.takes(kinds)), None)
            # As many entries as there are combinations of kinds of values; other types are not kept.
            if all(kinds):
                self._found[types] = found
            return found


class Library:
    """Functions that belong together.

    A signature is written `size(string) -> int`, a method `string.size() -> int`, one with a name in front
    `@sets.contains(list(A), list(A)) -> bool`; a single capital letter stands for any type.
    """

    def __init__(self) -> None:
        self.declared: list[tuple[str, bool, Overload]] = []

    def overload(
        self, *signatures: str, cost: Callable[..., int] | None = None, weighs: bool = False
    ) -> Callable[[F], F]:
        """A decorator: the function is the implementation of these signatures."""

        def declare(implementation: F) -> F:
            for signature in signatures:
                self.add(signature, implementation, cost, weighs=weighs)
            return implementation

        return declare

    def add(
        self,
        signature: str,
        implementation: Implementation | None = None,
        cost: Callable[..., int] | None = None,
        *,
        weighs: bool = False,
    ) -> None:
        """Declare one signature.

        Raises:
            ValueError: the signature is none.
        """
        match = _SIGNATURE.fullmatch(signature)
        if match is None:
            raise ValueError(f"not a signature: {signature!r}")
        parameters = tuple(map(parse_type, _split(match["parameters"])))
        name = f"{match['space']}.{match['name']}" if match["space"] else match["name"]
        if match["target"]:
            parameters = (parse_type(match["target"]), *parameters)
        overload = Overload(parameters, parse_type(match["result"]), implementation, cost, weighs)
        self.declared.append((name, bool(match["target"]), overload))


def _split(parameters: str) -> list[str]:
    """The parts between commas that stand in no parentheses."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(parameters + ","):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(parameters[start:place].strip())
            start = place + 1
    return [each for each in parts if each]


class Functions:
    """The functions of several libraries.

    Args:
        libraries: where two declare the same, the first counts.
    """

    def __init__(self, libraries: Iterable[Library]) -> None:
        self._functions: dict[tuple[str, bool], Function] = {}
        for library in libraries:
            for name, member, overload in library.declared:
                function = self._functions.setdefault((name, member), Function(name))
                function.overloads.append(overload)

    def find(self, name: str, *, member: bool) -> Function | None:
        """The function or method of this name, or None."""
        return self._functions.get((name, member))

    @property
    def names(self) -> frozenset[str]:
        """All names, for documentation: methods begin with a dot."""
        return frozenset(f".{name}" if member else name for name, member in self._functions)
