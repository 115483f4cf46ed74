"""What the site shows of docstrings: one row for each option, and no reference to notes that are not on it."""

from __future__ import annotations

import re
from typing import Any

import griffe

# "host, port: where it listens", with the lines that go on with it.
_SEVERAL = re.compile(r"^( +)(\*{0,2}\w+(?:, \*{0,2}\w+)+): (.*(?:\n\1 +.*)*)", re.MULTILINE)
_NOTES = re.compile(r"\s*\((?:wire contract|http-facts|architecture|security cases|library-notes)\b[^)]*\)")


def reworded(text: str) -> str:
    """The docstring, as it is shown."""
    return _SEVERAL.sub(_one_each, _NOTES.sub("", text))


def _one_each(match: re.Match[str]) -> str:
    indent, names, description = match.groups()
    return "\n".join(f"{indent}{name}: {description}" for name in names.split(", "))


class Wording(griffe.Extension):
    """Rewords docstrings before they are parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object once it is known."""
        if obj.docstring is not None:
            obj.docstring.value = reworded(obj.docstring.value)
