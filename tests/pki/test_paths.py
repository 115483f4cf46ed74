"""Chains of certificates that somebody else's TLS has seen: who may sign whom."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.pki.certificates import NOW, Certificate, NameOID, timedelta

from aggmw.pki import paths
from aggmw.pki.paths import build_chain


def made(name: str, issuer: Any = None, *extensions: tuple[Any, bool]) -> Any:
    """A certificate with exactly these extensions."""
    one = Certificate.__new__(Certificate)
    one.key = ec.generate_private_key(ec.SECP256R1())
    one.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer or one
    builder = (
        x509.CertificateBuilder()
        .subject_name(one.name)
        .issuer_name(signer.name)
        .public_key(one.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    one.x509 = builder.sign(signer.key, hashes.SHA256())
    one.der = one.x509.public_bytes(Encoding.DER)
    return one


def ca(length: int | None = None) -> tuple[Any, bool]:
    return x509.BasicConstraints(ca=True, path_length=length), True


def usage(*, signs: bool) -> tuple[Any, bool]:
    words = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    words |= dict.fromkeys(("key_cert_sign", "crl_sign"), signs)
    return x509.KeyUsage(**words, encipher_only=False, decipher_only=False), True


ROOT = made("root", None, ca())
MIDDLE = made("middle", ROOT, ca(), usage(signs=True))
LEAF = made("leaf", MIDDLE)


def chain(*certificates: Any, roots: tuple[Any, ...] = (ROOT,)) -> list[str]:
    found = build_chain([each.der for each in certificates], [each.der for each in roots])
    return [x509.load_der_x509_certificate(der).subject.rfc4514_string() for der in found]


def test_whole_chain() -> None:
    """From the leaf to the root, whatever the order of those between."""
    lower = made("lower", MIDDLE, ca(0))
    assert chain(made("leaf", lower), MIDDLE, lower) == ["CN=leaf", "CN=lower", "CN=middle", "CN=root"]
    assert chain(made("leaf", ROOT)) == ["CN=leaf", "CN=root"]


def test_all_have_signed_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine of one name and key, each of which may be above each other: they are not tried in every order."""
    first = made("middle", None, ca())
    others = []
    for _ in range(9):
        one = made("middle", first, ca())
        one.x509 = (
            x509.CertificateBuilder(one.name, one.name, first.key.public_key(), x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=1))
            .add_extension(*ca())
            .sign(first.key, hashes.SHA256())
        )
        one.der = one.x509.public_bytes(Encoding.DER)
        others.append(one)
    asked = 0
    has_signed = paths._Certificate.has_signed

    def counted(self: Any, other: Any, below: int) -> bool:
        nonlocal asked
        asked += 1
        return has_signed(self, other, below)

    monkeypatch.setattr(paths._Certificate, "has_signed", counted)
    assert chain(made("leaf", first), *others) == []
    assert asked < 100


def test_another_way() -> None:
    """Where one of two issuers of a name leads nowhere, the other one counts, in whatever order they come."""
    nowhere = made("middle", made("elsewhere", None, ca()), ca())
    nowhere.x509 = (
        x509.CertificateBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elsewhere")]), MIDDLE.name)
        .public_key(MIDDLE.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(*ca())
        .sign(MIDDLE.key, hashes.SHA256())
    )
    nowhere.der = nowhere.x509.public_bytes(Encoding.DER)
    for others in ([nowhere, MIDDLE], [MIDDLE, nowhere]):
        assert chain(LEAF, *others) == ["CN=leaf", "CN=middle", "CN=root"]


def test_missing_or_foreign() -> None:
    """Without the one between, and under another root of the same name, there is none."""
    assert chain(LEAF) == []
    assert chain(LEAF, MIDDLE, roots=(made("root", None, ca()),)) == []
    assert chain(LEAF, MIDDLE, roots=()) == []


@pytest.mark.parametrize(
    "extensions",
    [
        [],
        [(x509.BasicConstraints(ca=False, path_length=None), True)],
        [ca(), usage(signs=False)],
        [ca(), (x509.NameConstraints([x509.DNSName("example.com")], None), True)],
        [ca(), (x509.NameConstraints([x509.DirectoryName(x509.Name([]))], None), False)],
    ],
    ids=["nothing", "no authority", "no signing", "name constraints", "name constraints that are not critical"],
)
def test_who_may_not_sign(extensions: list[tuple[Any, bool]]) -> None:
    """A client's certificate signs nobody, nor one that says what we do not understand."""
    middle = made("middle", ROOT, *extensions)
    assert chain(made("leaf", middle), middle) == []
    root = made("root", None, *extensions)
    assert chain(made("leaf", root), roots=(root,)) == []


def test_path_length() -> None:
    """An authority that may have none below itself has none below itself."""
    short = made("short", None, ca(0))
    middle = made("middle", short, ca())
    assert chain(made("leaf", short), roots=(short,)) == ["CN=leaf", "CN=short"]
    assert chain(made("leaf", middle), middle, roots=(short,)) == []


def test_critical_extension_of_the_leaf() -> None:
    """What must be understood and is not makes a certificate unusable."""
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    assert chain(made("leaf", ROOT, (unknown, True))) == []
    assert chain(made("leaf", ROOT, (unknown, False))) == ["CN=leaf", "CN=root"]


def test_limits() -> None:
    """None, too many, and what is no certificate."""
    with pytest.raises(ValueError, match="0 certificates"):
        build_chain([], [ROOT.der])
    with pytest.raises(ValueError, match="11 certificates"):
        build_chain([LEAF.der] * 11, [ROOT.der])
    with pytest.raises(ValueError, match="cannot be decoded"):
        build_chain([b"nonsense"], [ROOT.der])
