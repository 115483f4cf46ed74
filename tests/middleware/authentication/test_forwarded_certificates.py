"""Client certificates from a TLS terminator: from whom they count, both fields, and everything that is refused."""

from __future__ import annotations

import base64
import time
from datetime import timedelta
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from tests.pki.certificates import Certificate, revocations

from aggmw.contracts.connection import Connection
from aggmw.contracts.identity import Identity, Presented
from aggmw.contracts.peers import Peers
from aggmw.errors import InvalidCredentials
from aggmw.middleware.authentication import ForwardedCertificates
from aggmw.pki.make import issue_client, issue_server, make_ca
from aggmw.pki.read import pem_certificates

CA = make_ca("clients")
OTHER = make_ca("others")
ALICE = pem_certificates(issue_client(CA, "alice", groups=["dev"]).certificate)[0]
STRANGER = pem_certificates(issue_client(OTHER, "alice").certificate)[0]
SERVER = pem_certificates(issue_server(CA, "s", names=["localhost"]).certificate)[0]
TERMINATOR = Connection(("10.0.0.7", 4711), trailers_apart=True)


def forwarded(**options: object) -> ForwardedCertificates:
    return ForwardedCertificates(CA.certificate, **{"peers": ["10.0.0.0/29"], **options})  # type: ignore[arg-type]


def binary(der: bytes) -> bytes:
    return b":" + base64.b64encode(der) + b":"


def pem(*ders: bytes) -> str:
    blocks = [base64.encodebytes(der).decode() for der in ders]
    return "".join(f"-----BEGIN CERTIFICATE-----\n{block}-----END CERTIFICATE-----\n" for block in blocks)


def xfcc(*ders: bytes, key: str = "Cert", more: str = "") -> bytes:
    return f'By=spiffe://front;Hash=ab12;{key}="{quote(pem(*ders), safe="")}";Subject="CN=a,O=b\\"c"{more}'.encode()


async def found(value: bytes, *more: tuple[bytes, bytes], by: ForwardedCertificates | None = None) -> Identity | None:
    on = by or forwarded()
    name = on._field.encode()
    return await on.authenticate(Presented(((name, value), *more), TERMINATOR))


async def test_rfc_9440() -> None:
    """The certificate of the field is whose request it is, as if it had come by itself."""
    identity = await found(binary(ALICE))
    assert identity is not None
    assert (identity.user, identity.groups) == ("alice", ("dev", "system:authenticated"))
    assert identity.credential.ambient
    assert identity.extra["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")


@pytest.mark.parametrize("key", ["Cert", "Chain", "cert"])
async def test_envoy(key: str) -> None:
    """`Cert` or `Chain` of the one element of XFCC, URL-encoded PEM."""
    identity = await found(xfcc(ALICE, key=key), by=forwarded(field="x-forwarded-client-cert"))
    assert identity is not None
    assert identity.user == "alice"


@pytest.mark.parametrize("peer", [None, ("10.0.0.8", 1), ("::1", 1), ("127.0.0.1", 1), ("nonsense", 1)])
async def test_c5_5_only_from_listed_peers(peer: tuple[str, int] | None) -> None:
    """C5.5: from everybody else the field is not even read, whatever is in it."""
    on = Connection(peer, trailers_apart=True)
    for value in (binary(ALICE), b"nonsense"):
        assert await forwarded().authenticate(Presented(((b"client-cert", value),), on)) is None


async def test_mapped_address() -> None:
    """An IPv4 peer on a socket for both is the same peer."""
    on = Connection(("::ffff:10.0.0.7", 1), trailers_apart=True)
    assert await forwarded().authenticate(Presented(((b"client-cert", binary(ALICE)),), on)) is not None


async def test_other_spellings_do_not_count() -> None:
    """Only the very name: another spelling is removed like every identity header, and never read."""
    for name in (b"client_cert", b"client.cert", b"x-client-cert", b"x-forwarded-client-cert"):
        assert await forwarded().authenticate(Presented(((name, binary(ALICE)),), TERMINATOR)) is None


async def test_other_authority_is_no_opinion() -> None:
    """A certificate of somebody else's authority is somebody else's."""
    assert await found(binary(STRANGER)) is None


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (b"", "not a byte sequence"),
        (ALICE[:10], "not a byte sequence"),
        (base64.b64encode(ALICE), "not a byte sequence"),
        (b":AAA:", "not base64"),
        (b":AAAA:", "cannot be decoded"),
        (binary(SERVER), "extended key usage"),
    ],
    ids=["empty", "DER", "base64 alone", "wrong padding", "no certificate", "of a server"],
)
async def test_refused(value: bytes, what: str) -> None:
    """What cannot be read, or may not be used by clients, is bad: never anonymous."""
    with pytest.raises(InvalidCredentials, match=what):
        await found(value)


async def test_twice() -> None:
    """A field that is there twice was set by two, one of whom is not the terminator."""
    with pytest.raises(InvalidCredentials, match="there 2 times"):
        await found(binary(ALICE), (b"client-cert", binary(STRANGER)))
    field = (b"x-forwarded-client-cert", xfcc(ALICE))
    with pytest.raises(InvalidCredentials, match="there 2 times"):
        await found(xfcc(ALICE), field, by=forwarded(field="x-forwarded-client-cert"))


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (xfcc(ALICE, more=",By=x"), "several elements"),
        (b'By=x,Cert="' + quote(pem(ALICE)).encode() + b'"', "several elements"),
        (b"Hash=ab", "no Cert"),
        (b'Cert="%zz"', "no PEM certificate"),
        (b'Cert="a";Cert="b"', "twice"),
        (b'Cert="a', "cannot be read"),
    ],
    ids=["more", "several", "without", "no PEM", "twice", "no end"],
)
async def test_refused_elements(value: bytes, what: str) -> None:
    """XFCC that was appended to, or that says nothing, is refused."""
    with pytest.raises(InvalidCredentials, match=what):
        await found(value, by=forwarded(field="x-forwarded-client-cert"))


async def test_trailers_are_not_believed() -> None:
    """C5.1: under a server that mixes trailers into the headers, not beside Transfer-Encoding."""
    fields = ((b"client-cert", binary(ALICE)), (b"transfer-encoding", b"chunked"))
    with pytest.raises(InvalidCredentials, match="mixes trailers"):
        await forwarded().authenticate(Presented(fields, Connection(("10.0.0.7", 1))))


async def test_revoked_and_expired() -> None:
    """Revocation and validity count as for certificates that come by themselves; also of a field that was seen."""
    moved = 0.0
    on = forwarded(clock=lambda: time.time() + moved)
    assert await found(binary(ALICE), by=on) is not None
    moved = timedelta(days=10_000).total_seconds()
    with pytest.raises(InvalidCredentials, match="expired"):
        await found(binary(ALICE), by=on)
    moved = 0.0
    on.reload(CA.certificate, crl=_list_of(ALICE))
    with pytest.raises(InvalidCredentials, match="revoked"):
        await found(binary(ALICE), by=on)
    on.reload(OTHER.certificate)
    assert await found(binary(ALICE), by=on) is None


async def test_c5_4_what_is_no_longer_believed_is_withdrawn() -> None:
    """C5.4: whoever goes on by a field's certificate is told, also when the field itself is remembered no longer."""
    on = forwarded()
    identity = await found(binary(ALICE), by=on)
    assert identity is not None
    on._seen.clear()  # as when many others came meanwhile
    on.reload(CA.certificate)
    assert identity.credential.withdrawal is not None
    assert not identity.credential.withdrawal.begun
    on.reload(CA.certificate, crl=_list_of(ALICE))
    assert identity.credential.withdrawal.begun


def _list_of(der: bytes) -> bytes:
    """A list of the client CA with this certificate on it."""
    signer = Certificate.__new__(Certificate)
    signer.key = load_pem_private_key(CA.key, None)  # type: ignore[assignment]  # of an elliptic curve
    signer.name = x509.load_pem_x509_certificate(CA.certificate).subject
    revoked = Certificate.__new__(Certificate)
    revoked.x509 = x509.load_der_x509_certificate(der)
    return revocations(signer, revoked)


def test_bounded_memory() -> None:
    """Fields that are never seen again do not stay for ever."""
    on = forwarded()
    for number in range(1100):
        certificate = binary(STRANGER)[:-1] + b":" + b" " * (number % 7) + b"\t" * (number // 7)
        on.identify(Presented(((b"client-cert", certificate),), TERMINATOR))
    assert len(on._seen) == 1024


@pytest.mark.parametrize(
    ("peers", "what"),
    [
        ([], "at least one"),
        (["10.0.0.1/8"], "has host bits set"),
        (["host"], "does not appear to be"),
        ([""], "does not appear to be"),
    ],
)
def test_peers_that_are_none(peers: list[str], what: str) -> None:
    """Trust is listed and narrow: nothing, and what is no address, is an error."""
    with pytest.raises(ValueError, match=what):
        Peers(peers)
    with pytest.raises(TypeError, match="not one string"):
        Peers("10.0.0.1")


@given(st.binary(max_size=200))
def test_no_field_becomes_somebody(value: bytes) -> None:
    """Whatever stands in the fields, without a certificate of the authority it is nobody."""
    for field in ("client-cert", "x-forwarded-client-cert"):
        on = forwarded(field=field)
        try:
            assert on.identify(Presented(((field.encode(), value),), TERMINATOR)) is None
        except InvalidCredentials:
            continue


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(st.integers(0, len(ALICE) - 1), st.integers(1, 255))
def test_no_changed_certificate_becomes_somebody(position: int, change: int) -> None:
    """A certificate of which one byte is another is nobody's: its signature does not fit."""
    changed = bytearray(ALICE)
    changed[position] ^= change
    try:
        identity = forwarded().identify(Presented(((b"client-cert", binary(bytes(changed))),), TERMINATOR))
    except InvalidCredentials:
        return
    assert identity is None
