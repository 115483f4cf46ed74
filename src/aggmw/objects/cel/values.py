"""The values of CEL as Python's own, and the rules of equality between them (langdef.md, "Values", "Equality").

| CEL | Python |
|---|---|
| null, bool, int, double, string, bytes | `None`, `bool`, `int`, `float`, `str`, `bytes` |
| uint | `UInt` |
| list, map | `list`, `dict` |
| timestamp, duration | `datetime` with a time zone, `timedelta`: microseconds, not nanoseconds |
| optional | `Optional` |
| type | `TypeValue` |
| url, ip, cidr, quantity, semver | `SplitResult`, those of `ipaddress`, `Quantity`, `SemVer` |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult

from aggmw.objects.cel.errors import CelBudgetExceeded, CelEvaluationError

__all__ = [
    "INT_MAX",
    "INT_MIN",
    "KINDS",
    "MISSING",
    "NONE",
    "UINT_MAX",
    "Evaluate",
    "Frame",
    "Optional",
    "Quantity",
    "SemVer",
    "TypeValue",
    "UInt",
    "Value",
    "equal",
    "find",
    "from_python",
    "holds",
    "kind_of",
    "weigh",
]

Value = Any
"""CEL is dynamically typed: any of the above."""

INT_MIN, INT_MAX, UINT_MAX = -(2**63), 2**63 - 1, 2**64 - 1


class UInt(int):
    """An unsigned integer of 64 bits."""

    __slots__ = ()


class TypeValue:
    """What `type(x)` gives."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeValue) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"TypeValue({self.name!r})"


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


class Optional:
    """A value that may be missing: `optional.of(x)`, `optional.none()`, `m.?field`."""

    __slots__ = ("value",)

    def __init__(self, value: Value = MISSING) -> None:
        self.value = value

    @property
    def present(self) -> bool:
        return self.value is not MISSING


NONE: Final = Optional()


class Quantity(NamedTuple):
    """A quantity of Kubernetes, exact."""

    amount: Decimal


class SemVer(NamedTuple):
    """A semantic version; what comes behind a plus is not kept, for it has no order.

    Args:
        major, minor, patch: its numbers.
        before: the parts of a pre-release.
        released: whether it is none.
    """

    major: int
    minor: int
    patch: int
    before: tuple[tuple[bool, int, str], ...]
    released: bool

    @property
    def order(self) -> tuple[object, ...]:
        """What versions are compared by."""
        return self.major, self.minor, self.patch, self.released, self.before


KINDS: Final[dict[type, str]] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    UInt: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    datetime: "timestamp",
    timedelta: "duration",
    Optional: "optional",
    TypeValue: "type",
    SplitResult: "url",
    IPv4Address: "ip",
    IPv6Address: "ip",
    IPv4Interface: "cidr",
    IPv6Interface: "cidr",
    Quantity: "quantity",
    SemVer: "semver",
}
_NUMBERS = frozenset({int, UInt, float})


class Frame:
    """What one evaluation has: the variables in their slots, and the steps that it may still take."""

    __slots__ = ("budget", "left", "slots")

    def __init__(self, slots: list[Value], budget: int) -> None:
        self.slots = slots
        self.budget = budget
        self.left = budget

    def charge(self, steps: int) -> None:
        """Take these steps off.

        Raises:
            CelBudgetExceeded: there are not so many left.
        """
        self.left -= steps
        if self.left < 0:
            raise CelBudgetExceeded(self.budget)


Evaluate = Callable[[Frame], Value]
"""A compiled expression."""


def kind_of(value: Value) -> str:
    """The name of a value's type, as errors and `type()` say it."""
    return KINDS.get(type(value), type(value).__name__)


def from_python(value: Value) -> Value:
    """A value for a variable: itself where it is one of CEL's, else the closest.

    Only the value itself and not what is inside: JSON as Python reads it is fine all the way down.

    Raises:
        TypeError: no value of CEL.
    """
    if type(value) in KINDS:
        return value
    if isinstance(value, tuple | set | frozenset):
        return [from_python(each) for each in value]
    if isinstance(value, Mapping):
        return {key: from_python(each) for key, each in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"{type(value).__name__} is no value of CEL")


def equal(frame: Frame, one: Value, other: Value) -> bool:
    """`==`: numbers across their types, everything else within one. Charges for what is compared."""
    kind = type(one)
    if kind is not type(other):
        return kind in _NUMBERS and type(other) in _NUMBERS and bool(one == other)
    if kind is str or kind is bytes:
        if len(one) != len(other):
            return False
        if len(one) > 100:
            frame.charge(len(one) // 100)
        return bool(one == other)
    if kind is list:
        if len(one) != len(other):
            return False
        frame.charge(len(one))
        return all(equal(frame, a, b) for a, b in zip(one, other, strict=True))
    if kind is dict:
        if len(one) != len(other):
            return False
        frame.charge(len(one))
        for key, value in one.items():
            found = find(other, key)
            if found is MISSING or not equal(frame, value, found):
                return False
        return True
    if kind is Optional:
        if one.present and other.present:
            return equal(frame, one.value, other.value)
        return bool(one.present == other.present)
    return bool(one == other)


def find(mapping: dict[Value, Value], key: Value) -> Value:
    """What a map has under a key, or MISSING. `1`, `1u` and `1.0` are one key; `true` is another."""
    kind = type(key)
    if kind is str:
        return mapping.get(key, MISSING)
    if kind is bool or (kind in _NUMBERS and (key == 0 or key == 1)):
        # Python takes true and 1 for the same key.
        wanted = kind is bool
        for each, value in mapping.items():
            if each == key and (type(each) is bool) == wanted:
                return value
        return MISSING
    return mapping.get(key, MISSING) if kind in _NUMBERS else MISSING


def holds(frame: Frame, value: Value, container: Value) -> bool:
    """`value in container`.

    Raises:
        CelEvaluationError: it is no list and no map.
    """
    if type(container) is dict:
        return find(container, value) is not MISSING
    if type(container) is list:
        for done, each in enumerate(container):
            if equal(frame, value, each):
                frame.charge(done)
                return True
        frame.charge(len(container))
        return False
    raise CelEvaluationError(f"no such overload: {kind_of(value)} in {kind_of(container)}")


def weigh(frame: Frame, value: Value) -> int:
    """How much a value holds, all the way down; charged on the way, because few lists can refer to each other often."""
    weight = 1
    if type(value) is str or type(value) is bytes:
        weight += len(value) // 100
    elif type(value) is list:
        weight += sum(weigh(frame, each) for each in value)
    elif type(value) is dict:
        weight += sum(1 + weigh(frame, each) for each in value.values())
    frame.charge(1)
    return weight
