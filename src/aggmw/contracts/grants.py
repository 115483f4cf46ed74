"""What a policy grants, rule by rule, as products of sets: what can be compared, searched and looked through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

__all__ = ["Grant", "GrantLister", "Granted", "Set"]

Set = frozenset[str] | None
"""Texts; None: all of them, the empty one too."""


class Grant(NamedTuple):
    """A rule: it holds for a request whose every value is in its set. Those are sets of what is written, not patterns.

    Attributes:
        subject: `user:NAME`, `group:NAME` or `role:NAME`.
        rule: the rule as its author would know it, with its place.
        denies: whether it denies; such a rule wins over all that allow.
        is_resource: whether it is about resources, or about other paths.
        verbs: in lower case.
        api_groups: "" is the core group.
        resources: `pods`, `pods/log`, or `*/log` for a subresource of everything.
        namespaces, names: without "": what has no namespace or no name is only in the set of all.
        paths: for what is not about resources: `/path`, or `/beginning*`.
    """

    subject: str
    rule: str
    denies: bool = False
    is_resource: bool = True
    verbs: Set = None
    api_groups: Set = None
    resources: Set = None
    namespaces: Set = None
    names: Set = None
    paths: Set = None


class Granted(NamedTuple):
    """A whole policy.

    Attributes:
        grants: the rules.
        roles: of users, groups and roles, those they are members of directly.
        privileged: groups whose members are allowed everything before any rule is asked.
    """

    grants: Sequence[Grant]
    roles: Mapping[str, Sequence[str]] = {}
    privileged: frozenset[str] = frozenset()


@runtime_checkable
class GrantLister(Protocol):
    """An authorizer whose rules are such products."""

    def granted(self) -> Granted | None:
        """What it grants; None where its rules are of another kind."""
        ...
