"""What a name from a backend may look like. A backend is another party: what it says is shown to everybody."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sized
from typing import Any

from aggmw.contracts.catalog import GroupVersionKind

__all__ = [
    "BadDocument",
    "TooMuch",
    "check_words",
    "group_version_kind",
    "is_resource",
    "is_subresource",
    "is_version",
    "kind",
    "words",
]

_SEGMENT = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,251}[A-Za-z0-9])?"
_RESOURCE = re.compile(_SEGMENT)
_SUBRESOURCE = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,3}}")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]{0,252}")
_WORD = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.:]{0,61}[A-Za-z0-9])?")
_GROUP = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?)?")
_VERSION = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


MAX_WORDS = 32


class BadDocument(ValueError):
    """A document that is not what it should be. The text completes "the answer is …" and repeats nothing of it."""


class TooMuch(BadDocument):
    """A document that lists more than is read. The text is a sentence of its own, safe to show."""


def is_resource(value: object) -> bool:
    """A plural name, as it stands in a path."""
    return isinstance(value, str) and _RESOURCE.fullmatch(value) is not None


def is_subresource(value: object) -> bool:
    """What stands behind `resource/`; further slashes belong to it."""
    return isinstance(value, str) and _SUBRESOURCE.fullmatch(value) is not None


def is_version(value: object) -> bool:
    return isinstance(value, str) and _VERSION.fullmatch(value) is not None


def kind(value: object) -> str:
    """The name of a kind, "" for anything else."""
    return value if isinstance(value, str) and _KIND.fullmatch(value) else ""


def words(value: object) -> tuple[str, ...]:
    """Verbs, short names or categories: those that are words.

    Raises:
        TooMuch: more than any resource has.
    """
    if not isinstance(value, list):
        return ()
    check_words(value)
    return tuple(_only_words(value))


def check_words(values: Sized) -> None:
    """Whether one resource may have so many of them.

    Raises:
        TooMuch: no resource has.
    """
    if len(values) > MAX_WORDS:
        raise TooMuch("its discovery lists too many names for one resource")


def _only_words(values: list[Any]) -> Iterable[str]:
    return (each for each in values if isinstance(each, str) and _WORD.fullmatch(each))


def group_version_kind(group: object, version: object, name: object) -> GroupVersionKind:
    """All three, or the empty one when any of them is not a name: clients compare them as they are."""
    known = kind(name)
    if (
        known
        and isinstance(group, str)
        and _GROUP.fullmatch(group)
        and isinstance(version, str)
        and _VERSION.fullmatch(version)
    ):
        return GroupVersionKind(group, version, known)
    return GroupVersionKind()
