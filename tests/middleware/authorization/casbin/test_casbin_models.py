"""Models of one's own: what they may ask about, and every mistake in them, word for word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import Identity
from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import CasbinAuthorizer
from aggmw.middleware.authorization.casbin.inputs import FIELDS, key_of, request_path

ALLOW, DENY, NO_OPINION = Outcome.ALLOW, Outcome.DENY, Outcome.NO_OPINION
OutcomeOf = Callable[..., Outcome]
SOME_ALLOW = "some(where (p.eft == allow))"
DEEP = "r.sub == p.sub && (" * 200 + "r.sub == p.sub" + ")" * 200


def model(
    matcher: str = "r.sub == p.sub && r.obj == p.obj && r.act == p.act",
    *,
    request: str = "sub, obj, act",
    policy: str = "sub, obj, act",
    effect: str = SOME_ALLOW,
    roles: str = "",
) -> str:
    """A model whose lines are where the tests expect them: request 2, policy 4, effect 6, matcher 8, roles 10."""
    text = (
        f"[request_definition]\nr = {request}\n[policy_definition]\np = {policy}\n"
        f"[policy_effect]\ne = {effect}\n[matchers]\nm = {matcher}\n"
    )
    return text + (f"[role_definition]\ng = {roles}\n" if roles else "")


def load(text: str, policy: str = "p, alice, /healthz, get\n", **options: Any) -> CasbinAuthorizer:
    return CasbinAuthorizer.from_text(policy, model=text, **options)


def mistakes(text: str, policy: str = "p, alice, /healthz, get\n", **options: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(text, policy, **options)
    return str(caught.value).splitlines()


def test_plain_acl(outcome: OutcomeOf) -> None:
    """casbin's first example works unchanged: sub is the user, obj the path, act the verb."""
    authorizer = load(model())
    assert outcome(authorizer, "alice", "get", "/healthz") is ALLOW
    assert outcome(authorizer, "bob", "get", "/healthz") is NO_OPINION
    assert outcome(authorizer, "alice", "post", "/healthz") is NO_OPINION


def test_plain_roles(outcome: OutcomeOf) -> None:
    """casbin's RBAC example: g(r.sub, p.sub)."""
    text = model("g(r.sub, p.sub) && keyMatch(r.obj, p.obj) && r.act == p.act", roles="_, _")
    authorizer = load(text, "p, admin, /apis/*, get\ng, alice, boss\ng, boss, admin\n")
    assert outcome(authorizer, "alice", "get", "/apis/x") is ALLOW
    assert outcome(authorizer, "admin", "get", "/apis/x") is ALLOW
    assert outcome(authorizer, "bob", "get", "/apis/x") is NO_OPINION


def test_roles_in_domains(outcome: OutcomeOf) -> None:
    """casbin's RBAC with domains: dom is the namespace."""
    text = model(
        "g(r.sub, p.sub, r.dom) && r.dom == p.dom && r.act == p.act",
        request="sub, dom, act",
        policy="sub, dom, act",
        roles="_, _, _",
    )
    authorizer = load(text, "p, admin, dev, get\np, admin, prod, get\ng, alice, admin, dev\n")
    assert outcome(authorizer, "alice", "get", "pods", namespace="dev") is ALLOW
    assert outcome(authorizer, "alice", "get", "pods", namespace="prod") is NO_OPINION


def test_groups_have_roles(outcome: OutcomeOf) -> None:
    """`g(r.groups, …)` asks for each group; `inGroups` takes alternatives; `in` looks into the set."""
    text = model(
        "(g(r.groups, p.sub) || inGroups(r.groups, p.sub) || p.sub in r.groups) && r.verb == p.act",
        request="groups, verb",
        policy="sub, act",
        roles="_, _",
    )
    authorizer = load(text, "p, reader, get\np, x|ops, list\np, dev, watch\ng, dev, reader\n")
    for verb in ("get", "watch"):
        assert outcome(authorizer, "alice", verb, "pods", groups=("qa", "dev")) is ALLOW
        assert outcome(authorizer, "alice", verb, "pods", groups=("qa",)) is NO_OPINION
    assert outcome(authorizer, "alice", "list", "pods", groups=("ops",)) is ALLOW


def test_priority_effect(outcome: OutcomeOf) -> None:
    """The smaller priority decides, whatever the order in the file."""
    text = model(
        "r.sub == p.sub && keyMatch(r.obj, p.obj)",
        request="sub, obj",
        policy="priority, sub, obj, eft",
        effect="priority(p.eft) || deny",
    )
    authorizer = load(text, "p, 10, alice, /a*, allow\np, 9, alice, /a/b, deny\np, 1, alice, /a/b/c, allow\n")
    assert outcome(authorizer, "alice", "get", "/a/x") is ALLOW
    assert outcome(authorizer, "alice", "get", "/a/b") is DENY
    assert outcome(authorizer, "alice", "get", "/a/b/c") is ALLOW


def test_subject_priority_effect(outcome: OutcomeOf) -> None:
    """The rule nearest to the user in the hierarchy of roles decides."""
    text = model(
        "g(r.sub, p.sub) && r.obj == p.obj",
        request="sub, obj",
        policy="sub, obj, eft",
        effect="subjectPriority(p.eft) || deny",
        roles="_, _",
    )
    authorizer = load(text, "p, admin, /a, allow\np, alice, /a, deny\ng, alice, admin\ng, bob, admin\n")
    assert outcome(authorizer, "alice", "get", "/a") is DENY
    assert outcome(authorizer, "bob", "get", "/a") is ALLOW


def test_paths_may_have_definitions_of_their_own(outcome: OutcomeOf) -> None:
    """A model with r2, p2, e2 and m2 decides paths by these, and resources by r, p, e and m."""
    text = (
        "[request_definition]\nr = user, resource\nr2 = user, path\n"
        "[policy_definition]\np = who, what\np2 = who, what\n"
        f"[policy_effect]\ne = {SOME_ALLOW}\ne2 = some(where (p2.eft == allow))\n"
        "[matchers]\nm = r.user == p.who && r.resource == p.what\nm2 = r2.user == p2.who && r2.path == p2.what\n"
    )
    authorizer = load(text, "p, a, pods\np2, a, /x\n")
    assert outcome(authorizer, "a", "get", "pods") is ALLOW
    assert outcome(authorizer, "a", "get", "/x") is ALLOW
    assert outcome(authorizer, "a", "get", "/pods") is NO_OPINION


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"api_group": "", "resource": "pods", "namespace": "n", "name": "p"}, "/api/v1/namespaces/n/pods/p"),
        ({"api_group": "g", "resource": "ws", "name": "w", "subresource": "status"}, "/apis/g/v1/ws/w/status"),
        ({"api_group": "g", "resource": "ws", "namespace": "n", "verb": "create"}, "/apis/g/v1/namespaces/n/ws"),
        ({"resource": "namespaces", "namespace": "n", "name": "n"}, "/api/v1/namespaces/n"),
        (
            {"resource": "namespaces", "namespace": "n", "name": "n", "subresource": "status"},
            "/api/v1/namespaces/n/status",
        ),
        ({"resource": "pods", "namespace": "n", "name": "p", "verb": "list"}, "/api/v1/namespaces/n/pods"),
        ({"resource": "pods", "namespace": "n", "name": "p", "verb": "watch"}, "/api/v1/namespaces/n/pods"),
    ],
)
def test_path_of_a_resource(fields: dict[str, str], path: str) -> None:
    """Rules about paths see one spelling of a resource's path; a field selector's name is no part of it."""
    asked = Attributes(Identity("a"), fields.pop("verb", "get"), True, api_version="v1")._replace(**fields)
    assert request_path(asked) == path


def test_path_of_a_path() -> None:
    """Any other path is seen as it was asked."""
    assert request_path(Attributes(Identity("a"), "get", False, path="/x/")) == "/x/"


UNKNOWN = (
    "model:2: [request_definition] names field 'colour', which no request has; known: act, apiGroup, apiVersion, dom,"
    " groups, name, namespace, obj, path, resource, sub, subjects, subresource, user, verb"
)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (model("r.sub == p.sub && r.colour == p.obj", request="sub, colour, act"), [UNKNOWN]),
        (
            model(request="sub, colour, act"),
            [
                UNKNOWN,
                "model:8: [matchers] names field 'r.obj', which [request_definition] does not define;"
                " known: r.sub, r.colour, r.act",
            ],
        ),
        (
            model("r.sub == p.who"),
            [
                "model:8: [matchers] names field 'p.who', which [policy_definition] does not define;"
                " known: p.sub, p.obj, p.act"
            ],
        ),
        (model("r2.sub == p.sub"), ["model:8: [matchers] names 'r2.sub': m knows r only"]),
        (
            model("r.sub == alice"),
            ["model:8: [matchers] names 'alice', which is neither a field (r.…, p.…) nor a text in quotes"],
        ),
        (model(DEEP), [f"model:8: [matchers] m is not an expression: {DEEP}"]),
        (model("r.sub == "), ["model:8: [matchers] m is not an expression: r.sub =="]),
        (
            model("r.sub.Age > 18"),
            ["model:8: [matchers] uses 'r.sub.Age', which casbin's matchers do not have: fields are plain text"],
        ),
        (
            model("r.sub.startswith(p.sub)"),
            ["model:8: [matchers] calls r.sub.startswith(), which is no function of casbin's"],
        ),
        (
            model("g(r.sub, p.sub, r.act)", roles="_, _"),
            ["model:8: [matchers] calls g() with 3 arguments; its role definition has 2"],
        ),
        (model("p.sub in r.sub", request="groups, sub"), []),
        (
            model("r.groups == p.sub", request="groups"),
            ["model:8: [matchers] compares r.groups, which is a set: write p.x in r.groups or inGroups(r.groups, p.x)"],
        ),
        (
            model('r.sub == "a.p.p"'),
            ['model:8: [matchers] m holds the text "a.p.p", parts of which casbin would replace'],
        ),
        (
            model("r.sub == 'a!b'"),
            ["model:8: [matchers] m holds the text 'a!b', parts of which casbin would replace"],
        ),
        (model("r.sub == \\\np.sub\x00"), ["model:9: holds a control character"]),
        (
            model("eval(p.sub)"),
            [
                "model:8: [matchers] calls eval(), which runs the text of policies:"
                " whoever writes a rule could allow anything"
            ],
        ),
        (
            model("keyMatch(p.obj, r.obj)"),
            ["model:8: [matchers] keyMatch() takes a value, then a pattern of the policy's"],
        ),
        (
            model(effect="some(where (p.eft == permit))"),
            [
                "model:6: [policy_effect] e is none of casbin's effects: some(where (p.eft == allow))"
                " · some(where (p.eft == allow)) && !some(where (p.eft == deny)) · priority(p.eft) || deny"
                " · subjectPriority(p.eft) || deny · !some(where (p.eft == deny))"
            ],
        ),
        (
            model(effect="!some(where (p.eft == deny))"),
            ["model:6: [policy_effect] asks for denying rules, and p has no column eft"],
        ),
        (
            model(effect="subjectPriority(p.eft) || deny"),
            ["model:6: [policy_effect] subjectPriority needs roles (g), and works for p only"],
        ),
        (
            model(roles="_, _, (_, _)"),
            ["model:10: [role_definition] g is neither '_, _' nor '_, _, _' (with a domain)"],
        ),
        (
            model(policy="sub, obj, obj"),
            [
                "model:4: [policy_definition] names field 'obj' twice",
                "model:8: [matchers] names field 'p.act', which [policy_definition] does not define;"
                " known: p.sub, p.obj, p.obj",
            ],
        ),
        (
            model("r.sub == p.sub", policy="sub, the obj, act"),
            ["model:4: [policy_definition] names field 'the obj': a name has letters, digits and _ only"],
        ),
        (
            "x = y\n[matcher]\n[matchers]\nm: x\nm3 = x\nm = r.x\nm = r.y\n",
            [
                "model:1: stands before the first section; sections are request_definition, policy_definition,"
                " role_definition, policy_effect, matchers",
                "model:2: unknown section [matcher]; known: request_definition, policy_definition, role_definition,"
                " policy_effect, matchers",
                "model:4: is not of the form KEY = VALUE: m: x",
                "model:5: [matchers] has no 'm3'; known: m, m2",
                "model:7: defines m again; it is defined at model:6",
            ],
        ),
        (
            "[request_definition]\nr = sub\nr2 = path\n[role_definition]\ng2 = _, _\n",
            [
                "model: has no definition of p in [policy_definition]",
                "model: has no definition of e in [policy_effect]",
                "model: has no definition of m in [matchers]",
                "model: defines r2 without p2, e2, m2: paths need all four or none",
                "model: has role definitions, and no g: they are numbered g, g2, g3, …",
            ],
        ),
        (
            "",
            [
                f"model: has no definition of {key}"
                for key in (
                    "r in [request_definition]",
                    "p in [policy_definition]",
                    "e in [policy_effect]",
                    "m in [matchers]",
                )
            ],
        ),
    ],
)
def test_mistakes(text: str, messages: list[str]) -> None:
    """One line a mistake, with file and line: unknown fields and functions, texts casbin would rewrite, effects."""
    if messages:
        assert mistakes(text) == messages
    else:
        load(text)


def test_unknown_function_is_listed_with_the_known() -> None:
    """A function nobody defines is found at load, not at the first request."""
    [message] = mistakes(model("colourMatch(r.sub, p.sub)"))
    assert message.startswith(
        "model:8: [matchers] calls colourMatch(), which is no known function; known: apiGroupMatch,"
    )
    assert ", timeMatch" in message


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("p, alice, /x", "policy:1: has 2 columns after p, and the model wants 3: sub, obj, act"),
        ("p, alice, /x, get, allow", "policy:1: has 4 columns after p, and the model wants 3: sub, obj, act"),
        ("g, alice, admin", "policy:1: is of type 'g', which the model does not define; known: p"),
    ],
)
def test_rows_that_do_not_fit(policy: str, message: str) -> None:
    """casbin skips unknown types silently and fails at the first request with wrong columns; here both are mistakes."""
    assert mistakes(model(), policy) == [message]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("p, x, alice, /x, allow", "policy:1: has priority 'x': write a number, like 10"),
        ("p, 1, alice, /x, maybe", "policy:1: has effect 'maybe': write allow or deny"),
    ],
)
def test_columns_that_casbin_gives_a_meaning(policy: str, message: str) -> None:
    """A priority that is no number sorts by accident; an effect that is neither would be ignored."""
    text = model(policy="priority, sub, obj, eft", matcher="r.sub == p.sub", effect="priority(p.eft) || deny")
    assert mistakes(text, policy) == [message]


def test_roles_are_looked_through_by_domain() -> None:
    """A circle within one domain is a mistake; the same links in two domains are none."""
    text = model("g(r.sub, p.sub, r.dom)", request="sub, dom", policy="sub", roles="_, _, _")
    load(text, "p, a\ng, a, b, x\ng, b, a, y\n")
    assert mistakes(text, "p, a\ng, a, b, x\ng, b, a, x\n") == ["policy:3: makes a circle of roles: b → a → b"]
    assert mistakes(text, "p, a\ng, a, , x\n") == ["policy:2: has an empty column"]


def test_model_may_be_laid_out_freely(outcome: OutcomeOf) -> None:
    """Comments with # and ;, blank lines, CRLF, a byte order mark, and lines that end in a backslash."""
    text = (
        "\ufeff; a model\r\n[request_definition]\r\n\r\nr = sub, obj, act\r\n# rules\r\n[policy_definition]\r\n"
        f"p = sub, obj, act\r\n[policy_effect]\r\ne = {SOME_ALLOW} # some\r\n"
        "[matchers]\r\nm = r.sub == p.sub && \\\r\n  r.obj == p.obj && \\\r\n  r.act == p.act # all\r\n"
    )
    authorizer = load(text)
    assert outcome(authorizer, "alice", "get", "/healthz") is ALLOW
    assert outcome(authorizer, "alice", "put", "/healthz") is NO_OPINION


def test_operators_without_white_space(outcome: OutcomeOf) -> None:
    """casbin would make one name of two that only an operator parts."""
    authorizer = load(model("r.sub == p.sub&&r.act == p.act||r.obj==p.obj&&r.act!=p.act"))
    assert outcome(authorizer, "alice", "get", "/x") is ALLOW
    assert outcome(authorizer, "alice", "post", "/healthz") is ALLOW
    assert outcome(authorizer, "bob", "get", "/healthz") is NO_OPINION


def test_not_before_parentheses_and_in_words(outcome: OutcomeOf) -> None:
    """`!`, `!=`, `||` and a list mean what they mean in casbin."""
    text = model('!(r.sub == p.sub) && r.act != "put" && (r.act in ("get", "list") || r.obj == p.obj)')
    authorizer = load(text)
    assert outcome(authorizer, "bob", "get", "/x") is ALLOW
    assert outcome(authorizer, "alice", "get", "/x") is NO_OPINION
    assert outcome(authorizer, "bob", "put", "/healthz") is NO_OPINION
    assert outcome(authorizer, "bob", "post", "/healthz") is ALLOW


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            model("r.sub == p.sub", policy="sub, obj, eft", effect="!some(where (p.eft == deny))"),
            "model:6: [policy_effect] allows every request that no rule denies: a forgotten rule is a hole",
        ),
        (
            model("r.act in p.act"),
            "model:8: [matchers] asks whether a value is in p.act, which is true for any part of that text:"
            " use == or a list",
        ),
    ],
)
def test_warnings(text: str, warning: str) -> None:
    """Models that allow more than they seem to are told of."""
    policy = "p, alice, /healthz, deny\n" if "deny" in text else "p, alice, /healthz, get\n"
    assert [str(one) for one in load(text, policy).warnings] == [warning]


def test_matcher_that_answers_no_truth_value_fails_closed(
    decide: Callable[..., Verdict], attributes: Callable[..., Attributes]
) -> None:
    """A matcher whose result is a text raises, which the stage turns into a 500, never into an allow."""
    with pytest.raises(RuntimeError):
        decide(load(model("r.sub")), attributes("alice", "get", "/healthz"))


def test_every_field_is_part_of_the_cache_key() -> None:
    """C5.12: requests that differ in anything never share a remembered verdict, also in what no model reads today."""
    base = Attributes(Identity("u", groups=("g",)), "get", True, "ag", "v", "r", "s", "ns", "n", "")
    changed = [
        base._replace(identity=Identity("u2", groups=("g",))),
        base._replace(identity=Identity("u", groups=("g2",))),
        base._replace(identity=Identity("u", "7", ("g",))),
        base._replace(identity=Identity("u", groups=("g",), extra={"a": ("1",)})),
        base._replace(identity=Identity("u", groups=("g",), extra={"a": ("1", "2")})),
        *(base._replace(**{field: "other"}) for field in Attributes._fields[3:]),
        base._replace(verb="list"),
        base._replace(is_resource=False),
    ]
    assert len({key_of(each) for each in (base, *changed)}) == len(changed) + 1
    assert key_of(base._replace()) == key_of(base)
    read = set()
    for name, reader in FIELDS.items():
        for other in changed:
            mine, theirs = reader(base), reader(other)
            if (mine if isinstance(mine, str) else set(mine)) != (theirs if isinstance(theirs, str) else set(theirs)):
                read.add(name)
    assert read == set(FIELDS) - {"subjects"}


CALLED_LIKE_A_ROLE = (
    "model:8: [matchers] g({field}, …) also holds for a {kind} called like a role, such as 'admin':"
    " call roles role:NAME, or ask p.x in r.subjects"
)


@pytest.mark.parametrize(("field", "kind"), [("r.sub", "user"), ("r.user", "user"), ("r.groups", "group")])
def test_callers_called_like_a_role(outcome: OutcomeOf, field: str, kind: str) -> None:
    """casbin's `g` holds for the role's own name, so whoever is called `admin` is one: told once a function."""
    text = model(
        f"g({field}, p.sub) && r.obj == p.obj", request="sub, user, groups, obj", policy="sub, obj", roles="_, _"
    )
    authorizer = load(text, "p, admin, /x\ng, carol, admin\ng, dave, admin\n")
    assert [str(one) for one in authorizer.warnings] == [CALLED_LIKE_A_ROLE.format(field=field, kind=kind)]
    who = ("admin", ()) if kind == "user" else ("mallory", ("admin",))
    assert outcome(authorizer, who[0], "get", "/x", groups=who[1]) is ALLOW


@pytest.mark.parametrize(
    ("matcher", "policy"),
    [
        ("g(r.sub, p.sub) && r.obj == p.obj", "p, role:admin, /x\ng, carol, role:admin\n"),
        ("g(r.sub, p.sub) && r.obj == p.obj", "p, carol, /x\n"),
        ("p.sub in r.subjects && r.obj == p.obj", "p, admin, /x\ng, user:carol, admin\n"),
        ("r.sub == p.sub && g(r.obj, p.obj)", "p, carol, site\ng, /x, site\n"),
    ],
    ids=["prefixed", "without roles", "subjects", "roles of objects"],
)
def test_roles_that_nobody_is_called_like(outcome: OutcomeOf, matcher: str, policy: str) -> None:
    """No warning where roles are prefixed, absent, asked for by subjects, or not the caller's."""
    text = model(matcher, request="sub, subjects, obj", policy="sub, obj", roles="_, _")
    authorizer = load(text, policy)
    assert authorizer.warnings == ()
    assert outcome(authorizer, "carol", "get", "/x") is ALLOW
    assert outcome(authorizer, "admin", "get", "/x") is NO_OPINION
