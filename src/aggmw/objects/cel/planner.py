"""A tree to a Python function: each node becomes a closure, names become slots, so that evaluation looks nothing up.

Errors follow langdef.md, "Evaluation": `&&`, `||` and the macros on them absorb an error of one part where another part
decides. Steps are counted where they can multiply: in loops, by the size of their body, and in functions whose work or
result grows with their arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NoReturn

from aggmw.objects.cel import nodes
from aggmw.objects.cel.checker import TYPE_NAMES, namespaced
from aggmw.objects.cel.errors import CelEvaluationError, place
from aggmw.objects.cel.functions import Function, Functions
from aggmw.objects.cel.loops import LOOPS, Fail, decided
from aggmw.objects.cel.values import (
    MISSING,
    NONE,
    Evaluate,
    Frame,
    Optional,
    TypeValue,
    UInt,
    Value,
    equal,
    find,
    holds,
    kind_of,
    weigh,
)

__all__ = ["Plan", "plan"]


class Plan:
    """What the closures of one expression share.

    Args:
        text: the expression, for places.
        functions: all that there are.
    """

    def __init__(self, text: str, functions: Functions) -> None:
        self.text = text
        self.functions = functions
        self.slots = 0

    def slot(self) -> int:
        """A place in `Frame.slots` that nobody else has."""
        self.slots += 1
        return self.slots - 1

    def fails(self, node: nodes.Node, message: str) -> Evaluate:
        """A closure that fails whenever it is evaluated."""
        fail = self.failing(node)

        def failed(frame: Frame) -> Value:
            fail(message)

        return failed

    def failing(self, node: nodes.Node) -> Fail:
        """A function that raises an error at this place."""
        place_of_node = partial(place, self.text, node.offset)

        def fail(message: str) -> NoReturn:
            error = CelEvaluationError(message)
            error.line, error.column = place_of_node()
            raise error

        return fail


def plan(text: str, node: nodes.Node, variables: Sequence[str], functions: Functions) -> tuple[Evaluate, int]:
    """The function for an expression, and how many slots it needs; the first are the variables', in their order."""
    planned = Plan(text, functions)
    names = {name: planned.slot() for name in variables}
    return _build(planned, node, names), planned.slots


def _build(planned: Plan, node: nodes.Node, names: Mapping[str, int]) -> Evaluate:
    if isinstance(node, nodes.Literal):
        return _constant(node.value)
    if isinstance(node, nodes.Identifier):
        return _named(planned, node, node.name, names)
    if isinstance(node, nodes.Select):
        return _select(planned, node, names)
    if isinstance(node, nodes.Call):
        return _call(planned, node, names)
    if isinstance(node, nodes.Listing):
        return _listing(planned, node, names)
    if isinstance(node, nodes.Mapping):
        return _mapping(planned, node, names)
    if isinstance(node, nodes.Loop):
        return _loop(planned, node, names)
    raise TypeError(type(node).__name__)


def _constant(value: Value) -> Evaluate:
    def constant(frame: Frame) -> Value:
        return value

    return constant


def _variable(slot: int) -> Evaluate:
    def variable(frame: Frame) -> Value:
        return frame.slots[slot]

    return variable


def _named(planned: Plan, node: nodes.Node, name: str, names: Mapping[str, int]) -> Evaluate:
    if name in names:
        return _variable(names[name])
    if name in TYPE_NAMES:
        return _constant(TypeValue(name))
    return planned.fails(node, f"undeclared reference to {name!r}")


def _select(planned: Plan, node: nodes.Select, names: Mapping[str, int]) -> Evaluate:
    name = nodes.dotted(node)
    if name is not None and (name in names or name in TYPE_NAMES):
        return _named(planned, node, name, names)
    operand, field, fail = _build(planned, node.operand, names), node.field, planned.failing(node)

    def select(frame: Frame) -> Value:
        value = operand(frame)
        if type(value) is dict:
            try:
                return value[field]
            except KeyError:
                fail(f"no such key: {field}")
        if type(value) is Optional:
            return _inside(value)
        fail(f"type '{kind_of(value)}' does not support field selection")

    def has(frame: Frame) -> Value:
        value = operand(frame)
        if type(value) is Optional:
            return _inside(value).present
        if type(value) is not dict:
            fail(f"type '{kind_of(value)}' does not support field selection")
        return field in value

    def possible(frame: Frame) -> Value:
        value = operand(frame)
        if type(value) is dict:
            return Optional(value[field]) if field in value else NONE
        if type(value) is Optional:
            return _inside(value)
        fail(f"type '{kind_of(value)}' does not support field selection")

    def _inside(value: Optional) -> Optional:
        if not value.present:
            return NONE
        if type(value.value) is not dict:
            fail(f"type '{kind_of(value.value)}' does not support field selection")
        return Optional(value.value[field]) if field in value.value else NONE

    return has if node.test else possible if node.optional else select


def _call(planned: Plan, node: nodes.Call, names: Mapping[str, int]) -> Evaluate:
    name, target = node.function, node.target
    if space := namespaced(node, names, planned.functions):
        name, target = space, None
    children = list(node.arguments)
    if target is not None:
        children.insert(0, target)
    arguments = [_build(planned, each, names) for each in children]
    fail = planned.failing(node)
    if name in ("_&&_", "_||_"):
        return _logic(arguments, decides=name == "_||_", fail=fail)
    if name == "_?_:_":
        return _conditional(arguments[0], arguments[1], arguments[2], fail)
    if name in ("_==_", "_!=_"):
        return _equality(arguments[0], arguments[1], wanted=name == "_==_")
    if name == "@in":
        return _in(arguments[0], arguments[1], fail)
    if name in ("_[_]", "_[?_]"):
        return _index(arguments[0], arguments[1], fail, optional=name == "_[?_]")
    function = planned.functions.find(name, member=target is not None)
    if function is None:
        return planned.fails(node, f"undeclared reference to {name!r}")
    return _function(function, arguments, fail)


def _logic(arguments: Sequence[Evaluate], decides: bool, fail: Fail) -> Evaluate:
    """`&&` and `||`: whichever part says `decides` decides, also where another one fails."""

    def logic(frame: Frame) -> Value:
        return decided(frame, arguments, decides, fail)

    return logic


def _conditional(condition: Evaluate, yes: Evaluate, no: Evaluate, fail: Fail) -> Evaluate:
    def conditional(frame: Frame) -> Value:
        chosen = condition(frame)
        if chosen is True:
            return yes(frame)
        if chosen is False:
            return no(frame)
        fail(f"no such overload: {kind_of(chosen)} where a bool is expected")

    return conditional


def _equality(left: Evaluate, right: Evaluate, *, wanted: bool) -> Evaluate:
    def same(frame: Frame) -> Value:
        return equal(frame, left(frame), right(frame))

    def different(frame: Frame) -> Value:
        return not equal(frame, left(frame), right(frame))

    return same if wanted else different


def _in(element: Evaluate, container: Evaluate, fail: Fail) -> Evaluate:
    def inside(frame: Frame) -> Value:
        value, where = element(frame), container(frame)
        if type(where) is not list and type(where) is not dict:
            fail(f"no such overload: {kind_of(value)} in {kind_of(where)}")
        return holds(frame, value, where)

    return inside


def _index(operand: Evaluate, index: Evaluate, fail: Fail, *, optional: bool) -> Evaluate:
    def look(value: Value, key: Value) -> Value:
        if type(value) is dict:
            return find(value, key)
        if type(value) is not list:
            fail(f"no such overload: {kind_of(value)}[{kind_of(key)}]")
        if type(key) is float and key.is_integer():
            key = int(key)
        if type(key) is not int and type(key) is not UInt:
            fail(f"no such overload: list[{kind_of(key)}]")
        return value[key] if 0 <= key < len(value) else MISSING

    def at(frame: Frame) -> Value:
        value, key = operand(frame), index(frame)
        if type(value) is Optional:
            return possible(value, key)
        found = look(value, key)
        if found is MISSING:
            fail("no such key" if type(value) is dict else "index out of bounds")
        return found

    def possible(value: Value, key: Value) -> Value:
        if type(value) is Optional:
            if not value.present:
                return NONE
            value = value.value
        found = look(value, key)
        return NONE if found is MISSING else Optional(found)

    def at_possible(frame: Frame) -> Value:
        return possible(operand(frame), index(frame))

    return at_possible if optional else at


def _function(function: Function, arguments: Sequence[Evaluate], fail: Fail) -> Evaluate:
    """Any other function: the overload is found by the types of the values."""

    def apply(frame: Frame, values: Sequence[Value]) -> Value:
        overload = function.find(tuple(map(type, values)))
        if overload is None or overload.implementation is None:
            fail(f"no such overload: {function.name}({', '.join(map(kind_of, values))})")
        try:
            if overload.cost is not None:
                if overload.weighs:
                    frame.charge(overload.cost([weigh(frame, each) for each in values], *values))
                else:
                    frame.charge(overload.cost(*values))
            return overload.implementation(*values)
        except CelEvaluationError as error:
            if error.line:
                raise
            fail(error.message)

    if len(arguments) == 1:
        (only,) = arguments
        return lambda frame: apply(frame, (only(frame),))
    if len(arguments) == 2:
        one, other = arguments
        return lambda frame: apply(frame, (one(frame), other(frame)))
    return lambda frame: apply(frame, [each(frame) for each in arguments])


def _listing(planned: Plan, node: nodes.Listing, names: Mapping[str, int]) -> Evaluate:
    fail = planned.failing(node)
    if any(each.optional for each in node.items):
        items = [(_build(planned, each.value, names), each.optional) for each in node.items]

        def possible(frame: Frame) -> Value:
            found = [_unwrapped(item(frame), optional, fail) for item, optional in items]
            return [each for each in found if each is not MISSING]

        return possible
    elements = [_build(planned, each.value, names) for each in node.items]

    def listing(frame: Frame) -> Value:
        return [each(frame) for each in elements]

    return listing


def _unwrapped(value: Value, optional: bool, fail: Fail) -> Value:
    if not optional:
        return value
    if type(value) is not Optional:
        fail(f"no such overload: {kind_of(value)} where an optional is expected")
    return value.value


def _mapping(planned: Plan, node: nodes.Mapping, names: Mapping[str, int]) -> Evaluate:
    fail = planned.failing(node)
    entries = [
        (_build(planned, each.key, names), _build(planned, each.value, names), each.optional) for each in node.entries
    ]

    def mapping(frame: Frame) -> Value:
        made: dict[Value, Value] = {}
        for key, value, optional in entries:
            name = key(frame)
            if kind_of(name) not in ("string", "int", "uint", "bool"):
                fail(f"unsupported key type: {kind_of(name)}")
            if name in made:
                fail("Failed with repeated key")
            found = _unwrapped(value(frame), optional, fail)
            if found is not MISSING:
                made[name] = found
        return made

    return mapping


def _loop(planned: Plan, node: nodes.Loop, names: Mapping[str, int]) -> Evaluate:
    over = _build(planned, node.range, names)
    slots = [planned.slot() for _ in node.names]
    inner = {**names, **dict(zip(node.names, slots, strict=True))}
    # A dotted variable is hidden by a loop's variable of its first part.
    inner = {name: slot for name, slot in inner.items() if "." not in name or name.partition(".")[0] not in node.names}
    body = _build(planned, node.body, inner)
    condition = None if node.condition is None else _build(planned, node.condition, inner)
    steps = node.body.size + (0 if node.condition is None else node.condition.size)
    return LOOPS[node.macro](over, slots, condition, body, steps, planned.failing(node))
