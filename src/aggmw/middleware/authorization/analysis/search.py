"""Everybody who may do something, each with the rule and the way to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from aggmw.contracts.authorization import Attributes, Authorizer, Explainer, Explanation, Outcome, RuleLister, Verdict
from aggmw.contracts.grants import Grant, Granted, GrantLister
from aggmw.contracts.identity import SYSTEM_AUTHENTICATED, SYSTEM_UNAUTHENTICATED, Identity, with_members
from aggmw.errors import InvalidIdentity
from aggmw.middleware.authorization.analysis.regions import Box, Budget, common, merged, minus
from aggmw.middleware.authorization.analysis.space import Space
from aggmw.middleware.authorization.analysis.subjects import Holders, implied

__all__ = ["Holder", "PartHolder", "RoleHolder", "WhoCan", "identity_of", "who_can"]

_BOXES = 100_000
_NOBODY = "somebody whom no rule names"
_NONE = frozenset(("",))

_Policy: TypeAlias = "tuple[Holders, _Covers]"


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who may do it, or is denied it by a rule.

    Attributes:
        subject: `user:NAME` or `group:NAME`.
        rule: the rule that decides.
        ways: how the rule concerns them, as in `Explanation`.
    """

    subject: str
    rule: str
    ways: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class RoleHolder:
    """A role that allows it.

    Attributes:
        role: `role:NAME`.
        rules: its own rules that do, and those of roles it is a member of.
        members: users and groups that have it.
    """

    role: str
    rules: tuple[str, ...]
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartHolder:
    """Somebody who may do it in some namespaces, or with some names.

    Attributes:
        subject: as in `Holder`.
        parts: which: `namespaces` and `names`, each as a rule has it.
    """

    subject: str
    parts: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class WhoCan:
    """The answer.

    Attributes:
        allowed: who may. A group stands for those of its members whom nothing else denies it.
        denied: whom a rule denies it, whatever else they are.
        roles: the roles that allow it.
        partly: who may a part of it only.
        sampled: whether some of it cannot be searched, as a model of one's own and a server that is asked, so that the
            names that policies mention were tried.
    """

    allowed: tuple[Holder, ...]
    denied: tuple[Holder, ...] = ()
    roles: tuple[RoleHolder, ...] = ()
    partly: tuple[PartHolder, ...] = ()
    sampled: bool = False


def identity_of(subject: str) -> Identity:
    """Somebody who is nothing else: the user of this name, or somebody nobody knows in this group."""
    kind, _, name = subject.partition(":")
    groups = [one.partition(":")[2] for one in implied(subject)]
    if kind == "user":
        return Identity(name, groups=tuple(groups))
    return Identity(_NOBODY, groups=(name, *groups))


async def who_can(authorizer: Authorizer, asked: Attributes) -> WhoCan:
    """Who may do what is asked, whoever asks in it.

    Every user and every group that a rule names is asked about, by the authorizer itself; all other users are as
    `group:system:authenticated`.

    Args:
        authorizer: a `GrantLister`, or with `members` that are; names are asked of others by `mentioned()`.
        asked: the request.

    Raises:
        TooMuch: rules that allow and rules that deny somebody a part of it are too many to be compared.
    """
    policies: list[Granted] = []
    names: set[str] = set()
    sampled = False
    for one in with_members((authorizer,)):
        granted = one.granted() if isinstance(one, GrantLister) else None
        if granted is not None:
            policies.append(granted)
        elif callable(mentioned := getattr(one, "mentioned", None)):
            names.update(mentioned())
            sampled = True
        else:
            sampled = sampled or await _is_closed(one)
    holders = [Holders(one) for one in policies]
    callers = {caller for one in holders for caller in one.callers}
    callers |= {f"group:{name}" for one in policies for name in one.privileged}
    callers |= {f"group:{name}" for name in (SYSTEM_AUTHENTICATED, SYSTEM_UNAUTHENTICATED)}
    callers |= {f"{kind}:{name}" for kind in ("user", "group") for name in names}
    covering = [(held, _Covers(policy, asked)) for held, policy in zip(holders, policies, strict=True)]
    allowed, denied, undecided = [], [], []
    for caller in sorted(callers, key=lambda one: (not one.startswith("group:system:"), one)):
        try:
            request = asked._replace(identity=identity_of(caller))
        except InvalidIdentity:
            continue  # what no caller can be called
        verdict = await authorizer.authorize(request)
        if verdict.outcome is Outcome.NO_OPINION:
            undecided.append(caller)
        elif verdict.allowed:
            explanation = await _explained(authorizer, request, verdict)
            ways = tuple(way[1:] if _NOBODY in way[0] else way for way in explanation.ways)
            allowed.append(Holder(caller, explanation.rule or verdict.reason, ways))
        elif holder := next((one for one in map(partial(_denied, caller), covering) if one is not None), None):
            denied.append(holder)
    return WhoCan(
        tuple(allowed),
        tuple(denied),
        tuple(_roles(covering)),
        tuple(_partly(covering, asked, sorted(undecided))),
        sampled,
    )


async def _is_closed(authorizer: object) -> bool:
    """Whether an authorizer decides by what nobody can look into, such as another server."""
    if getattr(authorizer, "members", ()):
        return False
    if not isinstance(authorizer, RuleLister):
        return True
    return (await authorizer.rules_for(identity_of(f"user:{_NOBODY}"), "")).incomplete


async def _explained(authorizer: Authorizer, asked: Attributes, verdict: Verdict) -> Explanation:
    return await authorizer.explain(asked) if isinstance(authorizer, Explainer) else Explanation(verdict)


def _denied(caller: str, policy: _Policy) -> Holder | None:
    """A caller whom a rule denies it, with the rule."""
    held, covers = policy
    for subject, way in held.ways((caller, *implied(caller))).items():
        for grant in held.grants(subject):
            if grant.denies and covers(grant):
                return Holder(caller, grant.rule, (way,) if len(way) > 1 else ())
    return None


def _roles(policies: Iterable[_Policy]) -> Iterator[RoleHolder]:
    for held, covers in policies:
        for role in sorted(held.roles):
            about = [grant for one in held.ways((role,)) for grant in held.grants(one) if covers(grant)]
            if about and not any(grant.denies for grant in about):
                yield RoleHolder(role, tuple(grant.rule for grant in about), held.members(role))


def _partly(policies: Iterable[_Policy], asked: Attributes, callers: Iterable[str]) -> Iterator[PartHolder]:
    """Who may do it where the request says no namespace, or no name, and the rules do."""
    if not asked.is_resource or (asked.namespace and asked.name):
        return
    for held, covers in policies:
        whole = covers.box(open_ended=True)
        known: dict[frozenset[str], list[Mapping[str, str]]] = {}
        for caller in callers:
            # Who has the same roles may do the same, and few roles have many members.
            subjects = frozenset(one for one in held.ways((caller, *implied(caller))) if held.grants(one))
            if subjects not in known:
                known[subjects] = _parts([grant for one in subjects for grant in held.grants(one)], covers, whole)
            shown = known[subjects]
            if shown:
                yield PartHolder(caller, tuple({name: one[name] for name in ("namespaces", "names")} for one in shown))


def _parts(grants: Iterable[Grant], covers: _Covers, whole: Box) -> list[Mapping[str, str]]:
    """Which parts of something grants allow, for people."""
    some: dict[bool, list[Box]] = {True: [], False: []}
    for grant in grants:
        box = covers.space.box(grant) if grant.is_resource else None
        if box is not None and (both := common(box, whole)) is not None:
            some[grant.denies].append(both)
    budget = Budget(_BOXES)
    return [covers.space.shown(box) for box in merged(minus(some[False], some[True], budget), budget)]


class _Covers:
    """Whether grants are about a request."""

    def __init__(self, policy: Granted, asked: Attributes) -> None:
        resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
        self._asked = Grant(
            "",
            "",
            False,
            asked.is_resource,
            frozenset((asked.verb,)),
            frozenset((asked.api_group,)),
            frozenset((resource,)),
            frozenset((asked.namespace,)),
            frozenset((asked.name,)),
            frozenset((asked.path,)),
        )
        self.space = Space((*policy.grants, self._asked))
        self._box = self.box()

    def box(self, *, open_ended: bool = False) -> Box:
        """The request; where it says no namespace or name, with any."""
        asked = self._asked
        if open_ended:
            asked = asked._replace(
                namespaces=None if asked.namespaces == _NONE else asked.namespaces,
                names=None if asked.names == _NONE else asked.names,
            )
        box = self.space.box(asked)
        assert box is not None  # nothing in it is empty
        return box

    def __call__(self, grant: Grant) -> bool:
        box = self.space.box(grant) if grant.is_resource == self._asked.is_resource else None
        return box is not None and common(box, self._box) is not None
