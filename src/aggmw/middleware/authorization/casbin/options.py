"""The options that every way of making a `CasbinAuthorizer` has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypedDict

from aggmw.contracts.authorization import Attributes
from aggmw.middleware.authorization.casbin.inputs import FIELDS
from aggmw.middleware.authorization.casbin.loading import Loader
from aggmw.middleware.authorization.casbin.snapshot import RolePatterns, functions_of
from aggmw.middleware.authorization.casbin.sources import TextSource

__all__ = ["REMEMBERED", "Options", "loader_of"]

REMEMBERED = 4096
"""How many allowing and how many refusing verdicts are remembered by default."""


class Options(TypedDict, total=False):
    """As `CasbinAuthorizer.from_files` describes them."""

    privileged: Iterable[str]
    allow_eval: bool
    functions: Mapping[str, Callable[..., object]] | None
    fields: Mapping[str, Callable[[Attributes], object]] | None
    casbin_patterns: bool
    role_patterns: Mapping[str, str] | None
    domain_patterns: Mapping[str, str] | None
    cache: int


def loader_of(model: TextSource | None, options: Options) -> Loader:
    """What makes snapshots by these options.

    Raises:
        ValueError: a field of one's own is called like one that requests have.
    """
    fields = dict(options.get("fields") or {})
    taken = sorted(FIELDS.keys() & fields)
    if taken:
        raise ValueError(f"fields: requests have a field called {taken[0]} already")
    exact = not options.get("casbin_patterns", False)
    return Loader(
        model,
        options.get("allow_eval", False),
        functions_of(dict(options.get("functions") or {}), exact=exact),
        fields,
        exact,
        RolePatterns(dict(options.get("role_patterns") or {}), dict(options.get("domain_patterns") or {})),
        options.get("cache", REMEMBERED),
    )
