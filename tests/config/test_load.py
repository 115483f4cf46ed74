"""Configuration: every mistake at once, a line each, path first."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggmw.config import Configuration, load, parse
from aggmw.contracts.balancing import Balancing
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.proxy import TransportLimits

EVERYTHING = """
host: 0.0.0.0
port: 0
grace: 1m
logLevel: debug
logFormat: json
metrics: false
tls:
  certificate: tls/server.crt
  key: tls/server.key
  names: [proxy.example.com, 192.0.2.1]
authentication:
  clientCA: ca.crt
  tokenFile: tokens.csv
  cookie: __Host-aggmw
  origins: ["https://console.example.com", "http://localhost:3000"]
  anonymous:
    paths: [/healthz]
authorization:
  policy: policy.csv
  model: model.conf
services:
  files: [apiservices.yaml]
  resolve: {wardle/api: "127.0.0.1:7443"}
  local:
    - {group: notes.example.com, version: v1, app: "notes:app", versionPriority: 100}
    - {group: tasks.example.com, version: v1, wsgi: "tasks:wsgi"}
  paths:
    - {path: /billing/, url: "https://127.0.0.1:9000", ca: billing.crt, serverName: billing, stripPrefix: true}
    - {path: /tools/, app: "tools:app", redirects: false}
    - {path: /old/, wsgi: "old:app"}
    - {path: /many/, url: ["http://a:1", "http://b:1"], balancing: {sticky: client}}
  clientCertificate: front-proxy.crt
  clientKey: front-proxy.key
  limits: {connections: 7, waiting: 0, wait: 250ms, dial: 2s, idle: 1m, maxAge: 10m, silence: 1h}
  balancing:
    {failures: 3, eject: 5s, ejectLongest: 1m, ejectShare: 0.4, retries: 1, retryShare: 0.1, retriesPerSecond: 2.5,
     attempt: 500ms, requests: 100, sticky: identity}
  addresses: {allow: [10.0.0.0/8, "fd00::/8"], deny: [10.1.0.0/16]}
streams:
  maxAge: 2h
"""


def problems_of(tmp_path: Path, text: str) -> list[str]:
    """The lines that loading `text` reports, without the directory."""
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(file)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


def test_everything(tmp_path: Path) -> None:
    """Each key arrives; relative paths are relative to the file."""
    file = tmp_path / "config.yaml"
    file.write_text(EVERYTHING)
    configuration = load(file)
    assert configuration.port == 0
    assert configuration.grace == 60.0
    assert configuration.metrics is False
    assert configuration.tls.certificate == tmp_path / "tls/server.crt"
    assert configuration.tls.names == ("proxy.example.com", "192.0.2.1")
    assert configuration.authentication.anonymous.paths == ("/healthz",)
    assert configuration.authentication.cookie == "__Host-aggmw"
    assert configuration.authentication.origins == ("https://console.example.com", "http://localhost:3000")
    assert configuration.streams.max_age == 7200.0
    assert configuration.authorization.model == tmp_path / "model.conf"
    assert configuration.services.files == (tmp_path / "apiservices.yaml",)
    assert configuration.services.resolve == {"wardle/api": "127.0.0.1:7443"}
    local, tasks = configuration.services.local
    assert (local.group, local.version, local.app, local.version_priority) == (
        "notes.example.com",
        "v1",
        "notes:app",
        100,
    )
    assert (tasks.app, tasks.wsgi) == (None, "tasks:wsgi")
    billing, tools, old, many = configuration.services.paths
    assert (many.url, many.balancing) == (("http://a:1", "http://b:1"), Balancing(sticky="client"))
    assert repr(configuration.services.addresses) == (
        "AddressRules(allow=['10.0.0.0/8', 'fd00::/8'], deny=['10.1.0.0/16'])"
    )
    assert configuration.services.balancing == Balancing(
        failures=3,
        eject_seconds=5,
        eject_longest_seconds=60,
        eject_share=0.4,
        retries=1,
        retry_share=0.1,
        retries_per_second=2.5,
        attempt_seconds=0.5,
        requests=100,
        sticky="identity",
    )
    assert (billing.in_process, tools.in_process, old.in_process, old.wsgi) == (False, True, True, "old:app")
    assert (billing.url, billing.ca, billing.server_name) == (
        "https://127.0.0.1:9000",
        tmp_path / "billing.crt",
        "billing",
    )
    assert (billing.strip_prefix, billing.redirects, tools.app, tools.redirects) == (True, True, "tools:app", False)
    assert configuration.services.app_directory == tmp_path
    assert configuration.services.limits == TransportLimits(
        connections=7,
        waiting=0,
        wait_seconds=0.25,
        dial_seconds=2,
        idle_seconds=60,
        max_age_seconds=600,
        silence_seconds=3600,
    )


def test_empty_file_is_the_defaults(tmp_path: Path) -> None:
    """Nothing configured: loopback, no anonymous, no policy, no services."""
    file = tmp_path / "config.yaml"
    file.write_text("# nothing yet\n")
    assert load(file) == Configuration(source=str(file))


def test_all_mistakes_at_once(tmp_path: Path) -> None:
    """One pass finds them all; asserted word for word."""
    text = """
port: 70000
grace: soon
logLevel: loud
hots: localhost
tls: {certificate: a.crt}
authentication: {anonymous: {paths: /healthz}}
services: {files: apiservices.yaml, resolve: {wardle/api: 7443}}
authorization: []
"""
    assert problems_of(tmp_path, text) == [
        "config.yaml: port: must be a whole number from 0 to 65535, not 70000",
        "config.yaml: grace: must be a duration such as 10s or 1m, not 'soon'",
        "config.yaml: logLevel: must be one of debug, info, warning, error, not 'loud'",
        "config.yaml: tls.certificate: needs key beside it",
        "config.yaml: authentication.anonymous.paths: must be a list of texts, not '/healthz'",
        "config.yaml: authorization: must be a mapping of keys to values, not a list",
        "config.yaml: services.files: must be a list of texts, not 'apiservices.yaml'",
        "config.yaml: services.resolve.wardle/api: must be a text, not 7443",
        "config.yaml: hots: is not a known key; known here: audit, authentication, authorization, grace, host,"
        " logFormat, logLevel, metrics, port, services, streams, tls, workers",
    ]


def test_mistakes_are_said_once(tmp_path: Path) -> None:
    """What must be there, and is of a wrong kind, is one mistake."""
    text = """
audit: {policyFile: 5, log: {path: []}}
authentication: {requestHeader: {ca: 7}, webhook: {kubeconfig: 3}, serviceAccounts: {issuer: 3, accounts: 5}}
authorization:
  forwardAuth: [{path: 5, proxy: 7, peers: [127.0.0.1]}, {path: /a, proxy: apache, ca: ca.crt}, {peers: [127.0.0.1]}]
"""
    assert problems_of(tmp_path, text) == [
        "config.yaml: authentication.serviceAccounts.issuer: must be a text, not 3",
        "config.yaml: authentication.serviceAccounts.accounts: must be a text, not 5",
        "config.yaml: authentication.webhook.kubeconfig: must be a text, not 3",
        "config.yaml: authentication.requestHeader.ca: must be a text, not 7",
        "config.yaml: audit.policyFile: must be a text, not 5",
        "config.yaml: audit.log.path: must be a text, not a list",
        "config.yaml: authorization.forwardAuth[0].path: must be a text, not 5",
        "config.yaml: authorization.forwardAuth[0].proxy: must be a text, not 7",
        "config.yaml: authorization.forwardAuth[1].proxy: must be one of nginx, traefik, envoy, not 'apache'",
        "config.yaml: authorization.forwardAuth[2].path: is missing",
        "config.yaml: authorization.forwardAuth[2].proxy: is missing",
    ]


def test_core_group(tmp_path: Path) -> None:
    """The core group has no name, and is meant only where that is said; a version needs one."""
    (tmp_path / "config.yaml").write_text("services: {local: [{group: '', version: v1, app: 'a:b'}]}")
    assert load(tmp_path / "config.yaml").services.local[0].group == ""
    text = "services: {local: [{group: '', version: '', app: 'a:b'}]}"
    assert problems_of(tmp_path, text) == ["config.yaml: services.local[0].version: must be a text, not ''"]


def test_mistakes_in_lists(tmp_path: Path) -> None:
    """Each entry is named by its place."""
    text = """
services:
  local: [{group: a.io, app: "a:b", versionPriority: 0}, 7, {}]
  paths: [{path: /a/, url: "http://a", app: "a:b"}, {path: /b/}, {path: /c/, url: "http://c", stripPrefix: 1, x: y}]
"""
    assert problems_of(tmp_path, text) == [
        "config.yaml: services.local[0].version: is missing",
        "config.yaml: services.local[0].versionPriority: must be a whole number from 1 to 1000, not 0",
        "config.yaml: services.local[1]: must be a mapping of keys to values, not 7",
        "config.yaml: services.local[2]: needs exactly one of app, wsgi",
        "config.yaml: services.local[2].group: is missing",
        "config.yaml: services.local[2].version: is missing",
        "config.yaml: services.paths[0]: needs exactly one of url, app, wsgi",
        "config.yaml: services.paths[1]: needs exactly one of url, app, wsgi",
        "config.yaml: services.paths[2].stripPrefix: must be true or false, not 1",
        "config.yaml: services.paths[2].x: is not a known key; known here: app, balancing, ca, impersonation, path,"
        " redirects, serverName, stripPrefix, url, wsgi",
    ]
    assert problems_of(tmp_path, "services: {local: {group: a.io}}") == [
        "config.yaml: services.local: must be a list of mappings, not a mapping"
    ]


def test_limits_that_are_none(tmp_path: Path) -> None:
    """Each in its bounds, and each told by its name."""
    text = "services: {limits: {connections: 0, waiting: -1, wait: never, dial: 0, maxAge: -5, silence: 0ms, max: 1}}"
    assert problems_of(tmp_path, text) == [
        "config.yaml: services.limits.connections: must be a whole number from 1 to 1000000, not 0",
        "config.yaml: services.limits.waiting: must be a whole number from 0 to 1000000, not -1",
        "config.yaml: services.limits.wait: must be a duration such as 10s or 1m, not 'never'",
        "config.yaml: services.limits.dial: must be at least 0.001s, not 0",
        "config.yaml: services.limits.maxAge: must be a duration such as 10s or 1m, not -5",
        "config.yaml: services.limits.silence: must be at least 0.001s, not '0ms'",
        "config.yaml: services.limits.max: is not a known key; known here: connections, dial, idle, maxAge, silence,"
        " wait, waiting",
    ]


def test_balancing_that_is_none(tmp_path: Path) -> None:
    """Each in its bounds; addresses are a text or several."""
    text = """
services:
  balancing: {failures: 0, eject: 10m, ejectLongest: 5m, ejectShare: 2, retries: -1, retryShare: many, sticky: cookie}
  paths: [{path: /a/, url: []}, {path: /b/, url: [1]}, {path: /c/, url: "http://c", balancing: {requests: 0, x: 1}}]
"""
    assert problems_of(tmp_path, text) == [
        "config.yaml: services.paths[0].url: must be a text or a list of texts, not a list",
        "config.yaml: services.paths[1].url: must be a text or a list of texts, not a list",
        "config.yaml: services.paths[2].balancing.requests: must be a whole number from 1 to 1000000, not 0",
        "config.yaml: services.paths[2].balancing.x: is not a known key; known here: attempt, eject, ejectLongest,"
        " ejectShare, failures, requests, retries, retriesPerSecond, retryShare, sticky",
        "config.yaml: services.balancing.ejectLongest: must not be less than eject",
        "config.yaml: services.balancing.sticky: must be one of identity, client, not 'cookie'",
        "config.yaml: services.balancing.failures: must be a whole number from 1 to 1000000, not 0",
        "config.yaml: services.balancing.ejectShare: must be a number from 0 to 1, not 2",
        "config.yaml: services.balancing.retries: must be a whole number from 0 to 100, not -1",
        "config.yaml: services.balancing.retryShare: must be a number from 0 to 100, not 'many'",
    ]


def test_networks_that_are_none(tmp_path: Path) -> None:
    """Each by its place; a host's address with the length of a network is mostly a slip."""
    text = "services: {addresses: {allow: [10.0.0.0/8, 10.0.0.1/8, localhost], deny: 10.0.0.0/8}}"
    assert problems_of(tmp_path, text) == [
        "config.yaml: services.addresses.allow[1]: '10.0.0.1/8' is no network such as 10.0.0.0/8 or fd00::/8:"
        " 10.0.0.1/8 has host bits set",
        "config.yaml: services.addresses.allow[2]: 'localhost' is no network such as 10.0.0.0/8 or fd00::/8:"
        " 'localhost' does not appear to be an IPv4 or IPv6 network",
        "config.yaml: services.addresses.deny: must be a list of texts, not '10.0.0.0/8'",
    ]


def test_origins_and_cookies_that_are_none(tmp_path: Path) -> None:
    """C5.10: each origin is told by its place, with what to write; a cookie carries the tokens of a file."""
    text = """
authentication:
  cookie: "my cookie"
  origins: ["https://a.example", "https://*.example", "https://b.example/", null]
"""
    assert problems_of(tmp_path, text) == [
        "config.yaml: authentication.cookie: needs tokenFile or configurationFile or serviceAccounts or webhook beside"
        " it",
        "config.yaml: authentication.cookie: 'my cookie' is no name of a cookie: letters, digits, '-' and '_', such as"
        " __Host-aggmw",
        "config.yaml: authentication.origins: must be a list of texts, and [3] is nothing",
    ]
    assert problems_of(tmp_path, text.replace(", null]", ', "null"]').replace("my cookie", "mine"))[1:] == [
        "config.yaml: authentication.origins[1]: 'https://*.example' has a wildcard: list each origin by itself",
        "config.yaml: authentication.origins[2]: 'https://b.example/' must be an origin as browsers send it:"
        " scheme://host or scheme://host:port, and nothing behind it",
        "config.yaml: authentication.origins[3]: null cannot be listed: files and sandboxed frames of any page send it",
    ]


@pytest.mark.parametrize("age", ["0", "500ms", "soon"])
def test_ages_of_streams_that_are_none(tmp_path: Path, age: str) -> None:
    """Less than a second would be a loop of clients that come back."""
    (problem,) = problems_of(tmp_path, f"streams: {{maxAge: {age}}}")
    assert problem.startswith("config.yaml: streams.maxAge: must be ")


def test_not_yaml(tmp_path: Path) -> None:
    """The line of the mistake is named."""
    assert problems_of(tmp_path, "host: a\nport: [1\n") == [
        "config.yaml:3: is not YAML: expected ',' or ']', but got '<stream end>'"
    ]


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [("port: 1\nhost: a\nport: 2\n", 3, "port"), ("tls:\n  names: [a]\n  names: [b]\n", 3, "names")],
)
def test_a_key_that_is_there_twice(tmp_path: Path, text: str, line: int, key: str) -> None:
    """Which of both counts, nobody has to guess."""
    assert problems_of(tmp_path, text) == [f"config.yaml:{line}: is not YAML: the key '{key}' is there twice"]


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    """What YAML has for repeating oneself can be used; a key that is written out goes before a merged one."""
    (tmp_path / "config.yaml").write_text(
        "services:\n  limits: &few {<<: {connections: 5}, connections: 3}\n  balancing: {failures: 2}\n"
        "tls: {names: [a], <<: {names: [b]}}\n"
    )
    assert load(tmp_path / "config.yaml").tls.names == ("a",)


@pytest.mark.parametrize("text", ["port: 2026-13-01", "port: !!int x", "metrics: !!bool x", "host: !!timestamp x"])
def test_values_that_are_none(tmp_path: Path, text: str) -> None:
    """What only looks like a date, or is tagged as what it is not, is a mistake like any other."""
    (problem,) = problems_of(tmp_path, text)
    assert problem.startswith("config.yaml: holds a value that is not what it looks like, or is tagged as: ")


def test_texts_that_are_no_path(tmp_path: Path) -> None:
    """What no file can be called is refused where it stands, and not where it would be opened."""
    text = 'authorization: {rbac: [a.yaml, "b\\0c"], policy: "a\\0b", model: "\\uD800"}'
    assert problems_of(tmp_path, text)[:3] == [
        "config.yaml: authorization.policy: must be a text, not 'a\\x00b'",
        "config.yaml: authorization.model: must be a text, not '\\ud800'",
        "config.yaml: authorization.rbac: must be a list of texts, and [1] is 'b\\x00c'",
    ]
    (problem,) = problems_of(tmp_path, 'services: {resolve: {a/b: "c\\0:1"}}')
    assert problem.startswith("config.yaml: services.resolve")


def test_nested_too_deeply(tmp_path: Path) -> None:
    """Depth is a mistake, too."""
    assert problems_of(tmp_path, "[" * 3000) == ["config.yaml: is nested too deeply"]


def test_unreadable(tmp_path: Path) -> None:
    """A missing file, a directory and binary content each get one line."""
    with pytest.raises(ConfigurationError, match=r"missing.yaml: cannot be read: No such file or directory$"):
        load(tmp_path / "missing.yaml")
    with pytest.raises(ConfigurationError, match=r"cannot be read: Is a directory$"):
        load(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match=r"binary.yaml: cannot be read: it is not UTF-8 text$"):
        load(binary)


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5.0), ("500ms", 0.5), ("2m", 120.0), ("1h", 3600.0), ("1.5s", 1.5)]
)
def test_durations(text: str, seconds: float) -> None:
    """Seconds, or a number with a unit."""
    assert parse({"grace": text}, file="f", base=Path()).grace == seconds


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = st.sampled_from(["host", "port", "grace", "tls", "authentication", "authorization", "services", "x"])


@given(_VALUES | st.dictionaries(_KEYS, _VALUES))
def test_any_content_is_read_or_refused(values: object) -> None:
    """Whatever YAML may hold, it is a Configuration or a ConfigurationError whose lines begin with the path."""
    problems: list[Problem] = []
    try:
        parse(values, file="f.yaml", base=Path())
    except ConfigurationError as error:
        problems.extend(error.problems)
    assert all(problem.path.startswith("f.yaml") and "\n" not in problem.message for problem in problems)
