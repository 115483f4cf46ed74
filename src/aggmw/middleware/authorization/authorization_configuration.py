"""Kubernetes' `AuthorizationConfiguration` file, read as it is (wire contract §7.6)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aggmw.contracts.authorization import Authorizer
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authorization.conditions import MatchConditions
from aggmw.middleware.authorization.fixed import AllowAll, DenyAll
from aggmw.middleware.authorization.webhook import FailurePolicy, SubjectAccessReviewWebhook
from aggmw.net.kubeconfig import Remote, read_kubeconfig
from aggmw.net.webhooks import Webhook
from aggmw.objects.cel import CelError
from aggmw.objects.cel.library.times import parse_duration
from aggmw.objects.fields import Fields, read_object
from aggmw.objects.names import is_group
from aggmw.objects.yaml_files import shown

__all__ = ["AuthorizationConfiguration", "NamedAuthorizer"]

_GROUP = "apiserver.config.k8s.io"
_VERSIONS = tuple(f"{_GROUP}/{version}" for version in ("v1", "v1beta1", "v1alpha1"))
_OWN = ("RBAC", "Casbin")
_FIXED: Mapping[str, type[AllowAll | DenyAll]] = {"AlwaysAllow": AllowAll, "AlwaysDeny": DenyAll}
_TYPES = ("AlwaysAllow", "AlwaysDeny", "Casbin", "RBAC", "Webhook")
_REFUSED = {
    "Node": "there are no nodes here whose kubelets could ask; take it out",
    "ABAC": "its policy files are not read here; write the policy for Casbin or RBAC instead",
}
_POLICIES: Mapping[str, FailurePolicy] = {"Deny": "Deny", "NoOpinion": "NoOpinion"}
_NO_LONGER = 30.0  # seconds that a webhook may take


class NamedAuthorizer(NamedTuple):
    """One of the authorizers of a file.

    Attributes:
        name: unique in the file.
        type: as the file says it.
        authorizer: decides.
    """

    name: str
    type: str
    authorizer: Authorizer


@dataclass(frozen=True, slots=True)
class AuthorizationConfiguration:
    """What the file says.

    Args:
        authorizers: in the order in which they are asked.
    """

    authorizers: tuple[NamedAuthorizer, ...] = ()

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, known: Mapping[str, Authorizer] | None = None
    ) -> AuthorizationConfiguration:
        """Read a file of `apiserver.config.k8s.io/v1` (or v1beta1, v1alpha1), in YAML or JSON.

        Args:
            path: the file. What it names is found beside it.
            known: what stands for the types "RBAC" and "Casbin". Each that is given must be in the file: a policy that
                nobody asks would be no policy.

        Raises:
            ConfigurationError: every mistake, each with its path.
        """
        file = Path(path)
        problems: list[Problem] = []
        top = read_object(file, "AuthorizationConfiguration", _VERSIONS, problems)
        top.only(("apiVersion", "kind", "authorizers"))
        entries = list(top.each("authorizers"))
        if not entries:
            top.problem("authorizers", "Required value: at least one authorization mode must be defined")
        reader = _Reader(file.parent, known or {}, problems)
        found = [reader.authorizer(entry) for entry in entries]
        for kind in sorted(set(known or ()) - reader.types):
            top.problem("authorizers", f"has none of type {kind}, for which there is a policy: it would not be asked")
        if problems:
            raise ConfigurationError(problems)
        return cls(tuple(each for each in found if each is not None))


class _Reader:
    """Reads the entries one by one, and remembers what may be there only once."""

    def __init__(self, directory: Path, known: Mapping[str, Authorizer], problems: list[Problem]) -> None:
        self._directory = directory
        self._known = known
        self._problems = problems
        self._names: set[str] = set()
        self.types: set[str] = set()

    def authorizer(self, entry: Fields) -> NamedAuthorizer | None:
        entry.only(("type", "name", "webhook"))
        kind = self._type(entry)
        name = self._name(entry)
        webhook = entry.inner("webhook")
        if kind != "Webhook":
            if webhook is not None:
                entry.problem("webhook", "Invalid value: may only be specified when type=Webhook")
            if kind in _FIXED:
                return NamedAuthorizer(name, kind, _FIXED[kind]())
            return NamedAuthorizer(name, kind, self._known[kind]) if kind in self._known else None
        if webhook is None:
            if "webhook" not in entry:
                entry.problem("webhook", "Required value: required when type=Webhook")
            return None
        authorizer = self._webhook(webhook, name)
        return None if authorizer is None else NamedAuthorizer(name, kind, authorizer)

    def _type(self, entry: Fields) -> str:
        kind = entry.text("type")
        if not kind:
            entry.required("type")
        elif kind in _REFUSED:
            entry.problem("type", f"Invalid value: {shown(kind)}: {_REFUSED[kind]}")
        elif kind not in _TYPES:
            entry.problem("type", f"Unsupported value: {shown(kind)}: supported values: {', '.join(_TYPES)}")
        elif kind in self.types and kind != "Webhook":
            entry.problem("type", f"Duplicate value: {shown(kind)}")
        elif kind in _OWN and kind not in self._known:
            option = "policy" if kind == "Casbin" else "rbac"
            entry.problem(
                "type", f"Invalid value: {shown(kind)}: there is no policy for it: give authorization.{option}"
            )
        self.types.add(kind)
        return kind

    def _name(self, entry: Fields) -> str:
        name = entry.text("name")
        if not name:
            entry.required("name")
        elif name in self._names:
            entry.problem("name", f"Duplicate value: {shown(name)}")
        elif not is_group(name):
            entry.invalid("name", "must be a DNS-1123 subdomain, such as authorizer.example.com")
        self._names.add(name)
        return name

    def _webhook(self, fields: Fields, name: str) -> SubjectAccessReviewWebhook | None:
        before = len(self._problems)
        fields.only(
            (
                *("authorizedTTL", "unauthorizedTTL", "cacheAuthorizedRequests", "cacheUnauthorizedRequests"),
                *("timeout", "subjectAccessReviewVersion", "matchConditionSubjectAccessReviewVersion"),
                *("failurePolicy", "connectionInfo", "matchConditions"),
            )
        )
        timeout = _duration(fields, "timeout", None, most=_NO_LONGER)
        authorized = _duration(fields, "authorizedTTL", 300.0)
        unauthorized = _duration(fields, "unauthorizedTTL", 30.0)
        version = _one_of(fields, "subjectAccessReviewVersion", ("v1", "v1beta1"))
        policy = _one_of(fields, "failurePolicy", tuple(_POLICIES))
        remote = self._remote(fields)
        conditions = []
        for condition in fields.each("matchConditions"):
            condition.only(("expression",))
            conditions.append(condition.text("expression"))
        # Ours are always of v1; the file says so because there may be others some day.
        _one_of(fields, "matchConditionSubjectAccessReviewVersion", ("v1",), needed=bool(conditions))
        self._check(fields, conditions)
        if len(self._problems) > before or remote is None:
            return None
        return SubjectAccessReviewWebhook(
            Webhook(remote, timeout=timeout),
            name=name,
            version=version,
            authorized_seconds=authorized if _flag(fields, "cacheAuthorizedRequests") else 0.0,
            unauthorized_seconds=unauthorized if _flag(fields, "cacheUnauthorizedRequests") else 0.0,
            on_failure=_POLICIES[policy],
            match_conditions=conditions,
        )

    def _remote(self, fields: Fields) -> Remote | None:
        info = fields.inner("connectionInfo")
        if info is None:
            if "connectionInfo" not in fields:
                fields.nothing("connectionInfo").required("type")
            return None
        info.only(("type", "kubeConfigFile"))
        kind = info.text("type")
        if not kind:
            info.required("type")
        elif kind == "InClusterConfig":
            info.invalid("type", "there is no cluster here: give a kubeConfigFile")
        elif kind != "KubeConfigFile":
            info.problem("type", f"Unsupported value: {shown(kind)}: supported values: KubeConfigFile")
        elif not (file := info.text("kubeConfigFile")):
            info.required("kubeConfigFile")
        else:
            try:
                return read_kubeconfig(self._directory / file)
            except ConfigurationError as error:
                self._problems.extend(error.problems)
        return None

    def _check(self, fields: Fields, conditions: list[str]) -> None:
        try:
            MatchConditions(conditions)
        except ConfigurationError as error:
            for each in error.problems:
                fields.problem(f"matchConditions{each.path}", each.message)


def _one_of(fields: Fields, name: str, choices: tuple[str, ...], *, needed: bool = True) -> str:
    """One of a few words; the first, when it is none or absent."""
    value = fields.text(name)
    if value in choices:
        return value
    if value:
        fields.problem(name, f"Unsupported value: {shown(value)}: supported values: {', '.join(choices)}")
    elif needed:
        fields.required(name)
    return choices[0]


def _duration(fields: Fields, name: str, default: float | None, *, most: float | None = None) -> float:
    """Seconds of a duration as Go writes it; it must be there where there is no default."""
    if name not in fields:
        if default is None:
            fields.required(name)
        return default or 0.0
    try:
        seconds = parse_duration(fields.text(name)).total_seconds()
    except CelError:
        fields.invalid(name, "must be a duration such as 3s or 5m0s")
        return default or 0.0
    if seconds <= 0 or (most is not None and seconds > most):
        fields.invalid(name, "must be > 0s" if most is None else f"must be > 0s and <= {most:g}s")
    return seconds


def _flag(fields: Fields, name: str) -> bool:
    """True unless it says false."""
    return fields.flag(name) if name in fields else True
