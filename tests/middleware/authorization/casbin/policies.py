"""Random policies of the shipped model, random requests, and what a plain reading of the rules decides."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from aggmw.contracts.authorization import Attributes, Outcome
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization import CasbinAuthorizer

MODEST = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass(frozen=True)
class Rule:
    """A rule in parts; None is a star."""

    subject: str
    verbs: frozenset[str] | None
    groups: frozenset[str] | None = None
    resources: frozenset[str] | None = None
    namespaces: frozenset[str] | None = None
    names: frozenset[str] | None = None
    path: str | None = None
    denies: bool = False

    def line(self) -> str:
        effect = "deny" if self.denies else "allow"
        if self.path is not None:
            return f"p2, {self.subject}, {written(self.verbs)}, {self.path}, {effect}"
        groups = None if self.groups is None else frozenset(group or "core" for group in self.groups)
        columns = (self.verbs, groups, self.resources, self.namespaces, self.names)
        return f"p, {self.subject}, {', '.join(map(written, columns))}, {effect}"

    def matches(self, asked: Attributes) -> bool:
        """RBAC's semantics, from the text of wire contract §7.2."""
        if self.verbs is not None and asked.verb not in self.verbs:
            return False
        if self.path is not None:
            if asked.is_resource:
                return False
            if self.path[-1] == "*":
                return asked.path[: len(self.path) - 1] == self.path[:-1]
            return asked.path == self.path
        if not asked.is_resource:
            return False
        if self.groups is not None and asked.api_group not in self.groups:
            return False
        if self.resources is not None:
            spellings = {asked.resource}
            if asked.subresource:
                spellings = {f"{asked.resource}/{asked.subresource}", f"*/{asked.subresource}"}
            if not spellings & self.resources:
                return False
        if self.namespaces is not None and asked.namespace not in self.namespaces:
            return False
        return self.names is None or asked.name in self.names


def written(alternatives: frozenset[str] | None) -> str:
    return "*" if alternatives is None else "|".join(sorted(alternatives))


def expected(rules: list[Rule], grants: list[tuple[str, str]], asked: Attributes) -> Outcome:
    subjects = {f"user:{asked.identity.user}"} | {f"group:{group}" for group in asked.identity.groups}
    while True:
        more = {role for member, role in grants if member in subjects} - subjects
        if not more:
            break
        subjects |= more
    matching = [rule for rule in rules if rule.subject in subjects and rule.matches(asked)]
    if any(rule.denies for rule in matching):
        return Outcome.DENY
    return Outcome.ALLOW if matching else Outcome.NO_OPINION


def some(*values: str) -> st.SearchStrategy[frozenset[str] | None]:
    return st.none() | st.frozensets(st.sampled_from(values), min_size=1, max_size=3)


USERS, GROUPS, ROLE_NAMES = ("a", "b", "x"), ("a", "x", "dev"), ("role:a", "role:x", "role:y")
VERBS = ("get", "list", "create")
SUBJECTS = st.sampled_from([*(f"user:{u}" for u in USERS), *(f"group:{g}" for g in GROUPS), *ROLE_NAMES])
RULES = st.builds(
    Rule,
    subject=SUBJECTS,
    verbs=some(*VERBS),
    groups=some("", "apps", "a.b"),
    resources=some("pods", "pods/log", "*/log", "log"),
    namespaces=some("n", "m"),
    names=some("p", "q"),
    path=st.none() | st.sampled_from(["/", "/a", "/a*", "/a/*", "*", "/a/b"]),
    denies=st.sampled_from([False, False, False, True]),
)
GRANTS = st.lists(
    st.tuples(
        st.sampled_from([*(f"user:{u}" for u in USERS), *(f"group:{g}" for g in GROUPS)]), st.sampled_from(ROLE_NAMES)
    )
    | st.sampled_from([("role:a", "role:x"), ("role:x", "role:y"), ("role:a", "role:y")]),
    max_size=5,
)
IDENTITIES = st.builds(
    Identity, st.sampled_from([*USERS, "role:a"]), groups=st.lists(st.sampled_from(GROUPS), max_size=2).map(tuple)
)
REQUESTS = st.one_of(
    st.builds(
        Attributes,
        IDENTITIES,
        st.sampled_from(VERBS),
        st.just(True),
        st.sampled_from(["", "apps", "a.b", "aXb", "core"]),
        st.just("v1"),
        st.sampled_from(["pods", "log"]),
        st.sampled_from(["", "log"]),
        st.sampled_from(["", "n", "m", "nm"]),
        st.sampled_from(["", "p", "q", "pq"]),
        *(st.just(""),) * 3,
    ),
    st.builds(
        lambda identity, verb, path: Attributes(identity, verb, False, path=path),
        IDENTITIES,
        st.sampled_from(VERBS),
        st.sampled_from(["/", "/a", "/ab", "/a/", "/a/b", "/b"]),
    ),
)


def lines(rules: list[Rule], grants: list[tuple[str, str]]) -> list[str]:
    return [*(rule.line() for rule in rules), *(f"g, {member}, {role}" for member, role in grants)]


def authorizer(rules: list[Rule], grants: list[tuple[str, str]]) -> CasbinAuthorizer:
    return CasbinAuthorizer.from_text("\n".join(lines(rules, grants)))
