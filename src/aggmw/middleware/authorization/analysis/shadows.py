"""Rules that change nothing, because of others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aggmw.contracts.grants import Grant, Granted
from aggmw.middleware.authorization.analysis.regions import Box, Budget, common, minus
from aggmw.middleware.authorization.analysis.space import Space
from aggmw.middleware.authorization.analysis.subjects import Holders, implied

__all__ = ["Shadow", "shadowed", "unheld"]

_BOXES = 2_000_000
_TOGETHER = 40


@dataclass(frozen=True, slots=True)
class Shadow:
    """A rule without which every verdict would be the same.

    Attributes:
        rule: the rule.
        by: the rules that do what it does, or deny all that it allows.
        denied: whether they deny it.
    """

    rule: str
    by: tuple[str, ...]
    denied: bool = False

    @property
    def text(self) -> str:
        """What is the matter, for people."""
        rules = "; ".join(self.by)
        if self.denied:
            return f"allows nothing: all of it is denied by {rules}"
        return f"changes nothing: all of it is covered by {rules}"


def shadowed(granted: Granted, *, limit: int = _BOXES) -> list[Shadow]:
    """The rules that could be taken out, all of them together, in the order of the policy.

    Args:
        granted: the policy.
        limit: how many pieces may be compared.

    Raises:
        TooMuch: there were more.
    """
    return _Search(granted, Budget(limit)).all()


def unheld(granted: Granted) -> list[str]:
    """The roles that nobody can have: their members are roles only, and nobody has those."""
    holders = Holders(granted)
    return sorted(holders.roles - holders.ways(holders.callers).keys())


class _Search:
    def __init__(self, granted: Granted, budget: Budget) -> None:
        self._granted = granted
        self._budget = budget
        self._holders = Holders(granted)
        self._space = Space(granted.grants)
        self._boxes: dict[int, Box] = {
            number: box for number, grant in enumerate(granted.grants) if (box := self._space.box(grant)) is not None
        }
        self._gone: set[int] = set()
        self._ways: dict[str, tuple[str, ...]] = {}
        self._by_text: dict[tuple[str, bool, str | None], list[int]] = {}
        for number, box in self._boxes.items():
            grant = granted.grants[number]
            for text in _texts(box) or (None,):
                self._by_text.setdefault((grant.subject, grant.denies, text), []).append(number)

    def all(self) -> list[Shadow]:
        found: dict[int, Shadow] = {}
        # From the end, so that of two that do the same the first stays.
        for number in sorted(self._boxes, reverse=True):
            grant = self._granted.grants[number]
            by = () if grant.denies else self._cover(number, True)
            denied = bool(by)
            by = by or self._cover(number, grant.denies)
            if by:
                self._gone.add(number)
                found[number] = Shadow(grant.rule, tuple(self._granted.grants[one].rule for one in by), denied)
        return [found[number] for number in sorted(found)]

    def _cover(self, number: int, denies: bool) -> tuple[int, ...]:
        """The rules that together are about all that a rule is about, for everybody whom it concerns."""
        grant, box = self._granted.grants[number], self._boxes[number]
        others = []
        for other in self._candidates(grant, box, denies):
            if other == number or other in self._gone:
                continue
            self._budget.spend(1)
            theirs = self._boxes[other]
            if common(box, theirs) == box:
                return (other,)
            others.append(other)
        others = [one for one in others if common(box, self._boxes[one]) is not None]
        if len(others) < 2 or len(others) > _TOGETHER:
            return ()
        left, used = [box], []
        for other in others:
            less = minus(left, [self._boxes[other]], self._budget)
            if less != left:
                used.append(other)
            left = less
        return () if left else tuple(used)

    def _candidates(self, grant: Grant, box: Box, denies: bool) -> Iterator[int]:
        # Whoever has a role has what it is a member of, and perhaps nothing else.
        subjects = (grant.subject, *(() if grant.subject.startswith("role:") else implied(grant.subject)))
        texts = (None, *_texts(box))
        seen: set[int] = set()
        if grant.subject not in self._ways:
            self._ways[grant.subject] = tuple(self._holders.ways(subjects))
        for subject in self._ways[grant.subject]:
            for text in texts:
                for number in self._by_text.get((subject, denies, text), ()):
                    if number not in seen and len(self._boxes[number]) == len(box):
                        seen.add(number)
                        yield number


def _texts(box: Box) -> Iterable[str]:
    """The resources, or paths, that a box names; none where it is about all but some."""
    values = box[2] if len(box) > 2 else box[1]
    return () if values.but else sorted(values.texts)
