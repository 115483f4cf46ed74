"""Tokens to a tree (langdef.md, "Syntax" and "Macros"), with the macros of Kubernetes' environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from aggmw.objects.cel.errors import CelCompileError, Mistake, place
from aggmw.objects.cel.lexer import Token, tokens
from aggmw.objects.cel.nodes import (
    Call,
    Entry,
    Identifier,
    Item,
    Listing,
    Literal,
    Loop,
    Mapping,
    Node,
    Select,
    dotted,
)
from aggmw.objects.cel.values import INT_MAX

__all__ = ["MAX_DEPTH", "parse"]

MAX_DEPTH = 100
"""Levels of an expression, nested or in a row."""

RESERVED = frozenset(
    {
        *("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package"),
        *("namespace", "return", "var", "void", "while"),
    }
)
_CONSTANTS = {"true": True, "false": False, "null": None}
_BINARY = {"<": 1, "<=": 1, ">": 1, ">=": 1, "==": 1, "!=": 1, "in": 1, "+": 2, "-": 2, "*": 3, "/": 3, "%": 3}
_LOOPS = {
    # macro: numbers of names, then of arguments without and with a condition
    "all": (1, 2, 0),
    "exists": (1, 2, 0),
    "exists_one": (1, 2, 0),
    "existsOne": (1, 2, 0),
    "filter": (1, 2, 0),
    "map": (1, 2, 3),
    "optMap": (1, 2, 0),
    "optFlatMap": (1, 2, 0),
    "transformList": (2, 3, 4),
    "transformMap": (2, 3, 4),
    "transformMapEntry": (2, 3, 4),
}
_TWO_NAMES = frozenset({"all", "exists", "existsOne", "exists_one"})


def parse(text: str) -> Node:
    """The tree of an expression, macros expanded.

    Raises:
        CelCompileError: the text is no expression, or nested too deeply.
    """
    return _Parser(text).parse()


class _Parser:
    """One pass over the tokens, by precedence climbing."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._at = 0
        self._nested = 0

    def parse(self) -> Node:
        node = self._expression()
        if self._next.kind != "end":
            self._unexpected()
        return node

    # Tokens.

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _took(self, kind: str) -> bool:
        if self._next.kind == kind:
            self._at += 1
            return True
        return False

    def _expect(self, kind: str) -> Token:
        if self._next.kind != kind:
            self._unexpected(f", {kind!r} is expected")
        return self._take()

    def _fail(self, offset: int, message: str) -> NoReturn:
        raise CelCompileError([Mistake(*place(self._text, offset), message)])

    def _unexpected(self, hint: str = "") -> NoReturn:
        token = self._next
        shown = {"end": "the end", "value": "a literal", "name": repr(token.value)}.get(token.kind, repr(token.kind))
        self._fail(token.offset, f"Syntax error: {shown} is not expected here{hint}")

    def _levels(self, offset: int, children: Sequence[Node]) -> tuple[int, int, int]:
        """Place, depth and size of a node that has these children."""
        depth = 1 + max((each.depth for each in children), default=0)
        if depth > MAX_DEPTH:
            self._fail(offset, f"the expression has more than {MAX_DEPTH} levels")
        return offset, depth, 1 + sum(each.size for each in children)

    def _call(self, offset: int, function: str, *arguments: Node) -> Node:
        return Call(*self._levels(offset, arguments), function, None, arguments)

    # Grammar.

    def _expression(self) -> Node:
        self._nested += 1
        if self._nested > MAX_DEPTH:
            self._fail(self._next.offset, f"the expression has more than {MAX_DEPTH} levels")
        node = self._logic("||", "_||_")
        if self._next.kind == "?":
            offset = self._take().offset
            yes = self._logic("||", "_||_")
            self._expect(":")
            node = self._call(offset, "_?_:_", node, yes, self._expression())
        self._nested -= 1
        return node

    def _logic(self, operator: str, function: str) -> Node:
        first = self._logic("&&", "_&&_") if operator == "||" else self._binary(1)
        offset = self._next.offset
        arguments = [first]
        while self._took(operator):
            arguments.append(self._logic("&&", "_&&_") if operator == "||" else self._binary(1))
        return first if len(arguments) == 1 else self._call(offset, function, *arguments)

    def _binary(self, lowest: int) -> Node:
        left = self._unary()
        while True:
            token = self._next
            operator = "in" if token.kind == "name" and token.value == "in" else token.kind
            precedence = _BINARY.get(operator, 0)
            if precedence < lowest:
                return left
            self._take()
            right = self._binary(precedence + 1)
            function = "@in" if operator == "in" else f"_{operator}_"
            left = self._call(token.offset, function, left, right)

    def _unary(self) -> Node:
        operator = self._next
        if operator.kind not in ("!", "-"):
            return self._member()
        times = 0
        while self._next.kind == operator.kind:
            last = self._take()
            times += 1
        following = self._next
        if operator.kind == "-" and following.kind == "value" and type(following.value) in (int, float):
            # A minus belongs to the number, so that the smallest one can be written.
            self._at += 1
            times -= 1
            literal = Literal(last.offset, 1, 1, -following.value)
            node = self._members(literal)
        else:
            node = self._member()
        return self._call(operator.offset, f"{operator.kind}_", node) if times % 2 else node

    def _member(self) -> Node:
        return self._members(self._primary())

    def _members(self, node: Node) -> Node:
        while True:
            token = self._next
            if token.kind == ".":
                self._take()
                optional = self._took("?")
                name = self._field()
                if not optional and self._next.kind == "(":
                    node = self._method(node, name, token.offset)
                else:
                    node = Select(*self._levels(token.offset, (node,)), node, name, optional=optional)
            elif token.kind == "[":
                self._take()
                function = "_[?_]" if self._took("?") else "_[_]"
                index = self._expression()
                self._expect("]")
                node = self._call(token.offset, function, node, index)
            elif token.kind == "{" and (message := dotted(node)) is not None:
                self._fail(node.offset, f"undeclared reference to {message!r}: there are no messages")
            else:
                return node

    def _field(self) -> str:
        token = self._take()
        if token.kind not in ("name", "quoted") or token.value in _CONSTANTS or token.value == "in":
            self._at -= 1
            self._unexpected(", a field is expected")
        return str(token.value)

    def _primary(self) -> Node:
        token = self._take()
        if token.kind == "value":
            if type(token.value) is int and token.value > INT_MAX:
                self._fail(token.offset, "the number is too large")
            return Literal(token.offset, 1, 1, token.value)
        if token.kind == "(":
            node = self._expression()
            self._expect(")")
            return node
        if token.kind == "[":
            return self._listing(token.offset)
        if token.kind == "{":
            return self._mapping(token.offset)
        absolute = token.kind == "."
        if absolute:
            token = self._expect("name")
        if token.kind != "name" or token.value == "in":
            self._at -= 1
            self._unexpected()
        if token.value in _CONSTANTS and not absolute:
            return Literal(token.offset, 1, 1, _CONSTANTS[token.value])
        if token.value in RESERVED:
            self._fail(token.offset, f"reserved identifier: {token.value}")
        if self._next.kind == "(":
            return self._function(token)
        return Identifier(token.offset, 1, 1, token.value, absolute)

    def _listing(self, offset: int) -> Node:
        items: list[Item] = []
        while not self._took("]"):
            optional = self._took("?")
            items.append(Item(self._expression(), optional))
            if not self._took(","):
                self._expect("]")
                break
        return Listing(*self._levels(offset, [each.value for each in items]), items)

    def _mapping(self, offset: int) -> Node:
        entries: list[Entry] = []
        while not self._took("}"):
            optional = self._took("?")
            key = self._expression()
            self._expect(":")
            entries.append(Entry(key, self._expression(), optional))
            if not self._took(","):
                self._expect("}")
                break
        children = [node for each in entries for node in (each.key, each.value)]
        return Mapping(*self._levels(offset, children), entries)

    def _arguments(self) -> list[Node]:
        self._expect("(")
        arguments: list[Node] = []
        while not self._took(")"):
            arguments.append(self._expression())
            if not self._took(","):
                self._expect(")")
                break
            if self._next.kind == ")":
                self._unexpected()
        return arguments

    # Macros.

    def _function(self, name: Token) -> Node:
        arguments = self._arguments()
        if name.value == "has" and len(arguments) == 1:
            tested = arguments[0]
            if not isinstance(tested, Select) or tested.test or tested.optional:
                self._fail(tested.offset, "invalid argument to has() macro: a field is expected, as in has(a.b)")
            return Select(tested.offset, tested.depth, tested.size, tested.operand, tested.field, test=True)
        return self._call(name.offset, name.value, *arguments)

    def _method(self, target: Node, name: str, offset: int) -> Node:
        arguments = self._arguments()
        if name == "bind" and len(arguments) == 3 and isinstance(target, Identifier) and target.name == "cel":
            return self._loop(offset, name, arguments[1], arguments[:1], None, arguments[2])
        count = len(arguments)
        if name in _LOOPS:
            names, short, long = _LOOPS[name]
            if name in _TWO_NAMES and count == 3:
                return self._loop(offset, name, target, arguments[:2], None, arguments[2])
            if count == short:
                return self._loop(offset, name, target, arguments[:names], None, arguments[-1])
            if count == long:
                return self._loop(offset, name, target, arguments[:names], arguments[-2], arguments[-1])
        return Call(*self._levels(offset, (target, *arguments)), name, target, arguments)

    def _loop(
        self, offset: int, macro: str, target: Node, variables: Sequence[Node], condition: Node | None, body: Node
    ) -> Node:
        names: list[str] = []
        for each in variables:
            if not isinstance(each, Identifier):
                self._fail(each.offset, f"argument of {macro}() is not an identifier")
            if each.name in names:
                self._fail(each.offset, f"the variables of {macro}() have the same name")
            names.append(each.name)
        children = (target, body) if condition is None else (target, condition, body)
        return Loop(*self._levels(offset, children), macro, target, tuple(names), condition, body)
