"""What can be configured, as frozen values. By default: loopback, deny, the directory's certificates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aggmw.contracts.balancing import Balancing
from aggmw.contracts.impersonation import Impersonate
from aggmw.middleware.authentication.terminators import Field
from aggmw.middleware.forward_auth import Proxy
from aggmw.middleware.proxy import TransportLimits
from aggmw.net.addresses import AddressRules

__all__ = [
    "AnonymousConfiguration",
    "AuditConfiguration",
    "AuditLogConfiguration",
    "AuditWebhookConfiguration",
    "AuthenticationConfiguration",
    "AuthorizationConfiguration",
    "Configuration",
    "ForwardAuthConfiguration",
    "LocalServiceConfiguration",
    "PathServiceConfiguration",
    "RequestHeaderConfiguration",
    "ServiceAccountsConfiguration",
    "ServicesConfiguration",
    "StreamsConfiguration",
    "TLSConfiguration",
    "TerminatorsConfiguration",
    "WebhookTokensConfiguration",
]


@dataclass(frozen=True, slots=True)
class TLSConfiguration:
    """The server's own certificate.

    Args:
        certificate, key: PEM files; both or neither. Neither: the directory's own, signed by its serving CA.
        names: further DNS names and addresses that the directory's own certificate is for.
    """

    certificate: Path | None = None
    key: Path | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AnonymousConfiguration:
    """Requests without credentials. `paths`: exactly these may come; empty: none may."""

    paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WebhookTokensConfiguration:
    """A server that is asked whose bearer token it is, by `TokenReview`.

    Args:
        kubeconfig: where it is, as kube-apiserver's `--authentication-token-webhook-config-file`.
        version: of the review: "v1" or "v1beta1".
        system_names: whether it may name users and groups of `system:`.
        remember: seconds for which a good answer is kept.
    """

    kubeconfig: Path
    version: str = "v1"
    system_names: bool = False
    remember: float = 120.0


@dataclass(frozen=True, slots=True)
class ServiceAccountsConfiguration:
    """Tokens that we issue ourselves.

    Args:
        issuer: what they say in `iss`.
        accounts: a YAML file of `ServiceAccount` objects, and of what their tokens are bound to.
        keys: PEM files of keys whose tokens are believed.
        signing_key: a PEM file with the private key of new tokens; None: none are issued.
        audiences: for whom they are; the issuer, when left out.
        max_seconds: the longest life of a new one.
    """

    issuer: str
    accounts: Path
    keys: tuple[Path, ...] = ()
    signing_key: Path | None = None
    audiences: tuple[str, ...] = ()
    max_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RequestHeaderConfiguration:
    """Front proxies in front of this one, whose `X-Remote-*` headers are believed.

    Args:
        ca: PEM bundle of the CA that signs their certificates.
        allowed_names: common names that these may have; empty: any.
        crls: PEM files of certificate revocation lists for those certificates.
        user_headers, uid_headers, group_headers: the names of the headers, where they are called otherwise.
        extra_prefixes: what the names of headers with extras begin with.
    """

    ca: Path
    allowed_names: tuple[str, ...] = ()
    crls: tuple[Path, ...] = ()
    user_headers: tuple[str, ...] = ("X-Remote-User",)
    uid_headers: tuple[str, ...] = ("X-Remote-Uid",)
    group_headers: tuple[str, ...] = ("X-Remote-Group",)
    extra_prefixes: tuple[str, ...] = ("X-Remote-Extra-",)


@dataclass(frozen=True, slots=True)
class TerminatorsConfiguration:
    """Those who end TLS in front of this server and pass client certificates on.

    Args:
        peers: their addresses and networks.
        field: the header field: "client-cert" or "x-forwarded-client-cert".
    """

    peers: tuple[str, ...]
    field: Field = "client-cert"


@dataclass(frozen=True, slots=True)
class AuthenticationConfiguration:
    """Who is believed, besides client certificates of the directory's own client CA.

    Args:
        client_ca: PEM bundle of further CAs whose client certificates are believed.
        token_file: static tokens, CSV: token, user, uid, "group1,group2".
        cookie: the name of a cookie that may carry a token, too; None: they come in `Authorization` only.
        origins: whose pages may act for callers who are known by the cookie or by a client certificate.
        configuration_file: Kubernetes' `AuthenticationConfiguration`: issuers of tokens elsewhere.
        key_sets: files with the keys of some of them, by URL: those are not discovered.
        system_names: URLs of those whose users and groups may begin with `system:`.
        service_accounts: tokens that we issue ourselves.
        audiences: for whom tokens are meant that do not say so themselves.
        webhook: another server that knows tokens.
        anonymous: which paths need no credentials.
        crls: PEM files of certificate revocation lists for client certificates.
        terminators: who passes client certificates on in a header field.
        request_header: front proxies whose word on the caller is believed.
        impersonation: whether callers may act as others whom authorization lets them impersonate.
    """

    client_ca: Path | None = None
    token_file: Path | None = None
    cookie: str | None = None
    origins: tuple[str, ...] = ()
    configuration_file: Path | None = None
    key_sets: Mapping[str, Path] = field(default_factory=dict)
    system_names: tuple[str, ...] = ()
    service_accounts: ServiceAccountsConfiguration | None = None
    audiences: tuple[str, ...] = ()
    webhook: WebhookTokensConfiguration | None = None
    anonymous: AnonymousConfiguration = field(default_factory=AnonymousConfiguration)
    crls: tuple[Path, ...] = ()
    terminators: TerminatorsConfiguration | None = None
    request_header: RequestHeaderConfiguration | None = None
    impersonation: bool = False


@dataclass(frozen=True, slots=True)
class AuditLogConfiguration:
    """The file with the events.

    Args:
        path: where it is; its directory exists.
        max_size: megabytes before it is put aside; 0: any size.
        max_age: days that those are kept; 0: for ever.
        max_backups: how many of those are kept; 0: all.
        queue: events that may wait to be written.
        when_full: "wait": requests wait for room; "drop": events are dropped and counted.
    """

    path: Path
    max_size: int = 0
    max_age: int = 0
    max_backups: int = 0
    queue: int = 10_000
    when_full: str = "wait"


@dataclass(frozen=True, slots=True)
class AuditWebhookConfiguration:
    """The server that gets the events.

    Args:
        kubeconfig: where it is, as kube-apiserver's `--audit-webhook-config-file`.
        batch: events in one request.
        delay: seconds that the first of them waits for others.
        interval: seconds between two requests, at least.
        queue, when_full: as for the file.
    """

    kubeconfig: Path
    batch: int = 400
    delay: float = 30.0
    interval: float = 0.1
    queue: int = 10_000
    when_full: str = "drop"


@dataclass(frozen=True, slots=True)
class AuditConfiguration:
    """Who did what.

    Args:
        policy_file: Kubernetes' `audit.k8s.io/v1 Policy`.
        log: the file with the events.
        webhook: the server that gets them.
        required: refuse what cannot be recorded.
    """

    policy_file: Path
    log: AuditLogConfiguration | None = None
    webhook: AuditWebhookConfiguration | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class ForwardAuthConfiguration:
    """A path at which another proxy asks whether it may forward a request; the options are those of `ForwardAuth`.

    Args:
        path: such as "/auth/nginx".
        proxy: "nginx", "traefik" or "envoy".
        peers: addresses and networks of those who may ask; empty: whoever has a certificate of `ca`.
        ca: PEM bundle of the CA that signs their client certificates; None: no certificate is asked for.
        allowed_names: common names that these may have; empty: any.
        hosts: for which requests are judged; empty: any.
        where: in which file, for error messages.
    """

    path: str
    proxy: Proxy
    peers: tuple[str, ...] = ()
    ca: Path | None = None
    allowed_names: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True, slots=True)
class AuthorizationConfiguration:
    """Who may do what, besides `system:masters`, who may do everything.

    Args:
        policy: a casbin policy file (CSV). None: everything is denied.
        model: a casbin model of your own; None: the model for Kubernetes attributes.
        rbac: files and directories of Kubernetes' roles and bindings, asked after the casbin policy.
        configuration_file: Kubernetes' `AuthorizationConfiguration`, the order to ask them in; None: policy, then rbac.
        always_allow_paths: paths that everybody may use.
        watch: read these files again when they were changed.
        forward_auth: where other proxies ask.
    """

    policy: Path | None = None
    model: Path | None = None
    rbac: tuple[Path, ...] = ()
    configuration_file: Path | None = None
    always_allow_paths: tuple[str, ...] = ()
    watch: bool = True
    forward_auth: tuple[ForwardAuthConfiguration, ...] = ()


@dataclass(frozen=True, slots=True)
class LocalServiceConfiguration:
    """An API group version that an application in this process serves; exactly one of `app` and `wsgi` is given.

    Args:
        group, version: as in an `APIService`.
        app: "module:attribute" of an ASGI application; the module may lie beside the configuration file.
        wsgi: the same of a WSGI application.
        group_priority_minimum, version_priority: the place in discovery.
        where: in which file, for error messages.
    """

    group: str
    version: str
    app: str | None = None
    wsgi: str | None = None
    group_priority_minimum: int = 1000
    version_priority: int = 15
    where: str = ""


@dataclass(frozen=True, slots=True)
class PathServiceConfiguration:
    """A plain web service at a path; exactly one of `url`, `app` and `wsgi` is given.

    Args:
        path: such as "/billing/".
        url: `https://host:port`, `http://host:port` or `unix:/path`; several of them for servers that do the same.
        app: "module:attribute" of an ASGI application in this process.
        wsgi: the same of a WSGI application.
        ca: PEM bundle to trust for `url`; None: the system's.
        server_name: to verify instead of the URL's host; "" for that.
        strip_prefix, redirects: as in `PathService`.
        balancing: how requests are shared out among several servers; None: as for all services.
        where: in which file, for error messages.
        impersonation: `url` is a Kubernetes API server, which is told who asks by `Impersonate-*`.
    """

    path: str
    url: str | tuple[str, ...] | None = None
    app: str | None = None
    wsgi: str | None = None
    ca: Path | None = None
    server_name: str = ""
    strip_prefix: bool = False
    redirects: bool = True
    balancing: Balancing | None = None
    impersonation: Impersonate | None = None
    where: str = ""

    @property
    def in_process(self) -> bool:
        """Whether it is an application, not a server."""
        return self.url is None


@dataclass(frozen=True, slots=True)
class ServicesConfiguration:
    """What is behind the proxy.

    Args:
        files: YAML files of `APIService` objects.
        local: API groups that applications in this process serve.
        paths: plain web services.
        app_directory: where the modules of `local` and `paths` are looked for first: beside the configuration file.
        resolve: "namespace/name" or "namespace/name:port" → "host:port"; others are looked up in DNS.
        client_certificate, client_key: what the proxy shows to backends; both or neither. Neither: the directory's own
            front-proxy certificate.
        limits: what one server may cost.
        balancing: how the requests of services with several servers are shared out.
        addresses: where servers may be; None: anywhere.
        impersonation: the services of `files`, by name, that are told who asks by `Impersonate-*`.
    """

    files: tuple[Path, ...] = ()
    local: tuple[LocalServiceConfiguration, ...] = ()
    paths: tuple[PathServiceConfiguration, ...] = ()
    app_directory: Path | None = None
    resolve: Mapping[str, str] = field(default_factory=dict)
    client_certificate: Path | None = None
    client_key: Path | None = None
    limits: TransportLimits = field(default_factory=TransportLimits)
    balancing: Balancing = field(default_factory=Balancing)
    addresses: AddressRules | None = None
    impersonation: Mapping[str, Impersonate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamsConfiguration:
    """Watches and other long-running streams. `max_age`: seconds that one may go on; None: any number."""

    max_age: float | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything `aggmw serve` can be told.

    Args:
        host, port: where to listen; port 0 takes a free one.
        workers: processes that serve; 1 is the one that was started.
        grace: seconds that running requests get after SIGTERM.
        log_level: "debug", "info", "warning" or "error".
        log_format: "console", "json", or "auto": console on a terminal.
        metrics: serve `/metrics`, for those whom the policy lets get it.
        source: the file all this came from, for error messages.
    """

    host: str = "127.0.0.1"
    port: int = 6443
    workers: int = 1
    grace: float = 10.0
    log_level: str = "info"
    log_format: str = "auto"
    metrics: bool = True
    source: str = ""
    tls: TLSConfiguration = field(default_factory=TLSConfiguration)
    authentication: AuthenticationConfiguration = field(default_factory=AuthenticationConfiguration)
    audit: AuditConfiguration | None = None
    authorization: AuthorizationConfiguration = field(default_factory=AuthorizationConfiguration)
    services: ServicesConfiguration = field(default_factory=ServicesConfiguration)
    streams: StreamsConfiguration = field(default_factory=StreamsConfiguration)
