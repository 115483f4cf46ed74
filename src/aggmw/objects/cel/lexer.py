"""Text to tokens (langdef.md, "Syntax")."""

from __future__ import annotations

import re
from typing import NamedTuple

from aggmw.objects.cel.errors import CelCompileError, Mistake, place
from aggmw.objects.cel.values import INT_MAX, UINT_MAX, UInt, Value

__all__ = ["MAX_LENGTH", "Token", "tokens"]

MAX_LENGTH = 65_536
"""Characters of an expression."""

_TOKEN = re.compile(
    r"""(?P<blank>(?:[\ \t\r\n\f]+|//[^\n]*)+)
    |(?P<string>(?:[bB]?[rR]?)(?:\"\"\"|'''|\"|'))
    |(?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    |(?P<int>(?:0x[0-9a-fA-F]+|[0-9]+)[uU]?)
    |(?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
    |`(?P<quoted>[a-zA-Z0-9_.\-/ ]+)`
    |(?P<operator>==|!=|<=|>=|&&|\|\||[-<>+*/%!?:.,()\[\]{}])""",
    re.VERBOSE,
)
_PLAIN = {
    '"': re.compile(r'((?:[^"\\\r\n]|\\.)*)"'),
    "'": re.compile(r"((?:[^'\\\r\n]|\\.)*)'"),
    '"""': re.compile(r'((?:[^\\]|\\.)*?)"""', re.DOTALL),
    "'''": re.compile(r"((?:[^\\]|\\.)*?)'''", re.DOTALL),
}
_RAW = {
    '"': re.compile(r'([^"\r\n]*)"'),
    "'": re.compile(r"([^'\r\n]*)'"),
    '"""': re.compile(r'(.*?)"""', re.DOTALL),
    "'''": re.compile(r"(.*?)'''", re.DOTALL),
}
_ESCAPE = re.compile(
    r"\\(?:(?P<simple>[abfnrtv\\?\"'`])|[xX](?P<hex>[0-9a-fA-F]{2})|(?P<octal>[0-3][0-7]{2})"
    r"|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})|(?P<bad>.|\Z))",
    re.DOTALL,
)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class Token(NamedTuple):
    """One token: its kind ("name", "quoted", "value", "end", or the operator itself), its value and its place."""

    kind: str
    value: Value
    offset: int


def tokens(text: str) -> list[Token]:
    """All tokens, an "end" last.

    Raises:
        CelCompileError: a character or a literal that is none, or too long a text.
    """
    if len(text) > MAX_LENGTH:
        raise CelCompileError([Mistake(1, 1, f"the expression has more than {MAX_LENGTH} characters")])
    found: list[Token] = []
    offset = 0
    while offset < len(text):
        match = _TOKEN.match(text, offset)
        if match is None:
            raise _mistake(text, offset, f"token recognition error at {text[offset]!r}")
        kind = match.lastgroup
        start, offset = offset, match.end()
        if kind == "string":
            value, offset = _string(text, start, offset, match.group().lower())
            found.append(Token("value", value, start))
        elif kind == "float":
            found.append(Token("value", float(match.group()), start))
        elif kind == "int":
            found.append(Token("value", _integer(text, start, match.group()), start))
        elif kind == "operator":
            found.append(Token(match.group(), None, start))
        elif kind is not None and kind != "blank":
            found.append(Token(kind, match.group(kind), start))
    found.append(Token("end", None, len(text)))
    return found


def _mistake(text: str, offset: int, message: str) -> CelCompileError:
    return CelCompileError([Mistake(*place(text, offset), message)])


def _integer(text: str, offset: int, digits: str) -> int:
    unsigned = digits[-1] in "uU"
    number = digits.rstrip("uU")
    if len(number) > 24:
        raise _mistake(text, offset, "the number is too large")
    value = int(number, 16 if number.startswith("0x") else 10)
    # One above the largest: the parser takes it after a minus only.
    if value > (UINT_MAX if unsigned else INT_MAX + 1):
        raise _mistake(text, offset, "the number is too large")
    return UInt(value) if unsigned else value


def _string(text: str, start: int, inside: int, opening: str) -> tuple[str | bytes, int]:
    quote = opening.lstrip("br")
    prefix = opening[: -len(quote)]
    match = (_RAW if "r" in prefix else _PLAIN)[quote].match(text, inside)
    if match is None:
        raise _mistake(text, start, f"a string has no end: {quote} is missing")
    body = match.group(1)
    if "b" in prefix:
        return _bytes(text, inside, body, raw="r" in prefix), match.end()
    return (body if "r" in prefix else _unescaped(text, inside, body)), match.end()


def _unescaped(text: str, offset: int, body: str) -> str:
    def one(match: re.Match[str]) -> str:
        if simple := match.group("simple"):
            return _SIMPLE.get(simple, simple)
        if octal := match.group("octal"):
            return chr(int(octal, 8))
        digits = match.group("hex") or match.group("short") or match.group("long")
        point = int(digits, 16) if digits else -1
        if not 0 <= point <= 0x10FFFF or 0xD800 <= point <= 0xDFFF:
            raise _mistake(text, offset + match.start(), f"no such escape in a string: {match.group()}")
        return chr(point)

    return _ESCAPE.sub(one, body)


def _bytes(text: str, offset: int, body: str, *, raw: bool) -> bytes:
    if raw:
        return body.encode()
    parts: list[bytes] = []
    done = 0
    for match in _ESCAPE.finditer(body):
        parts.append(body[done : match.start()].encode())
        done = match.end()
        if simple := match.group("simple"):
            parts.append(_SIMPLE.get(simple, simple).encode())
        elif octal := match.group("octal"):
            parts.append(bytes([int(octal, 8)]))
        elif digits := match.group("hex"):
            parts.append(bytes([int(digits, 16)]))
        else:
            raise _mistake(text, offset + match.start(), f"no such escape in bytes: {match.group()}")
    parts.append(body[done:].encode())
    return b"".join(parts)
