"""Several authorizers as one (`k8s.io/apiserver/pkg/authorization/union`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from aggmw.contracts.authorization import (
    Attributes,
    Authorizer,
    Change,
    Explainer,
    Explanation,
    Miss,
    NonResourceRule,
    Outcome,
    ResourceRule,
    RuleLister,
    Rules,
    Verdict,
)
from aggmw.contracts.identity import Identity
from aggmw.contracts.options import checked_seams

__all__ = ["Union"]

_AtOnce: TypeAlias = Callable[[Attributes], Verdict | None]
_UNDECIDED, _ALLOW = Outcome.NO_OPINION, Outcome.ALLOW
_NO_OPINION = Verdict(_UNDECIDED)
_DENIED, _ALLOWED = 0, 1  # places of counts


class _Member(NamedTuple):
    """One that is asked; `decided` counts what it denied and allowed."""

    name: str
    authorizer: Authorizer
    at_once: _AtOnce | None
    decided: list[int]


class Union:
    """Asks authorizers in order; the first that allows or denies decides.

    An authorizer that raises ends the search, which is then a 500: those after it could allow what it would have
    denied. One that may be passed over when it is broken says `NO_OPINION` with an error. Where nobody decides later,
    that error makes a 500 of what would have been a 403, as in Kubernetes.

    Args:
        authorizers: in the order to ask; none of them denies everything.
        names: what explanations call them; the names of their classes, when left out.
    """

    def __init__(self, authorizers: Iterable[Authorizer], *, names: Sequence[str] = ()) -> None:
        self._asked: tuple[_Member, ...] = ()
        self.swap(authorizers, names=names)

    def __repr__(self) -> str:
        return f"Union({list(self.members)!r})"

    @property
    def members(self) -> tuple[Authorizer, ...]:
        """Whom it asks, in order."""
        return tuple(each.authorizer for each in self._asked)

    def swap(self, authorizers: Iterable[Authorizer], *, names: Sequence[str] = ()) -> None:
        """Ask these from now on. What is being decided is decided by those before. A name goes on counting."""
        members = checked_seams("authorizers", authorizers, "authorize")
        if names and len(names) != len(members):
            raise ValueError(f"names: {len(names)} names for {len(members)} authorizers")
        called = names or [type(each).__name__ for each in members]
        before = {each.name: each.decided for each in self._asked} if names else {}
        self._asked = tuple(
            _Member(name, each, _at_once(each), before.get(name) or [0, 0])
            for name, each in zip(called, members, strict=True)
        )

    @property
    def revision(self) -> str:
        """The revisions of all members that have one."""
        return " ".join(revision for each in self.members if isinstance(revision := _revision(each), str) and revision)

    @property
    def decisions(self) -> Sequence[tuple[str, int, int]]:
        """Of each member its name, how often it has allowed, and how often denied."""
        return [(each.name, each.decided[_ALLOWED], each.decided[_DENIED]) for each in self._asked]

    async def authorize(self, attributes: Attributes) -> Verdict:
        """The first decisive verdict; else `NO_OPINION` with all the reasons and errors that were given."""
        said: list[Verdict] = []
        for member in self._asked:
            verdict = None if member.at_once is None else member.at_once(attributes)
            if verdict is None:
                verdict = await member.authorizer.authorize(attributes)
            if verdict.outcome is not _UNDECIDED:
                member.decided[verdict.outcome is _ALLOW] += 1
                return verdict
            if verdict.reason or verdict.error:
                said.append(verdict)
        return _together(said)

    def verdict(self, attributes: Attributes) -> Verdict | None:
        """The same, at once; None where somebody has to be awaited before it is decided."""
        said: list[Verdict] = []
        for member in self._asked:
            if member.at_once is None:
                return None
            verdict = member.at_once(attributes)
            if verdict is None:
                return None
            if verdict.outcome is not _UNDECIDED:
                member.decided[verdict.outcome is _ALLOW] += 1
                return verdict
            if verdict.reason or verdict.error:
                said.append(verdict)
        return _together(said)

    async def explain(self, attributes: Attributes) -> Explanation:
        """The explanation of whoever decided, with what those before said; for a denial the near misses of all."""
        opinions: list[tuple[str, Verdict]] = []
        misses: list[Miss] = []
        changes: list[Change] = []
        notes: list[str] = []
        for member in self._asked:
            authorizer = member.authorizer
            if isinstance(authorizer, Explainer):
                explanation = await authorizer.explain(attributes)
            else:
                explanation = Explanation(await authorizer.authorize(attributes))
            opinions += explanation.opinions or [(member.name, explanation.verdict)]
            if explanation.verdict.allowed:
                return replace(explanation, opinions=tuple(opinions))
            misses += explanation.misses
            changes += explanation.changes
            notes += [explanation.note] if explanation.note else []
            if explanation.verdict.outcome is Outcome.DENY:
                return replace(explanation, misses=tuple(misses), changes=tuple(changes), opinions=tuple(opinions))
        verdict = _together([verdict for _, verdict in opinions if verdict.reason or verdict.error])
        return Explanation(
            verdict,
            misses=tuple(misses),
            changes=tuple(changes),
            note="; ".join(notes),
            opinions=tuple(opinions),
            revision=self.revision,
        )

    async def rules_for(self, identity: Identity, namespace: str) -> Rules:
        """What all members together allow; incomplete where one cannot list it. What one denies is not taken away."""
        resource: list[ResourceRule] = []
        non_resource: list[NonResourceRule] = []
        errors: list[str] = []
        incomplete = False
        for member in self._asked:
            authorizer = member.authorizer
            if isinstance(authorizer, RuleLister):
                rules = await authorizer.rules_for(identity, namespace)
            else:
                rules = Rules(incomplete=True, error=f"{member.name} cannot list what somebody may do")
            resource += rules.resource
            non_resource += rules.non_resource
            incomplete = incomplete or rules.incomplete
            if rules.error:
                errors.append(rules.error)
        return Rules(tuple(dict.fromkeys(resource)), tuple(dict.fromkeys(non_resource)), incomplete, "; ".join(errors))


def _at_once(authorizer: Authorizer) -> _AtOnce | None:
    verdict = getattr(authorizer, "verdict", None)
    return verdict if callable(verdict) else None


def _revision(authorizer: Authorizer) -> object:
    return getattr(authorizer, "revision", "")


def _together(said: Sequence[Verdict]) -> Verdict:
    if not said:
        return _NO_OPINION
    reasons = "; ".join(each.reason for each in said if each.reason)
    return Verdict(Outcome.NO_OPINION, reasons, "; ".join(each.error for each in said if each.error))
