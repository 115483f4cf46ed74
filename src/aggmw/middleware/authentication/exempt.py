"""Paths whose callers the application identifies itself."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Exempt"]


class Exempt:
    """A set of paths: "/login" is that path alone, "/hooks/" is "/hooks" and all below it.

    Args:
        paths: decoded paths below the mount.

    Raises:
        ValueError: a path does not begin with a slash.
        TypeError: one string instead of several.
    """

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, paths: Iterable[str]) -> None:
        if isinstance(paths, str):
            raise TypeError("exempt takes a list of paths, not one string")
        given = sorted(set(paths))
        for path in given:
            if not path.startswith("/"):
                raise ValueError(f"the exempt path {path!r} does not begin with a slash")
        self._prefixes = tuple(path for path in given if path.endswith("/"))
        self._exact = frozenset(path.removesuffix("/") for path in given)

    def __repr__(self) -> str:
        return repr(sorted({*self._prefixes, *self._exact} - {path.removesuffix("/") for path in self._prefixes}))

    def __bool__(self) -> bool:
        return bool(self._exact)

    def __contains__(self, path: str) -> bool:
        return path in self._exact or path.startswith(self._prefixes)
