"""What a policy of the model that ships allows somebody: the rules about them, for `SelfSubjectRulesReview`."""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from aggmw.contracts.authorization import NonResourceRule, ResourceRule, Rules
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.snapshot import Snapshot

__all__ = ["list_rules"]

_About = Mapping[str, int | list[int]]
_KNOWN: WeakKeyDictionary[Snapshot, _About] = WeakKeyDictionary()
_OWN_MODEL = "the policy has a model of its own, whose rules cannot be listed: ask for one thing at a time"
_DENIALS = "rules that deny also concern you, and take something away from this list"


def list_rules(snapshot: Snapshot, identity: Identity, namespace: str) -> Rules:
    """The rules about a caller, by name, groups and roles, that hold in a namespace; those without one when it is "".

    Rules that deny are not in the list, and a list from which they take something away says that it is not complete.
    """
    if not snapshot.report.shipped:
        return Rules(incomplete=True, error=_OWN_MODEL)
    about = _about(snapshot)
    numbers: set[int] = set()
    for subject in _subjects(snapshot, identity):
        some = about.get(subject, ())
        numbers.update((some,) if isinstance(some, int) else some)
    resource: dict[ResourceRule, None] = {}
    non_resource: dict[NonResourceRule, None] = {}
    denied = False
    for number in sorted(numbers):
        row = snapshot.report.rows[number]
        if not _holds_in(row, namespace):
            continue
        if row[-1] == "deny":
            denied = True
        elif row.ptype == "p":
            _, verbs, groups, resources, _, names, _ = row
            api_groups = tuple("" if each == "core" else each for each in groups.split("|"))
            only = () if names == "*" else _split(names)
            resource[ResourceRule(_split(verbs), api_groups, _split(resources), only)] = None
        else:
            _, verbs, paths, _ = row
            non_resource[NonResourceRule(_split(verbs), _split(paths))] = None
    return Rules(tuple(resource), tuple(non_resource), denied, _DENIALS if denied else "")


def _about(snapshot: Snapshot) -> _About:
    """The numbers of the rules about each subject. Made when somebody asks for the first time.

    One rule is a number alone: a list for each of many subjects would wake the garbage collector.
    """
    known = _KNOWN.get(snapshot)
    if known is None:
        made: dict[str, int | list[int]] = {}
        for number, row in enumerate(snapshot.report.rows):
            if row.ptype == "g":
                continue
            before = made.setdefault(row[0], number)
            if isinstance(before, list):
                before.append(number)
            elif before != number:
                made[row[0]] = [before, number]
        known = _KNOWN[snapshot] = made
    return known


def _subjects(snapshot: Snapshot, identity: Identity) -> frozenset[str]:
    """Who the caller is to the rules."""
    own = {f"user:{identity.user}", *(f"group:{each}" for each in identity.groups)}
    return frozenset(own).union(*(snapshot.graphs["g"].roles_of(each) for each in own))


def _holds_in(row: Row, namespace: str) -> bool:
    return row.ptype != "p" or row[4] == "*" or (bool(namespace) and namespace in row[4].split("|"))


def _split(column: str) -> tuple[str, ...]:
    return tuple(column.split("|"))
