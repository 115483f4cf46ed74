"""Kubernetes' `AuthenticationConfiguration` file: read as it is, and every mistake at once (wire contract §6.6)."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from tests.middleware.authentication.issuing import issuer

from aggmw.contracts.anonymous import Anonymous
from aggmw.errors import ConfigurationError
from aggmw.middleware.authentication import (
    AuthenticationConfiguration,
    ClaimValidationRule,
    ExtraMapping,
    JWTAuthenticator,
    JWTIssuer,
    MappedClaim,
    UserValidationRule,
)
from aggmw.middleware.authentication.issuer_rules import MAX_ISSUERS
from aggmw.pki.make import make_ca

HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"
CA = make_ca("idp").certificate.decode()
WHOLE = (
    HEAD
    + """\
anonymous: {enabled: true, conditions: [{path: /healthz}, {path: /readyz}]}
jwt:
- issuer:
    url: https://idp.example
    discoveryURL: https://inner.example/.well-known/openid-configuration
    certificateAuthority: |
"""
    + textwrap.indent(CA, " " * 6)
    + """\
    audiences: [aggmw, other]
    audienceMatchPolicy: MatchAny
    egressSelectorType: ""
  claimValidationRules:
  - {claim: hd, requiredValue: example.com}
  - {expression: "claims.exp - claims.nbf <= 86400", message: too long}
  claimMappings:
    username: {claim: sub, prefix: "idp:"}
    groups: {expression: "claims.roles"}
    uid: {claim: sub}
    extra: [{key: example.com/t, valueExpression: "claims.t"}]
  userValidationRules: [{expression: "!user.username.startsWith('system:')", message: reserved}]
"""
)
LEAST = """\
jwt:
- issuer: {url: https://idp.example, audiences: [aggmw]}
  claimMappings: {username: {claim: sub, prefix: ""}}
"""


def load(tmp_path: Path, text: str, **options: Any) -> AuthenticationConfiguration:
    path = tmp_path / "authentication.yaml"
    path.write_text(text)
    return AuthenticationConfiguration.load(path, **options)


def mistakes(tmp_path: Path, text: str, **options: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text, **options)
    return [str(each).replace(f"{tmp_path}/authentication.yaml", "F") for each in caught.value.problems]


def test_whole(tmp_path: Path) -> None:
    """Every field of v1."""
    found = load(tmp_path, WHOLE)
    assert found.issuers == (
        JWTIssuer(
            url="https://idp.example",
            audiences=("aggmw", "other"),
            username=MappedClaim("sub", "idp:"),
            groups=MappedClaim(expression="claims.roles"),
            uid=MappedClaim("sub"),
            extra=(ExtraMapping("example.com/t", "claims.t"),),
            claim_validation_rules=(
                ClaimValidationRule("hd", "example.com"),
                ClaimValidationRule(expression="claims.exp - claims.nbf <= 86400", message="too long"),
            ),
            user_validation_rules=(UserValidationRule("!user.username.startsWith('system:')", "reserved"),),
            discovery_url="https://inner.example/.well-known/openid-configuration",
            certificate_authority=CA,
            audience_match_policy="MatchAny",
        ),
    )
    assert repr(found.anonymous) == repr(Anonymous(["/healthz", "/readyz"]))
    assert found.says_anonymous
    JWTAuthenticator(found.issuers)


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_versions(tmp_path: Path, version: str) -> None:
    """v1 and v1beta1 are the same to us; in JSON too, which is YAML."""
    found = load(tmp_path, HEAD.replace("/v1\n", f"/{version}\n") + LEAST)
    assert [each.url for each in found.issuers] == ["https://idp.example"]
    assert found.anonymous is None
    assert not found.says_anonymous


def test_no_issuers(tmp_path: Path) -> None:
    """As in Kubernetes: there may be none yet."""
    assert load(tmp_path, HEAD).issuers == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("anonymous: {enabled: true}", Anonymous.everywhere()),
        ("anonymous: {enabled: true, conditions: [{path: /livez}]}", Anonymous(["/livez"])),
        ("anonymous: {enabled: false}", None),
        ("anonymous: {}", None),
    ],
)
def test_anonymous(tmp_path: Path, text: str, found: Anonymous | None) -> None:
    """Everywhere, on some paths, or nowhere."""
    configuration = load(tmp_path, HEAD + text + "\n")
    assert repr(configuration.anonymous) == repr(found)
    assert configuration.says_anonymous


def test_options_beside_the_file(tmp_path: Path) -> None:
    """What Kubernetes' file has no field for: key sets in files, and who may make `system:` names."""
    keys = {"https://idp.example": tmp_path / "keys.json"}
    found = load(tmp_path, HEAD + LEAST, keys=keys, system_names=frozenset({"https://idp.example"}))
    assert found.issuers[0].keys == tmp_path / "keys.json"
    assert found.issuers[0].system_names
    other = "https://other.example"
    assert mistakes(tmp_path, HEAD + LEAST, keys={other: tmp_path}, system_names=frozenset({other})) == [
        f"F: jwt: has no issuer {other}, for which a file of keys is configured",
        f"F: jwt: has no issuer {other}, for which system names is configured",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["F: must hold one AuthenticationConfiguration"]),
        ("[]", ["F: must hold one AuthenticationConfiguration"]),
        (HEAD + "---\n" + HEAD, ["F: must hold one AuthenticationConfiguration"]),
        (
            "kind: Config\napiVersion: v1\n",
            [
                "F: kind: must be AuthenticationConfiguration",
                "F: apiVersion: must be apiserver.config.k8s.io/v1 or apiserver.config.k8s.io/v1beta1",
            ],
        ),
        (HEAD + "jwt: {}\n", ["F: jwt: must be a list, not an object"]),
        (HEAD + "jwt: [text]\n", ["F: jwt[0]: must be an object"]),
        (HEAD + "jwts: []\n", ["F: jwts: unknown field"]),
        (HEAD + "jwt: []\njwt: []\n", ['F:4: repeats the key "jwt"']),
        (
            HEAD + "jwt: [{}]\n",
            [
                "F: jwt[0].issuer.url: Required value",
                "F: jwt[0].issuer.audiences: Required value: at least one audience, in a list",
                "F: jwt[0].claimMappings.username: Required value: claim or expression is required",
            ],
        ),
        (
            HEAD + "anonymous: {enabled: false, conditions: [{path: /healthz}]}\n",
            ["F: anonymous.conditions: Invalid value: enabled should be set to true when conditions are defined"],
        ),
        (
            HEAD + "anonymous: {enabled: true, conditions: [{path: healthz}]}\n",
            ['F: anonymous.conditions[0].path: Invalid value: "healthz": must begin with a slash'],
        ),
        (HEAD + "anonymous: {enabled: perhaps}\n", ["F: anonymous.enabled: must be true or false, not a text"]),
    ],
)
def test_bad_files(tmp_path: Path, text: str, expected: list[str]) -> None:
    """Each mistake with its path."""
    assert mistakes(tmp_path, text) == expected


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """Of all issuers, unknown fields, types, URLs, expressions and mappings, in one pass."""
    text = (
        HEAD
        + """\
jwt:
- issuer: {url: "http://idp.example", audiences: "aggmw", extra: 1}
  claimMappings:
    username: {claim: sub}
    groups: {claim: groups, expression: claims.groups}
    uid: {claim: sub, prefix: x}
    extra: [{key: Tenant, valueExpression: "claims."}]
- issuer: {url: "https://b.example", audiences: [a, a, ""]}
  claimValidationRules: [{}, {claim: a, expression: "true"}, {expression: "1"}, {claim: a, message: m}]
  claimMappings: {username: {expression: "claims.email", prefix: ""}}
  userValidationRules: [{}, {expression: "user.name == ''"}]
"""
    )
    found = mistakes(tmp_path, text)
    paths = [line.split(": ")[1] for line in found]
    assert sorted(paths) == sorted(
        [
            "jwt[0].issuer.extra",
            "jwt[0].issuer.audiences",
            "jwt[0].issuer.audiences",
            "jwt[0].claimMappings.uid.prefix",
            "jwt[0].issuer.url",
            "jwt[0].claimMappings.username.prefix",
            "jwt[0].claimMappings.groups",
            "jwt[0].claimMappings.extra[0].key",
            "jwt[0].claimMappings.extra[0].valueExpression",
            "jwt[1].issuer.audiences[1]",
            "jwt[1].issuer.audiences[2]",
            "jwt[1].issuer.audienceMatchPolicy",
            "jwt[1].claimValidationRules[0]",
            "jwt[1].claimValidationRules[1]",
            "jwt[1].claimValidationRules[2].expression",
            "jwt[1].claimValidationRules[3].message",
            "jwt[1].claimMappings.username.prefix",
            "jwt[1].claimMappings.username.expression",
            "jwt[1].userValidationRules[0].expression",
            "jwt[1].userValidationRules[1].expression",
        ]
    )


def test_mistakes_of_many_lines_and_letters(tmp_path: Path) -> None:
    """An expression over several lines, and a value without an end, are one line each, what is wrong at its end."""
    text = HEAD + LEAST + "  userValidationRules:\n  - expression: |\n      user.username ==\n      1 +\n"
    text += f"  - expression: \"'{'x' * 10_000}'\"\n"
    first, second = mistakes(tmp_path, text)
    assert first.startswith("F: jwt[0].userValidationRules[0].expression: Invalid value: user.username == 1 + : 3:1: ")
    assert len(second) < 700
    assert second.startswith("F: jwt[0].userValidationRules[1].expression: Invalid value: 'xxx")
    assert second.endswith("must evaluate to bool, not to string")
    for one in (first, second):
        assert one.isprintable()


# What Kubernetes validates, one by one


def problems_of(*issuers: JWTIssuer, **options: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        JWTAuthenticator(issuers, **options)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://idp.example", "URL must begin with https://"),
        ("https://user:pw@idp.example", "URL must not contain a user name or a password"),
        ("https://idp.example?a=b", "URL must not contain a query"),
        ("https://idp.example#a", "URL must not contain a fragment"),
        ("https://", "URL is no URL"),
    ],
)
def test_urls(url: str, complaint: str) -> None:
    """Of the issuer and of its discovery."""
    assert problems_of(issuer(url=url)) == [f"jwt[0].issuer.url: Invalid value: {url}: {complaint}"]
    assert problems_of(issuer(discovery_url=url)) == [f"jwt[0].issuer.discoveryURL: Invalid value: {url}: {complaint}"]


def test_http_on_this_machine() -> None:
    """Only where it is asked for, and only there."""
    JWTAuthenticator([issuer(url="http://127.0.0.1:8080")], loopback_http=True)
    assert problems_of(issuer(url="http://127.0.0.1:8080"))
    assert problems_of(issuer(url="http://idp.example"), loopback_http=True)


def test_discovery_url() -> None:
    """Another one than the issuer's, and not with keys from a file."""
    same = "must be different from URL"
    assert same in problems_of(issuer(discovery_url="https://idp.example/"))[0]
    assert "mutually exclusive" in problems_of(issuer(discovery_url="https://b.example", keys=Path("keys.json")))[0]


def test_one_issuer_twice() -> None:
    """Neither its URL nor its discovery may be another's."""
    inner = "https://inner.example"
    assert problems_of(issuer(discovery_url=inner), issuer(discovery_url=inner)) == [
        "jwt[1].issuer.url: Duplicate value: https://idp.example",
        f"jwt[1].issuer.discoveryURL: Duplicate value: {inner}",
    ]


def test_disallowed_issuer() -> None:
    """That of our own service accounts is nobody else's."""
    assert problems_of(issuer(), disallowed=["https://idp.example"]) == [
        "jwt[0].issuer.url: Invalid value: https://idp.example: is the issuer of service account tokens"
    ]


def test_too_many() -> None:
    """64 issuers are enough."""
    many = [issuer(url=f"https://idp{number}.example") for number in range(MAX_ISSUERS + 1)]
    assert problems_of(*many) == ["jwt: Too many: 65: must have at most 64 items"]
    JWTAuthenticator(many[1:])


@pytest.mark.parametrize(
    ("audiences", "policy", "complaint"),
    [
        ((), "", "audiences: Required value"),
        ("aggmw", "", "audiences: Required value"),
        (("",), "", "audiences[0]: Required value"),
        (("a", "a"), "MatchAny", "audiences[1]: Duplicate value: a"),
        (("a", "b"), "", "audienceMatchPolicy must be MatchAny for multiple audiences"),
        (("a", "b"), "MatchAll", "audienceMatchPolicy must be MatchAny for multiple audiences"),
        (("a",), "MatchAll", "audienceMatchPolicy must be empty or MatchAny for single audience"),
    ],
)
def test_audiences(audiences: Any, policy: str, complaint: str) -> None:
    """At least one, each once; several must be matched by any."""
    assert complaint in problems_of(issuer(audiences=audiences, audience_match_policy=policy))[0]


def test_certificate_authority() -> None:
    """A PEM bundle; what it holds is not repeated."""
    (said,) = problems_of(issuer(certificate_authority="s3cr3t"))
    assert said.startswith("jwt[0].issuer.certificateAuthority: holds no PEM certificate")
    assert "s3cr3t" not in said


def test_egress_selector() -> None:
    """There are none here: said, not ignored."""
    for kind in ("cluster", "controlplane", "nonsense"):
        assert "there are no egress selectors here" in problems_of(issuer(egress_selector_type=kind))[0]


@pytest.mark.parametrize("name", ["HS256", "none", "RS1", ""])
def test_algorithms(name: str) -> None:
    """A symmetric one cannot even be configured."""
    assert "Unsupported value" in problems_of(issuer(algorithms=("RS256", name)))[0]
    assert "Required value" in problems_of(issuer(algorithms=()))[0]


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        (ClaimValidationRule(), "claim or expression is required"),
        (ClaimValidationRule("a", expression="true"), "claim and expression can't both be set"),
        (ClaimValidationRule("a", message="m"), "message: Invalid value: may not be specified when claim is set"),
        (ClaimValidationRule(expression="true", required_value="v"), "may not be specified when expression is set"),
        (ClaimValidationRule(expression="claims.a"), "must evaluate to bool, not to what is not known"),
        (ClaimValidationRule(expression="'a'"), "must evaluate to bool, not to string"),
        (ClaimValidationRule(expression="claims."), "1:"),
        (ClaimValidationRule(expression="user.username == ''"), "user"),
        (ClaimValidationRule(expression="nothing(claims)"), "nothing"),
    ],
)
def test_claim_rules(rule: ClaimValidationRule, complaint: str) -> None:
    """A claim or an expression; a bool; only what there is."""
    (said,) = problems_of(issuer(claim_validation_rules=[rule]))
    assert said.startswith("jwt[0].claimValidationRules[0]")
    assert complaint in said


def test_rules_twice() -> None:
    """The same claim, or the same expression."""
    rules = [ClaimValidationRule("a", "1"), ClaimValidationRule("a", "2")]
    assert problems_of(issuer(claim_validation_rules=rules)) == [
        "jwt[0].claimValidationRules[1].claim: Duplicate value: a"
    ]
    twice = [ClaimValidationRule(expression="true")] * 2
    assert problems_of(issuer(claim_validation_rules=twice)) == [
        "jwt[0].claimValidationRules[1].expression: Duplicate value: true"
    ]
    users = [UserValidationRule("true")] * 2
    assert problems_of(issuer(user_validation_rules=users)) == [
        "jwt[0].userValidationRules[1].expression: Duplicate value: true"
    ]


@pytest.mark.parametrize("text", ["", "user.name == ''", "claims.sub == ''", "user.username", "user.groups.foo"])
def test_user_rules(text: str) -> None:
    """Over username, uid, groups and extra, and nothing else."""
    (said,) = problems_of(issuer(user_validation_rules=[UserValidationRule(text)]))
    assert said.startswith("jwt[0].userValidationRules[0].expression: ")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"username": MappedClaim()}, "username: Required value: claim or expression is required"),
        ({"username": MappedClaim("sub")}, "username.prefix: Required value: prefix is required"),
        ({"username": MappedClaim("sub", "", "claims.sub")}, "username: Invalid value: claim and expression"),
        ({"username": MappedClaim(prefix="", expression="claims.sub")}, "username.prefix: Invalid value"),
        ({"username": MappedClaim(expression="claims.")}, "username.expression: Invalid value: claims.: "),
        ({"username": MappedClaim(expression="1")}, "must evaluate to string, not to int"),
        ({"groups": MappedClaim("groups")}, "groups.prefix: Required value"),
        ({"groups": MappedClaim(expression="1")}, "must evaluate to list(dyn) or list(string)"),
        ({"uid": MappedClaim("sub", expression="claims.sub")}, "uid: Invalid value: claim and expression"),
        ({"uid": MappedClaim(expression="[claims.sub]")}, "must evaluate to string"),
        ({"extra": [ExtraMapping("", "claims.a")]}, "extra[0].key: Required value"),
        ({"extra": [ExtraMapping("foo", "claims.a")]}, "extra[0].key: Invalid value: foo: must be a domain-prefixed"),
        ({"extra": [ExtraMapping("example.org/", "claims.a")]}, "must be a domain-prefixed"),
        ({"extra": [ExtraMapping("/foo", "claims.a")]}, "must be a domain-prefixed"),
        ({"extra": [ExtraMapping("a_b/foo", "claims.a")]}, "must be a domain-prefixed"),
        ({"extra": [ExtraMapping("example.org/Foo", "claims.a")]}, "must be lowercase"),
        ({"extra": [ExtraMapping("Example.org/foo", "claims.a")]}, "must be lowercase"),
        ({"extra": [ExtraMapping("kubernetes.io/foo", "claims.a")]}, "reserved for Kubernetes use"),
        ({"extra": [ExtraMapping("a.k8s.io/foo", "claims.a")]}, "reserved for Kubernetes use"),
        ({"extra": [ExtraMapping("example.org/a", "")]}, "extra[0].valueExpression: Required value"),
        ({"extra": [ExtraMapping("example.org/a", "1")]}, "extra[0].valueExpression: Invalid value: 1: must evaluate"),
        ({"extra": [ExtraMapping("example.org/a", "'x'")] * 2}, "extra[1].key: Duplicate value: example.org/a"),
    ],
)
def test_mappings(options: dict[str, Any], complaint: str) -> None:
    """A claim or an expression; prefixes where they belong; keys that are the operator's own."""
    said = problems_of(issuer(**options))
    assert len(said) == 1
    assert complaint in said[0]


@pytest.mark.parametrize(
    ("options", "good"),
    [
        ({}, False),
        ({"extra": [ExtraMapping("example.org/v", "claims.email_verified ? 'y' : 'n'")]}, True),
        ({"claim_validation_rules": [ClaimValidationRule(expression="claims.email_verified == true")]}, True),
        (
            {"claim_validation_rules": [ClaimValidationRule(expression="claims.?email_verified.orValue(true)==true")]},
            True,
        ),
        ({"claim_validation_rules": [ClaimValidationRule(expression="claims['email_verified'] == true")]}, True),
        ({"claim_validation_rules": [ClaimValidationRule("email_verified", "true")]}, False),
        ({"claim_validation_rules": [ClaimValidationRule(expression="claims.email == 'email_verified'")]}, False),
        ({"user_validation_rules": [UserValidationRule("user.username != 'claims.email_verified'")]}, False),
    ],
)
def test_email_needs_email_verified(options: dict[str, Any], good: bool) -> None:
    """An expression that makes a name of `claims.email` looks at `claims.email_verified`, or a rule or extra does."""
    for text in (
        "claims.email",
        "claims.?email.orValue('')",
        "claims['email']",
        "'a' + claims.email",
        "has(claims.email) ? 'a' : 'b'",
    ):
        of = issuer(username=MappedClaim(expression=text), **options)
        if good:
            JWTAuthenticator([of])
        else:
            (said,) = problems_of(of)
            assert said.startswith("jwt[0].claimMappings.username.expression: ")
            assert "claims.email_verified must be used" in said
    for text in ("claims.emails", "claims.a.email", "'claims.email'", "claims.sub // claims.email"):
        JWTAuthenticator([issuer(username=MappedClaim(expression=text), **options)])
    verified = "claims.email_verified ? claims.email : claims.sub"
    JWTAuthenticator([issuer(username=MappedClaim(expression=verified), **options)])


def test_a_mistake_changes_nothing() -> None:
    """A reload with a mistake leaves the issuers as they were."""
    authenticator = JWTAuthenticator([issuer()])
    before = authenticator.revision, repr(authenticator)
    with pytest.raises(ConfigurationError):
        authenticator.reload([issuer(url="http://idp.example")])
    assert (authenticator.revision, repr(authenticator)) == before
