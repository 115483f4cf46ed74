"""What one rule says about one request (`plugin/pkg/auth/authorizer/rbac`), in plain words and without an index."""

from __future__ import annotations

from collections.abc import Iterator

from aggmw.contracts.authorization import Attributes
from aggmw.middleware.authorization.rbac.coverage import listed
from aggmw.middleware.authorization.rbac.objects import PolicyRule
from aggmw.middleware.authorization.rbac.table import asked

__all__ = ["differences", "is_everything", "rule_allows"]


def _path_matches(pattern: str, path: str) -> bool:
    """Whether a path of a rule covers a path: itself, or every one that begins so when it ends in `*`."""
    return pattern == path or (pattern.endswith("*") and path.startswith(pattern.rstrip("*")))


def rule_allows(rule: PolicyRule, attributes: Attributes) -> bool:
    """Whether a rule that concerns the caller allows what they ask for."""
    return next(differences(rule, attributes), None) is None


def is_everything(rule: PolicyRule) -> bool:
    """Whether a rule is an administrator's: every verb on all resources, or on all paths."""
    return "*" in rule.verbs and (("*" in rule.api_groups and "*" in rule.resources) or "*" in rule.paths)


def differences(rule: PolicyRule, attributes: Attributes) -> Iterator[tuple[str, str, str]]:
    """Each thing in which a request differs from a rule: its name, what the rule has, what the request has.

    A rule about resources and a request for a path, or the other way round, have nothing in common but the verb.
    """
    if attributes.verb not in rule.verbs and "*" not in rule.verbs:
        yield "verb", _shown(rule.verbs), attributes.verb
    if not attributes.is_resource:
        if not any(_path_matches(pattern, attributes.path) for pattern in rule.paths):
            yield "path", _shown(rule.paths) if rule.paths else "no path", attributes.path
        return
    if attributes.api_group not in rule.api_groups and "*" not in rule.api_groups:
        yield "apiGroup", listed(rule.api_groups), attributes.api_group
    resources = asked(attributes.resource, attributes.subresource)
    if not any(resource in rule.resources for resource in resources):
        yield "resource", _shown(rule.resources) if rule.resources else "no resource", resources[0]
    if rule.names and attributes.name not in rule.names:
        yield "name", _shown(rule.names), attributes.name


def _shown(values: tuple[str, ...]) -> str:
    return "|".join(values)
