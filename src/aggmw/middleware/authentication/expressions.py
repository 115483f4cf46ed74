"""CEL over the claims of a token, and over the user that they come to (`k8s.io/apiserver/pkg/authentication/cel`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from aggmw.errors import InvalidCredentials
from aggmw.objects import cel
from aggmw.objects.cel import CelCompileError, CelError, Type, object_of
from aggmw.objects.cel.lexer import tokens
from aggmw.objects.cel.nodes import Call, Identifier, Literal, Node, Select
from aggmw.objects.cel.parser import parse

__all__ = ["CLAIMS", "USER", "Expression", "compile_expression"]

CLAIMS: Mapping[str, str | Type] = {"claims": "map(string, dyn)"}
USER: Mapping[str, str | Type] = {
    "user": object_of(
        "kubernetes.UserInfo",
        {"username": "string", "uid": "string", "groups": "list(string)", "extra": "map(string, list(string))"},
    )
}

_ESCAPE = re.compile(r"__(underscores|dot|dash|slash)__")
_ESCAPED = {"underscores": "__", "dot": ".", "dash": "-", "slash": "/"}
_WORD = re.compile(
    r"__(true|false|null|in|as|break|const|continue|else|for|function|if|import|let|loop|package|namespace|return)__"
)


class Expression:
    """A compiled expression over one variable.

    Attributes:
        text: as it was written.
        reads: the members of the variable that it selects.
    """

    __slots__ = ("_program", "_variable", "reads", "text")

    def __init__(self, text: str, variables: Mapping[str, str | Type], results: frozenset[str]) -> None:
        (self._variable,) = variables
        plain = _plainly(text)
        self._program = cel.compile(plain, variables)
        if results and (kind := str(self._program.type)) not in results:
            known = "" if kind != "dyn" else "what is not known before it is evaluated: compare it, or convert it"
            raise ValueError(f"must evaluate to {' or '.join(sorted(results - {'dyn'}))}, not to {known or kind}")
        self.text = text
        self.reads = frozenset(_members(parse(plain), self._variable))

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"

    def evaluate(self, value: Any) -> Any:
        """What it comes to for this value of the variable.

        Raises:
            InvalidCredentials: it has no value, or takes too long.
        """
        try:
            return self._program.evaluate(**{self._variable: value})
        except CelError as error:
            raise InvalidCredentials(f"the expression {self.text!r} has no value: {error}") from None


def compile_expression(
    text: str, variables: Mapping[str, str | Type], results: frozenset[str] = frozenset()
) -> Expression:
    """An expression ready for use.

    Args:
        text: CEL.
        variables: `CLAIMS` or `USER`.
        results: the types that it may have, by name; with "dyn" also one that is not known before it is evaluated.
            Any, when left out.

    Raises:
        ValueError: every mistake in it.
    """
    try:
        return Expression(text, variables, results)
    except CelCompileError as error:
        raise ValueError("; ".join(map(str, error.mistakes))) from None


def _nodes(node: object) -> Iterator[Node]:
    """A tree's nodes."""
    if isinstance(node, Node):
        yield node
    if is_dataclass(node):
        for field in fields(node):
            yield from _nodes(getattr(node, field.name))
    elif isinstance(node, list | tuple):
        for each in node:
            yield from _nodes(each)


def _members(tree: Node, variable: str) -> Iterator[str]:
    """The members of a variable that are selected: `claims.email`, `claims.?email`, `claims["email"]`."""
    for node in _nodes(tree):
        if isinstance(node, Select) and _is(node.operand, variable):
            yield node.field
        elif isinstance(node, Call) and node.function in ("_[_]", "_[?_]"):
            of, key = (*((node.target,) if node.target else ()), *node.arguments)[:2]
            if _is(of, variable) and isinstance(key, Literal) and isinstance(key.value, str):
                yield key.value


def _is(node: Node | None, variable: str) -> bool:
    return isinstance(node, Identifier) and node.name == variable


def _plainly(text: str) -> str:
    """The expression with the members that it means: `.foo__dot__bar` is "foo.bar", which cannot be written so."""
    parts: list[str] = []
    done = 0
    before: tuple[str, str] = ("", "")
    for token in tokens(text):
        if token.kind == "name" and (before[1] == "." or before == (".", "?")):
            name = str(token.value)
            if (plain := _unescaped(name)) != name:
                parts += (text[done : token.offset], f"`{plain}`")
                done = token.offset + len(name)
        before = before[1], token.kind
    return "".join(parts) + text[done:]


def _unescaped(name: str) -> str:
    if (word := _WORD.fullmatch(name)) is not None:
        return word[1]
    return _ESCAPE.sub(lambda match: _ESCAPED[match[1]], name)
