"""Each row of security-cases C4: what goes wrong in the evaluator, and that it does not here."""

from __future__ import annotations

import gc
import logging
import random
import re
import tracemalloc
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import aggmw
from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import Identity
from aggmw.errors import ConfigurationError
from aggmw.middleware.authorization import CasbinAuthorizer
from aggmw.middleware.authorization.casbin import enforcer as enforcer_module
from aggmw.middleware.authorization.casbin.enforcer import check_distribution
from aggmw.middleware.authorization.casbin.functions import FUNCTIONS

ALLOW, DENY, NO_OPINION = Outcome.ALLOW, Outcome.DENY, Outcome.NO_OPINION
OutcomeOf = Callable[..., Outcome]


def model(
    matcher: str, effect: str = "some(where (p.eft == allow))", columns: str = "sub, obj", roles: str = ""
) -> str:
    text = (
        f"[request_definition]\nr = sub, obj\n[policy_definition]\np = {columns}\n"
        f"[policy_effect]\ne = {effect}\n[matchers]\nm = {matcher}\n"
    )
    return text + (f"[role_definition]\ng = {roles}\n" if roles else "")


def evaluated(policy: str) -> CasbinAuthorizer:
    """With a model that cannot be compiled."""
    return CasbinAuthorizer.from_text(
        policy, model=model("r.obj in [x for x in (p.obj, 'y')] && r.sub == p.sub"), cache=0
    )


def nameless(user: str = "", verb: str = "") -> Attributes:
    identity = Identity("x")
    object.__setattr__(identity, "user", user)
    return Attributes(identity, verb, False, path="")


@pytest.mark.parametrize("text", ["", "# nothing\n", "g, user:alice, role:x\n"])
def test_empty_policy_denies_everything(decide: Callable[..., Verdict], logs: list[Any], text: str) -> None:
    """C4: without rules casbin tries the matcher on empty texts, so it is not asked at all; the log says so."""
    authorizer = CasbinAuthorizer.from_text(text)
    assert decide(authorizer, nameless()).outcome is DENY
    assert decide(authorizer, Attributes(Identity("alice"), "get", True, resource="pods")).outcome is DENY
    assert any(entry["event"] == "empty policy: everything is denied" for entry in logs)


@pytest.mark.parametrize("effect", ["some(where (p.eft == allow))", "!some(where (p.eft == deny))"])
def test_empty_policy_of_an_own_model(decide: Callable[..., Verdict], effect: str) -> None:
    """C4: deny-override allows everything while no policy is loaded, and so does a comparison of empty texts."""
    authorizer = CasbinAuthorizer.from_text("", model=model("r.sub == p.sub", effect, "sub, obj, eft"))
    for asked in (nameless(), nameless("alice", "get"), Attributes(Identity("alice"), "get", False, path="/x")):
        assert decide(authorizer, asked).outcome is DENY


def test_evaluator_is_never_asked_without_rules() -> None:
    """C4: the seam itself refuses, whatever stands in front of it."""
    with pytest.raises(ValueError, match="without rules"):
        evaluated("")._snapshot._enforcer.ask("", ["", ""])  # type: ignore[union-attr]  # casbin evaluates this model


def test_rules_of_one_kind_do_not_open_the_other(decide: Callable[..., Verdict]) -> None:
    """C4: with rules for resources only, a path is not tried on empty texts either."""
    authorizer = CasbinAuthorizer.from_text("p, user:a, *, *, *, *, *\n")
    assert decide(authorizer, Attributes(Identity("a"), "get", False, path="")).outcome is NO_OPINION


def test_deny_override_allows_only_over_rules(outcome: OutcomeOf) -> None:
    """C4: with rules loaded deny-override does what it says, and a warning says what that is."""
    text = model("r.sub == p.sub && r.obj == p.obj", "!some(where (p.eft == deny))", "sub, obj, eft")
    authorizer = CasbinAuthorizer.from_text("p, alice, /x, deny\n", model=text)
    assert outcome(authorizer, "alice", "get", "/x") is DENY
    assert outcome(authorizer, "alice", "get", "/y") is ALLOW
    assert len(authorizer.warnings) == 1


def test_deny_override_with_an_index(outcome: OutcomeOf) -> None:
    """C4: where no match means allow, rules of other subjects still count as rules that do not match."""
    text = model("p.sub in r.subjects && r.obj == p.obj", "!some(where (p.eft == deny))", "sub, obj, eft")
    authorizer = CasbinAuthorizer.from_text("p, user:eve, /x, deny\n", model=text.replace("r = sub", "r = subjects"))
    assert outcome(authorizer, "eve", "get", "/x") is DENY
    assert outcome(authorizer, "bob", "get", "/x") is ALLOW


def test_deny_override_without_rules_of_a_kind(outcome: OutcomeOf) -> None:
    """C4: with deny-override and rules about resources only, every path is denied, not allowed."""
    none_denied = "!some(where (p.eft == deny))"
    text = (
        "[request_definition]\nr = sub\nr2 = sub\n[policy_definition]\np = sub, eft\np2 = sub, eft\n"
        f"[policy_effect]\ne = {none_denied}\ne2 = {none_denied.replace('p.', 'p2.')}\n"
        "[matchers]\nm = r.sub == p.sub\nm2 = r2.sub == p2.sub\n"
    )
    authorizer = CasbinAuthorizer.from_text("p, eve, deny\n", model=text)
    assert outcome(authorizer, "bob", "get", "pods") is ALLOW
    assert outcome(authorizer, "bob", "get", "/x") is DENY


@pytest.mark.parametrize("pattern", ["", "|", "a|", "|a"])
def test_empty_value_is_never_listed(pattern: str) -> None:
    """C4: what a request does not have is covered by a star alone, not by an empty place in a list."""
    assert FUNCTIONS["oneOf"]("", "*")
    assert not FUNCTIONS["oneOf"]("", pattern)


async def test_disabled_enforcer_denies() -> None:
    """C4: `enable_enforce(False)` means allow all to casbin; where it decides, each decision looks at it."""
    authorizer = evaluated("p, a, /x\n")
    asked = Attributes(Identity("a"), "get", False, path="/x")
    assert (await authorizer.authorize(asked)).outcome is ALLOW
    enforcer = authorizer._snapshot._enforcer
    assert enforcer is not None
    enforcer._casbin.enable_enforce(False)
    for path in ("/x", "/y"):
        assert not (await authorizer.authorize(asked._replace(path=path))).allowed


@pytest.mark.parametrize(
    ("function", "pattern", "path", "expected"),
    [
        ("keyMatch2", "/apis/apps.example.com", "/apis/apps.example.com", ALLOW),
        ("keyMatch2", "/apis/apps.example.com", "/apis/appsXexample-com", NO_OPINION),
        ("keyMatch2", "/a/:x/b", "/a/1/b", ALLOW),
        ("keyMatch2", "/a/:x/b", "/a//b", NO_OPINION),
        ("keyMatch2", "/a/:x/b", "/a/1/2/b", NO_OPINION),
        ("keyMatch2", "/a/*", "/a/1/2", ALLOW),
        ("keyMatch2", "/a/*/b", "/a/1/2/b", ALLOW),
        ("keyMatch2", "*", "/anything", ALLOW),
        ("keyMatch2", "/a(b|c)", "/ab", NO_OPINION),
        ("keyMatch3", "/a/{x}/b.c", "/a/1/b.c", ALLOW),
        ("keyMatch3", "/a/{x}/b.c", "/a/1/bXc", NO_OPINION),
        ("keyMatch4", "/a/{x}/b/{x}", "/a/1/b/1", ALLOW),
        ("keyMatch4", "/a/{x}/b/{x}", "/a/1/b/2", NO_OPINION),
        ("keyMatch4", "/a.b/{x}", "/aXb/1", NO_OPINION),
        ("keyMatch5", "/a/{x}/b.c", "/a/1/b.c", ALLOW),
        ("keyMatch5", "/a/{x}/b.c", "/a/1/bXc", NO_OPINION),
        ("keyMatch", "/a.b", "/aXb", NO_OPINION),
        ("keyMatch", "/a/*", "/a/", ALLOW),
        ("keyMatch", "/a/*", "/a", NO_OPINION),
        ("regexMatch", "/api", "/api", ALLOW),
        ("regexMatch", "/api", "/api/v1/secrets", NO_OPINION),
        ("regexMatch", "/api.*", "/api/v1", ALLOW),
        ("globMatch", "/a/*", "/a/b", ALLOW),
        ("globMatch", "/a/*", "/a/b/c", NO_OPINION),
    ],
)
def test_patterns_are_exact(outcome: OutcomeOf, function: str, pattern: str, path: str, expected: Outcome) -> None:
    """C4: dots are dots, placeholders take one segment, and the whole value has to match."""
    authorizer = CasbinAuthorizer.from_text(
        f'p, alice, "{pattern}"\n', model=model(f"r.sub == p.sub && {function}(r.obj, p.obj)")
    )
    assert outcome(authorizer, "alice", "get", path) is expected


@pytest.mark.parametrize("bad", ["\n", "\r", "\x00", "\x7f", "\x1f", "\x85", "\u2028", "\ud800"])
@pytest.mark.parametrize("where", ["path", "name", "namespace", "verb"])
def test_control_bytes_are_denied(decide: Callable[..., Verdict], bad: str, where: str) -> None:
    """C4: `$` accepts a line break and `[^/]+` too; a request that holds one matches no rule, also no star."""
    authorizer = CasbinAuthorizer.from_text("p, user:a, *, *, *, *, *\np2, user:a, *, *\n")
    if where == "path":
        asked = Attributes(Identity("a"), "get", False, path=f"/x{bad}")
    else:
        asked = Attributes(Identity("a"), "get", True, "", "v1", "pods", "", "n", "p")
        asked = asked._replace(**{where: f"get{bad}"})
    assert decide(authorizer, asked).outcome is DENY


def test_slash_within_a_segment_is_denied(decide: Callable[..., Verdict]) -> None:
    """A name that holds a slash would make another path of a resource (C1: CVE-2022-3162)."""
    authorizer = CasbinAuthorizer.from_text("p, user:a, *, *, *, *, *\n")
    asked = Attributes(Identity("a"), "get", True, "", "v1", "pods", "", "n", "p/exec")
    assert decide(authorizer, asked).outcome is DENY


@pytest.mark.parametrize(
    ("function", "pattern", "message"),
    [
        (
            "keyMatch",
            "/a/*/pods",
            "policy:1: the pattern '/a/*/pods' has a * before its end, and keyMatch ignores what follows it",
        ),
        (
            "keyMatch2",
            "/a*",
            "policy:1: the pattern '/a*' has a * that does not follow a /, where keyMatch2 knows none",
        ),
        (
            "regexMatch",
            "(",
            "policy:1: the pattern '(' is no regular expression: missing ), unterminated subpattern at position 0",
        ),
    ],
)
def test_misleading_patterns_are_refused(function: str, pattern: str, message: str) -> None:
    """C4: a pattern that means something else than it looks like is a mistake."""
    with pytest.raises(ConfigurationError) as caught:
        CasbinAuthorizer.from_text(f'p, alice, "{pattern}"\n', model=model(f"{function}(r.obj, p.obj)"))
    assert str(caught.value) == message


NOT_ANCHORED = (
    "policy:1: the pattern '/api' is matched against whole values here, against their beginning by casbin:"
    " end it with $, or with .* where anything may follow"
)


def test_unanchored_regular_expressions_are_told_of() -> None:
    """C4: casbin's regexMatch is satisfied with a beginning; ours is not, and says so where the two differ."""
    text = model("regexMatch(r.obj, p.obj)")
    authorizer = CasbinAuthorizer.from_text("p, alice, /api\np, alice, ^/x$\np, alice, /y/.*\n", model=text)
    assert [str(one) for one in authorizer.warnings] == [NOT_ANCHORED]


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        (
            model(
                "regexMatch(r.obj, p.obj)", "some(where (p.eft == allow)) && !some(where (p.eft == deny))", "obj, eft"
            ),
            "p, /api, deny\n",
        ),
        (model("!regexMatch(r.obj, p.obj)"), "p, alice, /api\n"),
    ],
    ids=["denying rule", "negated"],
)
def test_unanchored_regular_expressions_that_deny_are_refused(text: str, policy: str) -> None:
    """C4: matching less than casbin is safe where it allows, and would be a hole where it denies."""
    with pytest.raises(ConfigurationError) as caught:
        CasbinAuthorizer.from_text(policy, model=text)
    assert str(caught.value) == NOT_ANCHORED


@pytest.mark.parametrize(
    ("function", "pattern"),
    [("keyMatch2", "/*"), ("keyMatch3", "/*"), ("keyMatch5", "/*"), ("globMatch", "/**")],
)
def test_long_values_are_not_tried_on_patterns(outcome: OutcomeOf, function: str, pattern: str) -> None:
    """C4: what a caller sends has a length cap before a regular expression sees it; beyond it, denied."""
    authorizer = CasbinAuthorizer.from_text(f"p, alice, {pattern}\n", model=model(f"{function}(r.obj, p.obj)"))
    assert outcome(authorizer, "alice", "get", "/" + "x" * 1000) is ALLOW
    assert outcome(authorizer, "alice", "get", "/" + "x" * 1100) is DENY


def test_regular_expressions_see_shorter_values(outcome: OutcomeOf) -> None:
    """C4: a regular expression may take the square of a value's length, so its cap is 256 characters."""
    authorizer = CasbinAuthorizer.from_text("p, alice, .*\n", model=model("regexMatch(r.obj, p.obj)"))
    assert outcome(authorizer, "alice", "get", "/" + "x" * 255) is ALLOW
    assert outcome(authorizer, "alice", "get", "/" + "x" * 256) is DENY


def test_nothing_is_parsed_for_a_request(decide: Callable[..., Verdict], monkeypatch: pytest.MonkeyPatch) -> None:
    """A matcher is compiled when it is loaded, and no text is read as an expression afterwards."""
    authorizer = CasbinAuthorizer.from_text("p2, user:a, get, /x\np, user:a, get, core, pods, *, *\n", cache=0)
    path, resource = Attributes(Identity("a"), "get", False, path="/x"), Attributes(Identity("a"), "get", True, "")
    pods = resource._replace(api_version="v1", resource="pods")
    for name in ("ast.parse", "builtins.eval", "builtins.compile"):
        monkeypatch.setattr(name, None)
    assert decide(authorizer, path).allowed
    assert decide(authorizer, pods).allowed
    assert not decide(authorizer, pods._replace(resource="secrets")).allowed


async def test_evaluator_parses_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where casbin evaluates, it parses a matcher when it is first asked, and never again."""
    authorizer = evaluated("p, a, /x\n")
    asked = Attributes(Identity("a"), "get", False, path="/x")
    assert (await authorizer.authorize(asked)).allowed
    monkeypatch.setattr("ast.parse", None)
    assert (await authorizer.authorize(asked)).allowed
    assert not (await authorizer.authorize(asked._replace(path="/z"))).allowed


def test_each_rule_is_evaluated_by_its_own_text(outcome: OutcomeOf) -> None:
    """What eval() runs differs from rule to rule; each is compiled when it is loaded."""
    policy = "".join(f"p, x, r.sub == 'u{number}'\n" for number in range(5))
    authorizer = CasbinAuthorizer.from_text(policy, model=model("eval(p.obj)"), allow_eval=True)
    assert [outcome(authorizer, f"u{number}", "get", "/x") for number in range(6)] == [ALLOW] * 5 + [NO_OPINION]


def test_eval_is_refused_unless_opted_in(outcome: OutcomeOf) -> None:
    """C4: a row `True or …` allows everybody; whoever may write rules may then write code."""
    text, policy = model("eval(p.obj)"), "p, x, True or r.sub == 'x'\n"
    with pytest.raises(ConfigurationError, match=r"calls eval\(\)"):
        CasbinAuthorizer.from_text(policy, model=text)
    authorizer = CasbinAuthorizer.from_text(policy, model=text, allow_eval=True)
    assert outcome(authorizer, "anybody", "get", "/x") is ALLOW
    assert authorizer._snapshot._cache is None


ROLES = "p, role:r, get, *, *, *, *\ng, user:alice, role:r\ng, group:dev, role:r\n"
OWN_ROLES = ("p, admin, /x\ng, alice, admin\n", model("g(r.sub, p.sub) && r.obj == p.obj", roles="_, _"))


def _reachable_names(authorizer: CasbinAuthorizer) -> int:
    """How many role names are held."""
    return sum(len(roles) for graph in authorizer._snapshot.graphs.values() for roles in graph._roles.values())


@pytest.mark.parametrize("policy", [(ROLES, None), OWN_ROLES], ids=["shipped model", "own model"])
def test_memory_is_flat_under_unknown_subjects(decide: Callable[..., Verdict], policy: tuple[str, str | None]) -> None:
    """C4: casbin's role manager keeps every subject it was asked about; 5,000 strangers leave nothing here."""
    authorizer = CasbinAuthorizer.from_text(policy[0], model=policy[1], cache=16)
    generator = random.Random(7)

    def strangers(number: int) -> None:
        for _ in range(number):
            user, group = f"u{generator.getrandbits(64)}", f"g{generator.getrandbits(64)}"
            asked = Attributes(Identity(user, groups=(group,)), "get", False, path="/x")
            assert not decide(authorizer, asked).allowed
            assert not decide(authorizer, asked._replace(is_resource=True, path="", resource="r")).allowed

    strangers(100)
    names = _reachable_names(authorizer)
    gc.collect()
    tracemalloc.start()
    try:
        strangers(200)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        strangers(2300)
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
    assert _reachable_names(authorizer) == names


def test_verdict_cache_is_bounded(decide: Callable[..., Verdict]) -> None:
    """C5.12: a flood of refused requests neither grows the cache nor pushes allowed ones out; long ones stay out."""
    authorizer = CasbinAuthorizer.from_text("p2, user:alice, get, /x*\n", cache=8)
    cache = authorizer._snapshot._cache
    assert cache is not None
    good = Attributes(Identity("alice"), "get", False, path="/x")
    decide(authorizer, good)
    for number in range(100):
        decide(authorizer, Attributes(Identity(f"u{number}"), "get", False, path="/x"))
    assert len(cache) == 9
    assert next(iter(cache._allowed))[0] == "alice"
    for long in (
        good._replace(path="/x" + "y" * 3000),
        good._replace(field_selector="y" * 3000),
        good._replace(label_selector="y" * 3000),
        good._replace(identity=Identity("alice", extra={"a": ("y" * 3000,)})),
        good._replace(identity=Identity("alice", extra={"a": ("",) * 3000})),
        good._replace(identity=Identity("alice", "y" * 3000)),
    ):
        assert decide(authorizer, long).allowed
    assert len(cache) == 9


def test_least_recently_used_verdict_goes_first(decide: Callable[..., Verdict]) -> None:
    """What is asked again stays."""
    authorizer = CasbinAuthorizer.from_text("p2, user:alice, get, /*\n", cache=2)
    cache = authorizer._snapshot._cache
    assert cache is not None
    for path in ("/a", "/b", "/a", "/c"):
        decide(authorizer, Attributes(Identity("alice"), "get", False, path=path))
    assert [key[Attributes._fields.index("path") + 3] for key in cache._allowed] == ["/a", "/c"]


@pytest.mark.parametrize(
    ("matcher", "options", "cached", "because"),
    [
        ("r.sub == p.sub && globMatch(r.obj, p.obj)", {}, True, None),
        ('timeMatch("_", "_") || timeMatch("_", "_")', {}, False, "timeMatch"),
        ("mine(r.sub)", {"functions": {"mine": lambda value: True}}, False, "mine"),
        ("r.sub == p.sub", {"functions": {"keyMatch": lambda one, two: True}}, False, "keyMatch"),
        ("r.obj == p.obj", {"fields": {"address": lambda attributes: "10.0.0.1"}}, False, "r.address"),
        ("r.sub == p.sub", {"cache": 0}, False, None),
    ],
)
def test_only_pure_models_are_remembered(
    matcher: str, options: dict[str, Any], cached: bool, because: str | None
) -> None:
    """C5.12: a model that reads the time or an address, or calls unknown functions, is decided anew and says so."""
    text = model(matcher)
    if "fields" in options:
        text = text.replace("r = sub,", "r = address, sub,")
    with capture_logs() as logs:
        authorizer = CasbinAuthorizer.from_text("p, alice, /x\n", model=text, **options)
    assert (authorizer._snapshot._cache is not None) is cached
    told = [each["because_of"] for each in logs if each["event"] == "verdicts are not remembered"]
    assert told == ([] if because is None else [because])


def test_own_functions_are_called(outcome: OutcomeOf) -> None:
    """A function that was handed in decides."""
    authorizer = CasbinAuthorizer.from_text(
        "p, alice, /x\n", model=model("longer(r.obj, p.obj)"), functions={"longer": lambda a, b: len(a) > len(b)}
    )
    assert outcome(authorizer, "x", "get", "/xyz") is ALLOW
    assert outcome(authorizer, "x", "get", "/") is NO_OPINION


@pytest.mark.parametrize("deny", [True, False])
def test_evaluator_logs_nothing(
    decide: Callable[..., Verdict], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, deny: bool
) -> None:
    """C4: casbin writes each denied request at WARNING with all its values; also when logging was configured later."""
    caplog.set_level(logging.DEBUG)

    def configure() -> None:
        for name in ("casbin", "casbin.enforcer", "casbin.policy", "casbin.role"):
            monkeypatch.setattr(logging.getLogger(name), "disabled", False)
            monkeypatch.setattr(logging.getLogger(name), "level", logging.DEBUG)

    configure()
    authorizer = CasbinAuthorizer.from_text(
        "p, user:alice, get, *, *, *, *\np2, user:alice, get, *, deny\ng, user:bob, role:x\n"
    )
    configure()
    decide(authorizer, Attributes(Identity("alice"), "get" if deny else "put", False, path="/x"))
    decide(authorizer, Attributes(Identity("alice"), "put", True, resource="pods"))
    assert caplog.records == []


def test_denying_rule_is_in_the_log_only(decide: Callable[..., Verdict], logs: list[Any]) -> None:
    """The client hears that a policy denies; which rule it was is for the operator, each time."""
    authorizer = CasbinAuthorizer.from_text("p2, user:alice, get, /secret, deny\n")
    for _ in range(2):
        verdict = decide(authorizer, Attributes(Identity("alice"), "get", False, path="/secret"))
        assert verdict.reason == "denied by policy"
    told = [entry["rule"] for entry in logs if entry["event"] == "denied by rule"]
    assert told == ["policy:1: p2, user:alice, get, /secret, deny"] * 2


def test_reason_names_no_directory(decide: Callable[..., Verdict], tmp_path: Path) -> None:
    """Callers read the reason in reviews of their own: the rule and its line, and nothing of our file system."""
    policy = tmp_path / "policy.csv"
    policy.write_text("p2, user:alice, get, /x/*\n")
    asked = Attributes(Identity("alice"), "get", False, path="/x/y")
    reason = decide(CasbinAuthorizer.from_files(policy), asked).reason
    assert reason == "policy.csv:1: p2, user:alice, get, /x/*, allow"


def test_one_module_imports_the_evaluator() -> None:
    """library-notes D1: what is odd about casbin is dealt with in one place."""
    package = Path(aggmw.__file__).parent
    importing = [
        path.name for path in package.rglob("*.py") if re.search(r"^\s*(import|from) casbin\b", path.read_text(), re.M)
    ]
    assert importing == ["enforcer.py"]


def test_only_the_plain_enforcer_is_used() -> None:
    """C4: FastEnforcer keeps rules in a set, and SyncedEnforcer clears the live role graph."""
    enforcer = evaluated("p, a, /x\n")._snapshot._enforcer
    assert enforcer is not None
    assert type(enforcer._casbin).__mro__[1].__name__ == "Enforcer"


def test_no_evaluator_where_the_model_is_compiled() -> None:
    """casbin's evaluator is not even there for a model that needs none."""
    assert CasbinAuthorizer.from_text("p, user:a, *, *, *, *, *\n")._snapshot._enforcer is None


async def test_asking_leaves_the_evaluator_as_it_was() -> None:
    """C4: nothing of a request stays on what threads share."""
    authorizer = evaluated("p, a, /x\np, b, /y\n")
    enforcer = authorizer._snapshot._enforcer
    assert enforcer is not None
    before = dict(vars(enforcer._casbin))
    rules = list(enforcer._casbin.model["p"]["p"].policy)
    assert (await authorizer.authorize(Attributes(Identity("a"), "get", False, path="/x"))).allowed
    assert vars(enforcer._casbin) == before
    assert list(enforcer._casbin.model["p"]["p"].policy) == rules


def test_conflicting_distribution_is_refused() -> None:
    """library-notes D1: the distributions casbin and pycasbin overwrite each other's files."""

    def installed(name: str) -> object:
        return object()

    def absent(name: str) -> object:
        raise metadata.PackageNotFoundError(name)

    check_distribution(absent)
    with pytest.raises(ConfigurationError) as caught:
        check_distribution(installed)
    assert str(caught.value) == (
        "casbin: the distributions 'casbin' and 'pycasbin' are both installed, and overwrite each other's files:"
        " pip uninstall casbin pycasbin, then pip install pycasbin"
    )


def test_distribution_is_checked_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is made before the first policy is read."""
    monkeypatch.setattr(
        "aggmw.middleware.authorization.casbin.authorizer.check_distribution",
        lambda: enforcer_module.check_distribution(lambda name: object()),
    )
    with pytest.raises(ConfigurationError, match="both installed"):
        CasbinAuthorizer.from_text("p, user:a, *, *, *, *, *\n")
