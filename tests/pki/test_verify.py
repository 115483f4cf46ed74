"""Which client certificates count, and what they say (http-facts §6)."""

from __future__ import annotations

import base64
import gc
from datetime import timedelta

import pytest
from cryptography.x509.oid import NameOID, ObjectIdentifier
from tests.pki.certificates import (
    ALICE,
    ANY,
    CLIENT,
    NOW,
    SERVER,
    Attribute,
    Certificate,
    authority,
    connection,
    leaf,
    revocations,
)

from aggmw.contracts.connection import UNKNOWN, Connection
from aggmw.errors import ConfigurationError, InvalidCredentials, InvalidIdentity
from aggmw.pki.make import USER_ID
from aggmw.pki.read import fingerprint
from aggmw.pki.verify import ClientCA, Subject

CA = authority("clients")
OTHER = authority("front proxies")
MIDDLE = Certificate([(NameOID.COMMON_NAME, "middle")], CA)
BESIDE = "that of an intermediate authority needs its certificate beside it"


def clients(ca: bytes = CA.pem, *, crl: bytes | None = None) -> ClientCA[Subject]:
    """Reads a subject as it is."""
    return ClientCA(ca, lambda subject: subject, crl=crl, clock=NOW.timestamp)


def refusal(shown: Connection, by: ClientCA[Subject] | None = None) -> str:
    with pytest.raises(InvalidCredentials) as refused:
        (by or clients()).find(shown)
    return str(refused.value)


def test_subject() -> None:
    """What the leaf says, groups and uids in order."""
    certificate = leaf(CA, [*ALICE, (ObjectIdentifier(USER_ID), "uid-7")])
    end = (NOW + timedelta(days=10)).timestamp()
    assert clients().find(connection(certificate, CA)) == Subject(
        "alice", ("dev", "ops"), ("uid-7",), fingerprint(certificate.der), end
    )


def test_expires_with_the_first_of_the_chain() -> None:
    """C5.11: an authority that ends before what it signed ends that, too."""
    short = authority("clients", lifetime=(-1, 3))
    found = clients(short.pem).find(connection(leaf(short), short))
    assert found is not None
    assert found.expires == (NOW + timedelta(days=3)).timestamp()


def test_nobody_of_ours() -> None:
    """http-facts §6: no certificate, a resumed session (its chain is empty), another authority."""
    assert clients().find(UNKNOWN) is None
    assert clients().find(Connection(tls=True, trailers_apart=True)) is None
    assert clients().find(connection(leaf(OTHER), OTHER)) is None


def test_root_is_compared_not_its_name() -> None:
    """http-facts §6: an authority of the same name is another authority."""
    twin = authority("clients")
    assert clients().find(connection(leaf(twin), twin)) is None
    assert clients(CA.pem + OTHER.pem).find(connection(leaf(OTHER), OTHER)) is not None


def test_only_the_end_of_the_chain_counts() -> None:
    """http-facts §6: a chain that passes through our authority and ends in another is that other's."""
    assert clients().find(connection(leaf(CA), CA, OTHER)) is None
    assert clients().find(connection(CA, leaf(OTHER), OTHER)) is None


@pytest.mark.parametrize("purposes", [None, [CLIENT], [SERVER, CLIENT], [ANY]])
def test_purposes_that_allow_clients(purposes: list[ObjectIdentifier] | None) -> None:
    """http-facts §6: as Go: clientAuth, any purpose, or no limit."""
    assert clients().find(connection(leaf(CA, purposes=purposes), CA)) is not None


def test_other_purposes_are_bad() -> None:
    """http-facts §6: OpenSSL was not asked about the purpose; a server's certificate is no client's."""
    text = "the client certificate may not be used by clients (extended key usage)"
    assert refusal(connection(leaf(CA, purposes=[SERVER]), CA)) == text
    middle = Certificate([(NameOID.COMMON_NAME, "middle")], CA, purposes=[SERVER])
    assert refusal(connection(leaf(middle), middle, CA)) == text
    limited = authority("limited", purposes=[SERVER])
    assert refusal(connection(leaf(limited), limited), clients(limited.pem)) == text


@pytest.mark.parametrize("lifetime", [(-10, -1), (1, 10)])
def test_validity_of_every_certificate(lifetime: tuple[int, int]) -> None:
    """http-facts §6: leaf, intermediate and root must be valid now."""
    text = "a certificate of the client's chain is expired or not valid yet"
    assert refusal(connection(leaf(CA, lifetime=lifetime), CA)) == text
    middle = Certificate([(NameOID.COMMON_NAME, "middle")], CA, lifetime=lifetime)
    assert refusal(connection(leaf(middle), middle, CA)) == text
    root = authority("short", lifetime=lifetime)
    assert refusal(connection(leaf(root), root), clients(root.pem)) == text


def test_expiry_on_an_open_connection() -> None:
    """C5.11: a connection outlives its certificate; what it says does not count any longer."""
    now = [NOW.timestamp()]
    ca = ClientCA(CA.pem, lambda subject: subject, clock=lambda: now[0])
    shown = connection(leaf(CA, lifetime=(-1, 1)), CA)
    assert ca.find(shown) is not None
    now[0] += 86_401
    assert "expired" in refusal(shown, ca)


@pytest.mark.parametrize(
    "subject", [[(NameOID.COMMON_NAME, "a"), (NameOID.COMMON_NAME, "b")], [*ALICE, (NameOID.COMMON_NAME, "alice")]]
)
def test_several_common_names(subject: list[Attribute]) -> None:
    """C5.6: one value, several parsers: which of two names counts is not guessed at."""
    assert refusal(connection(leaf(CA, subject), CA)) == "the client certificate has several common names"


def test_no_common_name() -> None:
    """It is "", and up to the reader."""
    found = clients().find(connection(leaf(CA, [(NameOID.ORGANIZATION_NAME, "dev")]), CA))
    assert found is not None
    assert found.common_name == ""


def test_garbage_is_bad() -> None:
    """A chain that cannot be decoded, under a root that is ours."""
    later = leaf(CA).der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x1e", 1)  # of a version that there is not
    bits = leaf(CA).der.replace(b"\x0c\x05alice", b"\x03\x05\x00lice", 1)  # a name that is a string of bits
    for garbage in (b"garbage", later, bits):
        assert refusal(Connection(chain=(garbage, CA.der))) == "the client certificate cannot be decoded"


def test_reader_refuses() -> None:
    """What the reader raises is bad credentials, each time, though it is asked once."""
    asked: list[str] = []

    def read(subject: Subject) -> str:
        asked.append(subject.common_name)
        raise InvalidIdentity("no good")

    ca = ClientCA(CA.pem, read, clock=NOW.timestamp)
    shown = connection(leaf(CA), CA)
    for _ in range(2):
        with pytest.raises(InvalidCredentials, match="names nobody that can be used: no good"):
            ca.find(shown)
    assert asked == ["alice"]


def test_checked_once_per_connection() -> None:
    """A second request on a connection costs a look-up; what was found out goes with the connection."""
    ca = clients()
    shown = connection(leaf(CA), CA)
    first = ca.find(shown)
    assert first is not None
    assert ca.find(shown) is first
    assert len(ca._checked) == 1
    del shown
    gc.collect()
    assert len(ca._checked) == 0


def test_reload_reaches_open_connections() -> None:
    """C5.4, http-facts §6: another bundle or a revocation counts from the next request on."""
    ca = clients()
    certificate = leaf(CA)
    shown = connection(certificate, CA)
    assert ca.find(shown) is not None
    ca.reload(CA.pem, crl=revocations(CA, certificate))
    assert refusal(shown, ca) == "a certificate of the client's chain is revoked"
    ca.reload(OTHER.pem)
    assert ca.find(shown) is None


def test_c5_4_what_is_no_longer_believed_is_withdrawn() -> None:
    """C5.4: whoever goes on by a certificate is told when it is revoked or its authority goes; others are not."""
    ca = clients(CA.pem + OTHER.pem)
    revoked, stays, others = leaf(CA), leaf(CA), leaf(OTHER)
    shown = [connection(revoked, CA), connection(stays, CA), connection(others, OTHER)]
    found = [ca.find(each) for each in shown]
    ca.reload(CA.pem + OTHER.pem)
    first, second, third = [each.withdrawal for each in found if each is not None]
    assert (first.begun, second.begun, third.begun) == (False, False, False)
    ca.reload(CA.pem + OTHER.pem, crl=revocations(CA, revoked))
    assert (first.begun, second.begun, third.begun) == (True, False, False)
    ca.reload(CA.pem, crl=revocations(CA, revoked))
    assert (second.begun, third.begun) == (False, True)
    with pytest.raises(ConfigurationError):
        ca.reload(OTHER.pem, crl=b"nothing")
    assert not second.begun
    ca.reload(OTHER.pem)
    assert second.begun


def test_c5_4_withdrawals_are_not_kept() -> None:
    """Who watches nobody's certificate any more costs nothing, also while its connection goes on."""
    ca = clients()
    shown = connection(leaf(CA), CA)
    assert ca.find(shown) is not None
    assert len(ca._believed) == 1
    ca.reload(CA.pem)
    gc.collect()
    assert len(ca._believed) == 0


def test_mistaken_reload_changes_nothing() -> None:
    """A broken bundle leaves the former trust as it was."""
    ca = clients()
    with pytest.raises(ConfigurationError):
        ca.reload(b"nothing")
    with pytest.raises(ConfigurationError):
        ca.reload(OTHER.pem, crl=b"nothing")
    assert ca.find(connection(leaf(CA), CA)) is not None


def test_revocation_is_per_authority() -> None:
    """http-facts §6: OpenSSL's flag refuses every certificate of the other authority; ours does not."""
    good, bad, others = leaf(CA), leaf(CA), leaf(OTHER)
    ca = clients(CA.pem + OTHER.pem, crl=b"# two lists\n" + revocations(CA, bad) + revocations(OTHER))
    assert ca.find(connection(good, CA)) is not None
    assert ca.find(connection(others, OTHER)) is not None
    assert "revoked" in refusal(connection(bad, CA), ca)


def test_lists_of_intermediate_authorities() -> None:
    """A list that an intermediate authority signed counts for what it issued, if its certificate is beside the list."""
    lower = Certificate([(NameOID.COMMON_NAME, "lower")], MIDDLE)
    good, bad, below, top = leaf(MIDDLE), leaf(MIDDLE), leaf(lower), leaf(CA)
    beside = lower.pem + MIDDLE.pem
    ca = clients(crl=beside + revocations(MIDDLE, bad, top) + revocations(lower, below))
    assert ca.find(connection(good, MIDDLE, CA)) is not None
    assert ca.find(connection(top, CA)) is not None
    assert "revoked" in refusal(connection(bad, MIDDLE, CA), ca)
    assert "revoked" in refusal(connection(below, lower, MIDDLE, CA), ca)
    ca.reload(CA.pem, crl=revocations(CA, MIDDLE))
    assert "revoked" in refusal(connection(good, MIDDLE, CA), ca)


def test_an_authority_is_its_name_and_its_key() -> None:
    """An intermediate authority with a newer certificate for the same key has issued what it had issued before."""
    renewed = Certificate([(NameOID.COMMON_NAME, "middle")], CA, lifetime=(-10, 9))
    bad = leaf(MIDDLE)
    ca = clients(crl=MIDDLE.pem + revocations(MIDDLE, bad))
    assert "revoked" in refusal(connection(bad, renewed, CA), ca)


@pytest.mark.parametrize(
    ("ca", "crl", "text"),
    [
        (b"", None, "fleet CA: holds no PEM certificate (-----BEGIN CERTIFICATE-----)"),
        (CA.pem, b"", "CRL: holds no PEM list (-----BEGIN X509 CRL-----)"),
        (CA.pem, b"x\n-----END X509 CRL-----\n", "CRL: holds a list that cannot be decoded"),
        (CA.pem, revocations(OTHER), f"CRL: list 1 is not signed by any authority of the fleet CA; {BESIDE}"),
        (
            CA.pem,
            revocations(CA, name=OTHER.name),
            f"CRL: list 1 is not signed by any authority of the fleet CA; {BESIDE}",
        ),
        (
            CA.pem,
            revocations(MIDDLE, leaf(MIDDLE)),
            f"CRL: list 1 is not signed by any authority of the fleet CA; {BESIDE}",
        ),
        (
            CA.pem,
            OTHER.pem + revocations(CA),
            "CRL: a certificate beside the lists is not signed by any authority of the fleet CA",
        ),
        (
            CA.pem,
            b"-----BEGIN CERTIFICATE-----\n" + revocations(CA),
            "CRL: holds a list that cannot be decoded",
        ),
        (
            CA.pem,
            revocations(authority("clients")),
            f"CRL: list 1 is not signed by any authority of the fleet CA; {BESIDE}",
        ),
    ],
)
def test_mistakes(ca: bytes, crl: bytes | None, text: str) -> None:
    """A bundle that cannot be used is found at start-up; a list that nobody signed would revoke nothing."""
    with pytest.raises(ConfigurationError) as refused:
        ClientCA(ca, lambda subject: subject, crl=crl, name="fleet CA")
    assert str(refused.value) == text


def changed(pem: bytes, before: bytes, after: bytes) -> bytes:
    """The PEM block with other bytes in it, once."""
    begin, *lines, end = pem.split(b"\n")[:-1]
    der = base64.b64decode(b"".join(lines))
    assert before in der
    return b"\n".join([begin, base64.b64encode(der.replace(before, after, 1)), end, b""])


P256, UNKNOWN_CURVE = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030163")


@pytest.mark.parametrize(
    ("ca", "crl", "text"),
    [
        (
            changed(CA.pem, P256, UNKNOWN_CURVE),
            revocations(CA),
            f"list 1 is not signed by any authority of the fleet CA; {BESIDE}",
        ),
        (CA.pem, changed(revocations(CA), b"\x02\x01\x01", b"\x02\x01\x1e"), "holds a list that cannot be decoded"),
    ],
    ids=["key of an unknown kind", "list of an unknown version"],
)
def test_what_the_library_does_not_know(ca: bytes, crl: bytes, text: str) -> None:
    """It is a mistake in words, too; beside it an authority with a key of an unknown kind is no harm."""
    with pytest.raises(ConfigurationError) as refused:
        ClientCA(ca, lambda subject: subject, crl=crl, name="fleet CA")
    assert str(refused.value) == f"CRL: {text}"
    if ca != CA.pem:
        assert ClientCA(ca + CA.pem, lambda subject: subject, crl=crl).size == 2


def test_repr() -> None:
    """It tells how much is trusted."""
    assert repr(clients(CA.pem + OTHER.pem)) == "ClientCA(2 authorities)"
