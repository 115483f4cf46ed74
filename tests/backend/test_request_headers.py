"""Whose word on who is asking counts (wire contract §6.1, §6.3, §12.4, §12.9; security cases C2, C5)."""

from __future__ import annotations

import pytest
from cryptography.x509.oid import NameOID
from tests.pki.certificates import NOW, SERVER, Certificate, authority, connection, leaf

from aggmw.asgi.request_headers import RequestHeaders
from aggmw.asgi.types import Headers
from aggmw.contracts.connection import UNKNOWN, Connection
from aggmw.contracts.identity import Identity
from aggmw.errors import ConfigurationError, InvalidCredentials, InvalidIdentity

CA = authority("front proxies")
OTHER = authority("front proxies")
NAME = [(NameOID.COMMON_NAME, "front-proxy-client")]
FRONT_PROXY = leaf(CA, NAME)
ALICE = ((b"x-remote-user", b"alice"), (b"x-remote-group", b"dev"))
CHUNKED = (b"transfer-encoding", b"chunked")


def headers(*names: str) -> RequestHeaders:
    return RequestHeaders(CA.pem, allowed_names=names, clock=NOW.timestamp)


def refusal(shown: Connection, by: RequestHeaders | None = None, fields: Headers = ALICE) -> str:
    with pytest.raises((InvalidCredentials, InvalidIdentity)) as refused:
        (by or headers("front-proxy-client")).find(fields, shown)
    return str(refused.value)


def test_the_front_proxy_is_believed() -> None:
    """§6.3, §6.1: user, uid, groups and extras as they are said, and `system:authenticated`."""
    fields = (*ALICE, (b"x-remote-uid", b"u-1"), (b"x-remote-extra-acme.com%2Fscopes", b"read"))
    assert headers("other", "front-proxy-client").find(fields, connection(FRONT_PROXY, CA)) == Identity(
        "alice", "u-1", ("dev", "system:authenticated"), {"acme.com/scopes": ("read",)}
    )


def test_authenticated_is_added_as_in_front() -> None:
    """§6.1: not to an anonymous caller, not twice."""
    shown = connection(FRONT_PROXY, CA)
    anonymous = ((b"x-remote-user", b"system:anonymous"), (b"x-remote-group", b"system:unauthenticated"))
    assert headers().find(anonymous, shown) == Identity("system:anonymous", groups=("system:unauthenticated",))
    already = ((b"x-remote-user", b"a"), (b"x-remote-group", b"system:authenticated"))
    assert headers().find(already, shown) == Identity("a", groups=("system:authenticated",))


@pytest.mark.parametrize(
    "subject", [NAME, [(NameOID.COMMON_NAME, "anybody")], [(NameOID.ORGANIZATION_NAME, "nameless")]]
)
def test_no_names_are_any_name_of_this_ca(subject: list[tuple[NameOID, str]]) -> None:
    """§6.3: an empty list lets every certificate of this CA speak for others, as in Kubernetes."""
    assert headers().find(ALICE, connection(leaf(CA, subject), CA)) is not None  # type: ignore[arg-type]


def test_names_are_compared_whole() -> None:
    """§6.3: right CA, wrong name; neither a part nor another case of an allowed one will do."""
    for name in ("front-proxy-clien", "front-proxy-client2", "Front-Proxy-Client", "*", "alice"):
        text = f"the client certificate's common name {name!r} is not in allowed_names"
        assert refusal(connection(leaf(CA, [(NameOID.COMMON_NAME, name)]), CA)) == text
    assert "common name ''" in refusal(connection(leaf(CA, [(NameOID.ORGANIZATION_NAME, "x")]), CA))


def test_c2_rexec_171_nobody_else_is_believed() -> None:
    """A server that trusts X-Remote-* from anyone lets anyone be anybody (Adyen/kubectl-rexec#171).

    Without a certificate the headers are nobody's; with one of another CA, also one of the same name and with an
    allowed common name, they are refused.
    """
    assert headers().find(ALICE, Connection(tls=True, trailers_apart=True)) is None
    assert headers().find(ALICE, UNKNOWN) is None
    text = "the client certificate is not signed by the front-proxy CA"
    assert refusal(connection(leaf(OTHER, NAME), OTHER)) == text
    assert refusal(connection(leaf(OTHER, NAME), OTHER), headers()) == text


def test_c5_the_root_counts_not_what_lies_between() -> None:
    """http-facts §6: a chain through a certificate of our CA's name that ends elsewhere is somebody else's."""
    middle = Certificate([(NameOID.COMMON_NAME, "front proxies")], OTHER)
    assert "not signed" in refusal(connection(leaf(middle, NAME), middle, OTHER))
    ours = Certificate([(NameOID.COMMON_NAME, "between")], CA)
    assert headers().find(ALICE, connection(leaf(ours, NAME), ours, CA)) is not None


def test_c5_4_a_resumed_session_is_nobody() -> None:
    """C5.4, http-facts §6: nobody has verified its certificate again, so the chain is empty."""
    assert headers().find(ALICE, Connection(peer=("192.0.2.1", 1), tls=True, trailers_apart=True)) is None


@pytest.mark.parametrize(
    ("certificate", "text"),
    [
        (leaf(CA, NAME, purposes=[SERVER]), "extended key usage"),
        (leaf(CA, NAME, lifetime=(-10, -1)), "expired or not valid yet"),
        (leaf(CA, NAME, lifetime=(1, 10)), "expired or not valid yet"),
        (leaf(CA, [*NAME, (NameOID.COMMON_NAME, "alice")]), "several common names"),
    ],
    ids=["a server's", "expired", "not yet", "two names"],
)
def test_bad_certificates(certificate: Certificate, text: str) -> None:
    """§6.3: clientAuth is required, and that it is valid now."""
    assert text in refusal(connection(certificate, CA))


def test_c5_11_certificates_end_on_open_connections() -> None:
    """C5.11: a connection outlives its certificate; the next request does not."""
    now = [NOW.timestamp()]
    trusting = RequestHeaders(CA.pem, clock=lambda: now[0])
    shown = connection(leaf(CA, NAME, lifetime=(-1, 1)), CA)
    assert trusting.find(ALICE, shown) is not None
    now[0] += 86_401
    assert "expired" in refusal(shown, trusting)


def test_no_user_is_nobody() -> None:
    """§6.3: the front proxy names no user: no opinion, whatever groups it names."""
    shown = connection(FRONT_PROXY, CA)
    for fields in ((), ((b"x-remote-group", b"system:masters"),), ((b"x-remote-user", b""),)):
        assert headers().find(fields, shown) is None


@pytest.mark.parametrize("name", [b"x_remote_user", b"x.remote.user", b"x-remote_user", b"remote-user"])
def test_c2_cve_2025_64484_other_spellings_are_not_read(name: bytes) -> None:
    """C2, CVE-2025-64484: also not from the front proxy, which may have let them through."""
    shown = connection(FRONT_PROXY, CA)
    assert headers().find(((name, b"root"),), shown) is None
    assert headers().find(((name, b"root"), *ALICE), shown) == Identity("alice", groups=("dev", "system:authenticated"))


@pytest.mark.parametrize("added", [(b"x-remote-user", b"root"), (b"x-remote-uid", b"0"), (b"x-remote-uid", b"u-1")])
def test_c5_6_a_second_user_is_refused(added: tuple[bytes, bytes]) -> None:
    """C5.6: one value, several parsers: where a hop appended instead of replacing, nobody guesses which one counts."""
    fields = (*ALICE, (b"x-remote-uid", b"u-1"), added)
    assert "is there 2 times" in refusal(connection(FRONT_PROXY, CA), fields=fields)


@pytest.mark.parametrize("value", [b" system:masters", b"a\tb", b"a\x00", b"a\xc2\x85b", b"\xff"])
def test_12_4_values_that_receivers_trim(value: bytes) -> None:
    """§12.4: refused, not repaired."""
    refusal(connection(FRONT_PROXY, CA), fields=(*ALICE, (b"x-remote-group", value)))


# Trailers


def mixed(*chain: Certificate) -> Connection:
    """A server that hands trailers on as headers, and says so by saying nothing."""
    return Connection(tls=True, chain=tuple(each.der for each in chain))


@pytest.mark.parametrize("name", [b"x-remote-user", b"x_remote_group", b"x-remote-extra-a", b"client-cert"])
def test_c5_1_trailers_are_never_identity(name: bytes) -> None:
    """C5.1, http-facts §1: what may have been a trailer is refused, in any spelling; what cannot have been passes."""
    shown = mixed(FRONT_PROXY, CA)
    assert "Transfer-Encoding" in refusal(shown, headers(), (CHUNKED, (name, b"root")))
    assert headers().find((CHUNKED,), shown) is None
    assert headers().find(ALICE, shown) is not None
    assert headers().find((CHUNKED, *ALICE), connection(FRONT_PROXY, CA)) is not None


def test_c5_1_trailers_where_anybody_is_believed() -> None:
    """C5.1: a terminator strips X-Remote-* and forwards trailers: the same rule without certificates."""
    anybody = RequestHeaders(accept_any_peer=True)
    assert anybody.find(ALICE, UNKNOWN) == Identity("alice", groups=("dev", "system:authenticated"))
    assert "Transfer-Encoding" in refusal(UNKNOWN, anybody, (CHUNKED, *ALICE))
    assert anybody.find((CHUNKED, *ALICE), Connection(trailers_apart=True)) is not None


# Options


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {},
            "front-proxy CA: nobody is to be believed: give ca=… (the front-proxy CA, PEM), or in_process_only=True"
            " where the front proxy calls this application itself, or accept_any_peer=True where nobody but the front"
            " proxy can reach this server",
        ),
        ({"ca": b""}, "front-proxy CA: holds no PEM certificate (-----BEGIN CERTIFICATE-----)"),
        (
            {"ca": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
            "front-proxy CA: certificate 1 of 1 cannot be decoded: ",
        ),
        (
            {"ca": CA.pem, "accept_any_peer": True},
            "front-proxy CA: accept_any_peer=True asks for no certificate: leave it out, or ca and allowed_names",
        ),
        ({"allowed_names": ["a"], "accept_any_peer": True}, "front-proxy CA: accept_any_peer=True asks for no "),
        ({"allowed_names": ["a"]}, "front-proxy CA: nobody is to be believed: "),
    ],
)
def test_nobody_is_believed_by_mistake(options: dict[str, object], text: str) -> None:
    """Without a CA it is not made, and the error names both ways out; nor with one that cannot be read."""
    with pytest.raises(ConfigurationError) as refused:
        RequestHeaders(**options)  # type: ignore[arg-type]
    assert str(refused.value).startswith(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ca": CA.pem, "allowed_names": "front-proxy-client"}, "allowed_names takes a list of names, not one string"),
        ({"ca": CA.pem.decode()}, "ca takes bytes, not str"),
        ({"ca": "front-proxy-ca.crt"}, "ca takes bytes, not str"),
    ],
)
def test_other_shapes(options: dict[str, object], text: str) -> None:
    """A string would be a set of letters, and a path no certificate."""
    with pytest.raises(TypeError, match=text):
        RequestHeaders(**options)  # type: ignore[arg-type]


def test_repr() -> None:
    """How much is trusted, and nothing that was presented."""
    assert repr(headers()) == "RequestHeaders(1 authorities)"
    assert repr(headers("b", "a")) == "RequestHeaders(1 authorities, allowed_names=['a', 'b'])"
    assert repr(RequestHeaders(accept_any_peer=True)) == "RequestHeaders(accept_any_peer=True)"
