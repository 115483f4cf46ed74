"""What a model can ask about a request: the fields that a request definition may name, and their values."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias

from aggmw.contracts.authorization import Attributes

__all__ = ["FIELDS", "SETS", "Names", "Reader", "key_of", "request_path", "size_of", "text_of", "unfit"]

_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_COLLECTION_VERBS = frozenset({"list", "watch", "deletecollection"})


class Names:
    """A set of names as matchers see it: `x in r.groups`. Opaque otherwise, so casbin does not walk through it."""

    __slots__ = ("_names",)

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def known(self) -> Iterable[str]:
        """The names that a policy could ask for."""
        return self._names

    def own(self) -> Iterable[str]:
        """The names that are not there because of others."""
        return self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)


def request_path(attributes: Attributes) -> str:
    """The path of a request; for a resource, the one path that its attributes stand for.

    So a rule about paths sees one spelling: no trailing slash, no `watch/` prefix, nothing after the subresource. The
    name in a field selector of a list, watch or deletecollection is no part of it.
    """
    if not attributes.is_resource:
        return attributes.path
    group, version = attributes.api_group, attributes.api_version
    parts = ["", "apis", group, version] if group else ["", "api", version]
    name = "" if attributes.verb in _COLLECTION_VERBS else attributes.name
    itself = attributes.resource == "namespaces" and attributes.namespace == name
    if attributes.namespace and not itself:
        parts += ["namespaces", attributes.namespace]
    parts.append(attributes.resource)
    if name:
        parts.append(name)
        if attributes.subresource:
            parts.append(attributes.subresource)
    return "/".join(parts)


Reader: TypeAlias = Callable[[Attributes], object]

FIELDS: Mapping[str, Reader] = MappingProxyType(
    {
        "user": lambda a: a.identity.user,
        "groups": lambda a: Names(a.identity.groups),
        "verb": lambda a: a.verb,
        "apiGroup": lambda a: a.api_group,
        "apiVersion": lambda a: a.api_version,
        "resource": lambda a: a.resource,
        "subresource": lambda a: a.subresource,
        "namespace": lambda a: a.namespace,
        "name": lambda a: a.name,
        "path": request_path,
        # The names that casbin's own examples use.
        "sub": lambda a: a.identity.user,
        "obj": request_path,
        "act": lambda a: a.verb,
        "dom": lambda a: a.namespace,
        # user:NAME, group:NAME and every role of these: needs the roles, so the policy's snapshot makes it.
        "subjects": lambda a: Names(()),
    }
)
SETS = frozenset({"groups", "subjects"})
"""The fields that are sets: a matcher may only look into them."""


def key_of(attributes: Attributes) -> Hashable:
    """All that is decided on: equal keys have equal verdicts under one policy, whatever its model reads of them."""
    identity = attributes.identity
    extra = tuple(identity.extra.items()) if identity.extra else None
    return (identity.user, identity.uid, identity.groups, extra, *attributes[1:])


def size_of(attributes: Attributes, text: str) -> int:
    """How many characters and values a key holds, about.

    Args:
        text: as `text_of` makes it.
    """
    identity = attributes.identity
    extra = identity.extra
    more = sum(len(key) + sum(map(len, values)) + len(values) for key, values in extra.items()) if extra else 0
    return len(text) + len(attributes.field_selector) + len(attributes.label_selector) + len(identity.uid) + more


def text_of(attributes: Attributes) -> str:
    """All that was asked, and by whom, in one text."""
    identity = attributes.identity
    return "".join((identity.user, attributes.verb, *attributes[3:10], *identity.groups))


def unfit(attributes: Attributes, text: str) -> bool:
    """Whether a value holds what no rule is written for: control bytes, or a `/` where a path has one segment.

    Patterns could be fooled by them (a line break ends a line for some, a slash begins a new segment).

    Args:
        text: as `text_of` makes it.
    """
    # What is printable holds nothing of what the expression looks for, and is found to be so much sooner.
    return "/" in "".join(attributes[3:9]) or (not text.isprintable() and _UNFIT.search(text) is not None)
