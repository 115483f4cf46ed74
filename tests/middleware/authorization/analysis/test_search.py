"""Who may do something: everybody of whom the authorizer says so, and nobody else."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given
from tests.middleware.authorization.analysis.test_comparison import POLICIES
from tests.middleware.authorization.casbin.policies import GROUPS, MODEST, REQUESTS, USERS

from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import Identity, authenticated
from aggmw.middleware.authorization import AlwaysAllowPaths, CasbinAuthorizer, PrivilegedGroups, Union
from aggmw.middleware.authorization.analysis.search import Holder, PartHolder, RoleHolder, who_can

POLICY = """\
p, role:editor, get|list|delete, wardle.example.com, flunders, dev, *
p, role:admin, *, *, *, *, *
p, group:interns, delete, *, *, *, *, deny
p, user:robot, delete, wardle.example.com, flunders, dev|test, f1
g, user:alice, role:editor
g, group:interns, role:editor
g, role:admin, role:editor
g, group:ops, role:admin
"""
DELETE = Attributes(Identity("x"), "delete", True, "wardle.example.com", "v1", "flunders", "", "dev", "")


@MODEST
@given(POLICIES, REQUESTS)
def test_it_agrees_with_verdicts(text: list[str], asked: Attributes) -> None:
    """A caller may do it if one of their names is listed and none is denied."""
    policy = CasbinAuthorizer.from_text("\n".join(text))
    found = asyncio.run(who_can(policy, asked))
    allowed, denied = ({one.subject for one in some} for some in (found.allowed, found.denied))
    for user in (*USERS, "stranger"):
        for count in range(3):
            for groups in itertools.combinations(GROUPS, count):
                identity = authenticated(Identity(user, groups=groups))
                names = {f"user:{user}", *(f"group:{group}" for group in identity.groups)}
                verdict = policy.verdict(asked._replace(identity=identity))
                assert verdict is not None
                assert verdict.allowed is (bool(names & allowed) and not names & denied), (names, found)


@MODEST
@given(POLICIES, REQUESTS)
def test_roles_agree_with_verdicts(text: list[str], asked: Attributes) -> None:
    """A role is listed if it alone allows it."""
    found = asyncio.run(who_can(CasbinAuthorizer.from_text("\n".join(text)), asked))
    listed = {one.role for one in found.roles}
    named = {word for line in text for word in line.split(", ") if word.startswith("role:")}
    for role in named:
        policy = CasbinAuthorizer.from_text("\n".join([*text, f"g, user:nobody else, {role}"]), privileged=())
        verdict = policy.verdict(asked._replace(identity=Identity("nobody else")))
        assert verdict is not None
        assert verdict.allowed is (role in listed)


@MODEST
@given(POLICIES, REQUESTS)
def test_parts_are_parts(text: list[str], asked: Attributes) -> None:
    """Nobody who may do all of it is listed as somebody who may do a part."""
    found = asyncio.run(who_can(CasbinAuthorizer.from_text("\n".join(text)), asked))
    assert not {one.subject for one in found.allowed} & {one.subject for one in found.partly}


def test_what_is_said() -> None:
    """Callers with rule and way, those whom a rule denies it, the roles with their members, and who may a part."""
    found = asyncio.run(who_can(CasbinAuthorizer.from_text(POLICY), DELETE))
    editor = "policy:1: p, role:editor, get|list|delete, wardle.example.com, flunders, dev, *, allow"
    assert found.allowed == (
        Holder("group:system:masters", "allowed to members of the group system:masters"),
        Holder("group:ops", editor, (("group:ops", "role:admin", "role:editor"),)),
        Holder("user:alice", editor, (("user:alice", "role:editor"),)),
    )
    assert found.denied == (Holder("group:interns", "policy:3: p, group:interns, delete, *, *, *, *, deny"),)
    admin = "policy:2: p, role:admin, *, *, *, *, *, allow"
    assert found.roles == (
        RoleHolder("role:admin", (admin, editor), ("group:ops",)),
        RoleHolder("role:editor", (editor,), ("group:interns", "group:ops", "user:alice")),
    )
    assert found.partly == (PartHolder("user:robot", ({"namespaces": "dev", "names": "f1"},)),)
    assert not found.sampled


def test_many_members_of_a_role_with_many_denials() -> None:
    """What each of them may do in part is found out once."""
    names = [f"n{number}" for number in range(300)]
    rules = [
        "p, role:r, get, core, pods, dev, *",
        *(f"p, role:r, get, core, pods, dev, {name}, deny" for name in names),
    ]
    members = [f"g, user:u{number}, role:r" for number in range(1000)]
    policy = CasbinAuthorizer.from_text("\n".join([*rules, *members]))
    found = asyncio.run(who_can(policy, Attributes(Identity("x"), "get", True, "", "v1", "pods")))
    parts = {part["names"] for one in found.partly for part in one.parts}
    assert (len(found.partly), parts) == (1000, {"* but not " + "|".join(sorted(names))})


def test_several_authorizers() -> None:
    """Of a union, all are asked, and what it decides counts."""
    union = Union([PrivilegedGroups(["root"]), CasbinAuthorizer.from_text(POLICY, privileged=())])
    found = asyncio.run(who_can(union, DELETE))
    assert {one.subject for one in found.allowed} == {"group:root", "group:ops", "user:alice"}


class Closed:
    """Decides by what nobody can look into."""

    async def authorize(self, attributes: Attributes) -> Verdict:
        return Verdict(Outcome.DENY if attributes.identity.user == "alice" else Outcome.NO_OPINION)


def test_what_cannot_be_searched() -> None:
    """It is asked for the names that policies mention; whom it denies may do no part, and that is not everybody."""
    found = asyncio.run(who_can(Union([Closed(), CasbinAuthorizer.from_text(POLICY)]), DELETE._replace(namespace="")))
    assert "user:robot" in {one.subject for one in found.partly}
    assert "user:alice" not in {one.subject for one in (*found.allowed, *found.partly)}
    assert found.sampled
    assert not asyncio.run(who_can(Union([PrivilegedGroups(), AlwaysAllowPaths(["/a"])]), DELETE)).sampled


def test_models_of_ones_own() -> None:
    """Where rules cannot be searched, all names that they mention and callers can have are tried, and it says so."""
    model = """
[request_definition]
r = sub, groups, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = (r.sub == p.sub || p.sub in r.groups) && keyMatch(r.obj, p.obj) && r.act == p.act
"""
    rows = [
        "alice, /apis/*",
        "devs, /apis/x/*",
        "bob, /other",
        " , /apis/*",
        '" erin", /apis/*',
    ]
    policy = CasbinAuthorizer.from_text("\n".join(f"p, {row}, get" for row in rows), model=model)
    asked = Attributes(Identity("x"), "get", True, "x", "v1", "flunders", "", "dev", "f1")
    found = asyncio.run(who_can(policy, asked))
    assert {one.subject for one in found.allowed} == {"user:alice", "group:alice", "user:devs", "group:devs"}
    assert found.sampled
