"""What a name from a backend may look like. A backend is another party: what it says is shown to everybody."""

from __future__ import annotations

from collections.abc import Sized

from aggmw.contracts.catalog import GroupVersionKind
from aggmw.objects.names import is_group, is_kind, is_version, is_word

__all__ = ["BadDocument", "TooMuch", "check_words", "group_version_kind", "words"]

MAX_WORDS = 32


class BadDocument(ValueError):
    """A document that is not what it should be. The text completes "the answer is …" and repeats nothing of it."""


class TooMuch(BadDocument):
    """A document that lists more than is read. The text is a sentence of its own, safe to show."""


def words(value: object) -> tuple[str, ...]:
    """Verbs, short names or categories: those that are words.

    Raises:
        TooMuch: more than any resource has.
    """
    if not isinstance(value, list):
        return ()
    check_words(value)
    return tuple(filter(is_word, value))


def check_words(values: Sized) -> None:
    """Whether one resource may have so many of them.

    Raises:
        TooMuch: no resource has.
    """
    if len(values) > MAX_WORDS:
        raise TooMuch("its discovery lists too many names for one resource")


def group_version_kind(group: object, version: object, name: object) -> GroupVersionKind:
    """All three, or the empty one when any of them is not a name: clients compare them as they are."""
    if is_kind(name) and (group == "" or is_group(group)) and is_version(version):
        return GroupVersionKind(group, version, name)
    return GroupVersionKind()
