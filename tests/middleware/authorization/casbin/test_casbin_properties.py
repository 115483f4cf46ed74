"""The shipped model against an independent reading of the same rules, and what must hold for all policies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.middleware.authorization.casbin.policies import (
    GRANTS,
    MODEST,
    REQUESTS,
    RULES,
    Rule,
    authorizer,
    expected,
)

from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization.casbin.enforcer import Enforcer
from aggmw.middleware.authorization.casbin.roles import RoleGraph


@MODEST
@given(st.lists(RULES, min_size=1, max_size=8), GRANTS, st.lists(REQUESTS, min_size=1, max_size=6))
def test_same_as_the_reference(
    decide: Callable[..., Verdict], rules: list[Rule], grants: list[tuple[str, str]], requests: list[Attributes]
) -> None:
    """casbin with the shipped model decides as a plain reading of the rules does, also when asked again."""
    policy = authorizer(rules, grants)
    for asked in [*requests, *requests]:
        assert decide(policy, asked).outcome is expected(rules, grants, asked), asked


@MODEST
@given(st.lists(RULES, min_size=1, max_size=40), GRANTS, st.lists(REQUESTS, min_size=1, max_size=4))
def test_same_as_the_evaluator(rules: list[Rule], grants: list[tuple[str, str]], requests: list[Attributes]) -> None:
    """The compiled policy decides as casbin's evaluator does when it goes through all rules."""
    snapshot = authorizer(rules, grants)._snapshot
    casbin = Enforcer(snapshot.model, snapshot.report.rows, snapshot.graphs, snapshot.functions.known)
    for asked in requests:
        suffix = snapshot.suffix(asked)
        if casbin.rules(suffix):
            verdict = snapshot.verdict(asked)
            assert verdict is not None
            assert verdict.allowed is casbin.ask(suffix, snapshot.values(asked))[0]


@MODEST
@given(st.lists(RULES, min_size=1, max_size=6), RULES, REQUESTS)
def test_rule_for_somebody_else_changes_nothing(
    decide: Callable[..., Verdict], rules: list[Rule], added: Rule, asked: Attributes
) -> None:
    """A rule for a subject that the caller is not never changes a verdict."""
    before = decide(authorizer(rules, []), asked).outcome
    stranger = replace(added, subject="user:stranger")
    assert decide(authorizer([stranger, *rules], []), asked).outcome is before


@MODEST
@given(st.lists(RULES, min_size=1, max_size=6), REQUESTS, st.sampled_from(["user", "verb", "both"]))
def test_empty_subject_or_verb_is_always_denied(
    decide: Callable[..., Verdict], rules: list[Rule], asked: Attributes, empty: str
) -> None:
    """C4: whatever the rules say, nobody may do anything without a name, and nothing may be done by no verb."""
    identity = Identity("a", groups=asked.identity.groups)
    if empty != "verb":
        object.__setattr__(identity, "user", "")
    asked = asked._replace(identity=identity, verb=asked.verb if empty == "user" else "")
    assert decide(authorizer(rules, []), asked).outcome is Outcome.DENY


NAMES = st.sampled_from("abcdefgh")


@MODEST
@given(st.lists(st.tuples(NAMES, NAMES), max_size=12), NAMES, NAMES)
def test_roles_as_casbin_finds_them(links: list[tuple[str, str]], name: str, role: str) -> None:
    """Our role graph answers as casbin's role manager, which it replaces."""
    from casbin.rbac.default_role_manager import RoleManager

    theirs = RoleManager(10)
    for link in links:
        theirs.add_link(*link)
    assert RoleGraph(links).has_link(name, role) is theirs.has_link(name, role)


@MODEST
@given(st.lists(st.tuples(NAMES, NAMES, st.sampled_from("xy")), max_size=12), NAMES, NAMES, st.sampled_from("xyz"))
def test_roles_in_domains_as_casbin_finds_them(
    links: list[tuple[str, str, str]], name: str, role: str, domain: str
) -> None:
    """The same with domains: a role in one domain is none in another."""
    from casbin.rbac.default_role_manager import DomainManager

    theirs = DomainManager(10)
    for link in links:
        theirs.add_link(*link)
    assert RoleGraph(links).has_link(name, role, domain) is theirs.has_link(name, role, domain)
