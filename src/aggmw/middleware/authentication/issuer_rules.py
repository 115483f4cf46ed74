"""What must hold of configured issuers (`k8s.io/apiserver/pkg/apis/apiserver/validation`); what passes is compiled.

Every mistake is reported, each with its path; the words of Kubernetes where it has some.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from aggmw.middleware.authentication.algorithms import ALGORITHMS
from aggmw.middleware.authentication.claims import Claim, ClaimMapper, Rule
from aggmw.middleware.authentication.expressions import CLAIMS, USER, Expression, compile_expression
from aggmw.middleware.authentication.issuers import JWTIssuer, MappedClaim
from aggmw.middleware.authentication.jwks import check_url
from aggmw.objects.cel import Type
from aggmw.objects.names import is_group
from aggmw.pki.read import UnreadablePem, pem_certificates

__all__ = ["MAX_ISSUERS", "CompiledIssuer", "compile_issuers"]

MAX_ISSUERS = 64

Report: TypeAlias = Callable[[str, str], None]
"""Called with path and message of each mistake."""

_MATCH_ANY = "MatchAny"
_LONG = 600  # characters of a message
_BOOL = frozenset({"bool"})
_STRING = frozenset({"dyn", "string"})
_STRINGS = frozenset({"dyn", "null", "string", "list(string)", "list(dyn)"})
_KEY_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
_RESERVED = ("kubernetes.io", "k8s.io")
_EMAIL_VERIFIED = (
    "claims.email_verified must be used in claimMappings.username.expression or"
    " claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in"
    " claimMappings.username.expression"
)


class CompiledIssuer(NamedTuple):
    """An issuer that can be used."""

    issuer: JWTIssuer
    mapper: ClaimMapper


def compile_issuers(
    issuers: Sequence[JWTIssuer], report: Report, *, disallowed: Iterable[str] = (), loopback_http: bool = False
) -> list[CompiledIssuer]:
    """The issuers without a mistake; every mistake of the others is reported.

    Args:
        issuers: as they are configured.
        report: gets paths such as "jwt[0].issuer.url".
        disallowed: issuers that are somebody else's: that of service accounts.
        loopback_http: whether http will do on this machine.
    """
    if len(issuers) > MAX_ISSUERS:
        report("jwt", f"Too many: {len(issuers)}: must have at most {MAX_ISSUERS} items")
        return []
    checker = _Checker(report, frozenset(disallowed), loopback_http)
    compiled = [checker.issuer(issuer, f"jwt[{number}]") for number, issuer in enumerate(issuers)]
    return [each for each in compiled if each is not None]


class _Checker:
    """One pass over all issuers."""

    def __init__(self, report: Report, disallowed: frozenset[str], loopback_http: bool) -> None:
        self._report = report
        self._disallowed = disallowed
        self._loopback_http = loopback_http
        self._urls: set[str] = set()
        self._discovery_urls: set[str] = set()
        self._bad = False

    def _note(self, path: str, message: str) -> None:
        self._bad = True
        self._report(path, _one_line(message))

    def issuer(self, issuer: JWTIssuer, path: str) -> CompiledIssuer | None:
        self._bad = False
        self._place(issuer, f"{path}.issuer")
        required, claim_rules = self._claim_rules(issuer, f"{path}.claimValidationRules")
        mappings = f"{path}.claimMappings"
        username = self._mapped(issuer.username, f"{mappings}.username", _STRING, needed=True, prefixed=True)
        groups = self._mapped(issuer.groups, f"{mappings}.groups", _STRINGS, prefixed=True)
        uid = self._mapped(issuer.uid, f"{mappings}.uid", _STRING)
        extra = self._extra(issuer, f"{mappings}.extra")
        self._check_email(username, [*extra.values(), *(rule.expression for rule in claim_rules)], mappings)
        user_rules = self._user_rules(issuer, f"{path}.userValidationRules")
        if self._bad or username is None:
            return None
        mapper = ClaimMapper(
            username=username,
            groups=groups,
            uid=uid,
            extra=tuple(extra.items()),
            required=required,
            claim_rules=claim_rules,
            user_rules=user_rules,
            system_names=issuer.system_names,
        )
        return CompiledIssuer(issuer, mapper)

    # Where it is, and whom its tokens are for

    def _place(self, issuer: JWTIssuer, path: str) -> None:
        if not issuer.url:
            self._note(f"{path}.url", "Required value")
        else:
            self._url(issuer.url, f"{path}.url")
            if issuer.url in self._disallowed:
                self._note(f"{path}.url", f"Invalid value: {issuer.url}: is the issuer of service account tokens")
            if issuer.url in self._urls:
                self._note(f"{path}.url", f"Duplicate value: {issuer.url}")
            self._urls.add(issuer.url)
        self._discovery(issuer, path)
        self._audiences(issuer, path)
        if issuer.certificate_authority:
            try:
                pem_certificates(issuer.certificate_authority.encode())
            except UnreadablePem as error:
                self._note(f"{path}.certificateAuthority", str(error))
        if issuer.egress_selector_type:
            self._note(
                f"{path}.egressSelectorType",
                f"Invalid value: {issuer.egress_selector_type}: there are no egress selectors here; leave it out",
            )
        for name in issuer.algorithms:
            if name not in ALGORITHMS:
                self._note(f"{path}.algorithms", f"Unsupported value: {name}: supported: {', '.join(ALGORITHMS)}")
        if not issuer.algorithms:
            self._note(f"{path}.algorithms", "Required value: at least one algorithm")

    def _discovery(self, issuer: JWTIssuer, path: str) -> None:
        where = f"{path}.discoveryURL"
        if not issuer.discovery_url:
            return
        if issuer.keys is not None:
            self._note(where, "Invalid value: keys from a file and a discovery URL are mutually exclusive")
        if issuer.url and issuer.url.rstrip("/") == issuer.discovery_url.rstrip("/"):
            self._note(where, f"Invalid value: {issuer.discovery_url}: discoveryURL must be different from URL")
        self._url(issuer.discovery_url, where)
        if issuer.discovery_url in self._discovery_urls:
            self._note(where, f"Duplicate value: {issuer.discovery_url}")
        self._discovery_urls.add(issuer.discovery_url)

    def _url(self, url: str, path: str) -> None:
        try:
            check_url(url, loopback_http=self._loopback_http, query=False)
        except ValueError as error:
            self._note(path, f"Invalid value: {url}: URL {error}")

    def _audiences(self, issuer: JWTIssuer, path: str) -> None:
        where, audiences = f"{path}.audiences", issuer.audiences
        if isinstance(audiences, str) or not audiences:
            self._note(where, "Required value: at least one audience, in a list")
            return
        seen: set[str] = set()
        for number, audience in enumerate(audiences):
            if not audience:
                self._note(f"{where}[{number}]", "Required value")
            elif audience in seen:
                self._note(f"{where}[{number}]", f"Duplicate value: {audience}")
            seen.add(audience)
        policy, where = issuer.audience_match_policy, f"{path}.audienceMatchPolicy"
        if len(audiences) > 1 and policy != _MATCH_ANY:
            self._note(where, "Invalid value: audienceMatchPolicy must be MatchAny for multiple audiences")
        elif policy not in ("", _MATCH_ANY):
            self._note(where, "Invalid value: audienceMatchPolicy must be empty or MatchAny for single audience")

    # Rules

    def _claim_rules(self, issuer: JWTIssuer, path: str) -> tuple[list[tuple[str, str]], list[Rule]]:
        required: dict[str, str] = {}
        rules: dict[str, Rule] = {}
        for number, rule in enumerate(issuer.claim_validation_rules):
            where = f"{path}[{number}]"
            if rule.claim and rule.expression:
                self._note(where, "Invalid value: claim and expression can't both be set")
            elif not rule.claim and not rule.expression:
                self._note(where, "Required value: claim or expression is required")
            elif rule.claim:
                if rule.message:
                    self._note(f"{where}.message", "Invalid value: may not be specified when claim is set")
                if rule.claim in required:
                    self._note(f"{where}.claim", f"Duplicate value: {rule.claim}")
                required[rule.claim] = rule.required_value
            else:
                if rule.required_value:
                    self._note(f"{where}.requiredValue", "Invalid value: may not be specified when expression is set")
                self._rule(rules, rule.expression, rule.message, CLAIMS, f"{where}.expression")
        return list(required.items()), list(rules.values())

    def _user_rules(self, issuer: JWTIssuer, path: str) -> list[Rule]:
        rules: dict[str, Rule] = {}
        for number, rule in enumerate(issuer.user_validation_rules):
            where = f"{path}[{number}].expression"
            if rule.expression:
                self._rule(rules, rule.expression, rule.message, USER, where)
            else:
                self._note(where, "Required value")
        return list(rules.values())

    def _rule(
        self, rules: dict[str, Rule], text: str, message: str, variables: Mapping[str, str | Type], where: str
    ) -> None:
        if text in rules:
            self._note(where, f"Duplicate value: {text}")
        elif (compiled := self._compiled(text, where, variables, _BOOL)) is not None:
            rules[text] = Rule(compiled, message)

    # Mappings

    def _mapped(
        self, mapped: MappedClaim, path: str, results: frozenset[str], *, needed: bool = False, prefixed: bool = False
    ) -> Claim | Expression | None:
        if mapped.claim and mapped.expression:
            self._note(path, "Invalid value: claim and expression can't both be set")
        elif mapped.expression:
            if mapped.prefix is not None:
                self._note(f"{path}.prefix", "Invalid value: may not be specified when expression is set")
            return self._compiled(mapped.expression, f"{path}.expression", CLAIMS, results)
        elif mapped.claim:
            if prefixed and mapped.prefix is None:
                self._note(
                    f"{path}.prefix",
                    "Required value: prefix is required when claim is set. It can be set to an empty string to disable"
                    " prefixing",
                )
            return Claim(mapped.claim, mapped.prefix or "")
        elif needed:
            self._note(path, "Required value: claim or expression is required")
        return None

    def _extra(self, issuer: JWTIssuer, path: str) -> dict[str, Expression]:
        extra: dict[str, Expression] = {}
        seen: set[str] = set()
        for number, mapping in enumerate(issuer.extra):
            where, key = f"{path}[{number}]", mapping.key
            if message := _bad_key(key):
                self._note(f"{where}.key", message)
            elif key in seen:
                self._note(f"{where}.key", f"Duplicate value: {key}")
            seen.add(key)
            if not mapping.value_expression:
                self._note(f"{where}.valueExpression", "Required value")
                continue
            compiled = self._compiled(mapping.value_expression, f"{where}.valueExpression", CLAIMS, _STRINGS)
            if compiled is not None:
                extra[key] = compiled
        return extra

    def _check_email(self, username: Claim | Expression | None, others: Iterable[Expression], path: str) -> None:
        if not isinstance(username, Expression) or "email" not in username.reads:
            return
        if not any("email_verified" in each.reads for each in (username, *others)):
            self._note(f"{path}.username.expression", f"Invalid value: {username.text}: {_EMAIL_VERIFIED}")

    def _compiled(
        self, text: str, path: str, variables: Mapping[str, str | Type], results: frozenset[str]
    ) -> Expression | None:
        try:
            return compile_expression(text, variables, results)
        except ValueError as error:
            self._note(path, f"Invalid value: {text}: {error}")
            return None


def _one_line(message: str) -> str:
    """The message as a log can show it: an expression in the file may have several lines, a value any length."""
    if not message.isprintable():
        message = "".join(each if each.isprintable() else repr(each)[1:-1] for each in " ".join(message.split()))
    return message if len(message) <= _LONG else f"{message[: _LONG // 2]} … {message[-_LONG // 2 :]}"


def _bad_key(key: str) -> str:
    """What is wrong with a key of extra; "" for nothing."""
    domain, slash, path = key.partition("/")
    if not key:
        return "Required value"
    if not slash or not path or not is_group(domain.lower()) or not _KEY_PATH.fullmatch(path):
        return f'Invalid value: {key}: must be a domain-prefixed path (such as "acme.io/foo")'
    if key != key.lower():
        return f"Invalid value: {key}: must be lowercase"
    if domain in _RESERVED or domain.endswith(tuple(f".{each}" for each in _RESERVED)):
        return f"Invalid value: {key}: k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
    return ""
