"""Regular expressions that a value chosen by a caller cannot keep busy: judged by their form, before any is tried.

Python's engine tries the ways in which an expression can match one after the other, and a caller may choose a value
that nearly matches in all of them. What is let through here has one way (the next character shows which branch to
take, and whether to repeat once more), except for at most two repeats that stand in no other repeat.
"""

from __future__ import annotations

import re
import re._constants as op  # type: ignore[import-not-found]  # typeshed knows only the deprecated name, sre_constants
import re._parser as parser  # type: ignore[import-not-found]  # the same
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

__all__ = ["LONGEST", "expression_fault"]

LONGEST = 256
"""How many characters a value may have where a regular expression is tried on it."""

_MOST_WAYS = 4 * (LONGEST + 1) ** 2  # two repeats of any length, and two that are there or not
_DEEPEST = 8
_FOLDED = re.compile(r"\(\?[a-zL]*i")
_Item: TypeAlias = tuple[object, object]

# Sets of characters are bits: one for each of ASCII, one for all others, one for the end. They may be too large,
# never too small, so two that share no bit share no character.
_OTHER, _END = 1 << 128, 1 << 129
_ASCII = _OTHER - 1
_ANY = _ASCII | _OTHER
_REPEATS = frozenset({op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT})
_CATEGORIES = {
    op.CATEGORY_DIGIT: r"\d",
    op.CATEGORY_NOT_DIGIT: r"\D",
    op.CATEGORY_SPACE: r"\s",
    op.CATEGORY_NOT_SPACE: r"\S",
    op.CATEGORY_WORD: r"\w",
    op.CATEGORY_NOT_WORD: r"\W",
}


class _Unsafe(Exception):
    """Why an expression is not let through."""


class _Shape(NamedTuple):
    """Of a piece: the characters it may begin with (those that may follow it too, when it may be empty), whether it
    may be empty, and in how many ways it can be tried at most."""

    first: int
    empty: bool
    ways: int


def expression_fault(expression: str) -> str | None:
    """Why a regular expression that compiles may take too long on a value of `LONGEST` characters, or None."""
    try:
        tree = parser.parse(expression)
        shape = _Judge(_FOLDED.search(expression) is not None).sequence(tree, _END, False)
    except _Unsafe as error:
        return str(error)
    if shape.ways > _MOST_WAYS:
        return (
            "has more than two repeats, or several ?, that can take the same characters: write [^/]+ between slashes"
            " in place of .*, and at the end .* or nothing"
        )
    return None


class _Judge:
    """One expression.

    Args:
        folded: whether letters may stand for both cases.
    """

    def __init__(self, folded: bool) -> None:
        self._folded = folded
        self._depth = 0

    def sequence(self, items: Sequence[_Item], after: int, repeated: bool) -> _Shape:
        """Of items in a row: from the last to the first, each with what may follow it.

        Args:
            after: the characters that may follow.
            repeated: whether this stands in a repeat.
        """
        first, empty, ways = after, True, 1
        for operator, value in reversed(items):
            shape = self._item(operator, value, first, repeated)
            first, empty, ways = shape.first, empty and shape.empty, ways * shape.ways
        return _Shape(first, empty, ways)

    def _item(self, operator: object, value: object, after: int, repeated: bool) -> _Shape:
        if operator in _REPEATS:
            return self._repeat(value, after, repeated)  # type: ignore[arg-type]  # least, most, body
        if operator is op.BRANCH:
            return self._branch(value[1], after, repeated)  # type: ignore[index]  # nothing, branches
        if operator is op.SUBPATTERN:
            return self.sequence(value[3], after, repeated)  # type: ignore[index]  # number, two flags, body
        if operator is op.ATOMIC_GROUP:
            return self.sequence(value, after, repeated)  # type: ignore[arg-type]  # the body alone
        if operator is op.AT:
            return _Shape(after, True, 1)
        if operator in (op.ASSERT, op.ASSERT_NOT) and not repeated:
            ahead = self.sequence(value[1], _END, repeated)  # type: ignore[index]  # direction, body
            return _Shape(_ANY | _END, True, ahead.ways)
        if operator in (op.GROUPREF, op.GROUPREF_EXISTS):
            raise _Unsafe("refers back to a group: write out what is to stand there")
        return _Shape(self._characters(operator, value), False, 1)

    def _repeat(self, value: tuple[int, int, Sequence[_Item]], after: int, repeated: bool) -> _Shape:
        least, most, body = value
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _Unsafe(f"has repeats in each other, more than {_DEEPEST} deep")
        again = most > 1
        begin = self.sequence(body, 0, repeated or again)
        if again and begin.empty:
            raise _Unsafe("repeats what may be empty: write (a|b)* in place of (a?b?)*")
        inner = self.sequence(body, after | begin.first if again else after, repeated or again)
        self._depth -= 1
        ways = inner.ways
        # A repeat at the end has one way; where it stops short of the end, it does so for every way before it.
        at_end = not repeated and after == _END and begin.first != _ANY
        if least != most and (begin.first & after or at_end):
            if repeated:
                raise _Unsafe(
                    "has a repeat in a repeat where the next character does not show which goes on:"
                    " write (/[^/]+)* in place of (.+)*, and [a-z]+ in place of ([a-z]+)+"
                )
            ways *= min(most, LONGEST) - min(least, LONGEST) + 1
        return _Shape(begin.first | after if not least or inner.empty else begin.first, not least or inner.empty, ways)

    def _branch(self, branches: Sequence[Sequence[_Item]], after: int, repeated: bool) -> _Shape:
        shapes = [self.sequence(branch, after, repeated) for branch in branches]
        first, alike = 0, False
        for shape in shapes:
            alike = alike or bool(first & shape.first)
            first |= shape.first
        if alike and repeated:
            raise _Unsafe("repeats branches that can begin alike: write [ab]+ in place of (a|[ab])+")
        ways = [shape.ways for shape in shapes]
        return _Shape(first, any(shape.empty for shape in shapes), sum(ways) if alike else max(ways))

    def _characters(self, operator: object, value: object) -> int:
        if operator is op.ANY:
            return _ANY
        if operator is op.LITERAL:
            return self._fold(_span(value, value))
        if operator is op.NOT_LITERAL:
            return _ANY & ~(_span(value, value) & _ASCII)
        if operator is op.RANGE:
            return self._fold(_span(*value))  # type: ignore[misc]  # the first and the last
        if operator is op.CATEGORY and value in _CATEGORIES:
            category = re.compile(_CATEGORIES[value])
            return sum(1 << code for code in range(128) if category.fullmatch(chr(code))) | _OTHER
        if operator is op.IN and isinstance(value, list):
            if value[0][0] is op.NEGATE:
                named = 0
                for one in value[1:]:
                    named |= _Judge(False)._characters(*one)
                return (_ASCII & ~named) | _OTHER
            characters = 0
            for one in value:
                characters |= self._characters(*one)
            return characters
        raise _Unsafe("uses what cannot be shown to be quick")

    def _fold(self, characters: int) -> int:
        """With the other case of each letter; some letters outside ASCII have theirs inside."""
        if not self._folded:
            return characters
        letters = "".join(chr(code) for code in range(128) if characters >> code & 1)
        for letter in letters.swapcase():
            characters |= 1 << ord(letter)
        return _ANY if characters & _OTHER else characters | _OTHER


def _span(first: object, last: object) -> int:
    """The characters from one code to another."""
    if not isinstance(first, int) or not isinstance(last, int):
        raise _Unsafe("uses what cannot be shown to be quick")
    within = sum(1 << code for code in range(first, min(last, 127) + 1))
    return within | (_OTHER if last > 127 else 0)
