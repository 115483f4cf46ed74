"""Two policies compared: exact, whatever they look like."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.middleware.authorization.casbin.policies import GRANTS, GROUPS, MODEST, REQUESTS, RULES, USERS, Rule, lines

from aggmw.contracts.authorization import Attributes
from aggmw.contracts.grants import Granted
from aggmw.contracts.identity import Identity, authenticated
from aggmw.middleware.authorization import CasbinAuthorizer
from aggmw.middleware.authorization.analysis.comparison import Difference, Reach, diff
from aggmw.middleware.authorization.analysis.regions import TooMuch
from aggmw.middleware.authorization.analysis.search import identity_of

ANY_RULES = st.lists(
    st.builds(
        lambda rule, everybody: replace(rule, subject="group:system:authenticated") if everybody else rule,
        RULES,
        st.sampled_from([False, False, False, False, True]),
    ),
    max_size=6,
)
POLICIES = st.builds(lines, ANY_RULES.map(list[Rule]), GRANTS)


def granted(text: Sequence[str]) -> Granted:
    found = CasbinAuthorizer.from_text("\n".join(text)).granted()
    assert found is not None
    return found


def compared(before: str, after: str) -> list[str]:
    """The differences, a line each."""
    return [
        f"{'|'.join(one.subjects)} {sign}{'?' if reach.otherwise else ''} {' '.join(reach.values.values())}"
        for one in diff(granted(before.splitlines()), granted(after.splitlines()))
        for sign, reaches in (("+", one.gains), ("-", one.losses))
        for reach in reaches
    ]


def allows(text: Sequence[str], asked: Attributes) -> bool:
    verdict = CasbinAuthorizer.from_text("\n".join(text)).verdict(asked)
    assert verdict is not None
    return verdict.allowed


def identities() -> Iterator[Identity]:
    for user in (*USERS, "stranger"):
        for count in range(3):
            for groups in itertools.combinations(GROUPS, count):
                yield authenticated(Identity(user, groups=groups))


def asks(identity: Identity, reach: Reach) -> Attributes:
    return Attributes(identity, is_resource="paths" not in reach.values, **reach.example)  # type: ignore[arg-type]  # texts


@MODEST
@given(POLICIES, POLICIES, st.lists(REQUESTS, min_size=1, max_size=4))
def test_it_is_exact(before: list[str], after: list[str], requests: list[Attributes]) -> None:
    """Where it says nothing, nobody gets another verdict; what it says, everybody whom it names does get."""
    found = diff(granted(before), granted(after))
    one, other = (CasbinAuthorizer.from_text("\n".join(text)) for text in (before, after))
    told = [asks(Identity("x"), reach) for each in found for reach in (*each.gains, *each.losses)]
    if not found:
        for request in (*requests, *told):
            for identity in identities():
                asked = request._replace(identity=identity)
                assert one.verdict(asked).allowed is other.verdict(asked).allowed, asked  # type: ignore[union-attr]
    for difference in found:
        for subject in difference.subjects:
            for reach in difference.gains:
                check_gain(subject, reach, before, after, difference)
            for reach in difference.losses:
                check_gain(subject, reach, after, before, difference)


def check_gain(subject: str, reach: Reach, before: list[str], after: list[str], difference: Difference) -> None:
    identity = identity_of(subject)
    if not reach.otherwise:
        asked = asks(identity, reach)
        assert not allows(before, asked), difference
        assert allows(after, asked), difference
        return
    found = False
    for other in identities():
        user = identity.user if subject.startswith("user:") else other.user
        asked = asks(Identity(user, groups=(*identity.groups, *other.groups)), reach)
        found = found or (not allows(before, asked) and allows(after, asked))
    assert found, difference


@MODEST
@given(POLICIES, st.randoms(use_true_random=False))
def test_order_and_spelling_do_not_matter(text: list[str], random: object) -> None:
    """The same rules in another order, one of them twice, differ in nothing."""
    other = [*text, *text[:1]]
    random.shuffle(other)  # type: ignore[attr-defined]  # a Random
    assert diff(granted(text), granted(other)) == []


RULE = "p, role:editor, get|list, wardle.example.com, flunders, dev, *"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (RULE, RULE, []),
        (RULE, "", []),  # nobody has the role
        (f"{RULE}\ng, user:a, role:editor", "", ["user:a - get|list wardle.example.com flunders dev *"]),
        (
            f"{RULE}\ng, user:a, role:editor",
            f"{RULE}|prod\ng, user:a, role:editor".replace("dev, *|prod", "dev|prod, *"),
            ["user:a + get|list wardle.example.com flunders prod *"],
        ),
        (
            "p, user:a, *, *, *, *, *",
            "p, user:a, *, *, *, *, *\np, group:x, delete, *, *, *, *, deny",
            ["group:x -? delete * * * *"],
        ),
        (
            "p, user:a, *, *, *, *, *",
            "p, user:a, *, *, *, *, *\np, user:b, delete, *, *, *, *, deny",
            [],  # nobody is both
        ),
        (
            "p, user:a, *, *, *, *, *",
            "p, user:a, *, *, *, *, *\np, user:a, delete, core, secrets, *, *, deny",
            ["user:a - delete core secrets * *"],
        ),
        (
            "p, user:a, get, *, */status, *, *",
            "p, user:a, get, *, pods/status, *, *",
            ["user:a - get * */status but not pods/status * *"],
        ),
        ("p2, user:a, get, /api*", "p2, user:a, get, /api/*", ["user:a - get /api* but not /api/*"]),
        ("p2, user:a, get, /*", "p2, user:a, get, *", []),
        (
            "p2, user:a, get, /a",
            "p2, user:a, get, /a\np2, group:system:authenticated, get, /a|/b",
            ["group:system:authenticated + get /a|/b"],  # of which user:a is a part
        ),
        ("p, group:system:masters, get, *, *, *, *", "", []),  # they may do everything anyway
    ],
)
def test_what_is_said(before: str, after: str, expected: list[str]) -> None:
    """Compact: per caller, one line for what is one, nothing about roles that nobody has."""
    assert compared(before, after) == expected


def test_alike_subjects_are_one() -> None:
    """Those who gain and lose the same are named together."""
    after = f"{RULE}\ng, user:a, role:editor\ng, group:x, role:editor\ng, user:b, role:editor\n"
    assert compared("", after) == ["group:x|user:a|user:b + get|list wardle.example.com flunders dev *"]


def test_limit() -> None:
    """What would take too long is refused, with words."""
    names = [f"n{number}" for number in range(60)]
    before = [f"p, user:a, get, core, {name}|x, {name}, *" for name in names]
    after = [f"p, user:a, list|get, core, x, *, {name}" for name in names]
    with pytest.raises(TooMuch, match="more than 100 pieces"):
        diff(granted(before), granted(after), limit=100)


def test_large_policies_with_few_changes() -> None:
    """What is alike costs nothing: two rules of 5,000 that differ are compared at once."""
    before = [f"p, role:r{number % 50}, get, g{number}.example, things, ns{number % 7}, *" for number in range(5000)]
    before += [f"g, user:u{number}, role:r{number % 50}" for number in range(500)]
    after = [*before, "p, role:r1, delete, g1.example, things, ns1, *"]
    (found,) = diff(granted(before), granted(after), limit=200_000)
    assert len(found.subjects) == 10
    assert [dict(reach.values)["verbs"] for reach in found.gains] == ["delete"]
