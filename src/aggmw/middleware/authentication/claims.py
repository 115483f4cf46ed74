"""Claims to an identity, and what must be true of both (`k8s.io/apiserver/plugin/pkg/authenticator/token/oidc`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aggmw.contracts.drain import Drain
from aggmw.contracts.identity import Credential, Identity, authenticated
from aggmw.errors import InvalidCredentials
from aggmw.middleware.authentication.expressions import Expression

__all__ = ["CREDENTIAL_ID", "Claim", "ClaimMapper", "Rule"]

CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
_EMAIL, _VERIFIED = "email", "email_verified"
_NAMES = "_claim_names"
_SYSTEM = "system:"


class Claim(NamedTuple):
    """A claim, and what is put in front of it."""

    name: str
    prefix: str = ""

    @property
    def reads(self) -> frozenset[str]:
        """The claims that it needs."""
        return frozenset({self.name})


class Rule(NamedTuple):
    """What must be true, and what is said when it is not."""

    expression: Expression
    message: str

    def check(self, value: Any) -> None:
        """Raises `InvalidCredentials` unless it is."""
        if self.expression.evaluate(value) is not True:
            raise InvalidCredentials(f"the rule {self.expression.text!r} is not met: {self.message or 'refused'}")


@dataclass(frozen=True, slots=True)
class ClaimMapper:
    """Makes an identity of the claims of one issuer's tokens.

    Args:
        username, groups, uid: where they come from.
        extra: keys and the expressions of their values.
        required: claims that must be these texts.
        claim_rules, user_rules: what must be true.
        system_names: whether users and groups may begin with `system:`.
    """

    username: Claim | Expression
    groups: Claim | Expression | None = None
    uid: Claim | Expression | None = None
    extra: Sequence[tuple[str, Expression]] = ()
    required: Sequence[tuple[str, str]] = ()
    claim_rules: Sequence[Rule] = ()
    user_rules: Sequence[Rule] = ()
    system_names: bool = False

    def identity(self, claims: Mapping[str, Any], expires: float, withdrawal: Drain | None = None) -> Identity:
        """Who the token's owner is.

        Args:
            claims: of a token that is good in all else.
            expires: when it ends, in seconds since the epoch.
            withdrawal: begins when it is no longer believed.

        Raises:
            InvalidCredentials: a claim is missing or none that can be used, a rule is not met, or it is distributed.
            InvalidIdentity: a name that may not travel in a header.
        """
        self._refuse_distributed(claims)
        for name, value in self.required:
            if _text(claims, name) != value:
                raise InvalidCredentials(f"the claim {name} does not have the required value")
        for rule in self.claim_rules:
            rule.check(claims)
        username = self._username(claims)
        groups = _strings(self.groups, claims, "groups")
        uid = "" if self.uid is None else _string(self.uid, claims, "uid")
        extra = self._extra(claims)
        if self.user_rules:
            user = {"username": username, "uid": uid, "groups": groups, "extra": extra}
            for rule in self.user_rules:
                rule.check(user)
        if not self.system_names and any(each.startswith(_SYSTEM) for each in (username, *groups)):
            raise InvalidCredentials(f"the token makes a user or group of {_SYSTEM}, which its issuer may not")
        credential = Credential(ambient=False, expires=expires, withdrawal=withdrawal)
        return authenticated(Identity(username, uid, tuple(groups), extra, credential))

    def _username(self, claims: Mapping[str, Any]) -> str:
        username = _string(self.username, claims, "username")
        is_email = isinstance(self.username, Claim) and self.username.name == _EMAIL
        if is_email and claims.get(_VERIFIED, True) is not True:  # Kubernetes' rule: absent is as good as true
            raise InvalidCredentials("the e-mail address is not verified")
        return username

    def _extra(self, claims: Mapping[str, Any]) -> dict[str, list[str]]:
        extra: dict[str, list[str]] = {}
        identifier = claims.get("jti")
        if isinstance(identifier, str) and identifier:
            extra[CREDENTIAL_ID] = [f"JTI={identifier}"]
        for key, expression in self.extra:
            if values := _listed(expression.evaluate(claims), f"extra {key}"):
                extra[key] = values
        return extra

    def _refuse_distributed(self, claims: Mapping[str, Any]) -> None:
        """Claims that are somewhere else (OpenID Connect Core §5.6.2) are not fetched, and nothing is guessed."""
        if _NAMES not in claims:
            return
        elsewhere = claims[_NAMES]
        missing = self._reads() - claims.keys()
        if isinstance(elsewhere, Mapping):
            missing &= elsewhere.keys()
        if missing:
            raise InvalidCredentials(
                f"the token says that {', '.join(sorted(missing))} can be had elsewhere (_claim_names); distributed and"
                " aggregated claims are not supported: let the issuer put them into the token"
            )

    def _reads(self) -> frozenset[str]:
        parts: Iterable[Claim | Expression | None] = (
            *(self.username, self.groups, self.uid),
            *(expression for _, expression in self.extra),
            *(rule.expression for rule in self.claim_rules),
        )
        required = frozenset(name for name, _ in self.required)
        return required.union(*(part.reads for part in parts if part is not None))


def _text(claims: Mapping[str, Any], name: str) -> str:
    if name not in claims:
        raise InvalidCredentials(f"the token has no claim {name}")
    value = claims[name]
    if not isinstance(value, str):
        raise InvalidCredentials(f"the claim {name} is not a text")
    return value


def _string(source: Claim | Expression, claims: Mapping[str, Any], what: str) -> str:
    if isinstance(source, Claim):
        return source.prefix + _text(claims, source.name)
    value = source.evaluate(claims)
    if not isinstance(value, str):
        raise InvalidCredentials(f"the expression of {what} does not come to a text")
    return value


def _strings(source: Claim | Expression | None, claims: Mapping[str, Any], what: str) -> list[str]:
    if source is None:
        return []
    if isinstance(source, Expression):
        return _listed(source.evaluate(claims), what)
    values = _listed(claims.get(source.name), f"the claim {source.name}")
    return [source.prefix + value for value in values]


def _listed(value: Any, what: str) -> list[str]:
    """A text or a list of texts; nothing is an empty list, and an empty text is nothing."""
    if value is None:
        return []
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(each, str) for each in values):
        raise InvalidCredentials(f"{what} is neither a text nor a list of texts")
    return [each for each in values if each]
