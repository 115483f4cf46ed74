"""Targets that two readers could read differently are refused (wire contract §12.1, §12.2; security cases C2, C5.6)."""

from __future__ import annotations

import pytest

from aggmw.errors import StatusError
from aggmw.middleware.request_info import parse

DOTS = "the request path holds a dot segment"
EMPTY = "the request path holds an empty segment"
RAW = "the request path holds a character that must be percent-encoded"
ESCAPE = "the request path holds a % that no two hexadecimal digits follow"
CONTROL = "the request path holds a control character"
UTF8 = "the request path is not UTF-8 when it is decoded"
START = "the request path does not begin with a slash"
OFTEN = "the request path is percent-encoded too often"
UNCLEAR = (
    "the request path holds an encoded slash, backslash or percent sign, or a semicolon, "
    "where it says what is asked for"
)

BASES = [b"/api/v1/namespaces/x/pods", b"/public"]


def refusal(path: bytes, query: bytes = b"", method: str = "GET") -> str:
    """The message of the 400 that this target gets."""
    with pytest.raises(StatusError) as refused:
        parse(method, path, query)
    assert (refused.value.code, refused.value.reason) == (400, "BadRequest")
    return refused.value.message


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (b"/.", DOTS),
        (b"/..", DOTS),
        (b"/../secrets", DOTS),
        (b"/./p", DOTS),
        (b"/%2e%2e/secrets", DOTS),
        (b"/%2E./secrets", DOTS),
        (b"/.%2e", DOTS),
        (b"/%252e%252e/secrets", DOTS),
        (b"/%25252e%25252e/secrets", DOTS),
        (b"/..%2fsecrets", DOTS),
        (b"/a%2f..%2fsecrets", DOTS),
        (b"/a%5c..%5csecrets", DOTS),
        (b"/a%252f..%252fsecrets", DOTS),
        (b"/..;/secrets", DOTS),
        (b"/..;a=b/secrets", DOTS),
        (b"/%2e%2e%3b/secrets", DOTS),
        (b"//p", EMPTY),
        (b"//", EMPTY),
        (b"/p//", EMPTY),
        (b"/p#f", RAW),
        (b"/p?f", RAW),
        (b"/p\\q", RAW),
        (b"/p q", RAW),
        (b"/p\x00", RAW),
        (b"/p\r\nX: y", RAW),
        (b"/p\x7f", RAW),
        (b"/p\xc3\xa9", RAW),
        (b"/p%", ESCAPE),
        (b"/p%4", ESCAPE),
        (b"/p%zz", ESCAPE),
        (b"/p%00", CONTROL),
        (b"/p%0d%0a", CONTROL),
        (b"/p%7F", CONTROL),
        (b"/p%C2%85", CONTROL),
        (b"/p%ff", UTF8),
        (b"/p%fe", UTF8),
        (b"/p%c0%ae", UTF8),
        (b"/p%ed%a0%80", UTF8),
        (b"/p%2525252525252525", OFTEN),
        (b"/a%2Fb", UNCLEAR),
        (b"/a%2fb", UNCLEAR),
        (b"/a%5Cb", UNCLEAR),
        (b"/a%25b", UNCLEAR),
        (b"/%2F", UNCLEAR),
    ],
)
def test_ambiguous_paths(base: bytes, tail: bytes, message: str) -> None:
    """CVE-2022-3162, CVE-2021-29492, CVE-2019-9901 class: refused alike on resource paths and on all others."""
    assert refusal(base + tail) == message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (b"", START),
        (b"*", START),
        (b"api/v1/pods", START),
        (b"http://evil/api/v1/pods", START),
        (b"//evil/api/v1/pods", EMPTY),
        (b"//", EMPTY),
        (b"/..", DOTS),
    ],
)
def test_targets_that_are_no_path(path: bytes, message: str) -> None:
    """C5.6: absolute-form and authority-form targets, and paths without a slash in front."""
    assert refusal(path) == message


@pytest.mark.parametrize(
    "path",
    [
        b"/api%2Fv1/pods/p/q",
        b"/apis/g%2Fv1/pods/p",
        b"/apis/g/v1%2Fpods/p",
        b"/apis/g/v1/namespaces%2Fx/pods",
        b"/apis/g/v1/namespaces/x%2Fpods",
        b"/apis/g/v1/namespaces/x/pods%2Fp",
        b"/apis/g/v1/namespaces/x/pods/p%2Fexec",
        b"/apis/g/v1/namespaces/x/pods/p/exec%2Fq",
        b"/apis/g/v1/namespaces/x;a/pods",
        b"/apis/g/v1/namespaces/x/pods;a",
        b"/apis/g/v1/namespaces/x/pods/p;a",
        b"/apis/g/v1/namespaces/x/pods/p%3Ba",
        b"/apis/g;a/v1/pods",
    ],
)
def test_segments_that_decide_are_plain(path: bytes) -> None:
    """§12.1: from the group to the subresource, no segment holds what a backend could split at."""
    assert refusal(path) == UNCLEAR


@pytest.mark.parametrize("tail", [b"a%2Fb", b"a%5Cb", b"100%25", b"a;v=1", b"a%3Fb", b"%2F%2Fa", b"a%20b"])
def test_proxied_paths_may_hold_anything_but_ways_up(tail: bytes) -> None:
    """§12.1: behind the subresource nothing is decided, and applications behind a proxy use such paths."""
    path = b"/api/v1/namespaces/x/services/s/proxy/" + tail
    assert parse("GET", path, b"").target == path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"/api/v1/nodes/system%3Anode", "system:node"),
        (b"/api/v1/nodes/%6e", "n"),
        (b"/%61pi/v1/nodes/n", "n"),
        (b"/api/v1/nodes/caf%C3%A9", "café"),
        (b"/api/v1/nodes/a%20b", "a b"),
        (b"/api/v1/nodes/...", "..."),
        (b"/api/v1/nodes/..a", "..a"),
        (b"/api/v1/nodes/a|b[c]", "a|b[c]"),
    ],
)
def test_segments_are_decoded_once(path: bytes, name: str) -> None:
    """§12.1: the Python client sends `system%3Anode`; the target stays as it was sent."""
    info = parse("GET", path, b"")
    assert (info.resource, info.name, info.target) == ("nodes", name, path)


@pytest.mark.parametrize("path", [b"/api/v1/pods/", b"/apis/g/v1/", b"/version/", b"/"])
def test_trailing_slash_is_kept(path: bytes) -> None:
    """§12.1: parsed as without it, forwarded with it."""
    info = parse("GET", path, b"a=b")
    assert (info.path, info.target) == (path.decode(), path + b"?a=b")
    if path != b"/":
        assert info[:2] == parse("GET", path.rstrip(b"/"), b"a=b")[:2]


@pytest.mark.parametrize("path", BASES)
@pytest.mark.parametrize("query", [b"a=\x00", b"a=\r\n", b"a=b c", b"a=\x7f", b"a=\xc3\xa9", b"a=b#c"])
def test_unfit_queries(path: bytes, query: bytes) -> None:
    """§12.2: control bytes, bytes outside ASCII and `#` are refused on every path."""
    assert refusal(path, query) == "the query holds a character that must be percent-encoded"


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("query", "message"),
    [
        (b"a=b;watch=1", "the query holds a raw semicolon"),
        (b"watch=1;", "the query holds a raw semicolon"),
        (b"a=%", "the query holds a % that no two hexadecimal digits follow"),
        (b"a=%4", "the query holds a % that no two hexadecimal digits follow"),
        (b"%zz=1", "the query holds a % that no two hexadecimal digits follow"),
        (b"watch=0&watch=1", "the query holds watch more than once"),
        (b"watch&watch", "the query holds watch more than once"),
        (b"watch=0&w%61tch=1", "the query holds watch more than once"),
        (b"fieldSelector=a%3Db&fieldSelector=c%3Dd", "the query holds fieldSelector more than once"),
        (b"labelSelector=a&labelSelector=a", "the query holds labelSelector more than once"),
        (b"resourceVersion=1&x=y&resourceVersion=2", "the query holds resourceVersion more than once"),
        (b"continue=a&continue=b", "the query holds continue more than once"),
        (b"limit=1&limit=2", "the query holds limit more than once"),
    ],
)
def test_ambiguous_queries(method: str, query: bytes, message: str) -> None:
    """§12.2: parsers differ on these, and a verb or a name that is authorised can come from them."""
    assert refusal(b"/api/v1/pods", query, method) == message


@pytest.mark.parametrize("query", [b"a=b;c", b"a=%", b"limit=1&limit=2", b"limit=1&limit=2&timeout=5s"])
def test_other_paths_keep_their_queries(query: bytes) -> None:
    """§12.2 is about resource paths: elsewhere a query means what the application says."""
    assert parse("GET", b"/search", query).target == b"/search?" + query


@pytest.mark.parametrize("key", ["watch", "fieldSelector", "labelSelector"])
def test_query_values_are_utf8(key: str) -> None:
    """C5.6: two different byte strings must not become one U+FFFD that a policy sees."""
    query = key.encode() + b"=%ff"
    assert refusal(b"/api/v1/pods", query) == f"{key} in the query is not UTF-8"


@pytest.mark.parametrize("query", [b"command=a&command=b&stdin=true", b"a=1&&b=2&", b"a=%0A", b"=", b"a=b=c", b"a+b=c"])
def test_harmless_queries(query: bytes) -> None:
    """§12.2 refuses no more than it says: `kubectl exec` repeats `command`."""
    info = parse("POST", b"/api/v1/namespaces/x/pods/p/exec", query)
    assert info.target == b"/api/v1/namespaces/x/pods/p/exec?" + query


def test_nested_encoding_is_bounded() -> None:
    """A path of nothing but nested escapes costs no more than a few passes over it."""
    path = b"/api/v1/namespaces/x/services/s/proxy/%" + b"25" * 30_000
    assert refusal(path) == OFTEN
