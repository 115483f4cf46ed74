"""Callers who present nothing: where they are let in as `system:anonymous`, and where that is a 401."""

from __future__ import annotations

from collections.abc import Iterable

from aggmw.contracts.identity import ANONYMOUS, Identity

__all__ = ["Anonymous"]


class Anonymous:
    """Lets callers who present nothing in, on the paths listed: equal character by character, nothing below them.

    No list is taken for "everywhere": that is `Anonymous.everywhere()`, and an empty list lets nobody in. What an
    anonymous caller may do there is still up to authorization.

    Args:
        paths: decoded paths below the mount, such as "/healthz" (`anonymous.conditions` of Kubernetes).

    Raises:
        ValueError: a path does not begin with a slash.
        TypeError: one string instead of several.
    """

    __slots__ = ("_paths",)

    def __init__(self, paths: Iterable[str]) -> None:
        if isinstance(paths, str):
            raise TypeError("Anonymous(paths=…) takes a list of paths, not one string")
        self._paths: frozenset[str] | None = frozenset(paths)
        for path in sorted(self._paths):
            if not path.startswith("/"):
                raise ValueError(f"the anonymous path {path!r} does not begin with a slash")

    @classmethod
    def everywhere(cls) -> Anonymous:
        """Lets callers who present nothing in on every path."""
        anonymous = cls(())
        anonymous._paths = None
        return anonymous

    def __repr__(self) -> str:
        return "Anonymous.everywhere()" if self._paths is None else f"Anonymous({sorted(self._paths)!r})"

    def swap(self, other: Anonymous) -> None:
        """Let in whom the other one lets in, from the next request on."""
        self._paths = other._paths

    def identity(self, path: str) -> Identity | None:
        """`system:anonymous` in `system:unauthenticated` where `path` lets it in, else None."""
        return ANONYMOUS if self._paths is None or path in self._paths else None
