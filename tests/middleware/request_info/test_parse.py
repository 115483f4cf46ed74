"""RequestInfo as Kubernetes has it (wire contract §5)."""

from __future__ import annotations

import pytest

from aggmw.contracts.request_info import RequestInfo
from aggmw.errors import StatusError
from aggmw.middleware.request_info import parse

# method, path → verb, prefix, group, version, namespace, resource, subresource, name, parts
RESOURCES = [
    ("GET", "/api/v1/pods", "list", "api", "", "v1", "", "pods", "", "", ["pods"]),
    ("HEAD", "/api/v1/pods", "list", "api", "", "v1", "", "pods", "", "", ["pods"]),
    ("POST", "/api/v1/pods", "create", "api", "", "v1", "", "pods", "", "", ["pods"]),
    ("DELETE", "/api/v1/pods", "deletecollection", "api", "", "v1", "", "pods", "", "", ["pods"]),
    ("GET", "/api/v1/nodes/n", "get", "api", "", "v1", "", "nodes", "", "n", ["nodes", "n"]),
    ("HEAD", "/api/v1/nodes/n", "get", "api", "", "v1", "", "nodes", "", "n", ["nodes", "n"]),
    ("PUT", "/api/v1/nodes/n", "update", "api", "", "v1", "", "nodes", "", "n", ["nodes", "n"]),
    ("PATCH", "/api/v1/nodes/n", "patch", "api", "", "v1", "", "nodes", "", "n", ["nodes", "n"]),
    ("DELETE", "/api/v1/nodes/n", "delete", "api", "", "v1", "", "nodes", "", "n", ["nodes", "n"]),
    ("PUT", "/api/v1/nodes/n/status", "update", "api", "", "v1", "", "nodes", "status", "n", ["nodes", "n", "status"]),
    ("GET", "/api/v1/namespaces", "list", "api", "", "v1", "", "namespaces", "", "", ["namespaces"]),
    ("GET", "/api/v1/namespaces/x", "get", "api", "", "v1", "x", "namespaces", "", "x", ["namespaces", "x"]),
    ("GET", "/api/v1/namespaces/x/", "get", "api", "", "v1", "x", "namespaces", "", "x", ["namespaces", "x"]),
    (
        *("PUT", "/api/v1/namespaces/x/finalize", "update", "api", "", "v1", "x", "namespaces", "finalize", "x"),
        ["namespaces", "x", "finalize"],
    ),
    (
        *("GET", "/api/v1/namespaces/x/status", "get", "api", "", "v1", "x", "namespaces", "status", "x"),
        ["namespaces", "x", "status"],
    ),
    ("GET", "/api/v1/namespaces/x/pods", "list", "api", "", "v1", "x", "pods", "", "", ["pods"]),
    ("GET", "/api/v1/namespaces/x/pods/p", "get", "api", "", "v1", "x", "pods", "", "p", ["pods", "p"]),
    (
        *("GET", "/api/v1/namespaces/x/pods/p/proxy/a/b", "get", "api", "", "v1", "x", "pods", "proxy", "p"),
        ["pods", "p", "proxy", "a", "b"],
    ),
    (
        "GET",
        "/apis/wardle.example.com/v1/flunders",
        "list",
        "apis",
        "wardle.example.com",
        "v1",
        "",
        "flunders",
        "",
        "",
        ["flunders"],
    ),
    (
        *("PATCH", "/apis/g/v2/namespaces/x/foos/f/scale", "patch", "apis", "g", "v2", "x", "foos", "scale", "f"),
        ["foos", "f", "scale"],
    ),
    ("GET", "/apis/g/v1/namespaces/x/foos/", "list", "apis", "g", "v1", "x", "foos", "", "", ["foos"]),
    ("GET", "/api/v1/watch/pods", "watch", "api", "", "v1", "", "pods", "", "", ["pods"]),
    ("HEAD", "/api/v1/watch/pods", "watch", "api", "", "v1", "", "pods", "", "", ["pods"]),
    ("GET", "/api/v1/watch/namespaces/x/pods/p", "watch", "api", "", "v1", "x", "pods", "", "p", ["pods", "p"]),
    ("GET", "/api/v1/watch/namespaces", "watch", "api", "", "v1", "", "namespaces", "", "", ["namespaces"]),
    ("GET", "/apis/g/v1/watch/foos", "watch", "apis", "g", "v1", "", "foos", "", "", ["foos"]),
]


@pytest.mark.parametrize("case", RESOURCES, ids=lambda case: f"{case[0]} {case[1]}")
def test_resource_paths(case: tuple[object, ...]) -> None:
    """§5.1 rules 2 to 7: every part of a resource path is where Kubernetes finds it."""
    method, path, verb, prefix, group, version, namespace, resource, subresource, name, parts = case
    info = parse(str(method), str(path).encode(), b"")
    assert info.is_resource
    assert (info.verb, info.api_prefix, info.api_group, info.api_version) == (verb, prefix, group, version)
    assert (info.namespace, info.resource, info.subresource, info.name) == (namespace, resource, subresource, name)
    assert (list(info.parts), info.path, info.method) == (parts, path, method)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/apis",
        "/apis/",
        "/apis/g",
        "/apis/g/v1",
        "/apis/g/v1/",
        "/healthz",
        "/API/v1/pods",
        "/apiz/v1/pods/p",
        "/openapi/v3/apis/g/v1",
        "/version",
        "/a/b/c/d/e",
    ],
)
def test_other_paths(path: str) -> None:
    """§5.1 rules 1 and 2: too short a path, or another prefix, names no resource; its verb is the method."""
    info = parse("GET", path.encode(), b"")
    assert not info.is_resource
    assert (info.verb, info.path, info.resource, info.namespace, info.parts) == ("get", path, "", "", ())


@pytest.mark.parametrize("method", ["OPTIONS", "PROPFIND", "HEAD", "DELETE"])
def test_other_paths_take_any_method(method: str) -> None:
    """§5.3: the verb of a non-resource path is the method in lower case."""
    assert parse(method, b"/files", b"").verb == method.lower()


def test_rest_of_proxied_path_is_kept() -> None:
    """§5.1 rule 5: what follows the subresource is ignored for deciding, and kept."""
    info = parse("GET", b"/api/v1/namespaces/x/services/https:s:443/proxy/d/a%2Fb%25;v=1/", b"x=1")
    assert info.parts == ("services", "https:s:443", "proxy", "d", "a/b%;v=1")
    assert info.target == b"/api/v1/namespaces/x/services/https:s:443/proxy/d/a%2Fb%25;v=1/?x=1"


def test_proxy_prefix_is_404() -> None:
    """§5.1 rule 3: the deprecated proxy prefix does not exist."""
    with pytest.raises(StatusError) as refused:
        parse("GET", b"/api/v1/proxy/namespaces/x/pods/p/a/b", b"")
    assert (refused.value.code, refused.value.reason) == (404, "NotFound")


def test_proxy_prefix_when_asked_for() -> None:
    """§5.1 rules 3 and 5: with it, the verb is proxy and nothing is a subresource."""
    info = parse("POST", b"/api/v1/proxy/namespaces/x/pods/p/a%2Fb/c", b"", allow_proxy_prefix=True)
    assert (info.verb, info.namespace, info.resource, info.name, info.subresource) == ("proxy", "x", "pods", "p", "")
    assert info.parts == ("pods", "p", "a/b", "c")
    assert info.long_running


@pytest.mark.parametrize("path", [b"/api/v1/watch", b"/api/v1/watch/", b"/apis/g/v1/proxy"])
def test_prefix_without_resource_is_400(path: bytes) -> None:
    """§5.1 rule 3: nothing after the verb in the path is an error."""
    with pytest.raises(StatusError, match=r"the request path names no resource after (watch|proxy)") as refused:
        parse("GET", path, b"", allow_proxy_prefix=True)
    assert refused.value.code == 400


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_watch_prefix_takes_get_and_head_only(method: str) -> None:
    """§5.1 rule 3: other methods under the watch prefix are 405 before authorization."""
    with pytest.raises(StatusError) as refused:
        parse(method, b"/apis/g/v1/watch/foos", b"")
    assert (refused.value.code, refused.value.reason) == (405, "MethodNotAllowed")
    assert refused.value.message == f'{method.lower()} is not supported on resources of kind "foos.g"'
    assert refused.value.details == {"group": "g", "kind": "foos"}
    assert refused.value.headers == ((b"allow", b"GET, HEAD"),)


@pytest.mark.parametrize("path", [b"/api/v1/pods", b"/api/v1/pods/p/proxy", b"/api/v1/proxy/pods/p/x"])
@pytest.mark.parametrize("method", ["OPTIONS", "PROPFIND", "QUERY"])
def test_other_methods_on_resources_are_405(method: str, path: bytes) -> None:
    """§5.1 rule 3: no empty verb reaches authorization."""
    with pytest.raises(StatusError) as refused:
        parse(method, path, b"", allow_proxy_prefix=True)
    assert refused.value.code == 405
    assert refused.value.message == f'{method.lower()} is not supported on resources of kind "pods"'
    assert refused.value.headers == ((b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE"),)


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
@pytest.mark.parametrize("path", [b"/", b"/api/v1/pods"])
def test_connect_and_trace_are_405(method: str, path: bytes) -> None:
    """C5.7: CONNECT and TRACE are taken nowhere."""
    with pytest.raises(StatusError, match=f"{method} is not supported") as refused:
        parse(method, path, b"")
    assert refused.value.code == 405


@pytest.mark.parametrize("method", ["get", "Get", "", "GET ", "G\n", "A" * 21, "M-SEARCH", "GÉT", "GET1"])
@pytest.mark.parametrize("path", [b"/", b"/api/v1/pods"])
def test_unusual_methods_are_400(method: str, path: bytes) -> None:
    """C5.7: a method in lower case would become a verb of its own."""
    with pytest.raises(StatusError) as refused:
        parse(method, path, b"")
    assert (refused.value.code, refused.value.reason) == (400, "BadRequest")


@pytest.mark.parametrize(
    ("query", "verb"),
    [
        (b"", "list"),
        (b"watch", "watch"),
        (b"watch=", "watch"),
        (b"watch=true", "watch"),
        (b"watch=1", "watch"),
        (b"watch=no", "watch"),
        (b"%77atch=1", "watch"),
        (b"watch=0", "list"),
        (b"watch=false", "list"),
        (b"watch=False", "list"),
        (b"watch=%66alse", "list"),
        (b"Watch=true", "list"),
        (b"limit=x&watch=true", "watch"),
        (b"limit=x&watch=false", "list"),
    ],
)
def test_watch_parameter(query: bytes, verb: str) -> None:
    """§5.1 rule 6: only the absence, "false" and "0" mean no watch, also beside options that do not parse."""
    assert parse("GET", b"/api/v1/pods", query).verb == verb
    assert parse("HEAD", b"/api/v1/pods", query).verb == verb
    assert parse("GET", b"/api/v1/pods/p", query).verb == "get"
    assert parse("DELETE", b"/api/v1/pods", query).verb == "deletecollection"


@pytest.mark.parametrize(
    ("query", "name"),
    [
        (b"fieldSelector=metadata.name%3Dc", "c"),
        (b"fieldSelector=metadata.name=c", "c"),
        (b"fieldSelector=metadata.name%3D%3Dc&watch=1", "c"),
        (b"field%53elector=metadata.name%3Dc", "c"),
        (b"fieldSelector=a%3Db%2Cmetadata.name%3Dc&labelSelector=a+in+%28b%2Cc%29&limit=500", "c"),
        (b"fieldSelector=metadata.name%3Dc%2Cmetadata.name%3Dc", "c"),
        (b"fieldSelector=metadata.name%3Dsystem%3Anode", "system:node"),
        (b"fieldSelector=metadata.name%21%3Dc", ""),
        (b"fieldSelector=metadata.name%3D", ""),
        (b"fieldSelector=metadata.name%3D..", ""),
        (b"fieldSelector=metadata.name%3Da%2Fb", ""),
        (b"fieldSelector=metadata.name%3Da%2525", ""),
        (b"fieldSelector=metadata.namespace%3Dc", ""),
        (b"fieldSelector=metadata.name%3Da%2Cmetadata.name%3Db", ""),
        (b"fieldSelector=metadata.name%3Dc%2Cbroken", ""),
        (b"fieldSelector=metadata.name%3Dc&labelSelector=%28", ""),
        (b"fieldSelector=metadata.name%3Dc&limit=x", ""),
        (b"fieldSelector=metadata.name%3Dc&timeoutSeconds=1.5", ""),
        (b"fieldSelector=metadata.name%3Dc&timeoutSeconds=", ""),
    ],
)
def test_name_from_field_selector(query: bytes, name: str) -> None:
    """§5.1 rule 6: a list that is confined to one name is authorised for that name; in doubt it is not confined."""
    assert parse("GET", b"/api/v1/namespaces/x/configmaps", query).name == name


def test_name_from_field_selector_is_for_lists_only() -> None:
    """§5.1 rules 6 and 8: neither deletecollection nor the watch prefix takes a name from the query."""
    query = b"fieldSelector=metadata.name%3Dc"
    deleted = parse("DELETE", b"/api/v1/configmaps", query)
    watched = parse("GET", b"/api/v1/watch/configmaps", query)
    assert (deleted.verb, deleted.name, deleted.field_selector) == ("deletecollection", "", "metadata.name=c")
    assert (watched.verb, watched.name, watched.field_selector) == ("watch", "", "")


def test_selectors_are_recorded() -> None:
    """§5.1 rule 8: raw, decoded, for list, watch and deletecollection only."""
    query = b"fieldSelector=a%3D%2B+b&labelSelector=x%21%3Dy"
    for method, path in [("GET", b"/api/v1/pods"), ("DELETE", b"/api/v1/pods")]:
        info = parse(method, path, query)
        assert (info.field_selector, info.label_selector) == ("a=+ b", "x!=y")
    for method, path in [("GET", b"/api/v1/pods/p"), ("POST", b"/api/v1/pods"), ("GET", b"/apis")]:
        info = parse(method, path, query)
        assert (info.field_selector, info.label_selector) == ("", "")


@pytest.mark.parametrize(
    ("method", "path", "query", "long_running"),
    [
        ("GET", b"/api/v1/pods", b"watch=1", True),
        ("GET", b"/api/v1/watch/pods", b"", True),
        ("GET", b"/api/v1/namespaces/x/pods/p/log", b"", True),
        ("POST", b"/api/v1/namespaces/x/pods/p/exec", b"", True),
        ("GET", b"/api/v1/namespaces/x/pods/p/attach", b"", True),
        ("GET", b"/api/v1/namespaces/x/pods/p/portforward", b"", True),
        ("GET", b"/api/v1/namespaces/x/services/s/proxy/a", b"", True),
        ("GET", b"/debug/pprof/heap", b"", True),
        ("GET", b"/debug/pprof", b"", False),
        ("GET", b"/api/v1/pods", b"", False),
        ("GET", b"/api/v1/namespaces/x/pods/p/status", b"", False),
        ("GET", b"/healthz", b"watch=1", False),
    ],
)
def test_long_running(method: str, path: bytes, query: bytes, long_running: bool) -> None:
    """§2.8: watches, proxying and streams have no deadline, whatever `timeout` says."""
    assert parse(method, path, query).long_running is long_running
    timed = parse(method, path, query + b"&timeout=7s")
    assert timed.timeout == (None if long_running else 7.0)


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        (b"", 60.0),
        (b"timeout=32s", 32.0),
        (b"timeout=1m30s", 60.0),
        (b"timeout=1h", 60.0),
        (b"timeout=300ms", 0.3),
        (b"timeout=0", 60.0),
        (b"timeout=0s", 60.0),
        (b"timeout=-5s", 60.0),
        (b"timeout=", 60.0),
        (b"time%6Fut=2s", 2.0),
        (b"timeout=1s&timeout=x", 1.0),
    ],
)
@pytest.mark.parametrize("path", [b"/api", b"/api/v1/pods", b"/api/v1/pods/p"])
def test_timeout(path: bytes, query: bytes, seconds: float) -> None:
    """§0.4.10: a Go duration, of which zero and more than the maximum mean the maximum."""
    assert parse("GET", path, query).timeout == pytest.approx(seconds)


def test_timeout_maximum() -> None:
    """§0.4.10: the operator's maximum counts."""
    assert parse("GET", b"/api", b"timeout=32s", request_timeout=10).timeout == 10
    assert parse("GET", b"/api", b"", request_timeout=90).timeout == 90


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"abc", 'time: invalid duration "abc"'),
        (b"5", 'time: missing unit in duration "5"'),
        (b"5x", 'time: unknown unit "x" in duration "5x"'),
        (b"%0A", r'time: invalid duration "\n"'),
    ],
)
@pytest.mark.parametrize("path", [b"/api", b"/api/v1/pods"])
def test_bad_timeout(path: bytes, value: bytes, message: str) -> None:
    """§0.4.10: kube-apiserver's words, as 400."""
    with pytest.raises(StatusError) as refused:
        parse("GET", path, b"timeout=" + value)
    assert refused.value.code == 400
    assert refused.value.message == f"invalid timeout specified in the request URL - {message}"


@pytest.mark.parametrize(
    ("path", "query", "seconds"),
    [
        (b"/apis/g/v1", b"", 5.0),
        (b"/apis/g/v1/", b"timeout=32s", 5.0),
        (b"/apis/g/v1", b"timeout=2s", 2.0),
        (b"/apis/g", b"timeout=32s", 32.0),
        (b"/users/1/report", b"", 60.0),
    ],
)
def test_discovery_timeout(path: bytes, query: bytes, seconds: float) -> None:
    """§2.8: `/apis/G/V` has five seconds; three segments of somebody's own application have the usual time."""
    assert parse("GET", path, query).timeout == seconds


def test_info_is_immutable() -> None:
    """Nobody inside can change what was authorised."""
    info = parse("GET", b"/api/v1/pods", b"")
    assert isinstance(info, RequestInfo)
    with pytest.raises(AttributeError):
        info.verb = "delete"  # type: ignore[misc]
