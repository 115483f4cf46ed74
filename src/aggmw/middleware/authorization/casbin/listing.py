"""What a policy of the model that ships allows somebody: the rules about them, for `SelfSubjectRulesReview`."""

from __future__ import annotations

from aggmw.contracts.authorization import NonResourceRule, ResourceRule, Rules
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization.casbin.policy import Row
from aggmw.middleware.authorization.casbin.snapshot import Snapshot

__all__ = ["list_rules"]

_OWN_MODEL = "the policy has a model of its own, whose rules cannot be listed: ask for one thing at a time"
_DENIALS = "rules that deny also concern you, and take something away from this list"


def list_rules(snapshot: Snapshot, identity: Identity, namespace: str) -> Rules:
    """The rules about a caller, by name, groups and roles, that hold in a namespace; those without one when it is "".

    Rules that deny are not in the list, and a list from which they take something away says that it is not complete.
    """
    if not snapshot.report.shipped:
        return Rules(incomplete=True, error=_OWN_MODEL)
    subjects = _subjects(snapshot, identity)
    resource: dict[ResourceRule, None] = {}
    non_resource: dict[NonResourceRule, None] = {}
    denied = False
    for row in snapshot.report.rows:
        if row.ptype == "g" or row[0] not in subjects or not _holds_in(row, namespace):
            continue
        if row[-1] == "deny":
            denied = True
        elif row.ptype == "p":
            _, verbs, groups, resources, _, names, _ = row
            api_groups = tuple("" if each == "core" else each for each in groups.split("|"))
            some = () if names == "*" else _split(names)
            resource[ResourceRule(_split(verbs), api_groups, _split(resources), some)] = None
        else:
            _, verbs, paths, _ = row
            non_resource[NonResourceRule(_split(verbs), _split(paths))] = None
    return Rules(tuple(resource), tuple(non_resource), denied, _DENIALS if denied else "")


def _subjects(snapshot: Snapshot, identity: Identity) -> frozenset[str]:
    """Who the caller is to the rules."""
    own = {f"user:{identity.user}", *(f"group:{each}" for each in identity.groups)}
    return frozenset(own).union(*(snapshot.graphs["g"].roles_of(each) for each in own))


def _holds_in(row: Row, namespace: str) -> bool:
    return row.ptype != "p" or row[4] == "*" or (bool(namespace) and namespace in row[4].split("|"))


def _split(column: str) -> tuple[str, ...]:
    return tuple(column.split("|"))
