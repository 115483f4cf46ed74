"""Compiled policies: fields and functions of one's own, what casbin has to evaluate, switches, explanations."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.middleware.authorization.casbin.oracle import Both, model_text, section_of
from tests.work import measured

from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import Identity
from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import CasbinAuthorizer
from aggmw.middleware.authorization.casbin.enforcer import casbin_functions
from aggmw.middleware.authorization.casbin.functions import FUNCTIONS
from aggmw.middleware.authorization.casbin.keys import KEYS
from aggmw.middleware.authorization.casbin.role_patterns import PatternRoles, Patterns
from aggmw.middleware.authorization.casbin.section import Effect

ALLOW, DENY, NO_OPINION = Outcome.ALLOW, Outcome.DENY, Outcome.NO_OPINION
OutcomeOf = Callable[..., Outcome]
NOT_COMPILED = "r.obj in [x for x in (p.obj, '/y')] && r.sub == p.sub"
MESSAGE = (
    "model:8: [matchers] m uses '[x for x in (p.obj, '/y')]', which cannot be compiled: casbin goes through all rules"
    " for each decision, in a thread"
)


def get(user: str, path: str, *groups: str) -> Attributes:
    return Attributes(Identity(user, groups=groups), "get", False, path=path)


def load(
    policy: str, matcher: str, request: str = "sub, obj", columns: str = "sub, obj", **options: Any
) -> CasbinAuthorizer:
    effect = options.pop("effect", Effect.ALLOW_OVERRIDE)
    text = model_text(request, columns, matcher, effect, options.pop("roles", None))
    return CasbinAuthorizer.from_text(policy, model=text, **options)


def mistakes(*arguments: Any, **options: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(*arguments, **options)
    return str(caught.value).splitlines()


# Fields of one's own


def test_fields_may_have_attributes_and_items(outcome: OutcomeOf) -> None:
    """An object that a function makes of the attributes is asked for its attributes and items (ABAC)."""
    devices = {"alice": SimpleNamespace(trusted=True, owner={"team": "blue"}), "bob": {"trusted": False, "owner": {}}}
    authorizer = load(
        "p, blue, /x\n",
        "r.device.trusted && r.device.owner['team'] == p.sub && r.obj == p.obj",
        "device, obj",
        fields={"device": lambda attributes: devices[attributes.identity.user]},
    )
    assert outcome(authorizer, "alice", "get", "/x") is ALLOW
    assert outcome(authorizer, "alice", "get", "/y") is NO_OPINION
    assert outcome(authorizer, "bob", "get", "/x") is NO_OPINION
    assert authorizer._snapshot._cache is None


def test_fields_that_are_sets(outcome: OutcomeOf) -> None:
    """A set is looked up by its members; anything that is no text is compared with every rule."""
    teams = {"alice": ("blue",), "bob": {"red"}, "carol": "navy blue", "dave": 7}
    policy = "".join(f"p, t{number}\n" for number in range(20)) + "p, blue\n"
    authorizer = load(policy, "p.sub in r.team", "team", "sub", fields={"team": lambda a: teams[a.identity.user]})
    answers = [outcome(authorizer, user, "get", "/x") for user in ("alice", "bob", "carol")]
    assert answers == [ALLOW, NO_OPINION, ALLOW]
    with pytest.raises(TypeError):
        outcome(authorizer, "dave", "get", "/x")


def test_values_that_are_no_text_are_found_by_looking_at_all() -> None:
    """An object that is equal to a text is found, though no index has it."""

    class Named:
        __hash__ = None  # type: ignore[assignment]  # not to be looked up

        def __eq__(self, other: object) -> bool:
            return other == "s17"

    rows = [("p", f"s{number}", "/x") for number in range(30)]
    section = section_of(model_text("sub, obj", "sub, obj", "r.sub == p.sub && r.obj == p.obj"), rows)
    assert section.decide([Named(), "/x"]).rule == ("s17", "/x")
    assert not section.decide([Named(), "/y"]).allowed


def test_field_that_exists() -> None:
    """What the requests have already cannot be replaced."""
    with pytest.raises(ValueError, match="fields: requests have a field called user already"):
        load("p, a, /x\n", "r.sub == p.sub", fields={"user": lambda attributes: ""})


def test_private_attributes_are_refused() -> None:
    """A matcher does not look behind an object."""
    [message] = mistakes("p, a, /x\n", "r.x.__class__ == p.sub", "x, obj", fields={"x": lambda attributes: 1})
    assert message.startswith("model:8: [matchers] uses 'r.x.__class__'")


def test_addresses(outcome: OutcomeOf) -> None:
    """ipMatch is looked up by networks; what is no address is denied, whatever else the matcher says."""
    policy = "p, 10.0.0.0/8\np, 192.168.1.1\np, 2001:db8::/32\n" + "".join(f"p, 172.16.{n}.0/24\n" for n in range(20))
    text = "ipMatch(r.from_, p.sub)"
    authorizer = load(policy, text, "from_", "sub", fields={"from_": lambda attributes: attributes.identity.user})
    for address in ("10.9.9.9", "192.168.1.1", "2001:db8::1", "172.16.7.200"):
        assert outcome(authorizer, address, "get", "/") is ALLOW
    for address in ("11.0.0.1", "192.168.1.2", "::ffff:10.0.0.1", "172.16.20.1"):
        assert outcome(authorizer, address, "get", "/") is NO_OPINION
    assert outcome(authorizer, "nobody", "get", "/") is DENY
    assert mistakes("p, 10.0.0.300\n", text, "from_", "sub", fields={"from_": str}) == [
        "policy:1: the pattern '10.0.0.300' is no address, and no network like 10.0.0.0/8"
    ]


# Functions that are awaited


async def test_coroutine_functions_are_awaited(decide: Callable[..., Verdict]) -> None:
    """Each is called once for the same arguments of a request; `verdict` says that it cannot wait."""
    calls: list[tuple[str, str]] = []

    async def member(user: str, team: str) -> bool:
        calls.append((user, team))
        return team == "blue"

    policy = "p, red, /x\np, green, /x\np, blue, /x\np, blue, /x/y\n"
    authorizer = load(policy, "r.obj == p.obj && member(r.sub, p.sub)", functions={"member": member})
    assert authorizer.verdict(get("alice", "/x")) is None
    assert (await authorizer.authorize(get("alice", "/x"))).reason == "policy:3: p, blue, /x"
    assert calls == [("alice", "red"), ("alice", "green"), ("alice", "blue")]
    assert (await authorizer.authorize(get("alice", "/z"))).outcome is NO_OPINION
    assert len(calls) == 3


async def test_coroutine_function_that_fails() -> None:
    """Its error is the authorizer's, which the stage answers with 500."""

    async def fails(user: str) -> bool:
        raise OSError(user)

    authorizer = load("p, a, /x\n", "fails(r.sub)", functions={"fails": fails})
    with pytest.raises(OSError, match="alice"):
        await authorizer.authorize(get("alice", "/x"))


async def test_callable_object_is_awaited() -> None:
    """An object whose call is a coroutine is one too."""

    class Member:
        async def __call__(self, user: str) -> bool:
            return user == "alice"

    authorizer = load("p, a, /x\n", "member(r.sub)", functions={"member": Member()})
    assert (await authorizer.authorize(get("alice", "/x"))).allowed
    assert not (await authorizer.authorize(get("bob", "/x"))).allowed


def test_functions_in_place_of_ours_are_not_looked_up(outcome: OutcomeOf) -> None:
    """A function of one's own with the name of one of ours decides alone."""
    policy = "".join(f"p, u{number}, /x\n" for number in range(20))
    authorizer = load(policy, "keyMatch(r.sub, p.sub)", functions={"keyMatch": lambda value, pattern: value == "any"})
    assert outcome(authorizer, "any", "get", "/x") is ALLOW
    assert outcome(authorizer, "u1", "get", "/x") is NO_OPINION


# What casbin evaluates


async def test_what_is_not_compiled_is_said_and_decided(logs: list[dict[str, Any]]) -> None:
    """In the log, in `warnings`, in `repr`; casbin then decides in a thread, and verdicts are remembered."""
    authorizer = load("p, alice, /x\n", NOT_COMPILED)
    assert [str(one) for one in authorizer.warnings] == [MESSAGE]
    assert (
        repr(authorizer) == f"CasbinAuthorizer('policy', 1 rows, revision {authorizer.revision}, evaluated by casbin)"
    )
    assert [entry["path"] for entry in logs if entry["event"] == "model is not compiled"] == ["model:8"]
    assert authorizer.verdict(get("alice", "/x")) is None
    for path, expected in (("/x", ALLOW), ("/y", ALLOW), ("/z", NO_OPINION)):
        assert (await authorizer.authorize(get("alice", path))).outcome is expected
    assert authorizer.verdict(get("alice", "/x")) == Verdict(ALLOW, "policy:1: p, alice, /x")


def test_compiled_models_say_nothing(logs: list[dict[str, Any]]) -> None:
    """No word of it where there is nothing to say."""
    assert "casbin)" not in repr(load("p, alice, /x\n", "r.sub == p.sub"))
    assert logs == []


@pytest.mark.parametrize(
    "expression",
    [
        "2 ** 3 == 8",
        "6 & 2 == 2",
        "r.sub in {p.sub, 'x'}",
        "{'alice': 1} == {r.sub: 1}",
        "same(a=r.sub, b=p.sub)",
    ],
)
async def test_other_expressions_that_casbin_evaluates(expression: str) -> None:
    """Whatever casbin knows and this does not."""
    authorizer = load("p, alice, /x\n", expression, functions={"same": lambda a, b: a == b})
    assert "evaluated by casbin" in repr(authorizer)
    assert (await authorizer.authorize(get("alice", "/x"))).allowed


def test_casbin_cannot_await() -> None:
    """A model that casbin has to evaluate and that calls a coroutine function is a mistake."""

    async def member(user: str) -> bool:
        return True

    [message] = mistakes("p, a, /x\n", f"{NOT_COMPILED} && member(r.sub)", functions={"member": member})
    assert message == f"{MESSAGE}, and casbin cannot await functions"


# eval()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r.sub ==", "policy:1: sub is not an expression: r.sub =="),
        (
            "r.colour == 'x'",
            "policy:1: names field 'r.colour', which [request_definition] does not define; known: r.sub, r.obj",
        ),
        ("eval(p.sub) || __import__('os')", "policy:1: calls __import__(), which is no known function; known: "),
    ],
)
def test_expressions_of_rules_are_looked_through(text: str, message: str) -> None:
    """A rule's text that cannot be evaluated is a mistake when it is loaded, not a failure of requests."""
    assert any(
        line.startswith(message)
        for line in mistakes(f"p, {text}, /x\n", "eval(p.sub) && r.obj == p.obj", allow_eval=True)
    )


SLOW = "could keep the server busy with one request"


@pytest.mark.parametrize(
    ("matcher", "row", "where", "text"),
    [
        ("regexMatch(r.obj, '(a+)+')", "x", "model:8: ", SLOW),
        ("keyMatch(r.obj, '/a/*/b')", "x", "model:8: ", "ignores what follows it"),
        ("eval(p.sub)", "\"regexMatch(r.obj, '(a+)+')\"", "policy:1: ", SLOW),
        ("eval(p.sub)", "keyMatch(r.obj, '/a/*/b')", "policy:1: ", "ignores what follows it"),
        ("regexMatch(r.obj, p.sub + '.*')", "x", "model:8: ", "takes a field of the policy or a text as its pattern"),
        ("keyMatch(r.obj, r.sub + '*')", "x", "model:8: ", "takes a value, then a pattern of the policy's"),
        ("regexMatch(r.obj)", "x", "model:8: ", "takes a value, then a pattern of the policy's"),
    ],
)
def test_patterns_wherever_they_stand(matcher: str, row: str, where: str, text: str) -> None:
    """C4: patterns in matchers and in expressions of rules are looked through; a caller never writes one."""
    [message] = mistakes(f"p, {row}, /x\n", matcher, allow_eval=True)
    assert message.startswith(where)
    assert text in message


def test_patterns_that_are_put_together(outcome: OutcomeOf) -> None:
    """keyMatch and globMatch cannot be kept busy, so their patterns may be made of the policy's fields."""
    authorizer = load("p, alice, /x\n", "r.sub == p.sub && keyMatch(r.obj, p.obj + '/*')")
    assert outcome(authorizer, "alice", "get", "/x/y") is ALLOW
    assert outcome(authorizer, "alice", "get", "/xy") is NO_OPINION


# Switches


@pytest.mark.parametrize(
    ("function", "pattern", "path"),
    [
        ("keyMatch", "/a/*/pods", "/a/x/secrets"),
        ("keyMatch2", "/apis/apps.example.com", "/apis/appsXexample-com"),
        ("keyMatch3", "/{x}/a.b", "/1/aXb"),
        ("keyMatch4", "/{x}/a.b", "/1/aXb"),
        ("keyMatch5", "/{x}/a.b", "/1/aXb"),
        ("regexMatch", "/api", "/api/v1/secrets"),
    ],
)
def test_casbins_patterns(outcome: OutcomeOf, function: str, pattern: str, path: str) -> None:
    """`casbin_patterns` takes back every difference in patterns; casbin itself agrees."""
    matcher = f"{function}(r.obj, p.obj)"
    theirs = load(f"p, a, {pattern}\n", matcher, casbin_patterns=True)
    assert outcome(theirs, "a", "get", path) is ALLOW
    assert Both.load(model_text("sub, obj", "sub, obj", matcher), [("p", "a", pattern)]).theirs.enforce("a", path)
    if function != "keyMatch":
        assert outcome(load(f"p, a, {pattern}\n", matcher), "a", "get", path) is NO_OPINION


def test_casbins_patterns_are_told_of() -> None:
    """What would be a mistake is a warning then."""
    authorizer = load("p, a, /a/*/b\n", "keyMatch(r.obj, p.obj)", casbin_patterns=True)
    assert "ignores what follows" in str(authorizer.warnings[0])
    authorizer = load("p, a, /a\n", "regexMatch(r.obj, p.obj)", casbin_patterns=True)
    assert "also matches whatever only begins so" in str(authorizer.warnings[0])


DOMAINS = {"request": "sub, dom, obj", "columns": "sub, dom, obj", "roles": {"g": "_, _, _"}}
IN_DOMAIN = "r.sub == p.sub && r.dom == p.dom && g(r.obj, p.obj, r.dom)"


def test_patterns_of_roles(outcome: OutcomeOf) -> None:
    """Members and domains of a role definition may be patterns; the verdict is found by an index all the same."""
    policy = "p, alice, dev, books\ng, /book/:id, books, *\ng, /pen/1, books, prod\n"
    options = {"role_patterns": {"g": "keyMatch2"}, "domain_patterns": {"g": "keyMatch"}}
    authorizer = load(policy, IN_DOMAIN, **DOMAINS, **options)
    asked = Attributes(Identity("alice"), "get", False, path="/book/7")
    section = authorizer._snapshot._sections[""]
    assert section is not None
    assert section.decide(["alice", "dev", "/book/7"]).allowed
    assert not section.decide(["alice", "dev", "/pen/1"]).allowed
    assert not section.decide(["alice", "dev", "/book/7/8"]).allowed
    assert authorizer.verdict(asked) is not None


def test_domains_of_requests_cost_nothing_much() -> None:
    """C4: whoever asks chooses the domain: neither for a new one nor for a new name are all patterns tried."""
    tried = 0
    match = FUNCTIONS["keyMatch2"]

    def counted(value: str, pattern: str) -> object:
        nonlocal tried
        tried += 1
        return match(value, pattern)

    number = 500
    links = [(f"/shelf/{one}/:id", f"books{one}", "*") for one in range(number)]
    graph = PatternRoles(
        [*links, ("books7", "read", "east")],
        names=Patterns(counted, KEYS["keyMatch2"]),
        domains=Patterns(FUNCTIONS["keyMatch"], KEYS["keyMatch"]),
    )
    assert tried < 2 * number
    tried = 0
    for one in range(number):
        assert graph.roles_of(f"/shelf/{one}/x", f"dev{one}") == {f"books{one}"}
    assert graph.roles_of("/shelf/7/x", "east") == {"books7", "read"}
    assert tried < 2 * number


def test_domains_with_rows_of_their_own_cost_nothing_much() -> None:
    """C4: whoever asks goes through the namespaces; what holds everywhere is not put together for each of them anew."""
    number = 2000
    links = [(f"user{one}", f"team{one % 50}", "*") for one in range(number)]
    links += [("team7", f"own{one}", f"dev{one}") for one in range(number)]
    graph = PatternRoles(links, domains=Patterns(FUNCTIONS["keyMatch"], KEYS["keyMatch"]))
    with measured() as work:
        for one in range(number):
            assert graph.roles_of("user7", f"dev{one}") == {"team7", f"own{one}"}
    assert work.seconds < 0.5  # some 10 ms; a second and more where the members of "*" are gone through each time
    assert len(graph.roles_anywhere("user7")) == number + 1


def test_patterns_that_fit_a_pattern() -> None:
    """A name has the roles of the patterns that it fits, not of those that only the text of its pattern fits."""
    fits = casbin_functions()["globMatch"]
    graph = PatternRoles([("a[b]", "one"), ("????", "four"), ("ab", "own")], names=Patterns(fits))
    assert graph.roles_of("a[b]") == {"one", "four"}
    assert graph.roles_of("ab") == {"own", "one"}
    graph = PatternRoles([("a[b]", "one"), ("????", "four")], names=Patterns(fits))
    assert graph.roles_of("ab") == {"one"}


def test_long_names_in_rows(outcome: OutcomeOf) -> None:
    """A member on which no pattern is tried does not keep the policy from being loaded, and is denied itself."""
    name = "/" + "a" * 1100
    policy = f"p, alice, , books\ng, /book/*, books\ng, {name}, books\ng, *, books\n"
    roles = {"request": "sub, dom, obj", "columns": "sub, dom, obj", "roles": {"g": "_, _"}}
    authorizer = load(policy, "r.sub == p.sub && g(r.obj, p.obj)", **roles, role_patterns={"g": "globMatch"})
    assert outcome(authorizer, "alice", "get", "/book/7") is ALLOW
    assert outcome(authorizer, "alice", "get", name) is DENY


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        (
            "",
            {"role_patterns": {"g2": "keyMatch2"}},
            "model: has no role definition g2, for which role_patterns is given",
        ),
        (
            "",
            {"role_patterns": {"g": "oneOf"}},
            "model: role_patterns of g: 'oneOf' is none of"
            " globMatch, keyMatch, keyMatch2, keyMatch3, keyMatch4, keyMatch5",
        ),
        (
            "g, alice, /role/:x, dev\n",
            {"role_patterns": {"g": "keyMatch2"}},
            "policy:2: has the role '/role/:x', which is a pattern to keyMatch2: a member may be one, a role may not",
        ),
        (
            "g, alice, books, d*v\n",
            {"domain_patterns": {"g": "keyMatch"}},
            "policy:2: the pattern 'd*v' has a * before its end, and keyMatch ignores what follows it",
        ),
    ],
)
def test_mistakes_in_patterns_of_roles(policy: str, options: dict[str, Any], message: str) -> None:
    """Each with its place."""
    assert mistakes(f"p, a, dev, books\n{policy}", IN_DOMAIN, **DOMAINS, **options) == [message]


def test_patterns_of_roles_need_domains_and_g() -> None:
    """Domains where there are none, and subjects, which know no patterns, are mistakes."""
    [message] = mistakes("p, a, /x\n", "g(r.sub, p.sub)", roles={"g": "_, _"}, domain_patterns={"g": "keyMatch"})
    assert message == "model:6: g has no domain, for which domain_patterns is given"
    [message] = mistakes(
        "p, a, /x\n", "p.sub in r.subjects", "subjects", roles={"g": "_, _"}, role_patterns={"g": "keyMatch"}
    )
    assert message == "model: names r.subjects, which does not know of role_patterns: ask g(r.sub, p.x)"


# Whole matchers


@pytest.mark.parametrize("denied", [False, True])
def test_way_that_asks_nothing_of_a_rule(denied: bool) -> None:
    """`|| r.sub == "root"` makes every rule match for root, those that deny too, as in casbin."""
    rows = [("p", f"s{number}", "allow") for number in range(20)] + ([("p", "x", "deny")] if denied else [])
    text = model_text("sub", "sub, eft", 'r.sub == p.sub || r.sub == "root"', Effect.ALLOW_AND_DENY)
    both = Both.load(text, rows)
    ours, theirs = both.ask("root")
    assert ours.allowed is theirs is not denied
    assert both.ask("s1")[0].rule == ("s1", "allow")


# Explanations


async def test_explanation_of_a_role() -> None:
    """The rule, and the way from the caller's own name to the role that the rule is about."""
    authorizer = CasbinAuthorizer.from_text(
        "p, role:reader, get, core, pods, dev, *\np2, user:bob, get, /x, deny\n"
        "g, role:editor, role:reader\ng, group:staff, role:editor\n"
    )
    pods = Attributes(Identity("alice", groups=("x", "staff")), "get", True, "", "v1", "pods", "", "dev")
    explanation = await authorizer.explain(pods)
    assert explanation.verdict == await authorizer.authorize(pods)
    assert explanation.rule == "policy:1: p, role:reader, get, core, pods, dev, *, allow"
    assert explanation.ways == (("group:staff", "role:editor", "role:reader"),)
    denied = await authorizer.explain(get("bob", "/x"))
    assert (denied.verdict.outcome, denied.rule) == (DENY, "policy:2: p2, user:bob, get, /x, deny")
    assert denied.ways == ()
    nothing = await authorizer.explain(get("carol", "/x"))
    assert (nothing.verdict.outcome, nothing.rule, nothing.ways) == (NO_OPINION, "", ())
    root = await authorizer.explain(get("root", "/x", "system:masters"))
    assert (root.verdict.allowed, root.rule) == (True, "")


async def test_explanation_shows_what_it_can() -> None:
    """A look-up that has to be awaited, or that casbin alone can evaluate, is left out; the rule is there."""

    async def renamed(user: str) -> str:
        return user

    policy, roles = "p, reader, /x\ng, alice, reader\n", {"g": "_, _"}
    shown, awaited = "g(r.sub, p.sub) && r.obj in {p.obj}", "g(renamed(r.sub), p.sub)"
    for matcher in (shown, awaited, "g([x for x in ('alice',)], p.sub)"):
        functions = {"renamed": renamed} if matcher is awaited else {}
        authorizer = load(policy, matcher, roles=roles, functions=functions)
        explanation = await authorizer.explain(get("alice", "/x"))
        assert explanation.rule == "policy:1: p, reader, /x"
        assert explanation.ways == ((("alice", "reader"),) if matcher is shown else ())


async def test_explanation_of_several_roles() -> None:
    """Each role look-up of the matcher that holds, with its domain."""
    authorizer = load(
        "p, writer, dev, reading\ng, alice, writer, dev\ng, alice, boss, prod\ng2, get, reading\n",
        "g(r.sub, p.sub, r.dom) && r.dom == p.dom && g2(r.act, p.act)",
        "sub, dom, act",
        "sub, dom, act",
        roles={"g": "_, _, _", "g2": "_, _"},
    )
    asked = Attributes(Identity("alice"), "get", True, "", "v1", "pods", "", "dev")
    assert (await authorizer.explain(asked)).ways == (("alice", "writer"), ("get", "reading"))
    assert (await authorizer.explain(asked._replace(namespace="prod"))).rule == ""
