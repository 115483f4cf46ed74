"""Kubernetes' `AuthenticationConfiguration` file, read as it is (wire contract §6.6)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from aggmw.contracts.anonymous import Anonymous
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authentication.issuer_rules import compile_issuers
from aggmw.middleware.authentication.issuers import (
    ClaimValidationRule,
    ExtraMapping,
    JWTIssuer,
    MappedClaim,
    UserValidationRule,
)
from aggmw.objects.fields import Fields, read_object
from aggmw.objects.yaml_files import shown

__all__ = ["AuthenticationConfiguration"]

_VERSIONS = ("apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1")


@dataclass(frozen=True, slots=True)
class AuthenticationConfiguration:
    """What the file says.

    Args:
        issuers: `jwt`, for `JWTAuthenticator`.
        anonymous: who may come without credentials; None where the file does not say, or says nobody.
        says_anonymous: whether the file has `anonymous` at all.
    """

    issuers: tuple[JWTIssuer, ...] = ()
    anonymous: Anonymous | None = None
    says_anonymous: bool = False

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        keys: Mapping[str, Path] | None = None,
        system_names: frozenset[str] = frozenset(),
        disallowed: frozenset[str] = frozenset(),
    ) -> AuthenticationConfiguration:
        """Read a file of `apiserver.config.k8s.io/v1` (or v1beta1), in YAML or JSON.

        Args:
            path: the file.
            keys: files with key sets, by the URL of their issuer: those are not discovered.
            system_names: URLs of issuers whose users and groups may begin with `system:`.
            disallowed: issuers that must not be in it.

        Raises:
            ConfigurationError: every mistake, each with its path.
        """
        problems: list[Problem] = []
        top = read_object(Path(path), "AuthenticationConfiguration", _VERSIONS, problems)
        issuers = []
        for one in top.each("jwt"):
            issuer = _issuer(one)
            file_of_keys = (keys or {}).get(issuer.url)
            issuers.append(replace(issuer, keys=file_of_keys, system_names=issuer.url in system_names))
        for option, named in (("a file of keys", set(keys or ())), ("system names", set(system_names))):
            for url in sorted(named - {issuer.url for issuer in issuers}):
                top.problem("jwt", f"has no issuer {url}, for which {option} is configured")
        anonymous = _anonymous(top)
        top.only(("apiVersion", "kind", "anonymous", "jwt"))
        compile_issuers(issuers, top.problem, disallowed=disallowed)
        if problems:
            raise ConfigurationError(problems)
        return cls(tuple(issuers), anonymous, "anonymous" in top)


def _issuer(one: Fields) -> JWTIssuer:
    one.only(("issuer", "claimValidationRules", "claimMappings", "userValidationRules"))
    place = one.inner("issuer") or one.nothing("issuer")
    place.only(
        ("url", "discoveryURL", "certificateAuthority", "audiences", "audienceMatchPolicy", "egressSelectorType")
    )
    mappings = one.inner("claimMappings") or one.nothing("claimMappings")
    mappings.only(("username", "groups", "uid", "extra"))
    return JWTIssuer(
        url=place.text("url"),
        audiences=tuple(place.texts("audiences")),
        username=_mapped(mappings, "username"),
        groups=_mapped(mappings, "groups"),
        uid=_mapped(mappings, "uid", prefix=False),
        extra=tuple(_extra(each) for each in mappings.each("extra")),
        claim_validation_rules=tuple(_claim_rule(each) for each in one.each("claimValidationRules")),
        user_validation_rules=tuple(_user_rule(each) for each in one.each("userValidationRules")),
        discovery_url=place.text("discoveryURL"),
        certificate_authority=place.text("certificateAuthority"),
        audience_match_policy=place.text("audienceMatchPolicy"),
        egress_selector_type=place.text("egressSelectorType"),
    )


def _mapped(mappings: Fields, name: str, *, prefix: bool = True) -> MappedClaim:
    fields = mappings.inner(name)
    if fields is None:
        return MappedClaim()
    fields.only(("claim", "expression", *(("prefix",) if prefix else ())))
    given = fields.text("prefix") if prefix and "prefix" in fields else None
    return MappedClaim(fields.text("claim"), given, fields.text("expression"))


def _extra(fields: Fields) -> ExtraMapping:
    fields.only(("key", "valueExpression"))
    return ExtraMapping(fields.text("key"), fields.text("valueExpression"))


def _claim_rule(fields: Fields) -> ClaimValidationRule:
    fields.only(("claim", "requiredValue", "expression", "message"))
    return ClaimValidationRule(
        fields.text("claim"), fields.text("requiredValue"), fields.text("expression"), fields.text("message")
    )


def _user_rule(fields: Fields) -> UserValidationRule:
    fields.only(("expression", "message"))
    return UserValidationRule(fields.text("expression"), fields.text("message"))


def _anonymous(top: Fields) -> Anonymous | None:
    fields = top.inner("anonymous")
    if fields is None:
        return None
    fields.only(("enabled", "conditions"))
    enabled = fields.flag("enabled")
    conditions = list(fields.each("conditions"))
    paths: list[str] = []
    for condition in conditions:
        condition.only(("path",))
        path = condition.text("path")
        if not path.startswith("/"):
            condition.problem("path", f"Invalid value: {shown(path)}: must begin with a slash")
        paths.append(path)
    if not enabled and conditions:
        top.problem("anonymous.conditions", "Invalid value: enabled should be set to true when conditions are defined")
    if not enabled:
        return None
    if not conditions:
        return Anonymous.everywhere()
    return Anonymous(path for path in paths if path.startswith("/"))
