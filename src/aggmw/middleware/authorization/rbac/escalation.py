"""Nobody gives others more than they have themselves (wire contract §7.3; `pkg/registry/rbac`).

Whoever creates or changes a role needs all that it allows, or the verb `escalate` on it; whoever creates or changes a
binding needs all that the role of it allows, or the verb `bind` on that. Members of `system:masters` may do both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aggmw.contracts.authorization import Attributes, Authorizer, Outcome
from aggmw.contracts.exchange import Answer
from aggmw.contracts.identity import SYSTEM_MASTERS, Identity
from aggmw.middleware.authorization.rbac.authorizer import RbacAuthorizer
from aggmw.middleware.authorization.rbac.coverage import compacted, described, listed, uncovered
from aggmw.middleware.authorization.rbac.objects import GROUP, Binding, PolicyRule, Role
from aggmw.objects.refusal import quoted
from aggmw.objects.status import qualified, status_answer

__all__ = ["EscalationCheck", "escalations", "only_garbage_collected"]

_EVERYTHING = (PolicyRule(("*",), ("*",), ("*",)), PolicyRule(("*",), paths=("*",)))
_COLLECTED = ("ownerReferences", "finalizers", "selfLink", "managedFields")


def escalations(
    identity: Identity, owned: Iterable[PolicyRule], wanted: Iterable[PolicyRule], fault: str = ""
) -> str | None:
    """Why somebody with some rules may not give others, in Kubernetes' words; None where they may.

    Args:
        fault: what could not be found out about the owned rules.
    """
    missing = uncovered(owned, wanted)
    if not missing:
        return None
    lines = "\n".join(sorted({described(rule) for rule in compacted(missing)}))
    text = (
        f"user {quoted(identity.user)} (groups={listed(identity.groups)}) is attempting to grant RBAC permissions not"
        f" currently held:\n{lines}"
    )
    return f"{text}; resolution errors: [{fault}]" if fault else text


def only_garbage_collected(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether a change touches only what the garbage collector writes: such a change gives nobody anything."""
    return _without_collected(new) == _without_collected(old)


def _without_collected(manifest: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in (manifest.get("metadata") or {}).items() if key not in _COLLECTED}
    return {**manifest, "metadata": metadata}


class EscalationCheck:
    """Says whether somebody may write a role or a binding, beyond what authorization said of the request.

    Args:
        rbac: knows what everybody has.
        authorizer: is asked about the verbs `escalate` and `bind`; `rbac`, when left out.
    """

    def __init__(self, rbac: RbacAuthorizer, authorizer: Authorizer | None = None) -> None:
        self._rbac = rbac
        self._authorizer = rbac if authorizer is None else authorizer

    async def role(self, identity: Identity, role: Role, old: Role | None = None) -> Answer | None:
        """The 403 to a role that gives more than its writer has; None where they may write it.

        Args:
            role: as it would be stored, with the rules that it says itself.
            old: what is stored; None: it is created.
        """
        if await self._may(identity, "escalate", role.key):
            return None
        fault = self._fault(identity, role.namespace, role.rules)
        aggregates = any(each is not None and each.selectors for each in (role, old))
        if fault is None and aggregates and self._fault(identity, role.namespace, _EVERYTHING) is not None:
            fault = "must have cluster-admin privileges to use the aggregationRule"
        return None if fault is None else _forbidden(role.kind, role.name, fault)

    async def binding(self, identity: Identity, binding: Binding) -> Answer | None:
        """The 403 to a binding whose role allows more than its writer has, or the 404 where there is no such role."""
        kind, _, name = binding.role_key
        if await self._may(identity, "bind", (kind, binding.namespace, name)):
            return None
        role = self._rbac.role(binding)
        if role is None:
            details = {"name": name, "group": GROUP, "kind": kind.lower()}
            return status_answer(404, "NotFound", f"{kind.lower()}.{GROUP} {quoted(name)} not found", details)
        fault = self._fault(identity, binding.namespace, role.rules)
        return None if fault is None else _forbidden(binding.kind, binding.name, fault)

    def _fault(self, identity: Identity, namespace: str, wanted: Iterable[PolicyRule]) -> str | None:
        owned, fault = self._rbac.rules_of(identity, namespace)
        return escalations(identity, owned, wanted, fault)

    async def _may(self, identity: Identity, verb: str, key: tuple[str, str, str]) -> bool:
        """Whether a verb on a role, by its kind, namespace and name, is allowed whatever the role allows."""
        if SYSTEM_MASTERS in identity.groups:
            return True
        kind, namespace, name = key
        verdict = await self._authorizer.authorize(
            Attributes(identity, verb, True, GROUP, "*", f"{kind.lower()}s", namespace=namespace, name=name)
        )
        return verdict.outcome is Outcome.ALLOW


def _forbidden(kind: str, name: str, fault: str) -> Answer:
    resource = f"{kind.lower()}s"
    details = {"name": name, "group": GROUP, "kind": resource}
    return status_answer(
        403, "Forbidden", f"{qualified(resource, GROUP)} {quoted(name)} is forbidden: {fault}", details
    )
