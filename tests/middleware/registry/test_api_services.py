"""APIService files: read whole, every mistake named, nothing believed that is not checked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggmw.contracts.backends import APIService, Backend, BalancedBackend
from aggmw.contracts.balancing import Balancing
from aggmw.errors import ConfigurationError
from aggmw.middleware.registry import DnsResolver, StaticResolver, load_api_services

RESOLVER = StaticResolver({"wardle/api": "127.0.0.1:8443"})
PLACE = "services.yaml: document 1 (v1alpha1.wardle.example.com)"

FORMS = "must be https://host:port or http://host:port, without path, query or fragment, or unix:/path/of/a.sock"
NO_PATH = (
    "must name a socket by its plain absolute path: unix:/path/of/a.sock, without dot segments, escapes or what a URL"
    " has behind its path"
)


def mistakes(*paths: Path, trusted: bool = True) -> list[str]:
    """The lines an operator sees."""
    with pytest.raises(ConfigurationError) as caught:
        load_api_services(*paths, resolver=RESOLVER, trusted=trusted)
    return str(caught.value).splitlines()


def test_service_is_read(write: Callable[..., Path], wardle: str, ca_pem: bytes, ca_bundle: str) -> None:
    """Every field arrives; the name to verify is `<service>.<namespace>.svc` wherever it is dialled (§1.10)."""
    [service] = load_api_services(write(wardle + f"  caBundle: {ca_bundle}\n"), resolver=RESOLVER)
    backend = Backend(
        "v1alpha1.wardle.example.com", "127.0.0.1", 8443, tls=True, server_name="api.wardle.svc", ca=ca_pem
    )
    assert service == APIService("wardle.example.com", "v1alpha1", backend, 1000, 15)


def test_port_defaults_to_443(write: Callable[..., Path], wardle: str) -> None:
    """§1.2: `service.port` is 443 unless it is said."""
    [service] = load_api_services(write(wardle), resolver=DnsResolver())
    assert service.backend is not None
    assert (service.backend.host, service.backend.port) == ("api.wardle.svc", 443)


def test_without_service_it_is_local(write: Callable[..., Path], wardle: str) -> None:
    """§1.2: no `spec.service` means the wrapped application serves it."""
    [service] = load_api_services(write(wardle.split("  service:")[0]), resolver=RESOLVER)
    assert service.backend is None


def test_core_group(write: Callable[..., Path]) -> None:
    """§1.3: the core group is empty, version v1, and its name ends in a dot."""
    text = (
        "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: v1.},"
        " spec: {version: v1, groupPriorityMinimum: 20000, versionPriority: 1000}}"
    )
    [service] = load_api_services(write(text), resolver=RESOLVER)
    assert service == APIService("", "v1", None, 20000, 1000)


def test_documents_and_lists(write: Callable[..., Path], wardle: str) -> None:
    """Several documents, empty ones, APIServiceList and List are all read, in order."""
    v1, v2 = (
        "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: VERSION.a.b},"
        " spec: {group: a.b, version: VERSION, groupPriorityMinimum: 1, versionPriority: 1}}".replace(
            "VERSION", version
        )
        for version in ("v1", "v2")
    )
    text = "\n---\n".join(
        [
            wardle,
            "",
            "apiVersion: v1\nkind: List\nitems:\n- " + v2,
            "apiVersion: apiregistration.k8s.io/v1\nkind: APIServiceList\nitems:\n- " + v1,
            "apiVersion: v1\nkind: List",
        ]
    )
    names = [service.name for service in load_api_services(write(text), resolver=RESOLVER)]
    assert names == ["v1alpha1.wardle.example.com", "v2.a.b", "v1.a.b"]


def test_what_an_api_server_wrote_is_read(write: Callable[..., Path], wardle: str) -> None:
    """A file from `kubectl get apiservice -o yaml`, with status and further metadata, is fine; times stay texts."""
    text = wardle.replace("metadata:\n", "metadata:\n  creationTimestamp: 2026-01-01T00:00:00Z\n  labels: {a: b}\n") + (
        "status:\n  conditions:\n  - type: Available\n    status: 'True'\n"
    )
    assert len(load_api_services(write(text), resolver=RESOLVER)) == 1


def test_url_annotation_of_the_operator(write: Callable[..., Path], wardle: str) -> None:
    """The operator's own file may say where the service is; the certificate's name stays the service's."""
    text = wardle.replace("spec:\n", "  annotations: {aggmw/url: 'https://[::1]:9443'}\nspec:\n")
    [service] = load_api_services(write(text), resolver=StaticResolver({}))
    assert service.backend == Backend("v1alpha1.wardle.example.com", "::1", 9443, server_name="api.wardle.svc")


def test_plain_http_annotation(write: Callable[..., Path], wardle: str) -> None:
    """`http://` is dialled without TLS, for loopback and terminators."""
    text = wardle.replace("spec:\n", "  annotations: {aggmw/url: 'http://127.0.0.1:9080'}\nspec:\n")
    [service] = load_api_services(write(text), resolver=StaticResolver({}))
    assert service.backend is not None
    assert (service.backend.port, service.backend.tls) == (9080, False)


def test_unix_annotation(write: Callable[..., Path], wardle: str) -> None:
    """A Unix socket speaks plain HTTP; a CA bundle means nothing there."""
    text = wardle.replace("spec:\n", "  annotations: {aggmw/url: 'unix:/run/wardle.sock'}\nspec:\n")
    [service] = load_api_services(write(text), resolver=StaticResolver({}))
    assert isinstance(service.backend, Backend)
    assert (service.backend.unix, service.backend.tls) == ("/run/wardle.sock", False)
    [mistake] = mistakes(write(text.replace("spec:\n", "spec:\n  insecureSkipTLSVerify: true\n")))
    assert mistake.endswith("means nothing with an http:// or unix: address in aggmw/url")


def test_several_addresses(write: Callable[..., Path], wardle: str) -> None:
    """With commas between: servers that do the same, whose certificates are for one name, balanced as is configured."""
    urls = "https://[::1]:9443, https://10.0.0.8:9443,https://c.example"
    text = wardle.replace("spec:\n", f"  annotations: {{aggmw/url: '{urls}'}}\nspec:\n")
    balancing = Balancing(failures=2)
    [service] = load_api_services(write(text), resolver=StaticResolver({}), balancing=balancing)
    backend = service.backend
    assert isinstance(backend, BalancedBackend)
    assert (backend.name, backend.balancing) == ("v1alpha1.wardle.example.com", balancing)
    assert [each.address for each in backend.endpoints] == ["[::1]:9443", "10.0.0.8:9443", "c.example:443"]
    assert {each.server_name for each in backend.endpoints} == {"api.wardle.svc"}
    twice = write(text.replace(urls, "https://a:1,http://a:1"))
    [mistake] = mistakes(twice)
    assert mistake.endswith("names an address twice")
    [mistake] = mistakes(write(text.replace(urls, "https://a:1, https://a:1/x")))
    assert mistake.endswith(FORMS)
    insecure = text.replace(urls, "https://a:1, http://b:1").replace(
        "spec:\n", "spec:\n  insecureSkipTLSVerify: true\n"
    )
    [mistake] = mistakes(write(insecure))
    assert mistake.endswith("means nothing with an http:// or unix: address in aggmw/url")


def test_url_annotation_of_others_is_ignored(write: Callable[..., Path], wardle: str) -> None:
    """C1, APIService as SSRF: from anybody but the operator the annotation points nowhere."""
    text = wardle.replace("spec:\n", "  annotations: {aggmw/url: 'https://169.254.169.254:80'}\nspec:\n")
    [service] = load_api_services(write(text), resolver=RESOLVER, trusted=False)
    assert service.backend is not None
    assert service.backend.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://a.example/path", FORMS),
        ("https://a.example?x=1", FORMS),
        ("ftp://a.example", FORMS),
        ("unix:run/app.sock", FORMS),
        ("unix://run/app.sock", NO_PATH),
        ("unix:/run/app.sock:/v1", NO_PATH),
        ("https://u:p@a.example", "must not hold credentials"),
        ("https://a.example:0", 'must be "host:port" with a port from 1 to 65535'),
        ("https://a b:1", "must name a host or an address (an IPv6 address stands in brackets)"),
        ("https://[::g]:1", "must have an IPv6 address in its brackets"),
    ],
)
def test_bad_url_annotation(write: Callable[..., Path], wardle: str, url: str, message: str) -> None:
    """An address with more than scheme, host and port is a mistake."""
    text = wardle.replace("spec:\n", f"  annotations: {{aggmw/url: '{url}'}}\nspec:\n")
    assert mistakes(write(text)) == [f'{PLACE}: metadata.annotations.aggmw/url: Invalid value: "{url}": {message}']


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("  name: v1alpha1.wardle.example.com\n", "  labels: {}\n", "metadata.name: Required value"),
        ("group: wardle.example.com", "group: 5", "spec.group: must be a text, not a whole number"),
        ("version: v1alpha1", "verzion: v1alpha1", "spec.verzion: unknown field"),
        (
            "groupPriorityMinimum: 1000",
            "groupPriorityMinimum: 20001",
            "Invalid value: 20001: must be between 1 and 20000",
        ),
        (
            "versionPriority: 15",
            "versionPriority: 0",
            "spec.versionPriority: Invalid value: 0: must be between 1 and 1000",
        ),
        ("versionPriority: 15", "versionPriority: 1.5", "spec.versionPriority: must be a whole number, not a number"),
        (
            "versionPriority: 15",
            "versionPriority: true",
            "spec.versionPriority: must be a whole number, not true or false",
        ),
        ("  versionPriority: 15\n", "", "spec.versionPriority: Required value"),
        ("    namespace: wardle\n", "", "spec.service.namespace: Required value"),
        ("    name: api", "    name: a_b", 'spec.service.name: Invalid value: "a_b": must be a DNS-1123 label'),
        (
            "    name: api",
            "    name: api\n    port: 70000",
            "spec.service.port: Invalid value: 70000: must be between 1 and 65535",
        ),
        ("    name: api", "    name: other", "spec.service: no address is known for wardle/other:443"),
        ("    name: api", "    name: api\n  caBundle: '%'", "spec.caBundle: must be PEM certificates in base64"),
        (
            "    name: api",
            "    name: api\n  caBundle: YWJj",
            "spec.caBundle: holds no PEM certificate that can be read",
        ),
        (
            "    name: api",
            "    name: api\n  insecureSkipTLSVerify: 1",
            "spec.insecureSkipTLSVerify: must be true or false, not a whole number",
        ),
        ("  service:", "  service: []\n  x:", "spec.service: must be an object, not a list"),
    ],
)
def test_mistake_is_named(write: Callable[..., Path], wardle: str, old: str, new: str, line: str) -> None:
    """§1.3: each rule has its line, with file, document, object and field."""
    found = mistakes(write(wardle.replace(old, new)))
    assert any(each.startswith("services.yaml: document 1") and each.endswith(line) for each in found), found


@pytest.mark.parametrize(
    ("group", "version", "name", "lines"),
    [
        (
            "a.b",
            "v1",
            "v2.a.b",
            [
                'metadata.name: Invalid value: "v2.a.b": '
                'must be spec.version and spec.group with a dot between: "v1.a.b"',
            ],
        ),
        ("''", "v2", "v2.", ["spec.group: Required value: only v1 may leave it empty"]),
        (
            "A.b",
            "v1",
            "v1.A.b",
            ['spec.group: Invalid value: "A.b": must be a DNS-1123 subdomain, such as wardle.example.com'],
        ),
        (
            "a/b",
            "1v",
            "1v.a/b",
            [
                'spec.version: Invalid value: "1v": must be a DNS-1035 label, such as v1alpha1',
                'spec.group: Invalid value: "a/b": must be a DNS-1123 subdomain, such as wardle.example.com',
            ],
        ),
        ("a.b", "''", "v1.a.b", ["spec.version: Required value"]),
    ],
)
def test_names_agree(write: Callable[..., Path], group: str, version: str, name: str, lines: list[str]) -> None:
    """§1.3: the name is exactly version, dot, group, and both are legal."""
    text = (
        f"{{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {{name: {name}}},"
        f" spec: {{group: {group}, version: {version}, groupPriorityMinimum: 1, versionPriority: 1}}}}"
    )
    assert mistakes(write(text)) == [f"services.yaml: document 1 ({name}): {line}" for line in lines]


def test_ca_and_skipping_exclude_each_other(write: Callable[..., Path], wardle: str, ca_bundle: str) -> None:
    """§1.3: verifying against a CA and not verifying at all is a contradiction."""
    text = wardle + f"  caBundle: {ca_bundle}\n  insecureSkipTLSVerify: true\n"
    assert mistakes(write(text)) == [
        f"{PLACE}: spec.insecureSkipTLSVerify: Invalid value: true: may not be true when caBundle is present"
    ]


def test_local_has_no_tls_settings(write: Callable[..., Path], wardle: str) -> None:
    """§1.3: without a service there is nobody to verify."""
    text = wardle.split("  service:")[0] + "  caBundle: YWJj\n  insecureSkipTLSVerify: true\n"
    assert mistakes(write(text)) == [
        f"{PLACE}: spec.caBundle: may not be set without spec.service, in a local APIService",
        f"{PLACE}: spec.insecureSkipTLSVerify: may not be set without spec.service, in a local APIService",
    ]


def test_ca_means_nothing_over_http(write: Callable[..., Path], wardle: str, ca_bundle: str) -> None:
    """A CA beside a plain address is a mistake that would go unnoticed."""
    text = wardle.replace("spec:\n", "  annotations: {aggmw/url: 'http://127.0.0.1:1'}\nspec:\n")
    assert mistakes(write(text + f"  caBundle: {ca_bundle}\n")) == [
        f"{PLACE}: spec.caBundle: means nothing with an http:// or unix: address in aggmw/url"
    ]


def test_all_mistakes_at_once(write: Callable[..., Path], wardle: str) -> None:
    """Everything wrong in all files is said in one go, a line each, path first."""
    first = write(
        "kind: Pod\n---\n- 1\n---\napiVersion: v1\nkind: List\nitems: {}\n---\n" + wardle + "\n---\nkind: [\n"
    )
    second = write("apiVersion: apiregistration.k8s.io/v1\nkind: APIService\n", "more.yaml")
    third = write("apiVersion: v1\nkind: List\nitems: [1, {}]\n---\nkind: Pod", "third.yaml")
    assert mistakes(first, second, third, Path("absent.yaml")) == [
        "services.yaml:24: is not YAML: did not find expected node content",
        "more.yaml: document 1: spec: Required value",
        "third.yaml: document 1, item 1: must be an object",
        "third.yaml: document 1, item 2: must be an APIService of apiregistration.k8s.io/v1",
        "third.yaml: document 2: must be an APIService of apiregistration.k8s.io/v1",
        "absent.yaml: cannot be read: No such file or directory",
    ]


def test_same_name_twice(write: Callable[..., Path], wardle: str) -> None:
    """Two declarations of one name, in one file or in two, are a mistake that names both places."""
    first = write(wardle + "---\n" + wardle)
    second = write(wardle, "more.yaml")
    assert mistakes(first, second) == [
        "services.yaml: document 2 (v1alpha1.wardle.example.com): declared before, in services.yaml: document 1",
        "more.yaml: document 1 (v1alpha1.wardle.example.com): declared before, in services.yaml: document 1",
    ]


def test_a_line_stays_a_line(write: Callable[..., Path], wardle: str) -> None:
    """Line breaks in the input's names and keys do not break the message."""
    text = wardle.replace("v1alpha1.wardle.example.com", '"a\\nb"') + '  "x\\ny": 1\n'
    found = mistakes(write(text))
    assert len(found) == 2
    assert all(line.startswith('services.yaml: document 1 ("a\\nb"): ') for line in found)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=60),
        st.text(alphabet="ab: -{}[]\n\"'&*!?|>%@`,#\t<~0x1.", max_size=60).map(str.encode),
    )
)
def test_any_bytes_are_read_or_refused(write: Callable[..., Path], content: bytes) -> None:
    """Whatever a file holds, the answer is services or problems."""
    with contextlib.suppress(ConfigurationError):
        load_api_services(write(content), resolver=RESOLVER)
