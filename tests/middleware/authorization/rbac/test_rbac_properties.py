"""The index against a plain reading of the same objects: binding by binding, subject by subject, rule by rule."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest

from aggmw.contracts.authorization import Attributes, Outcome, Verdict
from aggmw.contracts.identity import Identity
from aggmw.middleware.authorization.rbac.objects import Binding, PolicyRule, Role, Subject
from aggmw.middleware.authorization.rbac.rules import rule_allows
from aggmw.middleware.authorization.rbac.snapshot import Snapshot

NAMES = [f"n{number}" for number in range(6)]
SPACES = ["", "dev", "prod"]
WORLDS, QUESTIONS = 20, 500


def some(chance: random.Random, values: Sequence[str], most: int = 3, least: int = 1) -> tuple[str, ...]:
    return tuple(chance.choice(values) for _ in range(chance.randint(least, most)))


def rule(chance: random.Random, namespace: str) -> PolicyRule:
    verbs = some(chance, ["get", "list", "create", "*"])
    if not namespace and chance.random() < 0.3:
        return PolicyRule(verbs, paths=some(chance, ["/a", "/a/*", "/a*", "*", "/b/**"]))
    resources = some(chance, ["pods", "pods/log", "*/log", "*", "jobs"])
    return PolicyRule(verbs, some(chance, ["", "apps", "*"]), resources, some(chance, ["x", "y"], least=0, most=2))


def world(chance: random.Random) -> list[Role | Binding]:
    """Roles and bindings in any order, some of the bindings of roles that there are not."""
    made: list[Role | Binding] = []
    for namespace in SPACES:
        for name in NAMES[:4]:
            rules = tuple(rule(chance, namespace) for _ in range(chance.randint(0, 3)))
            made.append(Role(name, namespace, rules))
        for number in range(6):
            kind = chance.choice(["Role", "ClusterRole"]) if namespace else "ClusterRole"
            subjects = tuple(
                Subject(chance.choice(["User", "Group", "Group"]), chance.choice(NAMES))
                for _ in range(chance.randint(0, 3))
            )
            made.append(Binding(f"b{number}", namespace, kind, chance.choice(NAMES[:5]), subjects))
    chance.shuffle(made)
    return made


def question(chance: random.Random) -> Attributes:
    identity = Identity(chance.choice(NAMES), groups=some(chance, NAMES, 3, 0))
    verb = chance.choice(["get", "list", "create", "delete"])
    if chance.random() < 0.2:
        return Attributes(identity, verb, False, path=chance.choice(["/a", "/a/b", "/ab", "/b", "/b/c", "/c"]))
    group, resource = chance.choice(["", "apps", "x"]), chance.choice(["pods", "jobs"])
    subresource, namespace = chance.choice(["", "", "log", "status"]), chance.choice(SPACES)
    return Attributes(
        identity, verb, True, group, "v1", resource, subresource, namespace, chance.choice(["", "x", "z"])
    )


def has(identity: Identity, subject: Subject) -> bool:
    return subject.name in identity.groups if subject.kind == "Group" else subject.name == identity.user


def read(objects: Sequence[Role | Binding], asked: Attributes) -> Verdict:
    """What Kubernetes would say, going through everything in order."""
    roles = {one.key: one for one in objects if isinstance(one, Role)}
    errors: list[str] = []
    for binding, subject in concerning(objects, asked):
        role = roles.get(binding.role_key)
        if role is None:
            errors.append(f'{binding.role_kind.lower()}.rbac.authorization.k8s.io "{binding.role}" not found')
        elif any(rule_allows(rule, asked) for rule in role.rules):
            name = f"{binding.name}/{binding.namespace}" if binding.namespace else binding.name
            return Verdict(
                Outcome.ALLOW,
                f'RBAC: allowed by {binding.kind} "{name}" of {binding.role_kind} "{binding.role}"'
                f' to {subject.kind} "{subject.name}"',
            )
    texts = list(dict.fromkeys(errors))
    said = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    return Verdict(Outcome.NO_OPINION, f"RBAC: {said}" if texts else "")


def concerning(objects: Sequence[Role | Binding], asked: Attributes) -> Iterator[tuple[Binding, Subject]]:
    """The bindings that concern a request, those everywhere first, each with its first subject that the caller is."""
    for namespace in ("", asked.namespace) if asked.namespace else ("",):
        for each in objects:
            if isinstance(each, Binding) and each.namespace == namespace:
                subject = next((one for one in each.subjects if has(asked.identity, one)), None)
                if subject is not None:
                    yield each, subject


@pytest.mark.parametrize("seed", range(5))
def test_same_as_a_plain_reading(seed: int) -> None:
    """50,000 random questions about 100 random sets of objects: the same verdict and the same reason."""
    chance = random.Random(seed)
    outcomes = {Outcome.ALLOW: 0, Outcome.NO_OPINION: 0}
    for _ in range(WORLDS):
        objects = world(chance)
        snapshot = Snapshot(objects)
        for _ in range(QUESTIONS):
            asked = question(chance)
            verdict = snapshot.verdict(asked)
            assert verdict == read(objects, asked), asked
            outcomes[verdict.outcome] += 1
    assert min(outcomes.values()) > WORLDS * QUESTIONS / 10
