"""Who publishes documents of its own: keys, and what says where they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["Publication", "Publisher"]


class Publication(NamedTuple):
    """A document as it is published.

    Attributes:
        content_type: such as b"application/json".
        body: the document.
        seconds: how long others may keep it.
    """

    content_type: bytes
    body: bytes
    seconds: int


@runtime_checkable
class Publisher(Protocol):
    """Has documents, which discovery serves to those whom authorization lets get their paths."""

    @property
    def documents(self) -> Mapping[str, Publication]:
        """Each document of the moment, by its path."""
        ...
