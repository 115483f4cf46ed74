"""Declaring what a server has: resources in versions of groups, checked when they are declared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from aggmw.contracts.catalog import APIGroup, APIResource, APISubresource, APIVersion, GroupVersionKind
from aggmw.errors import ConfigurationError, Problem
from aggmw.objects.names import is_group, is_kind, is_resource, is_subresource, is_version, is_word

__all__ = ["Groups", "declared", "resource"]

Groups = Mapping[str, Mapping[str, Sequence[APIResource]]]
"""Group → version, the preferred one first → its resources."""

_SHAPE = 'groups={"notes.example.com": {"v1": [resource("notes", "Note")]}}'


def resource(
    name: str,
    kind: str,
    *,
    namespaced: bool = True,
    singular: str = "",
    verbs: Iterable[str] = ("get", "list"),
    short_names: Iterable[str] = (),
    categories: Iterable[str] = (),
    subresources: Iterable[APISubresource] = (),
) -> APIResource:
    """A resource to list, its kind in the group and version that it is listed in.

    Args:
        name: the plural, as in paths: "notes".
        kind: as in objects: "Note".
        namespaced: whether its objects are in namespaces.
        singular: for `kubectl get note`; by default the kind in lower case.
        verbs: what the server can do with it, of get, list, watch, create, update, patch, delete, deletecollection.
        short_names: such as ["nt"].
        categories: such as ["all"], for `kubectl get all`.
        subresources: such as `APISubresource("status", verbs=("get", "patch", "update"))`, with the resource's kind
            unless they say otherwise.

    Raises:
        TypeError: one word instead of several.
    """
    for option, value in (("verbs", verbs), ("short_names", short_names), ("categories", categories)):
        if isinstance(value, str):
            raise TypeError(f"{option} takes a list of words, not one string: {option}=[{value!r}]")
    return APIResource(
        name,
        GroupVersionKind(kind=kind),
        namespaced,
        singular or kind.lower(),
        tuple(verbs),
        tuple(short_names),
        tuple(categories),
        tuple(subresources),
    )


def declared(groups: Groups) -> tuple[APIGroup, ...]:
    """The groups as the catalogue has them, each kind with its group and version.

    Raises:
        ConfigurationError: every name that nobody could use, what is listed twice, and nothing at all.
        TypeError: another shape.
    """
    found: list[APIGroup] = []
    problems: list[Problem] = []
    for group, versions in _mapping(groups).items():
        if not is_group(group):
            problems.append(Problem(f"group {group!r}", "the name must be a DNS-1123 subdomain: notes.example.com"))
        for version, resources in _mapping(versions).items():
            where = repr(f"{group}/{version}")
            if not is_version(version):
                problems.append(Problem(where, "the version must be a DNS-1035 label: v1"))
            problems.extend(_mistakes(where, _listed(resources)))
        at_home = (_at_home(group, version, resources) for version, resources in versions.items())
        found.append(APIGroup(group, tuple(at_home)))
        if not versions:
            problems.append(Problem(f"group {group!r}", "has no version"))
    if not found:
        problems.append(Problem("groups", f"there is nothing to list: {_SHAPE}"))
    if problems:
        raise ConfigurationError(problems)
    return tuple(found)


def _mapping(value: object) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"groups takes mappings, not {type(value).__name__}: {_SHAPE}")
    return value


def _listed(value: object) -> Sequence[APIResource]:
    if not isinstance(value, Sequence) or not all(isinstance(each, APIResource) for each in value):
        raise TypeError(f"each version takes a list of resources: {_SHAPE}")
    return value


def _mistakes(where: str, resources: Sequence[APIResource]) -> Iterator[Problem]:
    names = [each.name for each in resources]
    for each in resources:
        place = f"{where}: {each.name!r}"
        if not is_resource(each.name):
            yield Problem(place, "is no name of a resource")
        if names.count(each.name) > 1:
            yield Problem(place, "is listed twice")
        if each.singular and not is_resource(each.singular):
            yield Problem(place, f"the singular {each.singular!r} is no name")
        yield from _kind(place, each.kind)
        yield from _words(place, (*each.verbs, *each.short_names, *each.categories))
        for below in each.subresources:
            place = f"{where}: {f'{each.name}/{below.name}'!r}"
            if not is_subresource(below.name):
                yield Problem(place, "is no name of a subresource")
            if below.kind != GroupVersionKind():
                yield from _kind(place, below.kind)
            yield from _words(place, below.verbs)


def _kind(place: str, kind: GroupVersionKind) -> Iterator[Problem]:
    if not is_kind(kind.kind):
        yield Problem(place, f"the kind {kind.kind!r} is no name of a kind")
    if (kind.group or kind.version) and not (is_version(kind.version) and (not kind.group or is_group(kind.group))):
        yield Problem(place, f"its kind's group {kind.group!r} and version {kind.version!r} are none")


def _words(place: str, words: Iterable[str]) -> Iterator[Problem]:
    return (Problem(place, f"{word!r} is no verb, short name or category") for word in words if not is_word(word))


def _at_home(group: str, version: str, resources: Sequence[APIResource]) -> APIVersion:
    def kind(said: GroupVersionKind) -> GroupVersionKind:
        return said if said.group or said.version else GroupVersionKind(group, version, said.kind)

    return APIVersion(
        version,
        tuple(
            replace(
                each,
                kind=kind(each.kind),
                subresources=tuple(
                    replace(below, kind=kind(below.kind if below.kind.kind else each.kind))
                    for below in each.subresources
                ),
            )
            for each in resources
        ),
    )
