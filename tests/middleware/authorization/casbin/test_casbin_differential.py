"""Our compiled form of a policy decides as casbin does: random models, policies and requests, asked of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.middleware.authorization.casbin.oracle import Both, model_text, section_of

from aggmw.middleware.authorization.casbin.index import Leaf, Node
from aggmw.middleware.authorization.casbin.section import Effect

REQUEST = "sub, dom, obj, act, ip, age, owner, names"
SUBJECTS = ("alice", "bob", "carol", "root", "admin", "reader", "*", "")
DOMAINS = ("d1", "d2", "d*", "*", "")
OBJECTS = ("/a", "/a/b", "/a/1/b", "/b/1", "data1", "data2", "group1", "/a//b", "")
ACTIONS = ("read", "write", "rea", "*", "")
ADDRESSES = ("10.0.0.1", "10.0.1.9", "192.168.2.7", "::1", "2001:db8::5")
NETWORKS = ("10.0.0.0/16", "10.0.0.1", "192.168.2.0/24", "0.0.0.0/0", "2001:db8::/32", "::/0")
# Patterns that mean to casbin what they look like: for others our functions differ, which is tested apart.
PATTERNS = {
    "keyMatch": ("/a", "/a/*", "*", "/a/b", "data*", "/*"),
    "keyMatch2": ("/a", "/:x", "/a/:x", "/a/:x/b", "/a/*", "*", "/:x/1", "data1"),
    "keyMatch3": ("/a", "/{x}", "/a/{x}", "/a/{x}/b", "/a/*", "/{x}/1", "data1"),
    "keyMatch4": ("/a", "/{x}", "/a/{x}", "/{x}/{y}/{x}", "/a/*", "/{x}/1", "data1"),
    "keyMatch5": ("/a", "/{x}", "/a/{x}", "/a/{x}/b", "/a/*", "/{x}/1", "data1"),
    "regexMatch": ("^/a$", "/a/.*", ".*", "data[12]$", "(?i)DATA1$", "^/(a|b)/1.*", "^$", "d.*"),
    "globMatch": ("/a", "/a/*", "/*/b", "/a/**", "*", "data?", "data[12]", "/{a,b}/1", "*/a", "/a//b", "/**/b"),
}
# Patterns whose meaning to casbin surprises; its own functions have to find it too.
SURPRISING = {
    "keyMatch": ("/*/b", "/a*b", "d*1"),
    "keyMatch2": ("/a.b", "/.", "/a(b|/b)", "/:x/*"),
    "keyMatch3": ("/a.b", "/.", "/{x}/*"),
    "keyMatch4": ("/a.b", "/.", "/{x}/*"),
    "keyMatch5": ("/a.b", "/.", "/{x}/*"),
    "regexMatch": ("/a", "d", "", "^/", "a"),
    "globMatch": (),
}
EVERY_PATTERN = {name: PATTERNS[name] + SURPRISING[name] for name in PATTERNS}
SUBJECT = (
    "r.sub == p.sub",
    "p.sub == r.sub",
    "g(r.sub, p.sub)",
    "(g(r.sub, p.sub) || p.sub == '*')",
    "(r.sub == p.sub || g(r.sub, p.sub))",
    "g2(r.sub, p.sub, r.dom)",
    "g2(r.sub, p.sub, p.dom)",
    "g2(r.sub, p.sub, 'd1')",
    "p.sub in r.names",
    "r.owner == p.sub",
    "(r.sub == p.sub && r.dom != '' || p.sub == '*')",
)
DOMAIN = (
    "r.dom == p.dom",
    "(r.dom == p.dom || p.dom == '*')",
    "(p.dom == '*' || keyMatch(r.dom, p.dom))",
    "keyMatch(r.dom, p.dom)",
    "r.dom in (p.dom, 'd2')",
)
OBJECT = (
    "r.obj == p.obj",
    "g3(r.obj, p.obj)",
    "{}(r.obj, p.obj)",
    "{}(r.obj, p.obj)",
    "{}(r.obj, p.obj)",
    "({}(r.obj, p.obj) || r.obj == p.obj)",
    "!{}(r.obj, p.obj)",
    "(g3(r.obj, p.obj) || {}(r.obj, p.obj))",
)
ACTION = (
    "r.act == p.act",
    "(r.act == p.act || p.act == '*')",
    "r.act in ('read', p.act)",
    "p.act == 'read'",
    "r.act != p.act",
    "r.act in p.act",
    "p.act in ('read', 'write', '*')",
)
OTHERS = (
    "ipMatch(r.ip, p.ip)",
    "(ipMatch(r.ip, p.ip) || p.sub == '*')",
    "r.age > 18",
    "18 <= r.age < 60",
    "r.age * 2 + 1 > 40 && r.age % 2 == 0",
    "r.sub in ('alice', 'bob', 'root')",
    "r.sub != 'root'",
    "!(r.sub == p.sub && r.age < 30)",
    "(r.sub == 'root' || r.dom == p.dom)",
    "(r.age > 30 if r.dom == 'd1' else p.act == 'read')",
    "r.sub",
    "'reader' in r.names",
    "-r.age < -20",
)
ROLES = {"g": "_, _", "g2": "_, _, _", "g3": "_, _"}


@dataclass(frozen=True)
class World:
    """A model, its policy, and requests."""

    model: str
    rows: tuple[tuple[str, ...], ...]
    requests: tuple[tuple[object, ...], ...]


def world(random: Random, patterns: dict[str, tuple[str, ...]], *, requests: int) -> World:
    function = random.choice(sorted(patterns))
    parts = [random.choice(some) for some in (SUBJECT, DOMAIN, OBJECT, ACTION) if random.random() < 0.8]
    parts += random.sample(OTHERS, random.choice([0, 0, 1, 2]))
    random.shuffle(parts)
    parts = parts or ["r.sub == p.sub"]
    matcher = " && ".join(parts).format(function, function) if parts else ""
    shape = random.random()
    if shape < 0.15:
        matcher += " || r.sub == 'root'"
    elif shape < 0.3 and len(parts) > 1:
        matcher = f"{parts[0]} || {' && '.join(parts[1:])}".format(function, function)
    elif shape < 0.35:
        matcher = f"!({matcher})"
    effect = random.choice(list(Effect))
    policy = "sub, dom, obj, act, ip, eft"
    if effect is Effect.PRIORITY and random.random() < 0.5:
        policy = "sub, dom, obj, act, ip, eft, priority"
    objects = patterns[function] if f"{function}(r.obj" in matcher else OBJECTS
    rows = []
    for _ in range(random.randint(1, random.choice([4, 40]))):
        effects = ["allow", "allow", "deny"] if random.random() < 0.95 else ["other"]
        row = ["p", *map(random.choice, (SUBJECTS, DOMAINS, objects, ACTIONS, NETWORKS, effects))]
        rows.append((*row, str(random.randint(1, 12))) if "priority" in policy else tuple(row))
    links = [(random.choice(SUBJECTS[:6]), random.choice(SUBJECTS[:6])) for _ in range(random.randint(0, 6))]
    circle = effect is Effect.SUBJECT_PRIORITY  # which casbin refuses to sort
    rows += [("g", *link) for link in links if not circle or SUBJECTS.index(link[0]) < SUBJECTS.index(link[1])]
    rows += [
        ("g2", random.choice(SUBJECTS[:6]), random.choice(SUBJECTS[:6]), random.choice(DOMAINS[:3]))
        for _ in range(random.randint(0, 6))
    ]
    rows += [("g3", random.choice(OBJECTS[:7]), random.choice(OBJECTS[:7])) for _ in range(random.randint(0, 4))]
    asked = tuple(
        (
            *map(random.choice, (SUBJECTS, DOMAINS, OBJECTS, ACTIONS, ADDRESSES)),
            random.choice([17, 18, 20, 31, 45.5, 60]),
            random.choice(SUBJECTS),
            random.choice([(), ("alice", "reader"), ["bob"], {"root", "*"}, "alice and bob"]),
        )
        for _ in range(requests)
    )
    return World(model_text(REQUEST, policy, matcher, effect, ROLES), tuple(dict.fromkeys(rows)), asked)


def compared(one: World, *, exact: bool = True) -> tuple[int, int]:
    """Ask both everything; how many answers there were, and how many allowed.

    Where casbin fails because a rule cannot be evaluated, ours may have had no need to look at that rule.
    """
    both = Both.load(one.model, one.rows, exact=exact)
    answers = allowed = 0
    for request in one.requests:
        try:
            theirs = both.theirs.enforce(*request)
        except Exception:  # noqa: BLE001  whatever a rule makes it raise
            continue
        ours = both.ours.decide(request)
        assert ours.allowed is theirs, (one.model, one.rows, request)
        assert ours.rule is None or ours.rule in both.ours.rules
        answers += 1
        allowed += ours.allowed
    return answers, allowed


BLOCKS, WORLDS, REQUESTS = 10, 450, 12


@pytest.mark.parametrize("exact", [True, False], ids=["our patterns", "casbin's patterns"])
@pytest.mark.parametrize("block", range(BLOCKS))
def test_same_answers(block: int, exact: bool) -> None:
    """Allowed by us if and only if by casbin: 108,000 decisions, of which neither nearly all are allowed nor refused.

    With our patterns for those that mean what they look like; with `casbin_patterns` for the others too.
    """
    answers = allowed = 0
    for seed in range(block * WORLDS, (block + 1) * WORLDS):
        some = world(Random(seed), PATTERNS if exact else EVERY_PATTERN, requests=REQUESTS)
        found = compared(some, exact=exact)
        answers, allowed = answers + found[0], allowed + found[1]
    assert answers > 0.93 * WORLDS * REQUESTS
    assert 0.15 < allowed / answers < 0.85


@settings(deadline=None, max_examples=50)
@given(st.integers(2**20, 2**40), st.booleans())
def test_same_answers_elsewhere(seed: int, exact: bool) -> None:
    """The same where nobody looked before."""
    compared(world(Random(seed), PATTERNS if exact else EVERY_PATTERN, requests=REQUESTS), exact=exact)


def leaves(tree: Node | Leaf) -> Iterator[Leaf]:
    if isinstance(tree, Leaf):
        yield tree
        return
    for child in (*tree.exact.values(), *(one for _, some in tree.prefixes for one in some.values()), tree.rest):
        if child is not None:
            yield from leaves(child)


@pytest.mark.parametrize(
    ("matcher", "most"),
    [
        ("r.sub == p.sub && r.obj == p.obj && r.act == p.act", 8),
        ("g(r.sub, p.sub) && keyMatch(r.obj, p.obj)", 8),
        ("g2(r.sub, p.sub, r.dom) && r.act == p.act && keyMatch2(r.obj, p.obj)", 8),
        ("(r.sub == p.sub || p.sub == '*') && regexMatch(r.obj, p.obj)", 8),
        ("p.sub in r.names && globMatch(r.obj, p.obj)", 8),
        ("ipMatch(r.ip, p.ip)", 8),
        ("r.sub == p.sub && r.obj == p.obj || r.dom == p.dom && r.obj == p.obj", 8),
        ("r.sub != p.sub", 1000),
    ],
)
def test_few_rules_are_looked_at(matcher: str, most: int) -> None:
    """Each condition that can be looked up is, in several steps where one leaves many rules; others cannot be."""
    rows = [
        (
            "p",
            f"s{number % 40}",
            f"d{number % 40}",
            f"/o{number}/*",
            "read",
            f"10.{number // 256}.{number % 256}.0/24",
            "allow",
        )
        for number in range(1000)
    ]
    both = Both.load(model_text(REQUEST, "sub, dom, obj, act, ip, eft", matcher, roles=ROLES), rows)
    for _, tree in both.ours._ways:
        assert tree is not None
        assert max(len(leaf.numbers) for leaf in leaves(tree)) <= most


def test_copies_in_the_index_are_bounded() -> None:
    """Rules that list many alternatives in many fields do not multiply: the index has a bounded number of entries."""
    listed = "|".join(f"x{number}" for number in range(6))
    rows = [("p", listed, listed, listed, listed, f"u{number % 3}", "allow") for number in range(400)]
    text = model_text(
        REQUEST,
        "sub, dom, obj, act, ip, eft",
        "oneOf(r.sub, p.sub) && oneOf(r.dom, p.dom) && oneOf(r.obj, p.obj) && oneOf(r.act, p.act) && r.ip == p.ip",
    )
    [(_, tree)] = section_of(text, rows)._ways
    assert tree is not None
    assert sum(len(leaf.numbers) for leaf in leaves(tree)) <= 8 * len(rows)
