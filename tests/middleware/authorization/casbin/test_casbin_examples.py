"""Models of the kinds that casbin publishes as examples (https://github.com/casbin/casbin/tree/master/examples).

The models and policies here were written anew, to say what those examples say; each request is asked of casbin too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from casbin.rbac.default_role_manager import DomainManager, RoleManager
from casbin.util import key_match2_func, key_match_func
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.middleware.authorization.casbin.oracle import Both, model_text

from aggmw.middleware.authorization.casbin.functions import FUNCTIONS
from aggmw.middleware.authorization.casbin.keys import KEYS
from aggmw.middleware.authorization.casbin.role_patterns import PatternRoles, Patterns
from aggmw.middleware.authorization.casbin.section import Effect

ALLOW_AND_DENY, DENY_OVERRIDE = Effect.ALLOW_AND_DENY, Effect.DENY_OVERRIDE


@dataclass(frozen=True)
class Example:
    """A model, a policy (one row a line), and what is allowed and what is not."""

    request: str
    policy: str
    matcher: str
    rows: str
    allowed: tuple[tuple[object, ...], ...]
    refused: tuple[tuple[object, ...], ...]
    effect: Effect = Effect.ALLOW_OVERRIDE
    roles: Mapping[str, str] = field(default_factory=dict)

    def load(self) -> Both:
        rows = [tuple(column.strip() for column in line.split(",")) for line in self.rows.strip().splitlines()]
        return Both.load(model_text(self.request, self.policy, self.matcher, self.effect, self.roles), rows)


PLAIN = "sub, obj, act"
ACL = "r.sub == p.sub && r.obj == p.obj && r.act == p.act"
ROLE = {"g": "_, _"}
PEOPLE = """
p, alice, data1, read
p, bob, data2, write
"""
RBAC = PEOPLE + "p, editor, data2, read\np, editor, data2, write\ng, alice, editor\n"
OWNED = SimpleNamespace(Name="data1", Owner="alice")
YOUNG, OLD = SimpleNamespace(Name="alice", Age=16), {"Name": "bob", "Age": 40}

EXAMPLES = {
    "basic": Example(
        PLAIN,
        PLAIN,
        ACL,
        PEOPLE,
        (("alice", "data1", "read"),),
        (("alice", "data1", "write"), ("bob", "data1", "read")),
    ),
    "basic with root": Example(
        PLAIN,
        PLAIN,
        ACL + ' || r.sub == "root"',
        PEOPLE,
        (("root", "data9", "erase"), ("bob", "data2", "write")),
        (("bob", "data2", "read"),),
    ),
    "basic without resources": Example(
        "sub, act",
        "sub, act",
        "r.sub == p.sub && r.act == p.act",
        "p, alice, read\np, bob, write",
        (("alice", "read"), ("bob", "write")),
        (("alice", "write"),),
    ),
    "basic without users": Example(
        "obj, act",
        "obj, act",
        "r.obj == p.obj && r.act == p.act",
        "p, data1, read\np, data2, write",
        (("data1", "read"),),
        (("data1", "write"), ("data2", "read")),
    ),
    "rbac": Example(
        PLAIN,
        PLAIN,
        "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act",
        RBAC,
        (("alice", "data1", "read"), ("alice", "data2", "write"), ("editor", "data2", "read")),
        (("bob", "data2", "read"), ("alice", "data1", "write")),
        roles=ROLE,
    ),
    "rbac with hierarchy": Example(
        PLAIN,
        PLAIN,
        "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act",
        "p, viewer, data1, read\ng, editor, viewer\ng, owner, editor\ng, alice, owner",
        (("alice", "data1", "read"), ("editor", "data1", "read")),
        (("bob", "data1", "read"),),
        roles=ROLE,
    ),
    "rbac with resource roles": Example(
        PLAIN,
        PLAIN,
        "g(r.sub, p.sub) && g2(r.obj, p.obj) && r.act == p.act",
        "p, alice, data1, read\np, staff, archive, write\ng, alice, staff\ng2, data1, archive\ng2, data2, archive",
        (("alice", "data1", "read"), ("alice", "data2", "write")),
        (("alice", "data2", "read"), ("bob", "data1", "write")),
        roles={"g": "_, _", "g2": "_, _"},
    ),
    "rbac with domains": Example(
        "sub, dom, obj, act",
        "sub, dom, obj, act",
        "g(r.sub, p.sub, r.dom) && r.dom == p.dom && r.obj == p.obj && r.act == p.act",
        """p, admin, east, data1, read
        p, admin, west, data2, read
        g, alice, admin, east
        g, bob, admin, west""",
        (("alice", "east", "data1", "read"), ("bob", "west", "data2", "read")),
        (("alice", "west", "data2", "read"), ("bob", "east", "data1", "read"), ("alice", "north", "data1", "read")),
        roles={"g": "_, _, _"},
    ),
    "rbac with deny": Example(
        PLAIN,
        "sub, obj, act, eft",
        "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act",
        """p, editor, data2, read, allow
        p, editor, data2, write, allow
        p, alice, data2, write, deny
        g, alice, editor""",
        (("alice", "data2", "read"),),
        (("alice", "data2", "write"), ("bob", "data2", "read")),
        ALLOW_AND_DENY,
        ROLE,
    ),
    "rbac with not deny": Example(
        PLAIN,
        "sub, obj, act, eft",
        "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act",
        "p, editor, data2, read, allow\np, alice, data2, write, deny\ng, alice, editor",
        (("alice", "data2", "read"), ("bob", "data9", "erase")),
        (("alice", "data2", "write"),),
        DENY_OVERRIDE,
        ROLE,
    ),
    "priority by order": Example(
        PLAIN,
        "sub, obj, act, eft",
        "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act",
        """p, alice, data1, read, allow
        p, interns, data1, read, deny
        p, interns, data1, write, deny
        p, alice, data1, write, allow
        g, alice, interns""",
        (("alice", "data1", "read"),),
        (("alice", "data1", "write"), ("bob", "data1", "read")),
        Effect.PRIORITY,
        ROLE,
    ),
    "priority by number": Example(
        PLAIN,
        "priority, sub, obj, act, eft",
        "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act",
        """p, 10, interns, data1, read, deny
        p, 2, alice, data1, read, allow
        p, 1, interns, data1, write, deny
        p, 3, alice, data1, write, allow
        g, alice, interns""",
        (("alice", "data1", "read"),),
        (("alice", "data1", "write"),),
        Effect.PRIORITY,
        ROLE,
    ),
    "subject priority": Example(
        PLAIN,
        "sub, obj, act, eft",
        "g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act",
        """p, everybody, data1, write, allow
        p, admin, data1, write, deny
        p, editor, data1, write, deny
        p, jane, data1, write, allow
        g, admin, everybody
        g, editor, admin
        g, jane, editor
        g, alice, admin""",
        (("jane", "data1", "write"),),
        (("alice", "data1", "write"), ("bob", "data1", "write")),
        Effect.SUBJECT_PRIORITY,
        ROLE,
    ),
    "keyMatch": Example(
        PLAIN,
        PLAIN,
        "r.sub == p.sub && keyMatch(r.obj, p.obj) && regexMatch(r.act, p.act)",
        "p, alice, /alice/*, ^GET$\np, alice, /alice/one, ^POST$\np, cathy, /cathy, ^(GET|POST)$",
        (("alice", "/alice/two", "GET"), ("alice", "/alice/one", "POST"), ("cathy", "/cathy", "POST")),
        (("alice", "/alice/two", "POST"), ("cathy", "/cathy", "PUT"), ("bob", "/alice/one", "GET")),
    ),
    "keyMatch2": Example(
        PLAIN,
        PLAIN,
        "r.sub == p.sub && keyMatch2(r.obj, p.obj) && regexMatch(r.act, p.act)",
        "p, alice, /alice/:resource, ^GET$\np, alice, /shared/:id/using/:resource, ^GET$",
        (("alice", "/alice/data", "GET"), ("alice", "/shared/1/using/2", "GET")),
        (("alice", "/alice/data/more", "GET"), ("alice", "/shared/1/using", "GET"), ("alice", "/alice/data", "PUT")),
    ),
    "keyMatch4": Example(
        PLAIN,
        PLAIN,
        "r.sub == p.sub && keyMatch4(r.obj, p.obj)",
        "p, alice, /parent/{id}/child/{id}, any",
        (("alice", "/parent/1/child/1", "GET"),),
        (("alice", "/parent/1/child/2", "GET"),),
    ),
    "keyMatch with one's own function": Example(
        PLAIN,
        PLAIN,
        "r.sub == p.sub && keyMatch5(r.obj, p.obj) && r.act == p.act",
        "p, alice, /alice/{resource}, read",
        (("alice", "/alice/data?page=2", "read"),),
        (("alice", "/alice/data/more", "read"),),
    ),
    "ipMatch": Example(
        PLAIN,
        PLAIN,
        "ipMatch(r.sub, p.sub) && r.obj == p.obj && r.act == p.act",
        "p, 192.168.2.0/24, data1, read\np, 10.0.0.0/16, data2, write\np, 2001:db8::/32, data1, read",
        (("192.168.2.1", "data1", "read"), ("10.0.3.4", "data2", "write"), ("2001:db8::9", "data1", "read")),
        (("192.168.3.1", "data1", "read"), ("10.1.0.1", "data2", "write")),
    ),
    "globMatch": Example(
        PLAIN,
        PLAIN,
        "r.sub == p.sub && globMatch(r.obj, p.obj) && r.act == p.act",
        "p, u1, /foo/*, read\np, u2, /foo*, read\np, u3, /*/foo/*, read\np, u4, *, read\np, u5, /foo/**, read",
        (
            ("u1", "/foo/bar", "read"),
            ("u2", "/foobar", "read"),
            ("u3", "/a/foo/bar", "read"),
            ("u4", "foo", "read"),
            ("u5", "/foo/a/b", "read"),
        ),
        (
            ("u1", "/foo/bar/baz", "read"),
            ("u2", "/foo/bar", "read"),
            ("u3", "/foo/bar", "read"),
            ("u4", "/foo", "read"),
            ("u5", "/fo", "read"),
        ),
    ),
    "abac": Example(
        PLAIN,
        PLAIN,
        "r.sub == r.obj.Owner",
        "p, any, any, any",
        (("alice", OWNED, "read"),),
        (("bob", OWNED, "read"),),
    ),
    "abac with rules": Example(
        PLAIN,
        "sub_rule, obj, act",
        "eval(p.sub_rule) && r.obj == p.obj && r.act == p.act",
        """p, r.sub.Age > 18, data1, read
        p, r.sub.Age < 60 && r.sub.Name != 'eve', data2, write""",
        ((OLD, "data1", "read"), (YOUNG, "data2", "write")),
        ((YOUNG, "data1", "read"), (OLD, "data2", "read")),
    ),
    "in a list": Example(
        PLAIN,
        PLAIN,
        "r.sub.Name == p.sub && r.obj == p.obj && r.act in ('read', 'write')",
        "p, alice, data1, any",
        ((YOUNG, "data1", "read"),),
        ((YOUNG, "data1", "erase"), (OLD, "data1", "read")),
    ),
    "in a field that is a list": Example(
        "sub, obj, admins",
        "sub, obj",
        "r.sub in r.admins || r.sub == p.sub && r.obj == p.obj",
        "p, alice, data1",
        (("bob", "data9", ["bob", "carol"]), ("alice", "data1", [])),
        (("alice", "data2", ["bob"]),),
    ),
    "comment": Example(PLAIN, PLAIN, ACL + " # the first", PEOPLE, (("alice", "data1", "read"),), (("", "", ""),)),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name: str) -> None:
    """What the example allows and refuses, and casbin decides the same."""
    example = EXAMPLES[name]
    both = example.load()
    for expected, requests in ((True, example.allowed), (False, example.refused)):
        for request in requests:
            ours, theirs = both.ask(*request)
            assert (ours.allowed, theirs) == (expected, expected), request


BOOKS = model_text(
    "sub, dom, obj, act",
    "sub, dom, obj, act",
    "r.sub == p.sub && g(r.obj, p.obj, r.dom) && r.dom == p.dom && r.act == p.act",
    roles={"g": "_, _, _"},
)
SHELVES = [
    ("p", "alice", "east", "books", "read"),
    ("p", "alice", "west", "books", "write"),
    ("p", "alice", "east", "specials", "lend"),
    ("g", "/book/:id", "books", "*"),
    ("g", "/pen/1", "books", "west"),
    ("g", "/special/:id", "specials", "e*"),
    ("g", "specials", "books", "east"),
]


def books_and_casbin() -> tuple[PatternRoles, Both]:
    """The all-pattern example: names and domains of roles are patterns."""
    both = Both.load(BOOKS, SHELVES)
    both.theirs.add_named_matching_func("g", key_match2_func)
    both.theirs.add_named_domain_matching_func("g", key_match_func)
    graph = PatternRoles(
        [row[1:] for row in SHELVES if row[0] == "g"],
        names=Patterns(FUNCTIONS["keyMatch2"], KEYS["keyMatch2"]),
        domains=Patterns(FUNCTIONS["keyMatch"], KEYS["keyMatch"]),
    )
    return graph, both


@pytest.mark.parametrize("domain", ["east", "west", "north"])
def test_roles_that_are_patterns(domain: str) -> None:
    """Members and domains of `g` that are patterns hold as in casbin, for names that no row mentions too."""
    graph, both = books_and_casbin()
    names = ["/book/1", "/book/2/3", "/pen/1", "/pen/2", "/special/2", "specials", "books"]
    manager = both.theirs.get_role_manager()
    linked = 0
    for name in names:
        for role in names:
            mine = graph.has_link(name, role, domain)
            assert mine is manager.has_link(name, role, domain), (name, role)
            assert bool(graph.way(name, role, domain)) is mine
            linked += mine and name != role
    assert linked


LINKED = ("/b/1", "/b/2", "/c/1", "g", "h", "u")


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*LINKED, "/b/:id", "/:x/1"]), st.sampled_from(LINKED), st.sampled_from(["d", "e", "*"])
        ),
        max_size=7,
    ),
    st.booleans(),
    st.booleans(),
)
def test_member_patterns_as_casbin_has_them(links: list[tuple[str, str, str]], domains: bool, index: bool) -> None:
    """Random members, some of them patterns, with and without domains: the roles that casbin's role managers find.

    With an index and without, as for casbin's own functions.
    """
    theirs = DomainManager(10) if domains else RoleManager(10)
    rows = [link if domains else link[:2] for link in links]
    for row in rows:
        theirs.add_link(*row)
    theirs.add_matching_func(key_match2_func)
    if domains:
        theirs.add_domain_matching_func(key_match_func)
    ours = PatternRoles(
        rows,
        names=Patterns(FUNCTIONS["keyMatch2"], *([KEYS["keyMatch2"]] if index else [])),
        domains=Patterns(FUNCTIONS["keyMatch"], *([KEYS["keyMatch"]] if index else [])) if domains else None,
    )
    for name in (*LINKED, "/b/9", "/z/1", "/b/:id"):
        for role in LINKED:
            for domain in [("d",), ("x",)] if domains else [()]:
                assert ours.has_link(name, role, *domain) is theirs.has_link(name, role, *domain)
