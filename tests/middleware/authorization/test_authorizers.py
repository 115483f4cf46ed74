"""Union, and the authorizers that need no policy."""

from __future__ import annotations

import pytest

from aggmw.contracts.authorization import Attributes, Authorizer, Outcome, Verdict
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization import AllowAll, DenyAll, PrivilegedGroups, Union


def asked(*groups: str) -> Attributes:
    return Attributes(Identity("alice", groups=groups), "get", False, path="/x")


class Says:
    """Always the same answer."""

    def __init__(self, verdict: Verdict | Exception) -> None:
        self.verdict = verdict
        self.count = 0

    async def authorize(self, attributes: Attributes) -> Verdict:
        self.count += 1
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


ALLOW, DENY = Verdict(Outcome.ALLOW, "a"), Verdict(Outcome.DENY, "d")


def no_opinion(reason: str = "") -> Verdict:
    return Verdict(Outcome.NO_OPINION, reason)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([ALLOW, DENY], ALLOW),
        ([DENY, ALLOW], DENY),
        ([no_opinion("x"), ALLOW], ALLOW),
        ([no_opinion("x"), DENY, ALLOW], DENY),
        ([no_opinion("x"), no_opinion(), no_opinion("y")], no_opinion("x; y")),
        ([], no_opinion()),
    ],
)
async def test_first_decisive_answer_wins(verdicts: list[Verdict], expected: Verdict) -> None:
    """§7.1: allow or deny ends the search, no opinion goes on, and nothing at the end is no opinion."""
    assert await Union([Says(verdict) for verdict in verdicts]).authorize(asked()) == expected


async def test_nobody_is_asked_after_the_decision() -> None:
    """§7.1: an authorizer behind the decisive one does no work."""
    last = Says(ALLOW)
    await Union([Says(DENY), last]).authorize(asked())
    assert last.count == 0


async def test_broken_authorizer_ends_the_search() -> None:
    """What would have denied, had it not failed, is not overruled by the next one."""
    last = Says(ALLOW)
    with pytest.raises(RuntimeError):
        await Union([Says(RuntimeError()), last]).authorize(asked())
    assert last.count == 0


async def test_masters_are_allowed() -> None:
    """§7.1: members of system:masters are allowed everything; nobody else hears anything."""
    verdict = await PrivilegedGroups().authorize(asked("dev", "system:masters"))
    assert verdict == Verdict(Outcome.ALLOW, "allowed to members of the group system:masters")
    assert (await PrivilegedGroups().authorize(asked("dev"))).outcome is Outcome.NO_OPINION
    assert (await PrivilegedGroups().authorize(asked("system:masters2"))).outcome is Outcome.NO_OPINION
    named = Attributes(Identity("system:masters"), "get", False, path="/x")
    assert (await PrivilegedGroups().authorize(named)).outcome is Outcome.NO_OPINION


async def test_privileged_groups_are_listed() -> None:
    """Other groups in place of the default one; none for an empty list."""
    assert (await PrivilegedGroups(["ops"]).authorize(asked("ops"))).allowed
    assert not (await PrivilegedGroups(["ops"]).authorize(asked("system:masters"))).allowed
    assert not (await PrivilegedGroups(()).authorize(asked("system:masters"))).allowed


def test_one_name_is_not_a_list_of_names() -> None:
    """`groups="ops"` would mean the groups o, p and s."""
    with pytest.raises(TypeError):
        PrivilegedGroups("ops")


@pytest.mark.parametrize(
    ("authorizer", "outcome"), [(AllowAll(), Outcome.ALLOW), (DenyAll(), Outcome.DENY)], ids=["allow", "deny"]
)
async def test_fixed_answers(authorizer: Authorizer, outcome: Outcome) -> None:
    """AllowAll allows and DenyAll denies, with a reason that says so."""
    verdict = await authorizer.authorize(asked("system:masters"))
    assert verdict.outcome is outcome
    assert verdict.reason.startswith("everything is ")
