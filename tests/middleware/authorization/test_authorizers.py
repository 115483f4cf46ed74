"""Union, and the authorizers that need no policy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggmw.contracts.authorization import (
    Attributes,
    Authorizer,
    Change,
    Explanation,
    Miss,
    NonResourceRule,
    Outcome,
    ResourceRule,
    RuleLister,
    Rules,
    Verdict,
)
from aggmw.contracts.grants import Granted
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization import AllowAll, AlwaysAllowPaths, DenyAll, PrivilegedGroups, Union


def asked(*groups: str, path: str = "/x") -> Attributes:
    return Attributes(Identity("alice", groups=groups), "get", False, path=path)


class Says:
    """Always the same answer."""

    def __init__(self, says: Verdict | Exception) -> None:
        self.says = says
        self.count = 0

    async def authorize(self, attributes: Attributes) -> Verdict:
        self.count += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Now(Says):
    """The same, at once, where it can."""

    revision = "r1"

    def __init__(self, says: Verdict | Exception, *, waits: bool = False) -> None:
        super().__init__(says)
        self.waits = waits

    def verdict(self, attributes: Attributes) -> Verdict | None:
        if self.waits:
            return None
        self.count += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Tells(Says):
    """With an explanation and rules."""

    def __init__(self, explanation: Explanation, rules: Rules | None = None) -> None:
        super().__init__(explanation.verdict)
        self.explanation = explanation
        self.rules = rules or Rules()

    async def explain(self, attributes: Attributes) -> Explanation:
        return self.explanation

    async def rules_for(self, identity: Identity, namespace: str) -> Rules:
        return self.rules


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
    for broken in (Says(RuntimeError()), Now(RuntimeError())):
        with pytest.raises(RuntimeError):
            await Union([broken, last]).authorize(asked())
    with pytest.raises(RuntimeError):
        Union([Now(RuntimeError()), Now(ALLOW)]).verdict(asked())
    assert last.count == 0


async def test_who_may_be_passed_over_says_so() -> None:
    """§7.1: no opinion with an error goes on; the error stays where nobody decides, and is forgotten where one does."""
    gone = Verdict(Outcome.NO_OPINION, "", "gone")
    assert await Union([Says(gone), Says(ALLOW)]).authorize(asked()) == ALLOW
    assert await Union([Says(gone), Says(DENY)]).authorize(asked()) == DENY
    nobody = Union([Says(gone), Says(no_opinion("x")), Says(gone._replace(reason="y", error="lost"))])
    assert await nobody.authorize(asked()) == Verdict(Outcome.NO_OPINION, "x; y", "gone; lost")


VERDICTS = st.builds(
    Verdict, st.sampled_from(Outcome), st.sampled_from(["", "a", "b"]), st.sampled_from(["", "gone", "lost"])
)


@given(st.lists(st.tuples(VERDICTS, st.sampled_from(["awaited", "at once", "either"])), max_size=6))
async def test_order_decides(members: list[tuple[Verdict, str]]) -> None:
    """§7.1, as a property: the first that is decisive, whoever can answer at once; and both ways say the same."""
    makes = {"awaited": Says, "at once": Now, "either": lambda verdict: Now(verdict, waits=True)}
    authorizers = [makes[way](verdict) for verdict, way in members]
    union = Union(authorizers)
    found = await union.authorize(asked())
    decisive = [number for number, (verdict, _) in enumerate(members) if verdict.outcome is not Outcome.NO_OPINION]
    last = decisive[0] if decisive else len(members)
    if decisive:
        assert found == members[last][0]
    else:
        assert found.outcome is Outcome.NO_OPINION
        assert found.error == "; ".join(verdict.error for verdict, _ in members if verdict.error)
    assert [each.count for each in authorizers] == [int(number <= last) for number in range(len(members))]
    assert (await union.explain(asked())).verdict == found
    at_once = union.verdict(asked())
    assert at_once == (found if all(way == "at once" for _, way in members[: last + 1]) else None)


async def test_explanation_says_who_said_what() -> None:
    """Everybody who was asked, by name, in order; the near misses of all count where it is not allowed."""
    one, two = Miss("one", ()), Miss("two", ())
    nearly = Tells(Explanation(no_opinion("n"), misses=(one,), changes=(Change("do"),)))
    allows = Tells(Explanation(ALLOW, "rule 7", (("alice", "dev"),)))
    denies = Tells(Explanation(DENY, "rule 8", misses=(two,)))
    union = Union([nearly, Says(no_opinion()), allows, denies], names=["rbac", "plain", "policy", "last"])
    said = (("rbac", no_opinion("n")), ("plain", no_opinion()))
    assert await union.explain(asked()) == Explanation(
        ALLOW, "rule 7", (("alice", "dev"),), opinions=(*said, ("policy", ALLOW))
    )
    assert await Union([nearly, denies]).explain(asked()) == Explanation(
        DENY,
        "rule 8",
        misses=(one, two),
        changes=(Change("do"),),
        opinions=(("Tells", no_opinion("n")), ("Tells", DENY)),
    )
    noted = Tells(Explanation(no_opinion(), note="not loaded"))
    assert await Union([nearly, noted, noted, Now(no_opinion())]).explain(asked()) == Explanation(
        no_opinion("n"),
        misses=(one,),
        changes=(Change("do"),),
        note="not loaded; not loaded",
        opinions=(("Tells", no_opinion("n")), ("Tells", no_opinion()), ("Tells", no_opinion()), ("Now", no_opinion())),
        revision="r1",
    )
    with pytest.raises(ValueError, match="1 names for 2 authorizers"):
        Union([nearly, denies], names=["rbac"])


async def test_nested_unions_explain_as_one() -> None:
    """What was asked inside stands in its place."""
    inner = Union([Says(no_opinion()), Says(ALLOW)], names=["a", "b"])
    explanation = await Union([Says(no_opinion()), inner], names=["first", "inner"]).explain(asked())
    assert [name for name, _ in explanation.opinions] == ["first", "a", "b"]


PODS = ResourceRule(("get",), ("",), ("pods",))


async def test_rules_of_all_together() -> None:
    """`authorizer.RuleResolver` of a union: everything that any member allows, once, and who could not say."""
    path = NonResourceRule(("get",), ("/x",))
    alice = Identity("alice")
    one = Tells(Explanation(ALLOW), Rules((PODS,), (path,)))
    two = Tells(Explanation(ALLOW), Rules((PODS,), incomplete=True, error="a role is missing"))
    assert await Union([one, one]).rules_for(alice, "dev") == Rules((PODS,), (path,))
    assert await Union([one, two, Says(ALLOW)], names=["a", "b", "c"]).rules_for(alice, "dev") == Rules(
        (PODS,), (path,), True, "a role is missing; c cannot list what somebody may do"
    )


async def test_who_decided_how_often() -> None:
    """Allowed and denied, at once or awaited; no opinion and failures are no decisions; a name goes on counting."""
    union = Union([Says(no_opinion()), Now(ALLOW)], names=["a", "b"])
    await union.authorize(asked())
    union.swap([Now(ALLOW), Now(DENY), Says(RuntimeError())], names=["b", "c", "d"])
    union.verdict(asked())
    union.swap([Now(no_opinion()), Now(DENY), Says(RuntimeError())], names=["b", "c", "d"])
    union.verdict(asked())
    await union.authorize(asked())
    assert union.decisions == [("b", 2, 0), ("c", 0, 2), ("d", 0, 0)]
    union.swap([Says(RuntimeError())], names=["d"])
    with pytest.raises(RuntimeError):
        await union.authorize(asked())
    assert union.decisions == [("d", 0, 0)]


def test_revision_of_all() -> None:
    """A union is another one as soon as one of its members is."""
    assert Union([Now(ALLOW), Says(ALLOW), Now(ALLOW)]).revision == "r1 r1"
    assert Union([]).revision == ""


async def test_members_are_replaced_as_a_whole() -> None:
    """What was bound before the change follows it."""
    union = Union([Now(DENY)])
    verdict = union.verdict
    union.swap([Now(ALLOW)])
    assert verdict(asked()) == await union.authorize(asked()) == ALLOW
    with pytest.raises(TypeError):
        union.swap([object()])  # type: ignore[list-item]  # that is the point
    assert verdict(asked()) == ALLOW


async def test_masters_are_allowed() -> None:
    """§7.1: members of system:masters are allowed everything; nobody else hears anything."""
    verdict = await PrivilegedGroups().authorize(asked("dev", "system:masters"))
    assert verdict == Verdict(Outcome.ALLOW, "allowed to members of the group system:masters")
    assert (await PrivilegedGroups().authorize(asked("dev"))).outcome is Outcome.NO_OPINION
    assert (await PrivilegedGroups().authorize(asked("system:masters2"))).outcome is Outcome.NO_OPINION
    named = Attributes(Identity("system:masters"), "get", False, path="/x")
    assert (await PrivilegedGroups().authorize(named)).outcome is Outcome.NO_OPINION


def test_privileged_groups_are_granted_everything() -> None:
    """Whoever looks through policies finds them."""
    assert PrivilegedGroups(["ops"]).granted() == Granted((), {}, frozenset({"ops"}))


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
    assert authorizer.verdict(asked()) == verdict  # type: ignore[attr-defined]  # both have it


STAR = ("*",)
EVERYTHING = Rules((ResourceRule(STAR, STAR, STAR),), (NonResourceRule(STAR, STAR),))


@pytest.mark.parametrize(
    ("authorizer", "rules"),
    [
        (AllowAll(), EVERYTHING),
        (DenyAll(), Rules()),
        (PrivilegedGroups(["dev"]), EVERYTHING),
        (PrivilegedGroups(), Rules()),
        (AlwaysAllowPaths(["/healthz", "/a/*"]), Rules((), (NonResourceRule(STAR, ("/healthz", "/a/*")),))),
        (AlwaysAllowPaths([]), Rules()),
    ],
    ids=repr,
)
async def test_rules_of_fixed_ones(authorizer: RuleLister, rules: Rules) -> None:
    """What they allow can be listed."""
    assert await authorizer.rules_for(Identity("alice", groups=("dev",)), "") == rules


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/healthz", True),
        ("/healthz/", False),
        ("/healthz/x", False),
        ("/healthzx", False),
        ("/livez/", True),
        ("/livez/a/b", True),
        ("/livez", False),
        ("/version", True),
        ("/versions", True),
        ("/HEALTHZ", False),
        ("", False),
        ("/", False),
    ],
)
async def test_paths_that_everybody_may_use(path: str, allowed: bool) -> None:
    """`--authorization-always-allow-paths`: exact, or by their beginning; whatever the verb, whoever asks."""
    paths = AlwaysAllowPaths(["/healthz", "/livez/*", "/version*"])
    outcome = Outcome.ALLOW if allowed else Outcome.NO_OPINION
    assert (await paths.authorize(asked(path=path))).outcome is outcome
    assert paths.verdict(asked(path=path)._replace(verb="delete")).outcome is outcome


def test_paths_are_no_resources() -> None:
    """Security: a resource request is never allowed by its path, whatever that is."""
    resource = asked(path="/healthz")._replace(is_resource=True, resource="pods")
    assert AlwaysAllowPaths(["/healthz", "/*"]).verdict(resource).outcome is Outcome.NO_OPINION
    assert AlwaysAllowPaths(["/"]).verdict(asked(path="/")).allowed


@pytest.mark.parametrize("path", ["healthz", "", "*", "/a*b", "/*/x"])
def test_paths_that_are_none(path: str) -> None:
    """Named when it is made: a `*` that would be taken for a letter allows less than was meant, or more."""
    with pytest.raises(ValueError, match=r"must begin with a slash|in the middle"):
        AlwaysAllowPaths([path])


def test_one_path_is_not_a_list_of_paths() -> None:
    """`paths="/x"` would mean the paths / and x."""
    with pytest.raises(TypeError):
        AlwaysAllowPaths("/x")
