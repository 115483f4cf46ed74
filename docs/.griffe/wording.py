"""What the site shows of the sources: a row for each option, defaults as values, no reference to notes elsewhere."""

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


def shown(default: str | griffe.Expr | None, module: griffe.Module) -> str | griffe.Expr | None:
    """The default of a parameter, and where that is a private constant of its module, the constant's value."""
    constant = module.members.get(str(default)) if str(default).startswith("_") else None
    return constant.value if isinstance(constant, griffe.Attribute) else default


class Wording(griffe.Extension):
    """Rewords docstrings and signatures before they are shown."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object once it is known."""
        if obj.docstring is not None:
            obj.docstring.value = reworded(obj.docstring.value)
        if isinstance(obj, griffe.Function):
            for parameter in obj.parameters:
                parameter.default = shown(parameter.default, obj.module)
