"""One model's worth of rules, ready to decide: what its matcher finds, and what follows from that."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from operator import itemgetter
from typing import NamedTuple

from aggmw.middleware.authorization.casbin.closures import Scope
from aggmw.middleware.authorization.casbin.compile import NO_ROW, Guard, compile_matcher
from aggmw.middleware.authorization.casbin.index import Leaf, Node, NotText, Request, build
from aggmw.middleware.authorization.casbin.matcher import Matcher
from aggmw.middleware.authorization.casbin.policy import Row

__all__ = ["Decision", "Effect", "Section"]


class Effect(Enum):
    """What matching rules lead to: casbin's policy effects."""

    ALLOW_OVERRIDE = "some(where (p.eft == allow))"
    ALLOW_AND_DENY = "some(where (p.eft == allow)) && !some(where (p.eft == deny))"
    PRIORITY = "priority(p.eft) || deny"
    SUBJECT_PRIORITY = "subjectPriority(p.eft) || deny"
    DENY_OVERRIDE = "!some(where (p.eft == deny))"


class Decision(NamedTuple):
    """Whether the rules allow, and the rule that decided; None where none of them matched, or none had to."""

    allowed: bool
    rule: Row | None


_NUMBER = itemgetter(0)
_ALLOWED = Decision(True, None)
_REFUSED = Decision(False, None)


class Section:
    """Rules with their matcher and effect. Never changed after it was made, so threads may share it.

    Args:
        matcher: without mistakes, as `lint` finds them.
        scope: what it names.
        effect: what follows from the rules that match.
        rules: in the order in which casbin goes through them.

    Raises:
        Uncompilable: the matcher, or an expression in a rule, uses what there is no closure for.
    """

    def __init__(self, matcher: Matcher, scope: Scope, effect: Effect, rules: Sequence[Row]) -> None:
        self.rules = tuple(rules)
        compiled = compile_matcher(matcher.tree, scope, self.rules)
        self._effect = effect
        column = scope.policy.index("eft") if "eft" in scope.policy else -1
        self._allows = tuple(column < 0 or rule[column] == "allow" for rule in self.rules)
        self._denies = tuple(column >= 0 and rule[column] == "deny" for rule in self.rules)
        everything = tuple(range(len(self.rules)))
        self._whole = Leaf(everything, (compiled.whole,))
        self._ways: tuple[tuple[tuple[Guard, ...], Node | Leaf | None], ...] = tuple(
            # A way that asks nothing of a rule matches all of them, and what follows is known.
            (way.guards, build(everything, self.rules, way.conditions) if way.conditions else None)
            for way in compiled.ways
        )
        self._all = self._follow((), [Leaf(everything, ())])

    def decide(self, request: Request) -> Decision:
        """What the rules say about a request.

        Args:
            request: the values of the request definition's fields; where functions are awaited, a dictionary of their
                answers after them.

        Raises:
            Unmatchable: a pattern is not tried on a value.
            Pending: the matcher calls what has to be awaited; to be asked again when the answer is there.
            Exception: the matcher cannot be evaluated.
        """
        found: list[Leaf] = []
        try:
            for guards, tree in self._ways:
                for guard in guards:
                    if not guard(request, NO_ROW):
                        break
                else:
                    if tree is None:
                        return self._all
                    if type(tree) is Node:
                        tree.collect(request, found)
                    else:
                        found.append(tree)  # type: ignore[arg-type]  # what is no Node is a Leaf
        except NotText:
            found = [self._whole]
        return self._follow(request, found)

    def _follow(self, request: Request, found: Sequence[Leaf]) -> Decision:
        """What follows from the rules that match among those that were found."""
        if len(found) == 1:
            numbers, tests = found[0]
            candidates = [(number, tests) for number in numbers]
        else:
            candidates = [(number, tests) for numbers, tests in found for number in numbers]
            candidates.sort(key=_NUMBER)
        rules, allows, denies, effect = self.rules, self._allows, self._denies, self._effect
        only_denials = effect is Effect.DENY_OVERRIDE
        first: int | None = None
        last: int | None = None
        for number, tests in candidates:
            # What cannot change the answer any more is not tried, nor in another way what matched in one.
            if (only_denials and not denies[number]) or number == last:
                continue
            rule = rules[number]
            for test in tests:
                if not test(request, rule):
                    break
            else:
                last = number
                if denies[number]:
                    if effect is not Effect.ALLOW_OVERRIDE:
                        return Decision(False, rule)
                elif allows[number]:
                    if effect is not Effect.ALLOW_AND_DENY:
                        return Decision(True, rule)
                    only_denials = True
                if first is None:
                    first = number
        if effect is Effect.DENY_OVERRIDE:
            return _ALLOWED
        if first is None:
            return _REFUSED
        return Decision(only_denials, rules[first])
