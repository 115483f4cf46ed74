"""Why a verdict is what it is: the binding, role and rule that allowed, or the rules that came nearest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from aggmw.contracts.authorization import Attributes, Explanation
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization.rbac.changes import changes
from aggmw.middleware.authorization.rbac.coverage import described
from aggmw.middleware.authorization.rbac.misses import near, told
from aggmw.middleware.authorization.rbac.objects import PolicyRule
from aggmw.middleware.authorization.rbac.rules import rule_allows
from aggmw.middleware.authorization.rbac.snapshot import Grant, Snapshot
from aggmw.objects.names import is_service
from aggmw.objects.refusal import quoted

__all__ = ["explain"]


async def explain(snapshot: Snapshot, attributes: Attributes) -> Explanation:
    """The explanation of the verdict that this snapshot gives."""
    verdict, grant = snapshot.decided(attributes)
    if grant is None or grant.role is None:
        # Looks at all bindings, which may be many.
        return await asyncio.to_thread(
            lambda: Explanation(
                verdict,
                misses=told(near(snapshot, attributes)),
                changes=tuple(changes(snapshot, attributes)),
                note=_impossible(attributes),
            )
        )
    rule = next(rule for rule in grant.role.rules if rule_allows(rule, attributes))
    way = _way(snapshot, attributes.identity, grant, rule)
    return Explanation(verdict, f"{grant}: {described(rule)} ({grant.binding.where})", (way,))


def _impossible(attributes: Attributes) -> str:
    """Why no binding could be about a request."""
    namespace = attributes.namespace
    if not namespace or is_service(namespace):
        return ""
    return f"there can be no namespace {quoted(namespace)}, so nothing is bound there: write another, or none for all"


def _way(snapshot: Snapshot, identity: Identity, grant: Grant, rule: PolicyRule) -> tuple[str, ...]:
    """From the caller over their group and the binding to the role; of an aggregated one, to that with the rule."""
    caller = f"User {quoted(identity.user)}"
    group = () if grant.subject.kind == "User" else (str(grant.subject),)
    kind, _, name = grant.binding.role_key
    roles = [name, *_bringers(snapshot, name, rule)] if kind == "ClusterRole" else [name]
    return (
        caller,
        *group,
        f"{grant.binding.kind} {quoted(grant.binding.name)}",
        *(f"{kind} {quoted(r)}" for r in roles),
    )


def _bringers(snapshot: Snapshot, name: str, rule: PolicyRule) -> Iterator[str]:
    """The cluster roles over which an aggregated one comes by a rule."""
    passed = {name}
    while (name := next(_with_rule(snapshot, name, rule, passed), "")) != "":
        passed.add(name)
        yield name


def _with_rule(snapshot: Snapshot, name: str, rule: PolicyRule, passed: set[str]) -> Iterator[str]:
    for source in snapshot.sources.get(name, ()):
        if source not in passed and rule in snapshot.roles["ClusterRole", "", source].rules:
            yield source
