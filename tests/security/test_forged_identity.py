"""Nobody but the front proxy says who is asking: whatever a client sends, on whatever route (C2, C5 1)."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

SEPARATORS = ("-", "_", ".", "~", "--")
TAILS = ("User", "Uid", "Group", "Extra-Scopes", "Extra-Acme.com%2Fx")
CASES = (str, str.lower, str.upper, str.title)
API = "/apis/wardle.example.com/v1alpha1/namespaces/dev/flunders"
ROUTES = {
    "resource": (API, True),
    "object": (f"{API}/one/status", True),
    "core": ("/somewhere", True),
    "anonymous": ("/open", False),
    "health": ("/healthz", False),
    "discovery": ("/apis", True),
    "openapi": ("/openapi/v3/apis/wardle.example.com/v1alpha1", True),
}
MARK = "forged-value"


def spellings() -> list[str]:
    """Every spelling of every identity header: separators mixed, cases, and the certificate headers of other hops."""
    names = {
        case(f"X{a}Remote{b}{tail.replace('-', a)}")
        for a, b, tail, case in product(SEPARATORS[:4], SEPARATORS[:4], TAILS, CASES)
    }
    others = ["Client-Cert", "Client_Cert", "X-Forwarded-Client-Cert", "X.Forwarded.Client.Cert", "X-Aggmw-Identity"]
    return sorted(names | set(others))


def request(path: str, fields: list[str], *, credentials: bool, body: str = "") -> bytes:
    """A raw request that closes the connection after its answer."""
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", "Host: door", "Connection: close", *fields]
    if credentials:
        lines.append("Authorization: Bearer alice")
    return "\r\n".join([*lines, "", ""]).encode() + body.encode()


def trusted(front: Any) -> None:
    """What left towards backends and the application speaks of nobody but the caller."""
    for received in front.received():
        assert MARK.encode() not in b"\n".join(value for _, value in received.headers)
        names = [name for name, _ in received.headers if name.replace(b"_", b"-").startswith(b"x-remote")]
        assert names == [b"x-remote-user", b"x-remote-uid", *[b"x-remote-group"] * 2, b"x-remote-extra-scopes"]
        assert received.values("x-remote-user") == [b"alice"]
        assert received.values("x-remote-group") == [b"dev", b"system:authenticated"]
        assert received.header("authorization") is None
    for headers in front.core:
        assert MARK.encode() not in b"\n".join(value for _, value in headers)
    for attributes in front.authorizer.asked:
        assert attributes.identity.user in ("alice", "system:anonymous")


@pytest.mark.parametrize("route", ROUTES)
async def test_c2_every_spelling_on_every_route(front: Any, route: str) -> None:
    """C2: the full spelling matrix, one request with all of them, on each kind of route."""
    path, credentials = ROUTES[route]
    names = spellings()
    for start in range(0, len(names), 150):
        fields = [f"{name}: {MARK}" for name in names[start : start + 150]]
        answer = await front.exchange(request(path, fields, credentials=credentials))
        assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
    if route in ("resource", "object"):
        assert front.received()
    trusted(front)


@pytest.mark.parametrize("repeated", [1, 3])
async def test_c2_repeated_and_named_by_connection(front: Any, repeated: int) -> None:
    """C2: `Connection: x-remote-user` removes nothing of ours, and repetition does not help."""
    fields = [f"X-Remote-User: {MARK}"] * repeated + ["Connection: close, x-remote-user, x-remote-group"]
    answer = await front.exchange(request(API, fields, credentials=True).replace(b"Connection: close\r\n", b"", 1))
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(front.received()) == 1
    trusted(front)


@pytest.mark.parametrize(
    "name", ["X-Remote-User ", "X-Remote-User\t", " X-Remote-User", "X-Remote\x00User", "X Remote User"]
)
async def test_c2_names_that_are_no_tokens(front: Any, name: str) -> None:
    """C2: a blank in or around a name is refused, not guessed at."""
    answer = await front.exchange(request(API, [f"{name}: {MARK}"], credentials=True))
    assert answer.startswith(b"HTTP/1.1 400"), answer[:100]
    assert front.received() == []


@pytest.mark.parametrize("name", ["Impersonate-User", "impersonate_user", "Impersonate.Group", "IMPERSONATE-EXTRA-X"])
@pytest.mark.parametrize("route", ["resource", "anonymous", "health"])
async def test_c6_impersonation_is_refused(front: Any, name: str, route: str) -> None:
    """§12.6: without an impersonation stage any such field is 403, never ignored, never forwarded."""
    path, credentials = ROUTES[route]
    answer = await front.exchange(request(path, [f"{name}: {MARK}"], credentials=credentials))
    assert answer.startswith(b"HTTP/1.1 403"), answer[:100]
    assert front.received() == front.core == []


TRAILERS = ("X-Remote-User", "x_remote_group", "Authorization", "Connection", "Content-Length", "Client-Cert", "Host")


@pytest.mark.parametrize("split", ["one packet", "before the trailers", "every byte"])
@pytest.mark.parametrize("name", TRAILERS)
@pytest.mark.parametrize("route", ["resource", "core", "anonymous", "health"])
async def test_c5_trailers_are_never_headers(front: Any, route: str, name: str, split: str) -> None:
    """C5 1: a trailer says nothing about the caller, in one packet or many."""
    path, credentials = ROUTES[route]
    value = "Bearer alice" if name == "Authorization" else MARK
    body = f"2\r\n{{}}\r\n0\r\n{name}: {value}\r\n\r\n"
    whole = request(path, ["Transfer-Encoding: chunked"], credentials=credentials, body=body)
    cut = whole.index(b"0\r\n" + name.encode())
    packets = {
        "one packet": [whole],
        "before the trailers": [whole[:cut], whole[cut:]],
        "every byte": [whole[:-40], *(bytes([byte]) for byte in whole[-40:])],
    }[split]
    answer = await front.exchange(*packets)
    # A trailer is as if it were not there, but for a length behind the body: that is refused, unless the answer was
    # given before it came, by somebody who does not read bodies.
    usual = b"405" if route == "health" else b"200"
    refused = name == "Content-Length" and (route == "resource" or split == "one packet")
    early = name == "Content-Length" and not refused
    assert answer[9:12] in {b"400"} if refused else {usual, b"400"} if early else {usual}, answer[:200]
    if name != "Content-Length":
        assert len(front.received()) == (route == "resource")
    for received in front.received():
        assert received.values("connection") == []
        assert received.values("content-length") == [b"2"] or received.values("transfer-encoding") == [b"chunked"]
        assert received.values("host") == [f"{front.backend.host}:{front.backend.port}".encode()]
    trusted(front)


async def test_c5_authorization_as_a_trailer_is_nobody(front: Any) -> None:
    """C5 1: credentials that come as a trailer are not credentials."""
    whole = request(
        API, ["Transfer-Encoding: chunked"], credentials=False, body="0\r\nAuthorization: Bearer alice\r\n\r\n"
    )
    answer = await front.exchange(whole)
    assert answer.startswith(b"HTTP/1.1 401"), answer[:100]
    assert front.received() == []
