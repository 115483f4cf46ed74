"""Policy files: casbin's comma-separated rows, each with the place where it stands."""

from __future__ import annotations

import re

from aggmw.errors import Problem
from aggmw.middleware.authorization.casbin.text import numbered

__all__ = ["Row", "read_rows"]

_OPENS, _CLOSES = "([", ")]"
_NESTED = re.compile(r'["()\[\]]')


class Row(tuple[str, ...]):
    """The columns of a row after its type: what casbin evaluates.

    Attributes:
        ptype: the type, such as "p" or "g".
        where: `file:line`.
    """

    ptype: str
    where: str

    def __new__(cls, columns: tuple[str, ...], ptype: str, where: str) -> Row:
        row = super().__new__(cls, columns)
        row.ptype = ptype
        row.where = where
        return row

    def __str__(self) -> str:
        return f"{self.where}: {', '.join((self.ptype, *self))}"

    @property
    def shown(self) -> str:
        """The same for callers, who learn no directory of ours."""
        return str(self)[self.where.rfind("/") + 1 :]


def read_rows(text: str, source: str) -> tuple[list[Row], list[Problem]]:
    """The rows of a policy, and what cannot be read as one.

    Columns are separated by commas; white space around them does not count; a comma inside round or square brackets,
    or in a column that stands in double quotes (a quote in it is doubled), does not separate. A line that begins with
    `#` is a comment.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    known: dict[str, str] = {}
    once = known.setdefault  # the same few names stand in many rows
    for where, line, problem in numbered(text, source):
        if problem is not None:
            problems.append(problem)
            continue
        try:
            ptype, *columns = _columns(line)
        except ValueError as error:
            problems.append(Problem(where, str(error)))
        else:
            rows.append(Row(tuple([once(column, column) for column in columns]), once(ptype, ptype), where))
    return rows, problems


def _columns(line: str) -> list[str]:
    if _NESTED.search(line) is None:
        plain = line.split(",")
        return [column.strip(" \t") for column in plain] if line.isascii() else list(map(_trimmed, plain))
    columns: list[str] = []
    at = 0
    while True:
        while line[at : at + 1] in (" ", "\t"):
            at += 1
        read = _quoted if line.startswith('"', at) else _bare
        column, at = read(line, at)
        columns.append(column)
        if at == len(line):
            return columns
        at += 1


def _quoted(line: str, at: int) -> tuple[str, int]:
    """A quoted column that begins at `at`, and where the comma after it stands."""
    text = ""
    while True:
        end = line.find('"', at + 1)
        if end < 0:
            raise ValueError("has a quote that is not closed")
        text += line[at + 1 : end]
        at = end + 1
        if not line.startswith('"', at):
            break
        text += '"'
    comma = line.find(",", at)
    comma = len(line) if comma < 0 else comma
    if line[at:comma].strip(" \t"):
        raise ValueError("has text after a closing quote: put the whole column in quotes")
    return text, comma


def _bare(line: str, at: int) -> tuple[str, int]:
    """A column without quotes that begins at `at`, and where the comma after it stands."""
    open_brackets = ""
    end = at
    while end < len(line):
        character = line[end]
        if character == "," and not open_brackets:
            break
        if character == '"':
            raise ValueError("has a quote inside a column: put the whole column in quotes and double the quote")
        if character in _OPENS:
            open_brackets += character
        elif character in _CLOSES:
            if not open_brackets or open_brackets[-1] != _OPENS[_CLOSES.index(character)]:
                raise ValueError(f"has a '{character}' without its opening bracket: put the column in quotes")
            open_brackets = open_brackets[:-1]
        end += 1
    if open_brackets:
        raise ValueError(f"has a '{open_brackets[-1]}' that is not closed: put the column in quotes")
    return _trimmed(line[at:end]), end


def _trimmed(column: str) -> str:
    """Without spaces and tabs around it. Of other white space nobody sees that it is part of a name, or is none."""
    text = column.strip(" \t")
    if text != text.strip():
        raise ValueError("has white space around a column that is neither space nor tab: take it out")
    return text
