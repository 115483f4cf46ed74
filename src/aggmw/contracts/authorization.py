"""May they: attributes in, verdict out. The default verdict is deny.

Follows `k8s.io/apiserver/pkg/authorization/authorizer`.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol

from aggmw.contracts.identity import Identity

__all__ = ["Attributes", "Authorizer", "Outcome", "Verdict"]


class Attributes(NamedTuple):
    """What is decided on. `path` is set for non-resource requests only, the resource fields for the others.

    `api_group` "" is the core group; `subresource` and `name` are "" where the request names none.
    """

    identity: Identity
    verb: str
    is_resource: bool
    api_group: str = ""
    api_version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""
    label_selector: str = ""


class Outcome(Enum):
    """DENY and ALLOW end the search; NO_OPINION passes to the next authorizer, and denies at the end."""

    DENY = 0
    ALLOW = 1
    NO_OPINION = 2


class Verdict(NamedTuple):
    """An authorizer's answer. Its zero value denies.

    Attributes:
        outcome: the decision.
        reason: why, for the audit record and, when refused, for the 403's text; safe to show.
    """

    outcome: Outcome = Outcome.DENY
    reason: str = ""

    @property
    def allowed(self) -> bool:
        return self.outcome is Outcome.ALLOW


class Authorizer(Protocol):
    """Decides on attributes. An exception is an error (500), never an allow."""

    async def authorize(self, attributes: Attributes) -> Verdict: ...
