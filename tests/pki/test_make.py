"""Certificates that are made: what they say, and that TLS accepts them and nothing else."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from aggmw.pki.make import USER_ID, KeyPair, issue_client, issue_server, make_ca, make_key
from aggmw.pki.read import certificate_details, key_matches, pem_certificates, signed_by


def der(pair: KeyPair) -> bytes:
    (certificate,) = pem_certificates(pair.certificate)
    return certificate


def context(side: int, pair: KeyPair | None, trusted: KeyPair, tmp_path: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(side)
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    made.load_verify_locations(cadata=trusted.certificate.decode())
    if pair is not None:
        file = tmp_path / f"{side}.pem"
        file.write_bytes(pair.certificate + pair.key)
        made.load_cert_chain(file)
    return made


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """A whole TLS handshake in memory; the server's side of it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = server.wrap_bio(to_server, to_client, server_side=True)
    other = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(6):
        for side in (other, one):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return one


@pytest.fixture(scope="module")
def ca() -> KeyPair:
    return make_ca("test CA")


def test_authority(ca: KeyPair) -> None:
    """An authority may sign, signs itself and is valid for ten years, from a little before now."""
    details = certificate_details(der(ca))
    assert details.authority
    assert details.common_name == "test CA"
    assert signed_by(der(ca), der(ca))
    assert key_matches(ca.key, der(ca))
    now = datetime.now(UTC)
    assert timedelta(minutes=1) < now - details.not_before < timedelta(minutes=10)
    assert timedelta(days=3640) < details.not_after - now <= timedelta(days=3650)


def test_keys_are_pkcs8(ca: KeyPair) -> None:
    """Private keys are PKCS#8 PEM, and a key pair never prints its key."""
    assert ca.key.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert "PRIVATE" not in repr(ca)


def test_server_certificate(ca: KeyPair) -> None:
    """A server certificate holds DNS names and addresses once each, for serverAuth only."""
    pair = issue_server(ca, "door", names=["localhost", "127.0.0.1", "::1", "*.Example.com", "localhost"])
    details = certificate_details(der(pair))
    assert details.names == {"localhost", "127.0.0.1", "::1", "*.example.com"}
    assert details.purposes == {"serverAuth"}
    assert not details.authority
    assert signed_by(der(pair), der(ca))
    assert key_matches(pair.key, der(pair))


def test_client_certificate(ca: KeyPair) -> None:
    """A client certificate names the user, its groups in order and its uid, for clientAuth only."""
    pair = issue_client(ca, "alice", groups=("system:masters", "dev"), uid="u-1")
    details = certificate_details(der(pair))
    assert details.common_name == "alice"
    assert details.organizations == ("system:masters", "dev")
    assert details.purposes == {"clientAuth"}
    (uid,) = x509.load_der_x509_certificate(der(pair)).subject.get_attributes_for_oid(ObjectIdentifier(USER_ID))
    assert uid.value == "u-1"


def test_serials_differ(ca: KeyPair) -> None:
    """Two certificates of the same subject and key differ: serial numbers are random."""
    key = make_key()
    assert der(issue_client(ca, "a", key=key)) != der(issue_client(ca, "a", key=key))


def test_a_key_is_kept(ca: KeyPair) -> None:
    """A certificate can be issued for an existing key, so that renewing replaces one file only."""
    key = make_key()
    pair = issue_server(ca, "door", names=["localhost"], key=key)
    assert pair.key == key
    assert key_matches(key, der(pair))


def test_an_authority_made_again_from_its_key_verifies_what_it_signed(ca: KeyPair) -> None:
    """The same key and name make an authority that still verifies earlier certificates."""
    again = make_ca("test CA", key=ca.key)
    assert signed_by(der(issue_client(ca, "alice")), der(again))


def test_a_leaf_ends_no_later_than_its_authority() -> None:
    """A certificate does not outlive the authority that signed it."""
    short = make_ca("short", lifetime=timedelta(days=2))
    leaf = certificate_details(der(issue_client(short, "a")))
    assert leaf.not_after <= certificate_details(der(short)).not_after


@pytest.mark.parametrize(
    "name", ["", "a b", "a\0b", "a\nb", "-a", "a..b", "http://a", "x" * 64, "é", "a/b", "a.*", "1.2.3.4/8"]
)
def test_names_that_are_none(ca: KeyPair, name: str) -> None:
    """What is neither an address nor a DNS name is refused by name, in one line."""
    with pytest.raises(ValueError, match="is neither an IP address nor a DNS name") as error:
        issue_server(ca, "door", names=[name])
    assert repr(name) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_server_needs_a_name(ca: KeyPair) -> None:
    """A server certificate without a name verifies for nobody: refused."""
    with pytest.raises(ValueError, match="needs at least one name"):
        issue_server(ca, "door", names=[])


@pytest.mark.parametrize("user", ["", "u" * 65, "é" * 33])
def test_users_that_do_not_fit(ca: KeyPair, user: str) -> None:
    """A common name is 1 to 64 bytes of UTF-8 (RFC 5280)."""
    with pytest.raises(ValueError, match="is not 1 to 64 bytes long"):
        issue_client(ca, user)


def test_a_group_is_not_empty(ca: KeyPair) -> None:
    """An empty group is refused."""
    with pytest.raises(ValueError, match="a group name is empty"):
        issue_client(ca, "alice", groups=("dev", ""))


def test_a_foreign_key(ca: KeyPair) -> None:
    """An authority whose key is another's signs nothing."""
    with pytest.raises(ValueError, match="key does not match"):
        issue_client(KeyPair(ca.certificate, make_key()), "alice")


def test_a_key_that_is_none(ca: KeyPair) -> None:
    """A key that cannot be read is refused without printing it."""
    with pytest.raises(ValueError, match=r"^the private key cannot be read: it has to be PEM without a password$"):
        issue_client(ca, "alice", key=b"secret")


def test_tls_accepts_them(ca: KeyPair, tmp_path: Path) -> None:
    """Both sides verify in a strict handshake, by DNS name."""
    server = context(ssl.PROTOCOL_TLS_SERVER, issue_server(ca, "door", names=["localhost"]), ca, tmp_path)
    client = context(ssl.PROTOCOL_TLS_CLIENT, issue_client(ca, "alice"), ca, tmp_path)
    certificate = handshake(server, client, "localhost").getpeercert()
    assert certificate is not None
    assert certificate["subject"] == ((("commonName", "alice"),),)


def test_tls_refuses_another_name(ca: KeyPair, tmp_path: Path) -> None:
    """A name that was not asked for does not verify."""
    server = context(ssl.PROTOCOL_TLS_SERVER, issue_server(ca, "door", names=["localhost"]), ca, tmp_path)
    client = context(ssl.PROTOCOL_TLS_CLIENT, issue_client(ca, "alice"), ca, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(server, client, "example.com")


def test_tls_refuses_a_server_certificate_from_a_client(ca: KeyPair, tmp_path: Path) -> None:
    """A certificate made for serving identifies no client (extended key usage)."""
    server = context(ssl.PROTOCOL_TLS_SERVER, issue_server(ca, "door", names=["localhost"]), ca, tmp_path)
    client = context(ssl.PROTOCOL_TLS_CLIENT, issue_server(ca, "alice", names=["localhost"]), ca, tmp_path)
    with pytest.raises(ssl.SSLError, match="unsuitable certificate purpose"):
        handshake(server, client, "localhost")
