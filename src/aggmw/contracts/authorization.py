"""May they: attributes in, verdict out. The default verdict is deny.

Follows `k8s.io/apiserver/pkg/authorization/authorizer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol, runtime_checkable

from aggmw.contracts.identity import Identity

__all__ = [
    "Attributes",
    "Authorizer",
    "Change",
    "Explainer",
    "Explanation",
    "Miss",
    "NonResourceRule",
    "Outcome",
    "ResourceRule",
    "RuleLister",
    "Rules",
    "Verdict",
]


class Attributes(NamedTuple):
    """What is decided on. `path` is set for non-resource requests only, the resource fields for the others.

    `api_group` "" is the core group; `subresource` and `name` are "" where the request names none. A review that says
    nothing of the version has "*" as `api_version`.

    `field_selector` and `label_selector`, of list, watch and deletecollection alone, are in the one spelling of
    `aggmw.objects.selectors`: `a=1,b in (x,y),!c`, sorted, whichever way the caller wrote it. They can only limit what
    is asked for: "" is everything, also where the caller's selector does not parse.
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
        error: what could not be found out meanwhile: an allow stands all the same, anything else is a 500 instead of a
            403. Safe to show.
    """

    outcome: Outcome = Outcome.DENY
    reason: str = ""
    error: str = ""

    @property
    def allowed(self) -> bool:
        return self.outcome is Outcome.ALLOW


class Authorizer(Protocol):
    """Decides on attributes. An exception is an error (500), never an allow.

    A method `verdict(attributes)` may give the same at once, or None where that has to be awaited. `members`, a
    sequence, are authorizers that it asks; `revision`, a text, says which policy is in force. `controllers`, a sequence
    of `Controller`, is its background work, `checks` are its lines of `/readyz`, and it may be a `Source` of metrics:
    `FrontProxy` sees to all of them.
    """

    async def authorize(self, attributes: Attributes) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class Miss:
    """A rule that nearly matched.

    Attributes:
        rule: the rule, with the place where it is written.
        differs: each thing in which the request differs from it: its name, what the rule has, what the request has.
            The names "user", "group" and "role" say whom the rule is about; the request then has the caller's name.
    """

    rule: str
    differs: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One way to allow what was not.

    Attributes:
        text: what to do, in words.
        add: lines to add to the policy.
        remove: rules to take out of it, written as in `Miss.rule`.
        groups: groups that the caller would have to be in.
    """

    text: str
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict and where it comes from.

    Attributes:
        verdict: the verdict.
        rule: the rule that decided, `file:line: p, …`, or the binding and role; empty where none did.
        ways: for each role that the rule is about, how the request comes by it: the caller's name first, the role last.
        misses: of what was not allowed: the rules nearest to it, the nearest first.
        changes: of what was not allowed: ways to allow it, the narrowest first. Each of them is enough, as far as the
            authorizer is concerned that names it.
        note: what else there is to know, such as why no rule was asked.
        opinions: where several authorizers were asked: the name of each and what it said, in the order in which they
            were asked. The last one decided, if any did.
        revision: of the policy that decided, where it has one.
    """

    verdict: Verdict
    rule: str = ""
    ways: tuple[tuple[str, ...], ...] = ()
    misses: tuple[Miss, ...] = ()
    changes: tuple[Change, ...] = ()
    note: str = ""
    opinions: tuple[tuple[str, Verdict], ...] = ()
    revision: str = ""


@runtime_checkable
class Explainer(Protocol):
    """An authorizer that can say why. May take long: not for the request path."""

    async def explain(self, attributes: Attributes) -> Explanation: ...


class ResourceRule(NamedTuple):
    """`authorization.k8s.io/v1` `ResourceRule`: "*" stands for everything; no names: all objects."""

    verbs: tuple[str, ...]
    api_groups: tuple[str, ...]
    resources: tuple[str, ...]
    names: tuple[str, ...] = ()


class NonResourceRule(NamedTuple):
    """`authorization.k8s.io/v1` `NonResourceRule`: a path may end in "*"."""

    verbs: tuple[str, ...]
    paths: tuple[str, ...]


class Rules(NamedTuple):
    """What somebody may do in a namespace and beside all namespaces, as `SelfSubjectRulesReview` tells it.

    Attributes:
        resource, non_resource: what is allowed.
        incomplete: whether there may be more, or less.
        error: why it is not complete; safe to show.
    """

    resource: Sequence[ResourceRule] = ()
    non_resource: Sequence[NonResourceRule] = ()
    incomplete: bool = False
    error: str = ""


@runtime_checkable
class RuleLister(Protocol):
    """An authorizer that can list what somebody may do (`authorizer.RuleResolver`)."""

    async def rules_for(self, identity: Identity, namespace: str) -> Rules: ...
