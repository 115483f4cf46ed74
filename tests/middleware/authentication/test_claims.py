"""Claims to an identity, as Kubernetes maps them (wire contract §6.6).

`docs/reference/oidc-cases.md` says which case of Kubernetes' own tests is answered by which test here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.middleware.authentication.issuing import NOW, claims, issuer, key, presenting, token, write_keys

from aggmw.contracts.identity import Identity
from aggmw.errors import InvalidCredentials, InvalidIdentity
from aggmw.middleware.authentication import (
    ClaimValidationRule,
    ExtraMapping,
    JWTAuthenticator,
    JWTIssuer,
    MappedClaim,
    UserValidationRule,
)
from aggmw.middleware.authentication.issuer_rules import compile_issuers

AUTHENTICATED = "system:authenticated"
CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"
EMAIL = MappedClaim("email", prefix="")
GROUPS = MappedClaim("groups", prefix="")


def mapped(of: JWTIssuer, **others: Any) -> Identity:
    """The identity of a token that is good in all else."""
    mistakes: list[tuple[str, str]] = []
    compiled = compile_issuers([of], lambda path, message: mistakes.append((path, message)))
    assert mistakes == []
    return compiled[0].mapper.identity(claims(**others), NOW + 600)


def refused(of: JWTIssuer, **others: Any) -> str:
    with pytest.raises((InvalidCredentials, InvalidIdentity)) as caught:
        mapped(of, **others)
    return str(caught.value)


def groups_of(identity: Identity) -> list[str]:
    return [group for group in identity.groups if group != AUTHENTICATED]


def expression(text: str) -> MappedClaim:
    return MappedClaim(expression=text)


def rule(text: str, message: str = "") -> ClaimValidationRule:
    return ClaimValidationRule(expression=text, message=message)


# User names


def test_username_by_claim() -> None:
    """The claim's text, in `system:authenticated`."""
    assert mapped(issuer()) == Identity("jane", groups=(AUTHENTICATED,))


def test_username_prefix() -> None:
    """Put in front of the claim's text."""
    assert mapped(issuer(username=MappedClaim("sub", prefix="oidc:"))).user == "oidc:jane"


@pytest.mark.parametrize("value", [None, 5, True, ["jane"], {"a": "b"}, 1.5])
def test_username_that_is_no_text(value: Any) -> None:
    """A claim that is missing or no text names nobody."""
    assert "sub" in refused(issuer(), sub=value)


def test_empty_username() -> None:
    """Kubernetes lets an empty name pass; here it is nobody's, by claim and by expression (wire contract §12.4)."""
    assert "empty" in refused(issuer(), sub="")
    assert "empty" in refused(issuer(username=expression("''")))


@pytest.mark.parametrize(
    "name", ["jane\r\nX-Remote-Group: system:masters", " jane", "jane\x00", "jane\n", "\u2028jane"]
)
def test_username_that_no_header_carries(name: str) -> None:
    """§12.4: a control character or white space at an end is refused when the identity is made."""
    assert "control character" in refused(issuer(), sub=name)
    assert "control character" in refused(issuer(groups=GROUPS), groups=[name])


@pytest.mark.parametrize(
    ("verified", "good"),
    [(True, True), ("absent", True), (False, False), ("true", False), (None, False), (1, False), ("", False)],
)
def test_email_must_be_verified(verified: Any, good: bool) -> None:
    """`email_verified` must be true; Kubernetes takes an issuer that does not say it at all."""
    others = {} if verified == "absent" else {"email_verified": verified}
    values = claims(email="jane@example.com") | others
    (compiled,) = compile_issuers([issuer(username=EMAIL)], lambda *_: None)
    if good:
        assert compiled.mapper.identity(values, NOW).user == "jane@example.com"
    else:
        with pytest.raises(InvalidCredentials, match="not verified"):
            compiled.mapper.identity(values, NOW)


def test_verified_matters_for_email_only() -> None:
    """Another claim does not become an address by it."""
    assert mapped(issuer(), email_verified=False).user == "jane"


def test_username_by_expression() -> None:
    """CEL over the claims, also nested ones."""
    assert mapped(issuer(username=expression("'test-' + claims.sub"))).user == "test-jane"
    nested = issuer(username=expression("claims.foo.bar.name"))
    assert mapped(nested, foo={"bar": {"name": "jane"}}).user == "jane"


@pytest.mark.parametrize("value", [5, True, ["jane"], {"a": 1}])
def test_username_expression_that_comes_to_no_text(value: Any) -> None:
    """Known only when it is evaluated; a value that is no text names nobody."""
    assert "does not come to a text" in refused(issuer(username=expression("claims.name")), name=value)


def test_expression_without_a_value() -> None:
    """A member that is not there refuses the token; `.?` and `orValue` say what to take instead."""
    deep = "claims.turtle.foo.other1.bit1"
    assert "has no value" in refused(issuer(username=expression(deep)), turtle={"foo": {}})
    by_option = "claims.?turtle.foo.other1.bit1.orValue('jane')"
    assert mapped(issuer(username=expression(by_option)), turtle={"foo": {}}).user == "jane"


# Groups


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (["team1", "team2"], ["team1", "team2"]),
        ("team1", ["team1"]),
        ([], []),
        ("", []),
        ("absent", []),
        (["team1", ""], ["team1"]),
    ],
)
def test_groups_by_claim(value: Any, found: list[str]) -> None:
    """A list of texts, or one text; without the claim, none."""
    others = {} if value == "absent" else {"groups": value}
    assert groups_of(mapped(issuer(groups=GROUPS), **others)) == found


@pytest.mark.parametrize("value", [42, True, [1], ["team1", 1], {"a": "b"}, [["team1"]], [None]])
def test_groups_that_are_none(value: Any) -> None:
    """Anything else refuses the token: a group that is lost may be one that forbids."""
    assert "groups" in refused(issuer(groups=GROUPS), groups=value)


def test_groups_prefix() -> None:
    """In front of each."""
    of = issuer(groups=MappedClaim("groups", prefix="groups:"))
    assert groups_of(mapped(of, groups=["team1", "team2"])) == ["groups:team1", "groups:team2"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("claims.groups", ["team1", "team2"]),
        ("claims.groups.filter(group, group != 'team1')", ["team2"]),
        (
            "(claims.roles.split(',') + claims.other_roles.split(',')).map(role, 'idp:' + role)",
            ["idp:a", "idp:b", "idp:c"],
        ),
        ("claims.sub", ["jane"]),
        ("null", []),
        ("[]", []),
        ("''", []),
        ("claims.foo == 'bar' ? claims.groups : null", []),
    ],
)
def test_groups_by_expression(text: str, found: list[str]) -> None:
    """A text, a list of texts, or nothing."""
    others = {"groups": ["team1", "team2"], "roles": "a,b", "other_roles": "c", "foo": "baz"}
    assert groups_of(mapped(issuer(groups=expression(text)), **others)) == found


# What is elsewhere


@pytest.mark.parametrize(
    "names",
    [
        {"groups": "src1"},
        {"groups": "src1", "other": "src2"},
        {"groups": "missing"},
        "groups",
        ["groups"],
        5,
    ],
)
def test_distributed_claims(names: Any) -> None:
    """OpenID Connect Core §5.6.2: a claim that has to be fetched is refused in words, nothing is guessed."""
    sources = {"src1": {"endpoint": "https://idp.example/groups", "access_token": "x"}}
    for of in (issuer(groups=GROUPS), issuer(groups=expression("claims.?groups.orValue([])"))):
        assert "distributed" in refused(of, _claim_names=names, _claim_sources=sources)


def test_aggregated_claims() -> None:
    """The other kind of the same: a token in the token."""
    assert "aggregated" in refused(
        issuer(groups=GROUPS), _claim_names={"groups": "src1"}, _claim_sources={"src1": {"JWT": "e30.e30.e30"}}
    )


def test_claim_that_is_there_wins() -> None:
    """A claim that the token has is not looked for elsewhere, and one that nobody needs is not missed."""
    of = issuer(groups=GROUPS)
    names = {"groups": "src1", "photo": "src2"}
    assert groups_of(mapped(of, groups=["team1"], _claim_names=names, _claim_sources={})) == ["team1"]
    assert mapped(issuer(), _claim_names=names).user == "jane"


# uid and extra


def test_uid() -> None:
    """By claim or by expression; a claim that is missing or no text refuses the token."""
    assert mapped(issuer(uid=MappedClaim("uid")), uid="1234").uid == "1234"
    assert mapped(issuer(uid=expression("'u-' + claims.uid")), uid="1234").uid == "u-1234"
    assert "uid" in refused(issuer(uid=MappedClaim("uid")))
    assert "uid" in refused(issuer(uid=MappedClaim("uid")), uid=1234)
    assert "does not come to a text" in refused(issuer(uid=expression("claims.uid")), uid=1234)


def extra(**expressions: str) -> list[ExtraMapping]:
    return [ExtraMapping(f"example.org/{name}", text) for name, text in expressions.items()]


def test_extra() -> None:
    """Each key has the texts that its expression comes to; what comes to nothing is left out."""
    of = issuer(
        extra=extra(
            foo="claims.tenant",
            bar="claims.roles",
            hard="'\"value\"'",
            empty="''",
            nothing="null",
            some="['', 'a']",
            several="[claims.tenant, 'x']",
        )
    )
    found = mapped(of, tenant="t1", roles=["a", "b"]).extra
    assert found == {
        "example.org/foo": ("t1",),
        "example.org/bar": ("a", "b"),
        "example.org/hard": ('"value"',),
        "example.org/some": ("a",),
        "example.org/several": ("t1", "x"),
    }
    assert "extra example.org/foo" in refused(issuer(extra=extra(foo="claims.tenant")), tenant=[1])


def test_credential_id() -> None:
    """`jti` names the token in the audit log; whatever else it is, is no reason to refuse one."""
    assert mapped(issuer(), jti="1234").extra == {CREDENTIAL_ID: ("JTI=1234",)}
    both = mapped(issuer(extra=extra(foo="'x'")), jti="1234").extra
    assert both == {CREDENTIAL_ID: ("JTI=1234",), "example.org/foo": ("x",)}
    for other in (None, 1234, ["1234"], ""):
        assert mapped(issuer(), jti=other).extra == {}


# Rules


def test_required_claim() -> None:
    """The claim must be there, be a text, and be this one."""
    of = issuer(claim_validation_rules=[ClaimValidationRule("hd", "example.com"), ClaimValidationRule("sub", "jane")])
    assert mapped(of, hd="example.com").user == "jane"
    for value in ("example.org", None, True, ["example.com"], 5, "example.com "):
        assert "hd" in refused(of, hd=value)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("claims.hd == 'example.com'", True),
        ("claims.hd == 'example.org'", False),
        ("claims.foo.bar == 'baz'", True),
        ("claims.exp - claims.iat <= 86400", True),
        ("claims.exp - claims.iat <= 60", False),
        ("'nothing' in claims", False),
        ("claims.missing == 'x'", False),
        ("claims.hd", False),
    ],
)
def test_claim_rule(text: str, good: bool) -> None:
    """A rule must come to true; false, and no value, refuse the token."""
    others = {"hd": "example.com", "foo": {"bar": "baz"}}
    if text == "claims.hd":
        mistakes: list[str] = []
        compile_issuers([issuer(claim_validation_rules=[rule(text)])], lambda path, message: mistakes.append(message))
        assert "must evaluate to bool" in mistakes[0]
    elif good:
        assert mapped(issuer(claim_validation_rules=[rule(text)]), **others).user == "jane"
    else:
        said = refused(issuer(claim_validation_rules=[rule(text, "not here")]), **others)
        assert "not here" in said or "has no value" in said


def test_claim_and_expression_rules_together() -> None:
    """Every one of them must hold."""
    of = issuer(claim_validation_rules=[ClaimValidationRule("hd", "example.com"), rule("claims.level > 2")])
    assert mapped(of, hd="example.com", level=3).user == "jane"
    assert refused(of, hd="example.org", level=3)
    assert refused(of, hd="example.com", level=2)


def test_audience_rules() -> None:
    """More than one audience may be demanded by a rule."""
    both = rule("claims.aud.exists(one, one == 'aggmw') && claims.aud.exists(one, one == 'other')", "both")
    of = issuer(claim_validation_rules=[both])
    assert mapped(of, aud=["aggmw", "other"]).user == "jane"
    assert "both" in refused(of, aud=["aggmw"])


def test_user_rules() -> None:
    """Over what the identity would be, prefixes included."""
    no_system = UserValidationRule("!user.username.startsWith('system:')", "reserved")
    no_groups = UserValidationRule("user.groups.all(group, !group.startsWith('system:'))", "reserved")
    of = issuer(groups=GROUPS, user_validation_rules=[no_system, no_groups], system_names=True)
    assert mapped(of, groups=["team1"]).user == "jane"
    assert "reserved" in refused(of, sub="system:admin")
    assert "reserved" in refused(of, groups=["team1", "system:masters"])
    prefixed = issuer(
        username=MappedClaim("sub", prefix="system:"), user_validation_rules=[no_system], system_names=True
    )
    assert "reserved" in refused(prefixed)


def test_user_rule_over_extra() -> None:
    """Extra values are lists of texts; what is not there is an empty list or map, not an error."""
    of = issuer(
        extra=extra(foo="'x'"),
        user_validation_rules=[UserValidationRule("'x' in user.extra['example.org/foo']", "no foo")],
    )
    assert mapped(of).user == "jane"
    bare = issuer(
        user_validation_rules=[
            UserValidationRule("size(user.groups) == 0 && user.uid == '' && size(user.extra) == 0", "not bare")
        ]
    )
    assert mapped(bare).user == "jane"


def test_user_rule_that_revokes() -> None:
    """A token can be refused by its identifier."""
    revoked = UserValidationRule(f"!('JTI=1234' in user.extra['{CREDENTIAL_ID}'])", "revoked")
    of = issuer(user_validation_rules=[revoked])
    assert mapped(of, jti="5678").user == "jane"
    assert "revoked" in refused(of, jti="1234")


# Deep claims, and names that cannot be written after a dot

ACCOUNT: Mapping[str, Any] = {
    "sub": "system:serviceaccount:kube-system:default",
    "kubernetes.io": {
        "namespace": "kube-system",
        "serviceaccount": {"name": "default", "uid": "1"},
        "pod": {"name": "p", "uid": "2"},
    },
}


def test_deep_claims() -> None:
    """Maps in maps, and lists of them."""
    of = issuer(
        username=expression("claims.turtle.foo.other1.bit1 ? claims.turtle.foo.name : 'nobody'"),
        groups=expression("claims.turtle.members.map(one, one.name)"),
        uid=expression("claims.turtle.members[1].name"),
    )
    turtle = {"foo": {"name": "leo", "other1": {"bit1": True}}, "members": [{"name": "a"}, {"name": "b"}]}
    assert mapped(of, turtle=turtle) == Identity("leo", "b", ("a", "b", AUTHENTICATED))


def test_service_account_payload() -> None:
    """The token of another cluster's service account, by `__dot__` and by index."""
    of = issuer(
        username=expression("'other:' + claims.kubernetes__dot__io.serviceaccount.name"),
        uid=expression("claims['kubernetes.io'].pod.uid"),
        extra=extra(namespace="claims.kubernetes__dot__io.namespace"),
    )
    assert mapped(of, **ACCOUNT) == Identity(
        "other:default", "2", (AUTHENTICATED,), {"example.org/namespace": ("kube-system",)}
    )


def test_escaped_names_everywhere() -> None:
    """`__dot__`, `__dash__`, `__slash__`, `__underscores__` and words of CEL, at every depth, and no others."""
    of = issuer(
        username=expression("claims.a__dot__b.c__slash__d[0].e__dash__f.g__underscores__h"),
        groups=expression("claims.a__dot__b.map(key, key)"),
        claim_validation_rules=[
            rule("claims.__namespace__ == 'n'"),
            rule("has(claims.a__dot__b) && !has(claims.x__dot__y)"),
            rule("claims.?x__dot__y.orValue('z') == 'z'"),
            rule("!('a__dot__b' in claims) && 'a.b' in claims"),
        ],
    )
    named = {"a.b": {"c/d": [{"e-f": {"g__h": "jane"}}]}, "namespace": "n"}
    assert mapped(of, **named) == Identity("jane", groups=("c/d", AUTHENTICATED))


# system: names


@pytest.mark.parametrize(
    ("others", "good"),
    [
        ({"sub": "system:admin"}, False),
        ({"sub": "system:serviceaccount:kube-system:default"}, False),
        ({"sub": "system:anonymous"}, False),
        ({"groups": ["system:masters"]}, False),
        ({"groups": ["dev", "system:authenticated"]}, False),
        ({"sub": "System:admin"}, True),
        ({"sub": "my-system:admin"}, True),
    ],
)
def test_system_names(others: dict[str, Any], good: bool) -> None:
    """C3, §12.4: an issuer makes no user or group of `system:` unless it is configured that it may."""
    if good:
        assert mapped(issuer(groups=GROUPS), **others)
    else:
        assert "system:" in refused(issuer(groups=GROUPS), **others)
        assert mapped(issuer(groups=GROUPS, system_names=True), **others)


def test_system_names_by_prefix_and_expression() -> None:
    """However the name comes about."""
    assert "system:" in refused(issuer(username=MappedClaim("sub", prefix="system:")))
    assert "system:" in refused(issuer(username=expression("'system:' + claims.sub")))
    assert "system:" in refused(issuer(groups=expression("['system:masters']")))


async def test_whole(tmp_path: Path) -> None:
    """From the bearer token to the identity, through everything at once."""
    path = write_keys(tmp_path / "keys.json", key("one"))
    of = issuer(
        keys=path,
        username=MappedClaim("email", prefix="idp:"),
        groups=expression("claims.roles.map(role, 'idp:' + role)"),
        uid=MappedClaim("sub"),
        extra=extra(tenant="claims.tenant"),
        claim_validation_rules=[rule("claims.tenant in ['t1', 't2']", "tenant")],
        user_validation_rules=[UserValidationRule("user.username.endsWith('@example.com')", "domain")],
    )
    async with JWTAuthenticator([of], clock=lambda: NOW) as authenticator:
        bearer = token(email="jane@example.com", email_verified=True, roles=["dev"], tenant="t1", jti="7")
        assert await authenticator.authenticate(presenting(bearer)) == Identity(
            "idp:jane@example.com",
            "jane",
            ("idp:dev", AUTHENTICATED),
            {CREDENTIAL_ID: ("JTI=7",), "example.org/tenant": ("t1",)},
        )
        with pytest.raises(InvalidCredentials, match="tenant"):
            await authenticator.authenticate(presenting(token(email="jane@example.com", roles=["dev"], tenant="t3")))
