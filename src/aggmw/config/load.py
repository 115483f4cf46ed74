"""From a YAML file to a `Configuration`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml

from aggmw.asgi.remote_headers import check_remote_name
from aggmw.config.configuration import (
    AnonymousConfiguration,
    AuditConfiguration,
    AuditLogConfiguration,
    AuditWebhookConfiguration,
    AuthenticationConfiguration,
    AuthorizationConfiguration,
    Configuration,
    ForwardAuthConfiguration,
    LocalServiceConfiguration,
    PathServiceConfiguration,
    RequestHeaderConfiguration,
    ServiceAccountsConfiguration,
    ServicesConfiguration,
    StreamsConfiguration,
    TerminatorsConfiguration,
    TLSConfiguration,
    WebhookTokensConfiguration,
)
from aggmw.config.reader import Section
from aggmw.contracts.balancing import STICKY, Balancing
from aggmw.contracts.impersonation import Impersonate
from aggmw.contracts.peers import Peers
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authentication.cookies import check_name
from aggmw.middleware.authentication.origins import Origins
from aggmw.middleware.authentication.terminators import FIELDS
from aggmw.middleware.authorization.fixed import AlwaysAllowPaths
from aggmw.middleware.forward_auth import PROXIES, Proxy, check_host, check_path
from aggmw.middleware.proxy import TransportLimits
from aggmw.net.addresses import AddressRules

__all__ = ["MOST_WORKERS", "load", "parse"]

_LEVELS = ("debug", "info", "warning", "error")
_WHEN_FULL = ("wait", "drop")
MOST_WORKERS = 256
_FORMATS = ("auto", "console", "json")


class _Loader(yaml.SafeLoader):
    """PyYAML's, which would take the last of several values under one key without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} is there twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return node


def load(path: Path) -> Configuration:
    """Read a configuration file.

    Raises:
        ConfigurationError: all its mistakes, each with the file and the key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError([Problem(str(path), f"cannot be read: {reason}")]) from error
    try:
        values = yaml.load(text, Loader=_Loader)  # noqa: S506  a safe one
    except yaml.YAMLError as error:
        raise ConfigurationError([_yaml_problem(path, error)]) from error
    except RecursionError:
        raise ConfigurationError([Problem(str(path), "is nested too deeply")]) from None
    except (ValueError, LookupError, AttributeError) as error:  # PyYAML's own: a date that is none, a wrong tag
        problem = Problem(str(path), f"holds a value that is not what it looks like, or is tagged as: {error}")
        raise ConfigurationError([problem]) from error
    return parse(values, file=str(path), base=path.parent)


def parse(values: Any, *, file: str, base: Path) -> Configuration:
    """Check values as they came from YAML; relative paths are relative to `base`.

    Raises:
        ConfigurationError: all the mistakes.
    """
    problems: list[Problem] = []
    top = Section(values, file=file, path="", base=base, problems=problems)
    configuration = Configuration(
        host=top.text("host", Configuration().host),
        port=top.integer("port", Configuration().port, least=0, most=65535),
        workers=top.integer("workers", Configuration().workers, least=1, most=MOST_WORKERS),
        grace=top.seconds("grace", Configuration().grace),
        log_level=top.choice("logLevel", _LEVELS, Configuration().log_level),
        log_format=top.choice("logFormat", _FORMATS, Configuration().log_format),
        metrics=top.flag("metrics", Configuration().metrics),
        source=file,
        tls=_tls(top.section("tls")),
        authentication=_authentication(top.section("authentication")),
        audit=top.optional("audit", _audit),
        authorization=_authorization(top.section("authorization")),
        services=_services(top.section("services"), base),
        streams=_streams(top.section("streams")),
    )
    top.finish()
    if problems:
        raise ConfigurationError(problems)
    return configuration


def _tls(section: Section) -> TLSConfiguration:
    section.together("certificate", "key")
    tls = TLSConfiguration(section.file("certificate"), section.file("key"), section.texts("names"))
    section.finish()
    return tls


def _authentication(section: Section) -> AuthenticationConfiguration:
    anonymous = section.section("anonymous")
    certificates = section.section("clientCertificates")
    section.needs("cookie", "tokenFile", "configurationFile", "serviceAccounts", "webhook")
    section.needs("keySets", "configurationFile")
    section.needs("systemNames", "configurationFile")
    authentication = AuthenticationConfiguration(
        client_ca=section.file("clientCA"),
        token_file=section.file("tokenFile"),
        cookie=section.checked_text("cookie", check_name),
        origins=section.checked_texts("origins", lambda origin: Origins([origin])),
        configuration_file=section.file("configurationFile"),
        key_sets=section.files_by_name("keySets"),
        system_names=section.texts("systemNames"),
        service_accounts=section.optional("serviceAccounts", _service_accounts),
        audiences=section.texts("audiences"),
        webhook=section.optional("webhook", _webhook),
        anonymous=AnonymousConfiguration(anonymous.texts("paths")),
        crls=certificates.files("crls"),
        terminators=certificates.optional("terminators", _terminators),
        request_header=section.optional("requestHeader", _request_header),
        impersonation=section.flag("impersonation", False),
    )
    anonymous.finish()
    certificates.finish()
    section.finish()
    return authentication


def _terminators(section: Section) -> TerminatorsConfiguration:
    peers = section.checked_texts("peers", lambda peer: Peers([peer]))
    if not peers:
        section.missing("peers", "must list at least one address or network, such as 10.0.0.7 or 10.1.0.0/24")
    field = section.choice("field", FIELDS, FIELDS[0])
    section.finish()
    return TerminatorsConfiguration(peers, "client-cert" if field == "client-cert" else "x-forwarded-client-cert")


def _request_header(section: Section) -> RequestHeaderConfiguration:
    default = RequestHeaderConfiguration(Path())
    header = RequestHeaderConfiguration(
        section.required_file("ca"),
        section.texts("allowedNames"),
        section.files("crls"),
        section.checked_texts("usernameHeaders", check_remote_name, default.user_headers),
        section.checked_texts("uidHeaders", check_remote_name, default.uid_headers),
        section.checked_texts("groupHeaders", check_remote_name, default.group_headers),
        section.checked_texts("extraHeadersPrefixes", check_remote_name, default.extra_prefixes),
    )
    if not header.user_headers:
        section.wrong("usernameHeaders", "must list at least one header, such as X-Remote-User")
    if header.uid_headers and "x-remote-uid" not in map(str.lower, header.uid_headers):
        section.wrong("uidHeaders", "must include X-Remote-Uid")
    section.finish()
    return header


def _audit(section: Section) -> AuditConfiguration:
    if "log" not in section and "webhook" not in section:
        section.missing("log", "is missing, or webhook: the events have to go somewhere")
    audit = AuditConfiguration(
        policy_file=section.required_file("policyFile"),
        log=section.optional("log", _audit_log),
        webhook=section.optional("webhook", _audit_webhook),
        required=section.flag("required", False),
    )
    section.finish()
    return audit


def _audit_log(section: Section) -> AuditLogConfiguration:
    default = AuditLogConfiguration(Path())
    log = AuditLogConfiguration(
        path=section.required_file("path"),
        max_size=section.integer("maxSize", default.max_size, least=0, most=1_000_000),
        max_age=section.integer("maxAge", default.max_age, least=0, most=100_000),
        max_backups=section.integer("maxBackups", default.max_backups, least=0, most=100_000),
        queue=section.integer("queue", default.queue, least=1, most=10_000_000),
        when_full=section.choice("whenFull", _WHEN_FULL, default.when_full),
    )
    section.finish()
    return log


def _audit_webhook(section: Section) -> AuditWebhookConfiguration:
    default = AuditWebhookConfiguration(Path())
    webhook = AuditWebhookConfiguration(
        kubeconfig=section.required_file("kubeconfig"),
        batch=section.integer("batch", default.batch, least=1, most=100_000),
        delay=section.seconds("delay", default.delay),
        interval=section.seconds("interval", default.interval),
        queue=section.integer("queue", default.queue, least=1, most=10_000_000),
        when_full=section.choice("whenFull", _WHEN_FULL, default.when_full),
    )
    section.finish()
    return webhook


def _impersonated(section: Section) -> dict[str, Impersonate]:
    """By the name of the APIService."""
    found: dict[str, Impersonate] = {}
    for each in section.sections("impersonation"):
        name = each.required("apiService")
        impersonate = _impersonate(each)
        if name in found:
            each.wrong("apiService", f"{name} is there twice")
        elif name:
            found[name] = impersonate
    return found


def _impersonate(section: Section) -> Impersonate:
    impersonate = Impersonate(
        token_file=section.file("tokenFile"), uid=section.flag("uid", False), extra=section.texts("extra")
    )
    section.finish()
    return impersonate


def _webhook(section: Section) -> WebhookTokensConfiguration:
    default = WebhookTokensConfiguration(Path())
    webhook = WebhookTokensConfiguration(
        kubeconfig=section.required_file("kubeconfig"),
        version=section.choice("version", ("v1", "v1beta1"), default.version),
        system_names=section.flag("systemNames", default.system_names),
        remember=section.seconds("remember", default.remember),
    )
    section.finish()
    return webhook


def _service_accounts(section: Section) -> ServiceAccountsConfiguration:
    accounts = ServiceAccountsConfiguration(
        issuer=section.required("issuer"),
        accounts=section.required_file("accounts"),
        keys=section.files("keys"),
        signing_key=section.file("signingKey"),
        audiences=section.texts("audiences"),
        max_seconds=section.seconds("maxExpiration", None, least=600.0),
    )
    section.finish()
    return accounts


def _authorization(section: Section) -> AuthorizationConfiguration:
    authorization = AuthorizationConfiguration(
        policy=section.file("policy"),
        model=section.file("model"),
        rbac=section.files("rbac"),
        configuration_file=section.file("configurationFile"),
        always_allow_paths=section.checked_texts("alwaysAllowPaths", lambda path: AlwaysAllowPaths([path])),
        watch=section.flag("watch", AuthorizationConfiguration().watch),
        forward_auth=_forward_auths(section),
    )
    section.finish()
    return authorization


def _forward_auths(authorization: Section) -> tuple[ForwardAuthConfiguration, ...]:
    found: dict[str, ForwardAuthConfiguration] = {}
    for section in authorization.sections("forwardAuth"):
        if not ("peers" in section or "ca" in section):
            section.missing("peers", "is missing, or ca: nobody may ask unless it is said who")
        section.needs("allowedNames", "ca")
        section.demand("path", "proxy")
        one = ForwardAuthConfiguration(
            path=section.checked_text("path", check_path) or "",
            proxy=cast(Proxy, section.choice("proxy", PROXIES, PROXIES[0])),
            peers=section.checked_texts("peers", lambda peer: Peers([peer])),
            ca=section.file("ca"),
            allowed_names=section.texts("allowedNames"),
            hosts=section.checked_texts("hosts", check_host),
            where=section.where,
        )
        if found.setdefault(one.path, one) is not one and one.path:
            section.wrong("path", f"is that of {found[one.path].where} already")
        section.finish()
    return tuple(found.values())


def _local(section: Section) -> LocalServiceConfiguration:
    section.exactly_one("app", "wsgi")
    local = LocalServiceConfiguration(
        group=section.required("group", empty=True),
        version=section.required("version"),
        app=section.text("app", None),
        wsgi=section.text("wsgi", None),
        group_priority_minimum=section.integer("groupPriorityMinimum", 1000, least=1, most=20_000),
        version_priority=section.integer("versionPriority", 15, least=1, most=1000),
        where=section.where,
    )
    section.finish()
    return local


def _path(section: Section) -> PathServiceConfiguration:
    section.exactly_one("url", "app", "wsgi")
    section.needs("impersonation", "url")
    path = PathServiceConfiguration(
        path=section.required("path"),
        url=section.text_or_texts("url"),
        app=section.text("app", None),
        wsgi=section.text("wsgi", None),
        ca=section.file("ca"),
        server_name=section.text("serverName", ""),
        strip_prefix=section.flag("stripPrefix", False),
        redirects=section.flag("redirects", True),
        balancing=section.optional("balancing", _balancing),
        impersonation=section.optional("impersonation", _impersonate),
        where=section.where,
    )
    section.finish()
    return path


def _balancing(section: Section) -> Balancing:
    default = Balancing()
    eject = section.seconds("eject", default.eject_seconds, least=0.001)
    longest = section.seconds("ejectLongest", max(default.eject_longest_seconds, eject), least=0.001)
    if longest < eject:
        section.wrong("ejectLongest", "must not be less than eject")
        longest = eject
    sticky = section.text("sticky", "")
    if sticky not in STICKY:
        section.wrong("sticky", f"must be one of {', '.join(STICKY[1:])}, not {sticky!r}")
        sticky = ""
    balancing = Balancing(
        failures=section.integer("failures", default.failures, least=1, most=1_000_000),
        eject_seconds=eject,
        eject_longest_seconds=longest,
        eject_share=section.number("ejectShare", default.eject_share, least=0, most=1),
        retries=section.integer("retries", default.retries, least=0, most=100),
        retry_share=section.number("retryShare", default.retry_share, least=0, most=100),
        retries_per_second=section.number("retriesPerSecond", default.retries_per_second, least=0, most=1_000_000),
        attempt_seconds=section.seconds("attempt", default.attempt_seconds, least=0.001),
        requests=section.integer("requests", 0, least=1, most=1_000_000) or None,
        sticky=sticky,
    )
    section.finish()
    return balancing


def _addresses(section: Section) -> AddressRules | None:
    allow = section.checked_texts("allow", lambda network: AddressRules(allow=[network]))
    deny = section.checked_texts("deny", lambda network: AddressRules(deny=[network]))
    section.finish()
    return AddressRules(allow=allow, deny=deny) if allow or deny else None


def _limits(section: Section) -> TransportLimits:
    default = TransportLimits()
    limits = TransportLimits(
        connections=section.integer("connections", default.connections, least=1, most=1_000_000),
        waiting=section.integer("waiting", default.waiting, least=0, most=1_000_000),
        wait_seconds=section.seconds("wait", default.wait_seconds),
        dial_seconds=section.seconds("dial", default.dial_seconds, least=0.001),
        idle_seconds=section.seconds("idle", default.idle_seconds),
        max_age_seconds=section.seconds("maxAge", default.max_age_seconds),
        silence_seconds=section.seconds("silence", default.silence_seconds, least=0.001),
    )
    section.finish()
    return limits


def _services(section: Section, base: Path) -> ServicesConfiguration:
    section.together("clientCertificate", "clientKey")
    local = tuple(_local(each) for each in section.sections("local"))
    paths = tuple(_path(each) for each in section.sections("paths"))
    services = ServicesConfiguration(
        files=section.files("files"),
        local=local,
        paths=paths,
        app_directory=base if local or any(path.in_process for path in paths) else None,
        resolve=section.mapping("resolve"),
        client_certificate=section.file("clientCertificate"),
        client_key=section.file("clientKey"),
        limits=_limits(section.section("limits")),
        balancing=_balancing(section.section("balancing")),
        addresses=_addresses(section.section("addresses")),
        impersonation=_impersonated(section),
    )
    section.finish()
    return services


def _streams(section: Section) -> StreamsConfiguration:
    streams = StreamsConfiguration(section.seconds("maxAge", None, least=1.0))
    section.finish()
    return streams


def _yaml_problem(path: Path, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
    return Problem(where, f"is not YAML: {getattr(error, 'problem', None) or 'it cannot be parsed'}")
