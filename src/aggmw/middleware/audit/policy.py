"""Which requests are recorded, and how much of them: Kubernetes' `audit.k8s.io/v1 Policy`, read as it is.

The meaning of rules is that of `k8s.io/apiserver/pkg/audit/policy`; the first one that fits decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aggmw.contracts.audit import AuditLevel
from aggmw.contracts.identity import Identity
from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import ConfigurationError, Problem
from aggmw.objects.yaml_files import read_documents

__all__ = ["STAGES", "AuditPolicy", "Recorded"]

RECEIVED = "RequestReceived"
STARTED = "ResponseStarted"
COMPLETE = "ResponseComplete"
PANIC = "Panic"
STAGES = (RECEIVED, STARTED, COMPLETE, PANIC)
"""Moments of a request that become an event."""

_LEVELS = {level.word: level for level in AuditLevel}
_GROUP = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_TOP = frozenset({"apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"})
_RULE = frozenset(
    {
        *("level", "users", "userGroups", "verbs", "resources", "namespaces", "nonResourceURLs"),
        *("omitStages", "omitManagedFields"),
    }
)
_RESOURCES = frozenset({"group", "resources", "resourceNames"})


class Recorded(NamedTuple):
    """What a policy says about one request.

    Attributes:
        level: how much is recorded.
        omitted: stages that become no event.
        omit_managed_fields: leave `metadata.managedFields` out of bodies.
    """

    level: AuditLevel
    omitted: frozenset[str] = frozenset()
    omit_managed_fields: bool = False


_NOTHING = Recorded(AuditLevel.NONE)


class _Resources(NamedTuple):
    group: str
    resources: frozenset[str]
    names: frozenset[str]

    def fits(self, info: RequestInfo) -> bool:
        if info.api_group != self.group:
            return False
        if not self.resources:
            return True
        if self.names and info.name not in self.names:
            return False
        resource, subresource = info.resource, info.subresource
        combined = f"{resource}/{subresource}" if subresource else resource
        return (
            combined in self.resources
            or "*" in self.resources
            or f"{resource}/*" in self.resources
            or bool(subresource and f"*/{subresource}" in self.resources)
        )


class _Rule(NamedTuple):
    recorded: Recorded
    users: frozenset[str]
    groups: frozenset[str]
    verbs: frozenset[str]
    resources: tuple[_Resources, ...]
    namespaces: frozenset[str]
    paths: tuple[str, ...]

    def fits(self, identity: Identity | None, info: RequestInfo) -> bool:
        """Whether the rule is about this request; one about users or groups is not about an unknown caller."""
        if self.users and (identity is None or identity.user not in self.users):
            return False
        if self.groups and (identity is None or self.groups.isdisjoint(identity.groups)):
            return False
        if self.verbs and info.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            if not info.is_resource or (self.namespaces and info.namespace not in self.namespaces):
                return False
            return not self.resources or any(each.fits(info) for each in self.resources)
        if self.paths:
            return not info.is_resource and any(_path_fits(path, info.path) for path in self.paths)
        return True


def _path_fits(pattern: str, path: str) -> bool:
    if pattern.endswith("*"):
        return path.startswith(pattern.rstrip("*"))
    return path == pattern


class AuditPolicy:
    """The rules of one policy file.

    Args:
        values: the file as it was read: `apiVersion: audit.k8s.io/v1`, `kind: Policy`, `rules`, …
        where: what the file is called in error messages.

    Raises:
        ConfigurationError: all its mistakes, each with its path.
    """

    __slots__ = ("_rules",)

    def __init__(self, values: Any, *, where: str = "audit policy") -> None:
        reader = _Reader(where)
        self._rules = reader.policy(values)
        if reader.problems:
            raise ConfigurationError(reader.problems)

    def __repr__(self) -> str:
        return f"AuditPolicy({len(self._rules)} rules)"

    @classmethod
    def load(cls, path: Path) -> AuditPolicy:
        """Read a policy file, YAML or JSON.

        Raises:
            ConfigurationError: it cannot be read, or all its mistakes.
        """
        documents = read_documents(path)
        if len(documents) != 1:
            what = (
                f"holds {len(documents)} documents; an audit policy is one: apiVersion: audit.k8s.io/v1, kind: Policy"
            )
            raise ConfigurationError([Problem(str(path), what)])
        return cls(documents[0].value, where=str(path))

    @classmethod
    def everything(cls, level: AuditLevel = AuditLevel.METADATA) -> AuditPolicy:
        """One rule for every request: an event when it is over."""
        rule = {"level": level.word, "omitStages": [RECEIVED]}
        return cls({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [rule]})

    def recorded(self, identity: Identity | None, info: RequestInfo) -> Recorded:
        """What is recorded of a request; nothing where no rule fits.

        Args:
            identity: who asks; None for somebody whom authentication refused.
            info: what is asked for.
        """
        for rule in self._rules:
            if rule.fits(identity, info):
                return rule.recorded
        return _NOTHING


class _Reader:
    """Reads a policy and collects what is wrong with it."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.problems: list[Problem] = []

    def policy(self, values: Any) -> tuple[_Rule, ...]:
        if not isinstance(values, Mapping):
            self._note("", "must be a Policy: apiVersion: audit.k8s.io/v1, kind: Policy, rules: …")
            return ()
        self._known("", values, _TOP)
        if values.get("apiVersion") != "audit.k8s.io/v1":
            self._note("apiVersion", "must be audit.k8s.io/v1")
        if values.get("kind") != "Policy":
            self._note("kind", "must be Policy")
        omitted = self._stages("omitStages", values.get("omitStages"))
        omit_managed_fields = self._flag("omitManagedFields", values.get("omitManagedFields")) or False
        rules = values.get("rules")
        if not isinstance(rules, list) or not rules:
            self._note("rules", "must be a list of at least one rule; without any nothing would be recorded")
            return ()
        return tuple(self._rule(f"rules[{n}]", rule, omitted, omit_managed_fields) for n, rule in enumerate(rules))

    def _rule(self, path: str, rule: Any, omitted: frozenset[str], omit_managed_fields: bool) -> _Rule:
        if not isinstance(rule, Mapping):
            self._note(path, "must be a mapping with a level")
            rule = {"level": "None"}
        self._known(path, rule, _RULE)
        level = rule.get("level")
        if not isinstance(level, str) or level not in _LEVELS:
            self._note(f"{path}.level", f"must be one of {', '.join(_LEVELS)}")
            level = "None"
        own = self._flag(f"{path}.omitManagedFields", rule.get("omitManagedFields"))
        texts = {
            key: self._texts(f"{path}.{key}", rule.get(key))
            for key in ("users", "userGroups", "verbs", "namespaces", "nonResourceURLs")
        }
        resources = self._resources(f"{path}.resources", rule.get("resources"))
        if texts["nonResourceURLs"] and (resources or texts["namespaces"]):
            self._note(path, "cannot have nonResourceURLs beside resources or namespaces: make it two rules")
        for number, pattern in enumerate(texts["nonResourceURLs"]):
            if pattern != "*" and (not pattern.startswith("/") or "*" in pattern[:-1]):
                self._note(
                    f"{path}.nonResourceURLs[{number}]", 'must be "*", or begin with / and have * only at its end'
                )
        stages = omitted | self._stages(f"{path}.omitStages", rule.get("omitStages"))
        return _Rule(
            Recorded(_LEVELS[level], stages, omit_managed_fields if own is None else own),
            frozenset(texts["users"]),
            frozenset(texts["userGroups"]),
            frozenset(texts["verbs"]),
            resources,
            frozenset(texts["namespaces"]),
            texts["nonResourceURLs"],
        )

    def _resources(self, path: str, values: Any) -> tuple[_Resources, ...]:
        if values is None:
            return ()
        if not isinstance(values, list):
            self._note(path, "must be a list of mappings with group, resources and resourceNames")
            return ()
        return tuple(self._group(f"{path}[{number}]", value) for number, value in enumerate(values))

    def _group(self, path: str, value: Any) -> _Resources:
        if not isinstance(value, Mapping):
            self._note(path, "must be a mapping with group, resources and resourceNames")
            value = {}
        self._known(path, value, _RESOURCES)
        group = value.get("group", "")
        if not isinstance(group, str) or (group and not _GROUP.fullmatch(group)):
            self._note(f"{path}.group", 'must be an API group without a version, such as apps; "" is the core group')
            group = ""
        resources = self._texts(f"{path}.resources", value.get("resources"))
        names = self._texts(f"{path}.resourceNames", value.get("resourceNames"))
        if names and not resources:
            self._note(f"{path}.resourceNames", "needs resources beside it")
        return _Resources(group, frozenset(resources), frozenset(names))

    def _stages(self, path: str, values: Any) -> frozenset[str]:
        found = self._texts(path, values)
        for number, stage in enumerate(found):
            if stage not in STAGES:
                self._note(f"{path}[{number}]", f"must be one of {', '.join(STAGES)}")
        return frozenset(found)

    def _texts(self, path: str, values: Any) -> tuple[str, ...]:
        if values is None:
            return ()
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            self._note(path, "must be a list of texts")
            return ()
        return tuple(values)

    def _flag(self, path: str, value: Any) -> bool | None:
        if value is not None and not isinstance(value, bool):
            self._note(path, "must be true or false")
            return None
        return value

    def _known(self, path: str, values: Mapping[Any, Any], known: Iterable[str]) -> None:
        for key in values:
            if key not in known:
                self._note(
                    f"{path}.{key}" if path else str(key), f"is not a known key; known here: {', '.join(sorted(known))}"
                )

    def _note(self, path: str, message: str) -> None:
        self.problems.append(Problem(f"{self._where}: {path}" if path else self._where, message))
