"""The rules that nearly allowed a request: in what each of them differs from it, the nearest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import nsmallest
from typing import NamedTuple

from aggmw.contracts.authorization import Attributes, Miss
from aggmw.middleware.authorization.casbin import functions
from aggmw.middleware.authorization.casbin.differences import Difference, distance
from aggmw.middleware.authorization.casbin.own_model import own_model
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.snapshot import Snapshot

__all__ = ["Near", "caller_subjects", "covers", "near", "request_values", "told"]

_MOST = 5
_FAR = 4.0
_BEHIND = 1.0  # how much farther than the nearest another one may be


class Near(NamedTuple):
    """A rule that allows, and all in which the request differs from it."""

    rule: Row
    differences: tuple[Difference, ...]

    @property
    def cost(self) -> float:
        return sum(one.cost for one in self.differences)


def near(snapshot: Snapshot, attributes: Attributes) -> list[Near]:
    """The rules nearest to a request that none of them allows; those that match it, if any do, come first."""
    key = f"p{snapshot.suffix(attributes)}"
    columns = snapshot.model.definitions[key].columns
    effect = columns.index("eft") if "eft" in columns else -1
    rows = [row for row in snapshot.report.rows if row.ptype == key and (effect < 0 or row[effect] == "allow")]
    compare = _shipped(snapshot, attributes) if snapshot.report.shipped else own_model(snapshot, attributes)
    compared = (Near(row, found) for row in rows if (found := compare(row)) is not None)
    nearest = nsmallest(_MOST, (one for one in compared if one.cost <= _FAR), key=lambda one: one.cost)
    return [one for one in nearest if one.cost <= nearest[0].cost + _BEHIND]


def told(some: Iterable[Near]) -> tuple[Miss, ...]:
    """The same for whoever asked why."""
    return tuple(
        Miss(str(one.rule), tuple((each.what, each.rule, each.request) for each in one.differences)) for one in some
    )


def caller_subjects(snapshot: Snapshot, attributes: Attributes) -> frozenset[str]:
    """The caller's own names, and every role of these."""
    own = [f"user:{attributes.identity.user}", *(f"group:{group}" for group in attributes.identity.groups)]
    return frozenset(own).union(*(snapshot.graphs["g"].roles_of(name) for name in own))


def request_values(attributes: Attributes) -> tuple[str, ...]:
    """What a rule's columns after the subject would say to match the request and little else; "" where that is `*`."""
    if not attributes.is_resource:
        return (attributes.verb, attributes.path)
    resource, below = attributes.resource, attributes.subresource
    return (
        attributes.verb,
        attributes.api_group or "core",
        f"{resource}/{below}" if below else resource,
        attributes.namespace,
        attributes.name,
    )


def _shipped(snapshot: Snapshot, attributes: Attributes) -> Callable[[Row], tuple[Difference, ...] | None]:
    """Compares by the columns, which have a meaning that is known."""
    subjects, user = caller_subjects(snapshot, attributes), attributes.identity.user

    def compare(row: Row) -> tuple[Difference, ...] | None:
        found = list(_about(row, attributes))
        if row[0] not in subjects:
            kind, _, name = row[0].partition(":")
            if set(row[1:-1]) == {"*"}:
                return None  # that administrators may do everything helps nobody else
            who = Difference(kind, row[0] if kind == "role" else name, user, 2.5 if kind == "user" else 1.5, 0)
            found.insert(0, who)
        return tuple(found)

    return compare


def covers(row: Row, attributes: Attributes) -> bool:
    """Whether a rule is about a request, whoever makes it."""
    return next(_about(row, attributes), None) is None


def _about(row: Row, attributes: Attributes) -> Iterator[Difference]:
    """In what a rule and a request differ besides whom they concern."""
    verb, *values = request_values(attributes)
    if not functions.one_of(row[1])(verb):
        yield Difference("verb", row[1], verb, 1.2, 1)
    if not attributes.is_resource:
        if not functions.path_match(row[2])(values[0]):
            yield Difference("path", row[2], values[0], distance(row[2], values[0]), 2)
        return
    group, resource, namespace, name = values
    if not functions.api_group_match(row[2])(attributes.api_group):
        yield Difference("apiGroup", row[2], group, 1.5, 2)
    if not functions.resource_match(row[3])(attributes.resource, attributes.subresource):
        yield Difference("resource", row[3], resource, distance(row[3], resource), 3)
    if not functions.one_of(row[4])(namespace):
        yield Difference("namespace", row[4], namespace or "none: it is for all namespaces, or the cluster", 1.0, 4)
    if not functions.one_of(row[5])(name):
        yield Difference("name", row[5], name or "none: it is for no object in particular", 1.0, 5)
