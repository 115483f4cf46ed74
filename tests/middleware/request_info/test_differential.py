"""The parser against a slow second one, written from the text of wire contract §5 with nothing but split and if."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote

from hypothesis import example, given, settings
from hypothesis import strategies as st

from aggmw.errors import StatusError
from aggmw.middleware.request_info import parse

WORDS = ["api", "apis", "v1", "g.example.com", "namespaces", "x", "pods", "p", "status", "finalize", "exec", "watch"]
WORDS += ["proxy", "log", "foos", "debug", "pprof", "scale"]
HOSTILE = [
    "..",
    ".",
    "",
    "%2e%2e",
    "..%2f",
    "a%2Fb",
    "%5C",
    "a\\b",
    "%00",
    "%ff",
    "a;b",
    "..;",
    "%25",
    "%252e%252e",
    "#",
]
HOSTILE += [
    "?",
    "é",
    "%C3%A9",
    "%70ods",
    "namespaces%2Fx",
    "%",
    "%4",
    "a b",
    "a%20b",
    "\x7f",
    "system%3Anode",
    "...",
    "|",
]
QUERY_PAIRS = ["watch=1", "watch", "watch=false", "watch=0", "limit=5", "limit=x", "fieldSelector=metadata.name%3Dn"]
QUERY_PAIRS += ["fieldSelector=a%3Db", "labelSelector=a%3Db", "timeout=5s", "fieldManager=kubectl", "resourceVersion=7"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

plain_paths = st.lists(st.sampled_from(WORDS), max_size=9).map(lambda words: "/" + "/".join(words))
any_segments = st.one_of(st.sampled_from(WORDS), st.sampled_from(HOSTILE))
hostile_paths = st.lists(any_segments, max_size=9).map(lambda words: "/" + "/".join(words))
queries = st.lists(st.sampled_from(QUERY_PAIRS), max_size=4, unique_by=lambda pair: pair.split("=")[0]).map("&".join)


def reference(method: str, path: str, query: str) -> dict[str, Any]:
    """§5.1, rule by rule, on a path that is decoded already."""
    info: dict[str, Any] = {"is_resource": False, "verb": method.lower(), "path": path, "namespace": "", "name": ""}
    info |= {"resource": "", "subresource": "", "api_group": "", "api_version": "", "parts": ()}
    rest = path.strip("/").split("/")
    if len(rest) < 3 or rest[0] not in ("api", "apis"):
        return info
    prefix, rest = rest[0], rest[1:]
    if prefix == "apis":
        if len(rest) < 3:
            return info
        info["api_group"], rest = rest[0], rest[1:]
    info["is_resource"] = True
    info["api_version"], rest = rest[0], rest[1:]
    by_method = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
    info["verb"] = by_method[method]
    if rest[0] in ("watch", "proxy"):
        info["verb"], rest = rest[0], rest[1:]
        if not rest:
            return {"error": 400}
        if info["verb"] == "watch" and method not in ("GET", "HEAD"):
            return {"error": 405}
    if rest[0] == "namespaces" and len(rest) > 1:
        info["namespace"] = rest[1]
        if len(rest) > 2 and rest[2] not in ("status", "finalize"):
            rest = rest[2:]
    info["parts"] = tuple(rest)
    info["resource"] = rest[0]
    if len(rest) >= 2:
        info["name"] = rest[1]
    if len(rest) >= 3 and info["verb"] != "proxy":
        info["subresource"] = rest[2]
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not info["name"] and info["verb"] == "get":
        watch = "watch" in options and options["watch"] not in ("false", "0")
        info["verb"] = "watch" if watch else "list"
        if options.get("limit") != "x" and options.get("fieldSelector") == "metadata.name=n":
            info["name"] = "n"
    if not info["name"] and info["verb"] == "delete":
        info["verb"] = "deletecollection"
    return info


def outcome(method: str, path: bytes, query: bytes) -> dict[str, Any]:
    """What our parser says, in the reference's words."""
    try:
        info = parse(method, path, query, allow_proxy_prefix=True)
    except StatusError as refused:
        return {"error": refused.code}
    assert info.target == (path + b"?" + query if query else path)
    names = ("is_resource", "verb", "path", "namespace", "name", "resource", "subresource", "api_group", "api_version")
    return {name: getattr(info, name) for name in (*names, "parts")}


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(METHODS), plain_paths, queries, st.sampled_from(["", "/"]))
@example("GET", "/api/v1/watch", "", "")
@example("GET", "/apis/g/v1/namespaces/x/status/p", "watch", "/")
def test_same_as_the_reference(method: str, path: str, query: str, end: str) -> None:
    """§5: every plain target means what the contract's text says."""
    path = path if path == "/" else path + end
    assert outcome(method, path.encode(), query.encode()) == reference(method, path, query)


@settings(deadline=None, max_examples=600)
@given(st.sampled_from(METHODS), hostile_paths, queries)
def test_hostile_paths_are_refused_or_exact(method: str, path: str, query: str) -> None:
    """C2, CVE-2022-3162: a target is refused, or decoded once it is what was decided upon, segment by segment."""
    raw = path.encode()
    ours = outcome(method, raw, query.encode())
    if "error" in ours:
        assert ours["error"] in (400, 405)
        return
    decoded = [unquote(segment, errors="strict") for segment in path.split("/")]
    assert ours["path"] == "/".join(decoded)
    assert not {".", ".."} & set(ours["path"].replace("\\", "/").split("/"))
    assert "//" not in path
    decided = [ours[name] for name in ("api_group", "api_version", "namespace", "resource", "subresource")]
    for value in [*decided, *ours["parts"][:3]] if ours["verb"] != "proxy" else [*decided, *ours["parts"][:2]]:
        assert not set(value) & set("/\\%;")
    if not ours["is_resource"]:
        assert not set(path.replace("%3A", "").replace("%70", "").replace("%20", "").replace("%C3%A9", "")) & set(
            "%\\#?"
        )
        assert ours["path"].count("/") == path.count("/")
    elif not any("/" in part for part in ours["parts"]):
        assert ours == reference(method, ours["path"], query)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=40).map(lambda tail: b"/api/v1/" + tail), st.binary(max_size=20))
def test_any_bytes_are_refused_or_kept(path: bytes, query: bytes) -> None:
    """Whatever a server lets through: a 400, 404 or 405, or the very same bytes as the target."""
    ours = outcome("GET", path, query)
    if "error" in ours:
        assert ours["error"] in (400, 404, 405)
    else:
        assert ours["path"] == unquote(path.decode("ascii"), errors="strict")
