"""Issuers of tokens as they are configured: `JWTAuthenticator` of Kubernetes' `AuthenticationConfiguration`, as values.

The names are Kubernetes', in Python's spelling; so is what they mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aggmw.middleware.authentication.algorithms import ALGORITHMS

__all__ = ["ClaimValidationRule", "ExtraMapping", "JWTIssuer", "MappedClaim", "UserValidationRule"]


@dataclass(frozen=True, slots=True)
class MappedClaim:
    """Where a part of an identity comes from: a claim or a CEL expression over `claims`, one of the two.

    Args:
        claim: the name of a claim.
        prefix: put in front of what a claim says; must be given for `username` and `groups`, and may be "".
        expression: CEL, such as "claims.roles.map(role, 'idp:' + role)".
    """

    claim: str = ""
    prefix: str | None = None
    expression: str = ""


@dataclass(frozen=True, slots=True)
class ClaimValidationRule:
    """What must be true of the claims: a claim has a value, or a CEL expression over `claims` is true.

    Args:
        claim, required_value: the claim must be this text.
        expression: must be a bool.
        message: for the log, when the expression is false.
    """

    claim: str = ""
    required_value: str = ""
    expression: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class UserValidationRule:
    """What must be true of the identity.

    Args:
        expression: CEL over `user` (username, uid, groups, extra); must be a bool.
        message: for the log, when it is false.
    """

    expression: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class ExtraMapping:
    """A key of the identity's extra.

    Args:
        key: with a domain in front, such as "example.com/tenant".
        value_expression: CEL over `claims` that comes to a text or a list of texts.
    """

    key: str
    value_expression: str


@dataclass(frozen=True, slots=True)
class JWTIssuer:
    """One issuer, and how its tokens become identities.

    Args:
        url: what its tokens say in `iss`, and where OpenID Connect Discovery finds its keys; https.
        audiences: a token must be for one of them.
        username: who it is.
        groups, uid, extra: what else is known.
        claim_validation_rules, user_validation_rules: what must be true of the claims, and of the identity.
        discovery_url: where the discovery document is, if it is elsewhere.
        certificate_authority: whom to trust there, a PEM bundle; "" for the system's.
        keys: a file with its key set, instead of discovery. Read again when it changes.
        algorithms: what tokens may be signed with.
        system_names: whether its users and groups may begin with `system:`.
        audience_match_policy, egress_selector_type: as in Kubernetes: "MatchAny" with several audiences, and "".
    """

    url: str
    audiences: Sequence[str]
    username: MappedClaim
    groups: MappedClaim = MappedClaim()
    uid: MappedClaim = MappedClaim()
    extra: Sequence[ExtraMapping] = ()
    claim_validation_rules: Sequence[ClaimValidationRule] = ()
    user_validation_rules: Sequence[UserValidationRule] = ()
    discovery_url: str = ""
    certificate_authority: str = field(default="", repr=False)
    keys: Path | None = None
    algorithms: Sequence[str] = ALGORITHMS
    system_names: bool = False
    audience_match_policy: str = "MatchAny"
    egress_selector_type: str = ""
