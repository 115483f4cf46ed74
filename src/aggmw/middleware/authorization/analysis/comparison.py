"""What a policy allows that another does not: who gains and who loses what, and nothing that only reads differently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from aggmw.contracts.grants import Grant, Granted
from aggmw.middleware.authorization.analysis.regions import Box, Budget, common, merged, minus
from aggmw.middleware.authorization.analysis.space import Space
from aggmw.middleware.authorization.analysis.subjects import Holders, implied, is_known

__all__ = ["Difference", "Reach", "diff"]

_BOXES = 300_000


@dataclass(frozen=True, slots=True)
class Reach:
    """A set of requests.

    Attributes:
        values: by name (verbs, api_groups, resources, namespaces, names; or verbs and paths): what a rule has there,
            such as `get|list`, `*`, or `* but not kube-system`.
        example: one of the requests, by the names of `Attributes`.
        otherwise: whether it is about those only who are allowed it otherwise, by another name of theirs: what changes
            is whether a rule denies it.
    """

    values: Mapping[str, str]
    example: Mapping[str, str]
    otherwise: bool = False


@dataclass(frozen=True, slots=True)
class Difference:
    """What some callers gain and lose.

    Attributes:
        subjects: `user:NAME` and `group:NAME`, each of which by itself, and with the groups that everybody has.
        gains, losses: what.
    """

    subjects: tuple[str, ...]
    gains: tuple[Reach, ...] = ()
    losses: tuple[Reach, ...] = ()


class _Held(NamedTuple):
    """What somebody holds."""

    allow: frozenset[Box]
    deny: frozenset[Box]


_Boxes = tuple[Box, ...]


def diff(before: Granted, after: Granted, *, limit: int = _BOXES) -> list[Difference]:
    """Who may do what under the second policy and not under the first, and the other way round.

    Exact: it is empty if and only if no caller, whatever their name and groups, gets another verdict for any request.
    Whoever is named by neither policy is as `group:system:authenticated` or `group:system:unauthenticated`.

    Args:
        before, after: the policies.
        limit: how many pieces may be compared; what is alike in both costs nothing.

    Raises:
        TooMuch: there were more.
        ValueError: they differ in the groups that are allowed everything.
    """
    if before.privileged != after.privileged:
        raise ValueError("the policies differ in their privileged groups")
    return _Comparison(before, after, Budget(limit)).differences()


class _Comparison:
    def __init__(self, before: Granted, after: Granted, budget: Budget) -> None:
        self._budget = budget
        self._space = Space((*before.grants, *after.grants))
        sides = (Holders(before), Holders(after))
        masters = {f"group:{name}" for name in before.privileged}
        named = {one for side in sides for one in side.callers}
        self._callers = sorted(named.union(*map(implied, named)) - masters, key=_order)
        self._held = [self._all_held(side) for side in sides]
        self._companies: dict[tuple[bool, bool, bool], frozenset[_Held]] = {}
        self._alone: dict[tuple[_Held, _Held], _Boxes] = {}

    def _all_held(self, side: Holders) -> dict[str, _Held]:
        """What each caller holds. Callers with the same roles hold the same, and few roles have many members."""
        own: dict[str, _Held] = {}
        together: dict[frozenset[str], _Held] = {}
        held: dict[str, _Held] = {}
        for caller in self._callers:
            subjects = frozenset(one for one in side.ways((caller, *implied(caller))) if side.grants(one))
            if subjects not in together:
                for one in subjects - own.keys():
                    own[one] = self._boxes(side.grants(one))
                together[subjects] = _Held(
                    frozenset().union(*(own[one].allow for one in subjects)),
                    frozenset().union(*(own[one].deny for one in subjects)),
                )
            held[caller] = together[subjects]
        return held

    def _boxes(self, grants: Iterable[Grant]) -> _Held:
        allow: set[Box] = set()
        deny: set[Box] = set()
        for grant in grants:
            box = self._space.box(grant)
            if box is not None:
                (deny if grant.denies else allow).add(box)
        return _Held(frozenset(allow), frozenset(deny))

    def differences(self) -> list[Difference]:
        found: dict[object, Difference] = {}
        before, after = self._held
        for caller in self._callers:
            gains = self._reaches(caller, before, after)
            losses = self._reaches(caller, after, before)
            if gains or losses:
                key = tuple(tuple((one.otherwise, *one.values.values()) for one in some) for some in (gains, losses))
                others = found[key].subjects if key in found else ()
                found[key] = Difference((*others, caller), gains, losses)
        return list(found.values())

    def _reaches(self, caller: str, before: Mapping[str, _Held], after: Mapping[str, _Held]) -> tuple[Reach, ...]:
        """What a caller is allowed after and not before; losses are the same the other way round."""
        gained = self._gained(before[caller], after[caller])
        told = [box for one in implied(caller) for box in self._gained(before[one], after[one])]
        freed = minus(self._freed(caller, before, after), gained, self._budget)
        told_freed = [box for one in implied(caller) for box in self._freed(one, before, after)]
        return (
            *self._shown(minus(gained, told, self._budget), False),
            *self._shown(minus(freed, [*told, *told_freed], self._budget), True),
        )

    def _shown(self, boxes: Iterable[Box], otherwise: bool) -> Iterable[Reach]:
        reaches = [
            Reach(self._space.shown(box), self._space.example(box), otherwise) for box in merged(boxes, self._budget)
        ]
        return sorted(reaches, key=lambda reach: tuple(reach.values.values()))

    def _gained(self, before: _Held, after: _Held) -> _Boxes:
        """What somebody with the second is allowed, and with the first is not."""
        if before == after:
            return ()
        found = self._alone.get((before, after))
        if found is None:
            new = minus(_sorted(after.allow - before.allow), _sorted(after.deny | before.allow), self._budget)
            free = self._both(after.allow, before.deny - after.deny)
            free = minus(free, [*_sorted(after.deny), *new], self._budget)
            found = self._alone[before, after] = (*new, *free)
        return found

    def _freed(self, caller: str, before: Mapping[str, _Held], after: Mapping[str, _Held]) -> list[Box]:
        """What a caller was denied before, and is not after, and who else the caller may be is allowed after."""
        freed = minus(_sorted(before[caller].deny - after[caller].deny), _sorted(after[caller].deny), self._budget)
        if not freed:
            return []
        found: list[Box] = []
        for held in self._company(caller, after):
            found += minus(self._both(held.allow, freed), _sorted(held.deny), self._budget)
        return found

    def _company(self, caller: str, after: Mapping[str, _Held]) -> frozenset[_Held]:
        """What those hold who a caller may be besides, and a group the same again."""
        kind = (after is self._held[1], caller.startswith("user:"), is_known(caller))
        found = self._companies.get(kind)
        if found is None:
            others = (one for one in self._callers if is_known(one) == kind[2])
            company = (one for one in others if not (kind[1] and one.startswith("user:")))
            found = self._companies[kind] = frozenset(after[one] for one in company)
        return found

    def _both(self, some: Iterable[Box], others: Iterable[Box]) -> list[Box]:
        ones, twos = _sorted(some), _sorted(others)
        self._budget.spend(len(ones) * len(twos))
        return [both for one in ones for two in twos if len(one) == len(two) and (both := common(one, two))]


def _sorted(boxes: Iterable[Box]) -> list[Box]:
    return sorted(boxes, key=lambda box: [(values.but, sorted(values.texts)) for values in box])


def _order(subject: str) -> tuple[bool, bool, str]:
    """Groups that everybody is in, then other groups, then users."""
    return (subject.startswith("user:"), not subject.startswith("group:system:"), subject)
