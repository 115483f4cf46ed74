"""`APIService` objects from the operator's files: read, validated whole, resolved (wire contract §1.2–1.3, §1.10)."""

from __future__ import annotations

import base64
import binascii
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from aggmw.contracts.addresses import Address, parse_backend_url
from aggmw.contracts.backends import APIService, Backend, BackendResolver, BalancedBackend
from aggmw.contracts.balancing import Balancing
from aggmw.errors import ConfigurationError, Problem
from aggmw.objects.fields import Fields
from aggmw.objects.names import is_group, is_service, is_version
from aggmw.objects.yaml_files import Value, read_documents, shown

__all__ = ["URL_ANNOTATION", "load_api_services"]

URL_ANNOTATION = "aggmw/url"
"""`https://host:port`, `http://host:port` or `unix:/path`: where the service really is; several with commas between."""

_BETWEEN_URLS = re.compile(r" *, *(?=https?:|unix:)")
_API_VERSION = "apiregistration.k8s.io/v1"
_LISTS = {("v1", "List"), (_API_VERSION, "APIServiceList")}
_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
_SPEC = (
    "service",
    "group",
    "version",
    "insecureSkipTLSVerify",
    "caBundle",
    "groupPriorityMinimum",
    "versionPriority",
)


class _Object(NamedTuple):
    """One object and where it was found, such as `services.yaml: document 2`."""

    place: str
    value: Value


def load_api_services(
    *paths: Path, resolver: BackendResolver, trusted: bool = True, balancing: Balancing | None = None
) -> list[APIService]:
    """The services that YAML files declare: documents of kind APIService, APIServiceList or List.

    Args:
        paths: the files.
        resolver: where a service named in `spec.service` is dialled.
        trusted: whether these are the operator's own files: only then the annotation `aggmw/url` says where a service
            is, before the resolver is asked. The name that its certificate must show stays
            `<service>.<namespace>.svc`.
        balancing: how the requests of services with several addresses are shared out.

    Raises:
        ConfigurationError: all the mistakes of all files.
    """
    problems: list[Problem] = []
    found: dict[str, str] = {}
    services: list[APIService] = []
    for path in paths:
        try:
            objects = list(_objects(path, problems))
        except ConfigurationError as error:
            problems.extend(error.problems)
            continue
        for each in objects:
            reading = _Reading(each, resolver, trusted, problems, balancing or Balancing())
            service = reading.service()
            if reading.name and (first := found.setdefault(reading.name, each.place)) != each.place:
                problems.append(Problem(reading.place, f"declared before, in {first}"))
            if service is not None:
                services.append(service)
    if problems:
        raise ConfigurationError(problems)
    return services


def _objects(path: Path, problems: list[Problem]) -> Iterator[_Object]:
    """Every APIService of a file, lists taken apart; what is none of them is a problem."""
    for document in read_documents(path):
        place = f"{path}: document {document.number}"
        if not isinstance(document.value, dict):
            problems.append(Problem(place, "must be an object"))
        elif (document.value.get("apiVersion"), document.value.get("kind")) in _LISTS:
            items = document.value.get("items")
            if isinstance(items, list):
                yield from (_Object(f"{place}, item {number}", item) for number, item in enumerate(items, 1))
            elif items is not None:
                problems.append(Problem(f"{place}: items", "must be a list"))
        else:
            yield _Object(place, document.value)


class _Reading:
    """One APIService being read; mistakes go to the list that all of them share."""

    def __init__(
        self,
        found: _Object,
        resolver: BackendResolver,
        trusted: bool,
        problems: list[Problem],
        balancing: Balancing,
    ) -> None:
        self._value = found.value
        self._resolver = resolver
        self._trusted = trusted
        self._problems = problems
        self._balancing = balancing
        self.place = found.place
        self.name = ""

    def _report(self, path: str, message: str) -> None:
        self._problems.append(Problem(f"{self.place}: {path}" if path else self.place, message))

    def service(self) -> APIService | None:
        """The value; None when there was a mistake."""
        before = len(self._problems)
        if not isinstance(self._value, dict):
            self._report("", "must be an object")
            return None
        top = Fields(self._value, self._report)
        if (top.text("apiVersion"), top.text("kind")) != (_API_VERSION, "APIService"):
            self._report("", f"must be an APIService of {_API_VERSION}")
            return None
        metadata = top.inner("metadata") or Fields({}, self._report, "metadata")
        self.name = metadata.text("name")
        if self.name:
            self.place = f"{self.place} ({self.name if self.name.isprintable() else shown(self.name)})"
        top.only(_TOP)
        spec = top.inner("spec")
        if spec is None:
            if "spec" not in top:
                top.required("spec")
            return None
        service = self._spec(metadata, spec)
        return service if len(self._problems) == before else None

    def _spec(self, metadata: Fields, spec: Fields) -> APIService:
        spec.only(_SPEC)
        group, version = spec.text("group"), spec.text("version")
        _check_names(metadata, spec, self.name, group, version)
        group_priority = spec.number("groupPriorityMinimum", 1, 20000)
        version_priority = spec.number("versionPriority", 1, 1000)
        return APIService(group, version, self._backend(metadata, spec), group_priority, version_priority)

    def _backend(self, metadata: Fields, spec: Fields) -> Backend | BalancedBackend | None:
        service = spec.inner("service")
        insecure = spec.flag("insecureSkipTLSVerify")
        if service is None:
            if "service" not in spec:
                for name, given in (("caBundle", bool(spec.text("caBundle"))), ("insecureSkipTLSVerify", insecure)):
                    if given:
                        spec.problem(name, "may not be set without spec.service, in a local APIService")
            return None
        service.only(("namespace", "name", "port"))
        namespace, name = _service_name(service, "namespace"), _service_name(service, "name")
        port = service.number("port", 1, 65535, default=443)
        ca = _ca_bundle(spec)
        if insecure and spec.text("caBundle"):
            spec.invalid("insecureSkipTLSVerify", "may not be true when caBundle is present")
        addresses = self._addresses(metadata, spec, namespace, name, port)
        if not addresses:
            return None
        if not all(address.tls for address in addresses) and (spec.text("caBundle") or insecure):
            spec.problem(
                "caBundle" if spec.text("caBundle") else "insecureSkipTLSVerify",
                f"means nothing with an http:// or unix: address in {URL_ANNOTATION}",
            )
        backends = [
            Backend(
                self.name,
                address.host,
                address.port,
                tls=address.tls,
                server_name=f"{name}.{namespace}.svc",
                ca=ca,
                insecure_skip_tls_verify=insecure,
                unix=address.unix,
            )
            for address in addresses
        ]
        return backends[0] if len(backends) == 1 else BalancedBackend(self.name, tuple(backends), self._balancing)

    def _addresses(self, metadata: Fields, spec: Fields, namespace: str, name: str, port: int) -> list[Address]:
        """Where the service is; nothing when there was a mistake."""
        annotations = metadata.inner("annotations") if self._trusted else None
        if annotations is not None and URL_ANNOTATION in annotations:
            addresses: dict[tuple[str, int, str], Address] = {}
            for url in _BETWEEN_URLS.split(annotations.text(URL_ANNOTATION)):
                try:
                    address = parse_backend_url(url)
                    if (address.host, address.port, address.unix) in addresses:
                        raise ValueError("names an address twice")
                except ValueError as error:
                    annotations.invalid(URL_ANNOTATION, str(error))
                    return []
                addresses[address.host, address.port, address.unix] = address
            return list(addresses.values())
        if not (namespace and name):
            return []
        resolved = self._resolver.resolve(namespace, name, port)
        if resolved is None:
            spec.problem("service", f"no address is known for {namespace}/{name}:{port}")
            return []
        return [Address(*resolved, tls=True)]


def _check_names(metadata: Fields, spec: Fields, name: str, group: str, version: str) -> None:
    if not version:
        spec.required("version")
    elif not is_version(version):
        spec.invalid("version", "must be a DNS-1035 label, such as v1alpha1")
    if group and not is_group(group):
        spec.invalid("group", "must be a DNS-1123 subdomain, such as wardle.example.com")
    elif not group and version and version != "v1":
        spec.problem("group", "Required value: only v1 may leave it empty")
    if not name:
        metadata.required("name")
    elif version and name != f"{version}.{group}":
        metadata.invalid("name", f'must be spec.version and spec.group with a dot between: "{version}.{group}"')


def _service_name(service: Fields, field: str) -> str:
    value = service.text(field)
    if not value:
        service.required(field)
    elif not is_service(value):
        service.invalid(field, "must be a DNS-1123 label")
    else:
        return value
    return ""


def _ca_bundle(spec: Fields) -> bytes:
    """The PEM in `caBundle`. Kubernetes finds out only when it dials; whoever edits a file wants to know now."""
    encoded = spec.text("caBundle")
    if not encoded:
        return b""
    try:
        pem = base64.b64decode("".join(encoded.split()), validate=True)
        text = pem.decode("ascii")
    except (binascii.Error, ValueError):
        spec.problem("caBundle", "must be PEM certificates in base64")
        return b""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        spec.problem("caBundle", "holds no PEM certificate that can be read")
        return b""
    return pem
