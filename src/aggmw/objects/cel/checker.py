"""The type of an expression, or all the mistakes in it (langdef.md, "Gradual type checking").

Where nothing is known of a value's type (`dyn`), everything is allowed here and decided when it is evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aggmw.objects.cel import nodes
from aggmw.objects.cel.errors import CelCompileError, Mistake, place
from aggmw.objects.cel.functions import Function, Functions
from aggmw.objects.cel.types import (
    BOOL,
    DYN,
    INT,
    STRING,
    UNKNOWN,
    Type,
    assignable,
    common,
    list_of,
    map_of,
    optional_of,
    parse_type,
    replaced,
    type_of,
)
from aggmw.objects.cel.values import Value, kind_of
from aggmw.objects.re2 import BadPattern, compile_pattern

__all__ = ["TYPE_NAMES", "check", "namespaced"]

TYPE_NAMES: Mapping[str, str] = {
    "bool": "bool",
    "int": "int",
    "uint": "uint",
    "double": "double",
    "string": "string",
    "bytes": "bytes",
    "list": "list",
    "map": "map",
    "null_type": "null",
    "type": "type",
    "optional_type": "optional",
    "google.protobuf.Timestamp": "timestamp",
    "google.protobuf.Duration": "duration",
}
"""What is a type where it stands as a value, such as in `type(x) == string`."""


_PATTERNS = frozenset({"matches", "find", "findAll"})


class _Finding(NamedTuple):
    offset: int
    message: str


def check(text: str, node: nodes.Node, variables: Mapping[str, Type], functions: Functions) -> Type:
    """The type of an expression.

    Args:
        text: the expression, for places.
        node: its tree.
        variables: their types by name.
        functions: all that there are.

    Raises:
        CelCompileError: unknown names, and operands whose types do not fit.
    """
    checker = _Checker(variables, functions)
    found = checker.type_of(node, {})
    if checker.findings:
        mistakes = [Mistake(*place(text, each.offset), each.message) for each in checker.findings]
        raise CelCompileError(sorted(mistakes))
    return found


def namespaced(node: nodes.Call, known: Mapping[str, object], functions: Functions) -> str | None:
    """The function that `a.b(…)` calls, where `a` is no variable and `a.b` is one; None where it is a method."""
    head = None if node.target is None else nodes.dotted(node.target)
    if head is None or head.partition(".")[0] in known:
        return None
    name = f"{head}.{node.function}"
    return name if functions.find(name, member=False) else None


class _Checker:
    def __init__(self, variables: Mapping[str, Type], functions: Functions) -> None:
        self._variables = variables
        self._functions = functions
        self.findings: list[_Finding] = []

    def _mistake(self, node: nodes.Node, message: str) -> Type:
        self.findings.append(_Finding(node.offset, message))
        return DYN

    def type_of(self, node: nodes.Node, local: Mapping[str, Type]) -> Type:
        if isinstance(node, nodes.Literal):
            return _literal(node.value)
        if isinstance(node, nodes.Identifier):
            return self._named(node, node.name, local, absolute=node.absolute)
        if isinstance(node, nodes.Select):
            return self._select(node, local)
        if isinstance(node, nodes.Call):
            return self._call(node, local)
        if isinstance(node, nodes.Listing):
            return self._listing(node, local)
        if isinstance(node, nodes.Mapping):
            return self._mapping(node, local)
        if isinstance(node, nodes.Loop):
            return self._loop(node, local)
        raise TypeError(type(node).__name__)

    def _known(self, name: str, local: Mapping[str, Type], *, absolute: bool = False) -> Type | None:
        if not absolute and name in local:
            return local[name]
        if name in self._variables:
            return self._variables[name]
        kind = TYPE_NAMES.get(name)
        return None if kind is None else type_of(parse_type(kind))

    def _named(self, node: nodes.Node, name: str, local: Mapping[str, Type], *, absolute: bool = False) -> Type:
        found = self._known(name, local, absolute=absolute)
        return self._mistake(node, f"undeclared reference to {name!r}") if found is None else found

    def _select(self, node: nodes.Select, local: Mapping[str, Type]) -> Type:
        name = nodes.dotted(node)
        if name is not None and name.partition(".")[0] not in local and (found := self._known(name, {})) is not None:
            return found
        operand = self.type_of(node.operand, local)
        unwrapped = operand.parameters[0] if operand.name == "optional" else operand
        if unwrapped.fields is not None:
            found = unwrapped.fields.get(node.field)
            if found is None:
                found = self._mistake(node, f"undefined field {node.field!r} of {unwrapped}")
        elif unwrapped.name == "map":
            found = unwrapped.parameters[1]
        elif unwrapped == DYN or unwrapped.is_parameter:
            found = DYN
        else:
            found = self._mistake(node, f"type '{operand}' does not support field selection")
        if node.test:
            return BOOL
        return optional_of(found) if node.optional or operand.name == "optional" else found

    def _call(self, node: nodes.Call, local: Mapping[str, Type]) -> Type:
        name, target = node.function, node.target
        if space := namespaced(node, {**self._variables, **local}, self._functions):
            name, target = space, None
        given = [self.type_of(each, local) for each in node.arguments]
        if target is not None:
            given.insert(0, self.type_of(target, local))
        if name in ("_&&_", "_||_"):
            for each, kind in zip(node.arguments, given, strict=True):
                self._is_bool(each, kind, name)
            return BOOL
        if name == "_?_:_":
            self._is_bool(node.arguments[0], given[0], name)
            return common(given[1], given[2])
        function = self._functions.find(name, member=target is not None)
        if function is None:
            return self._mistake(node, f"undeclared reference to {name!r}")
        return self._overload(node, function, given)

    def _overload(self, node: nodes.Call, function: Function, given: Sequence[Type]) -> Type:
        if function.name in _PATTERNS:
            self._pattern(node)
        result: Type | None = None
        for overload in function.overloads:
            if len(overload.parameters) != len(given):
                continue
            bound: dict[str, Type] = {}
            if all(assignable(a, b, bound) for a, b in zip(overload.parameters, given, strict=True)):
                result = common(result, replaced(overload.result, bound))
        if result is None:
            shown = ", ".join(map(str, given))
            return self._mistake(node, f"found no matching overload for {function.name!r} applied to '({shown})'")
        return result

    def _pattern(self, node: nodes.Call) -> None:
        """A pattern that is a constant is looked at now."""
        place = 1 if node.target is None else 0
        pattern = node.arguments[place] if len(node.arguments) > place else None
        if isinstance(pattern, nodes.Literal) and isinstance(pattern.value, str):
            try:
                compile_pattern(pattern.value)
            except BadPattern as error:
                self._mistake(pattern, str(error))

    def _is_bool(self, node: nodes.Node, given: Type, name: str) -> None:
        if given not in (BOOL, DYN):
            self._mistake(node, f"found no matching overload for {name!r} applied to '({given})': expected bool")

    def _listing(self, node: nodes.Listing, local: Mapping[str, Type]) -> Type:
        element: Type | None = None
        for item in node.items:
            element = common(element, self._possible(item.value, self.type_of(item.value, local), item.optional))
        return list_of(element or UNKNOWN)

    def _possible(self, node: nodes.Node, given: Type, optional: bool) -> Type:
        if not optional or given == DYN:
            return given
        if given.name != "optional":
            return self._mistake(node, f"expected type 'optional_type' but found '{given}'")
        return given.parameters[0]

    def _mapping(self, node: nodes.Mapping, local: Mapping[str, Type]) -> Type:
        key: Type | None = None
        value: Type | None = None
        for entry in node.entries:
            kind = self.type_of(entry.key, local)
            if kind.name not in ("int", "uint", "bool", "string", "dyn"):
                self._mistake(entry.key, f"unsupported key type '{kind}'")
            key = common(key, kind)
            value = common(value, self._possible(entry.value, self.type_of(entry.value, local), entry.optional))
        return map_of(key or UNKNOWN, value or UNKNOWN)

    def _loop(self, node: nodes.Loop, local: Mapping[str, Type]) -> Type:
        over = self.type_of(node.range, local)
        macro = node.macro
        if macro == "bind":
            return self.type_of(node.body, {**local, node.names[0]: over})
        if macro in ("optMap", "optFlatMap"):
            if over.name not in ("optional", "dyn"):
                self._mistake(node.range, f"expected type 'optional_type' but found '{over}'")
            inner = {**local, node.names[0]: over.parameters[0] if over.parameters else DYN}
            body = self.type_of(node.body, inner)
            return optional_of(body) if macro == "optMap" else body
        key, element = self._elements(node.range, over)
        names = (element,) if len(node.names) == 1 else (key, element)
        if len(node.names) == 1 and over.name == "map":
            names = (key,)
        inner = {**local, **dict(zip(node.names, names, strict=True))}
        if node.condition is not None:
            self._is_bool(node.condition, self.type_of(node.condition, inner), macro)
        body = self.type_of(node.body, inner)
        if macro in ("all", "exists", "exists_one", "existsOne", "filter"):
            self._is_bool(node.body, body, macro)
            return list_of(names[0]) if macro == "filter" else BOOL
        if macro in ("map", "transformList"):
            return list_of(body)
        if macro == "transformMap":
            return map_of(key, body)
        if body.name not in ("map", "dyn"):
            self._mistake(node.body, f"expected a map of one entry but found '{body}'")
        return body

    def _elements(self, node: nodes.Node, over: Type) -> tuple[Type, Type]:
        """What a loop binds for a list (index, element) or a map (key, value)."""
        if over.name == "list":
            return INT, over.parameters[0]
        if over.name == "map":
            return over.parameters[0], over.parameters[1]
        if over.fields is not None:
            return STRING, DYN
        if over != DYN and not over.is_parameter:
            self._mistake(node, f"expression of type '{over}' cannot be range of a comprehension (must be list or map)")
        return DYN, DYN


def _literal(value: Value) -> Type:
    return parse_type(kind_of(value))
