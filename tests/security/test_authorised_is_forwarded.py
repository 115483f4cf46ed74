"""The bytes that were authorised are the bytes that are forwarded, or the request is refused (rule 6, C2)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggmw.contracts.authorization import Attributes
from aggmw.testing import Client

PIECES = [
    "wardle.example.com", "v1alpha1", "namespaces", "dev", "prod", "flunders", "fischers", "one", "status", "log",
    "watch", "proxy", "..", ".", "%2e%2e", "%2E", "%2f", "%2F", "%5c", "\\", "%25", "%252e", "a%20b", "system%3Anode",
    "%c3%a9", "%ff", "%00", "a;b", "a+b", "~", "%7e", "caf\xe9", "#", "", "*", "a:b", "%41", "@",
]  # fmt: skip
QUERIES = [
    "watch=true", "watch=1", "watch=false", "watch=", "watch", "fieldSelector=metadata.name%3Done", "limit=1", "%zz",
    "fieldSelector=metadata.name%3Done,metadata.namespace%3Ddev", "fieldSelector=metadata.name=two", "a;b", "a=%00",
    "labelSelector=a%3Db", "Watch=true", "timeout=1s", "timeout=x", "x=#", "w%61tch=true", "watch=tru%65", "=", "&&",
]  # fmt: skip

segments = st.lists(st.sampled_from(PIECES) | st.text("ab/.%2Ff;\\", max_size=4), max_size=5)
prefixes = st.sampled_from(
    [
        "/apis/wardle.example.com/v1alpha1",
        "/apis/wardle.example.com/v1alpha1/namespaces/dev",
        "/apis/wardle.example.com/v1alpha1/namespaces/dev/flunders",
        "/apis//wardle.example.com/v1alpha1",
        "/apis/WARDLE.example.com/v1alpha1",
        "/%61pis/wardle.example.com/v1alpha1",
        "//apis/wardle.example.com/v1alpha1",
        "/apis/other.example.com/v1/../../wardle.example.com/v1alpha1",
    ]
)
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}
LISTS = ("get", "list", "watch")


@st.composite
def targets(draw: st.DrawFn) -> str:
    """A target below or near the group version that is served elsewhere."""
    path = "/".join([draw(prefixes), *draw(segments)]) + draw(st.sampled_from(["", "/"]))
    query = "&".join(draw(st.lists(st.sampled_from(QUERIES), max_size=3)))
    return f"{path}?{query}" if query or draw(st.booleans()) else path


def reading(method: str, target: bytes) -> tuple[str, str, str, str, str]:
    """Verb, namespace, resource, name and subresource as a server behind us reads a target: decode, then split.

    Written for this test alone, from Kubernetes' rules, in the least careful way: what it reads must be what was
    decided, so that no carelessness of a backend can be used.
    """
    raw_path, _, query = target.partition(b"?")
    path = unquote_to_bytes(raw_path).decode("utf-8", "replace")
    parts = path.strip("/").split("/")[3:]
    verb = VERBS.get(method, "")
    if parts and parts[0] == "watch":
        verb, parts = "watch", parts[1:]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in ("status", "finalize"):
            parts = parts[2:]
    resource, name, subresource = (*parts, "", "", "")[:3]
    pairs = [pair.partition(b"=") for pair in query.split(b"&")]
    values = {
        unquote_to_bytes(key.replace(b"+", b" ")): unquote_to_bytes(value.replace(b"+", b" "))
        for key, _, value in pairs
    }
    if not name and verb == "get":
        verb = "list" if values.get(b"watch", b"false") in (b"false", b"0") else "watch"
    if not name and verb == "delete":
        verb = "deletecollection"
    if not name and verb in ("list", "watch"):
        match = re.search(rb"(?:^|,)metadata\.name==?([^,]+)", values.get(b"fieldSelector", b""))
        name = match[1].decode() if match else ""
    return verb, namespace, resource, name, subresource


def sent(target: bytes) -> bytes:
    """ASGI does not tell an empty query from none, so a last `?` is not repeated; nothing else changes."""
    return target.removesuffix(b"?")


def decided(attributes: Attributes) -> tuple[str, str, str, str, str]:
    return attributes.verb, attributes.namespace, attributes.resource, attributes.name, attributes.subresource


@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(method=methods, target=targets())
async def test_authorised_equals_forwarded(front: Any, method: str, target: str) -> None:
    """For any target: refused and never sent, or sent byte for byte, and a careless reader reads what was decided."""
    raw = target.encode("latin-1")
    before = len(front.received())
    front.authorizer.asked.clear()
    response = await Client(front.proxy).request(method, raw, headers=[(b"authorization", b"Bearer alice")])
    received = front.received()[before:]
    if response.status in (400, 404, 405):
        assert received == []
        return
    assert len(front.authorizer.asked) == 1
    attributes = front.authorizer.asked[0]
    if not received:
        assert attributes.api_group != "wardle.example.com" or not attributes.is_resource
        return
    assert [request.target for request in received] == [sent(raw)]
    assert received[0].method == method
    assert (attributes.api_group, attributes.api_version) == ("wardle.example.com", "v1alpha1")
    assert decided(attributes) == reading(method, raw)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(target=targets())
async def test_authorised_equals_forwarded_on_the_wire(front: Any, target: str) -> None:
    """The same through the door, as raw bytes on a socket."""
    before = len(front.received())
    front.authorizer.asked.clear()
    raw = target.encode("latin-1")
    head = b"GET %s HTTP/1.1\r\nHost: door\r\nConnection: close\r\nAuthorization: Bearer alice\r\n\r\n" % raw
    answer = await front.exchange(head)
    received = front.received()[before:]
    assert answer.startswith(b"HTTP/1.1 ")
    if received:
        assert [request.target for request in received] == [sent(raw)]
        assert decided(front.authorizer.asked[-1]) == reading("GET", raw)
    else:
        # 503: the discovery document of the group version, which the backend does not have.
        assert answer[9:12] in (b"400", b"404", b"405", b"200", b"503")
