"""Model files: casbin's sections of definitions, each with the line where it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aggmw.errors import Problem
from aggmw.middleware.authorization.casbin.text import numbered

__all__ = ["Definition", "Model", "read_model"]

_SECTIONS = {
    "request_definition": "r",
    "policy_definition": "p",
    "role_definition": "g",
    "policy_effect": "e",
    "matchers": "m",
}
_NAMES = {letter: name for name, letter in _SECTIONS.items()}
_KEYS = {"r": ("r", "r2"), "p": ("p", "p2"), "e": ("e", "e2"), "m": ("m", "m2")}
_ROLES = re.compile(r"g([2-9]|[1-9][0-9])?")


@dataclass(frozen=True, slots=True)
class Definition:
    """One `key = value` of a model.

    Attributes:
        where: `file:line` of its first line.
        section: the section's name.
    """

    key: str
    value: str
    where: str
    section: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The names that a request, policy or role definition lists."""
        return tuple(name.strip() for name in self.value.split(","))


@dataclass(frozen=True, slots=True)
class Model:
    """A model's definitions by key: r, p, e and m; perhaps the same with a 2, for paths; g, g2, … for roles."""

    source: str
    definitions: Mapping[str, Definition]

    def get(self, key: str) -> Definition | None:
        return self.definitions.get(key)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """ "" for requests; "2" too where the model has definitions of its own for paths."""
        return ("", "2") if "r2" in self.definitions else ("",)

    @property
    def role_keys(self) -> tuple[str, ...]:
        return tuple(key for key in self.definitions if key[0] == "g")


def read_model(text: str, source: str) -> tuple[Model, list[Problem]]:
    """The definitions of a model, and what is wrong with its form."""
    problems: list[Problem] = []
    definitions: dict[str, Definition] = {}
    section = ""
    for where, line, problem in _joined(text, source):
        if problem is not None:
            problems.append(problem)
        elif line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            if section not in _SECTIONS:
                problems.append(Problem(where, f"unknown section [{section}]; known: {', '.join(_SECTIONS)}"))
        elif section in _SECTIONS or not section:
            found = _definition(where, line, section, definitions)
            if isinstance(found, Definition):
                definitions[found.key] = found
            else:
                problems.append(found)
    if not problems:
        problems.extend(_missing(definitions, source))
    return Model(source, definitions), problems


def _joined(text: str, source: str) -> list[tuple[str, str, Problem | None]]:
    """Lines that end in a backslash joined with the next; `;` begins a comment too."""
    lines: list[tuple[str, str, Problem | None]] = []
    open_line = False
    for where, line, problem in numbered(text, source):
        if line.startswith(";"):
            continue
        piece = line.removesuffix("\\").strip()
        if open_line:
            first_where, first, first_problem = lines[-1]
            lines[-1] = (first_where, f"{first} {piece}", first_problem or problem)
        else:
            lines.append((where, piece, problem))
        open_line = line.endswith("\\")
    return lines


def _definition(where: str, line: str, section: str, known: Mapping[str, Definition]) -> Definition | Problem:
    if not section:
        return Problem(where, f"stands before the first section; sections are {', '.join(_SECTIONS)}")
    key, equals, value = (part.strip() for part in line.partition("="))
    if not equals or not value:
        return Problem(where, f"is not of the form KEY = VALUE: {line}")
    letter = _SECTIONS[section]
    if not (_ROLES.fullmatch(key) if letter == "g" else key in _KEYS[letter]):
        keys = "g, g2, g3, …" if letter == "g" else ", ".join(_KEYS[letter])
        return Problem(where, f"[{section}] has no '{key}'; known: {keys}")
    if key in known:
        return Problem(where, f"defines {key} again; it is defined at {known[key].where}")
    return Definition(key, value, where, section)


def _missing(definitions: Mapping[str, Definition], source: str) -> list[Problem]:
    problems = [
        Problem(source, f"has no definition of {letter} in [{_NAMES[letter]}]")
        for letter in _KEYS
        if letter not in definitions
    ]
    seconds = [key for key in ("r2", "p2", "e2", "m2") if key in definitions]
    if seconds and len(seconds) < len(_KEYS):
        absent = [key for key in ("r2", "p2", "e2", "m2") if key not in definitions]
        problems.append(
            Problem(source, f"defines {', '.join(seconds)} without {', '.join(absent)}: paths need all four or none")
        )
    roles = sum(key[0] == "g" for key in definitions)
    expected = ["g", *(f"g{number}" for number in range(2, roles + 1))][:roles]
    problems.extend(
        Problem(source, f"has role definitions, and no {key}: they are numbered g, g2, g3, …")
        for key in expected
        if key not in definitions
    )
    return problems
