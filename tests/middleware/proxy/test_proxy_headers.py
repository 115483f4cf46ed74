"""The fields that leave and come back: one table each way (wire contract §2.3, security cases C2)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.middleware.proxy.proxying import ALICE

from aggmw.asgi.headers import fold, is_identity
from aggmw.asgi.types import Headers
from aggmw.contracts.backends import Backend
from aggmw.contracts.identity import Identity
from aggmw.errors import InvalidIdentity, StatusError
from aggmw.middleware.proxy.headers import IdentityFields, authority_of, backwards, forwards, sift

BACKEND = Backend("v1.x", "10.0.0.9", 8443)
OURS = IdentityFields().of(ALICE)


def outgoing(*headers: tuple[bytes, bytes], peer: str = "192.0.2.7", request_id: str = "id-1") -> Headers:
    return forwards(sift(headers), authority_of(BACKEND), OURS, b"/a/b?c=d", peer, "https", request_id)


def values(headers: Headers, name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


def test_the_vector() -> None:
    """Wire contract §2.3: what a backend sees of a plain GET, in order."""
    assert outgoing((b"host", b"front"), (b"user-agent", b"kubectl"), (b"accept-encoding", b"gzip")) == (
        (b"user-agent", b"kubectl"),
        (b"accept-encoding", b"gzip"),
        (b"X-Forwarded-Uri", b"/a/b"),
        (b"X-Forwarded-Host", b"10.0.0.9:8443"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-For", b"192.0.2.7"),
        (b"Audit-ID", b"id-1"),
        (b"X-Remote-User", b"alice"),
        (b"X-Remote-Uid", b"uid-1"),
        (b"X-Remote-Group", b"dev"),
        (b"X-Remote-Group", b"ops"),
        (b"X-Remote-Extra-scopes", b"read"),
    )


def test_everything_else_passes() -> None:
    """Byte for byte, repeated fields and their order kept."""
    fields = [
        (b"accept", b"application/json;as=Table;v=v1;g=meta.k8s.io, application/json"),
        (b"cookie", b"a=b"),
        (b"x-a", b"1"),
        (b"cookie", b"c=d"),
        (b"x-a", b"\xe9"),
        (b"traceparent", b"00-ab-cd-01"),
        (b"x-a", b""),
        (b"accept", b"*/*"),
    ]
    assert list(outgoing(*fields)[: len(fields)]) == fields


SPELLINGS = [
    b"x-remote-user",
    b"x_remote_user",
    b"x.remote.user",
    b"x-remote_group",
    b"x-remote-extra-anything",
    b"x-aggmw-identity",
    b"impersonate-user",
    b"client-cert",
    b"x-forwarded-client-cert",
    b"x-forwarded-user",
    b"x_forwarded_prefix",
    b"x-forwarded-port",
    b"x_forwarded_for",
    b"forwarded",
    b"x-real-ip",
    b"x_real_ip",
    b"authorization",
    b"proxy_authorization",
    b"transfer_encoding",
    b"content_length",
    b"keep-alive",
    b"te",
    b"trailer",
    b"expect",
    b"host",
    b"audit_id",
]


@pytest.mark.parametrize("name", SPELLINGS)
def test_what_ends_here(name: bytes) -> None:
    """C2: every spelling of identity, of where a request came from, of framing and of one hop."""
    sent = outgoing((name, b"forged"), (name, b"forged"), (b"accept", b"*/*"))
    assert b"forged" not in b"".join(value for _, value in sent)
    assert (b"accept", b"*/*") in sent


@pytest.mark.parametrize("value", [b"x-remote-user, x-remote-group", b"close, X-Forwarded-For", b"x-secret,keep-alive"])
def test_connection_takes_nothing_of_ours(value: bytes) -> None:
    """C2, CVE-2024-45410: what `Connection` names is removed first, and ours is set last."""
    sent = outgoing((b"connection", value), (b"x-secret", b"1"), (b"x-forwarded-for", b"198.51.100.1"))
    assert sent[-5:] == OURS
    named = b"x-forwarded-for" in value.lower()
    assert values(sent, b"x-forwarded-for") == [b"192.0.2.7" if named else b"198.51.100.1, 192.0.2.7"]
    assert (values(sent, b"x-secret") == []) is (b"x-secret" in value)


def test_forwarded_for_is_appended() -> None:
    """The socket's peer comes behind whatever was claimed; without a peer nothing is invented."""
    earlier = ((b"x-forwarded-for", b"198.51.100.1"), (b"x-forwarded-for", b"198.51.100.2, 198.51.100.3"))
    chain = b"198.51.100.1, 198.51.100.2, 198.51.100.3"
    assert values(outgoing(*earlier), b"x-forwarded-for") == [chain + b", 192.0.2.7"]
    assert values(outgoing(*earlier, peer=""), b"x-forwarded-for") == [chain]
    assert values(outgoing(peer=""), b"x-forwarded-for") == []


def test_no_audit_id_without_one() -> None:
    """Alone, without the recovery stage, there is no id to send."""
    assert values(outgoing((b"audit-id", b"theirs"), request_id=""), b"audit-id") == []


FRAMINGS: list[tuple[Headers, str]] = [
    (((b"content-length", b"1"), (b"content-length", b"1")), "Content-Length is repeated or no number"),
    (((b"content-length", b"1, 1"),), "Content-Length is repeated or no number"),
    (((b"content-length", b"+1"),), "Content-Length is repeated or no number"),
    (((b"content-length", b"9" * 5000),), "Content-Length is repeated or no number"),
    (((b"content-length", b""),), "Content-Length is repeated or no number"),
    (
        ((b"content-length", b"1"), (b"transfer-encoding", b"chunked")),
        "Content-Length and Transfer-Encoding exclude each other",
    ),
    (((b"transfer-encoding", b"gzip, chunked"),), "its transfer coding is not exactly chunked"),
    (((b"transfer-encoding", b"chunked"),) * 2, "its transfer coding is not exactly chunked"),
    (((b" x-remote-user", b"eve"),), "a header name is not a token"),
    (((b"x-a: b\r\nx-remote-user", b"eve"),), "a header name is not a token"),
    (((b"", b"x"),), "a header name is not a token"),
]


@pytest.mark.parametrize(("headers", "text"), FRAMINGS)
def test_what_cannot_be_forwarded(headers: Headers, text: str) -> None:
    """C5 8: servers let different things in; what recipients read differently goes no further."""
    with pytest.raises(StatusError) as caught:
        sift(headers)
    assert (caught.value.code, str(caught.value)) == (400, f"the request cannot be forwarded: {text}")


NAMES = st.one_of(
    st.sampled_from([*SPELLINGS, b"connection", b"upgrade", b"x-forwarded-for", b"accept", b"cookie"]),
    st.from_regex(rb"\A[!#$%&'*+\-.^_`|~0-9a-z]{1,24}\Z"),
)
VALUES = st.one_of(
    st.sampled_from([b"forged", b"x-remote-user", b"close, x-remote-group, x-forwarded-proto", b"chunked", b"5"]),
    st.binary(max_size=12).map(lambda raw: bytes(byte for byte in raw if byte >= 32 and byte != 127)),
)


@settings(deadline=None, max_examples=300)
@given(headers=st.lists(st.tuples(NAMES, VALUES), max_size=12))
def test_whatever_comes_nothing_forged_leaves(headers: list[tuple[bytes, bytes]]) -> None:
    """C2: for any fields: the identity is ours alone and comes last; no framing, no hop, no other origin."""
    try:
        sent = outgoing(*headers)
    except StatusError:
        return  # ambiguous framing: refused, with nothing sent
    assert sent[-len(OURS) :] == OURS
    for name, _ in sent[: -len(OURS)]:
        folded = fold(name)
        assert not is_identity(name)
        assert folded not in (b"content-length", b"transfer-encoding", b"host", b"connection", b"upgrade", b"te")
        assert folded not in (b"authorization", b"forwarded", b"x-real-ip", b"expect")
    for single in (b"x-forwarded-uri", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-for", b"audit-id"):
        assert len([name for name, _ in sent if fold(name) == single]) == 1


# The identity


@pytest.mark.parametrize(
    ("field", "value"),
    [("user", " alice"), ("user", "a\r\nX-Remote-Group: b"), ("uid", "1\t"), ("groups", ("ok", " system:masters"))],
)
def test_checked_again_where_it_is_written(field: str, value: object) -> None:
    """§12.4: an identity that got past its own checks is refused here, whatever made it."""
    caller = Identity("alice")
    object.__setattr__(caller, field, value)
    with pytest.raises(InvalidIdentity):
        IdentityFields().of(caller)


def test_remembered_fields_belong_to_one_identity() -> None:
    """C3: callers who differ in anything never share what is remembered, and the memory is bounded."""
    remembered = IdentityFields()
    callers = [Identity("alice", extra={"tenant": (str(number),)}) for number in range(3000)]
    for caller in (*callers, *callers):
        assert remembered.of(caller)[-1] == (b"X-Remote-Extra-tenant", caller.extra["tenant"][0].encode())
    assert len(remembered._made) <= 1024
    assert remembered.of(callers[-1]) is remembered.of(callers[-1])


# Back


def test_what_comes_back() -> None:
    """§2.4: no hop, no CORS of the backend's, no second Audit-ID; everything else, repeated fields too."""
    kept = [(b"set-cookie", b"a=b"), (b"warning", b'299 - "x"'), (b"set-cookie", b"c=d"), (b"content-length", b"2")]
    dropped = [
        (b"access-control-allow-origin", b"*"),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-allow-headers", b"*"),
        (b"access-control-allow-methods", b"*"),
        (b"audit-id", b"theirs"),
        (b"connection", b"close, x-hop"),
        (b"x-hop", b"1"),
        (b"keep-alive", b"timeout=5"),
        (b"transfer-encoding", b"chunked"),
        (b"trailer", b"x"),
        (b"upgrade", b"h2c"),
        (b"proxy-authenticate", b"Basic"),
    ]
    assert backwards(200, (*dropped, *kept)) == kept


@pytest.mark.parametrize("status", [204, 304])
def test_no_length_where_there_is_no_body(status: int) -> None:
    """C5 16: a server that fails on 304 with a Content-Length does not get one."""
    assert backwards(status, ((b"content-length", b"5"), (b"etag", b'"x"'))) == [(b"etag", b'"x"')]
