"""Property: no generated certificate, and no field of a front proxy, becomes an identity that nobody stated."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest
from cryptography.x509.oid import NameOID, ObjectIdentifier
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.pki.certificates import ANY, CLIENT, NOW, SERVER, Attribute, authority, connection, leaf, revocations

from aggmw.asgi.remote_headers import read_identity, write_identity
from aggmw.contracts.connection import Connection
from aggmw.contracts.identity import SYSTEM_AUTHENTICATED, Identity, Presented
from aggmw.errors import InvalidCredentials, InvalidIdentity
from aggmw.middleware.authentication import ClientCertificates, FrontProxies
from aggmw.pki.make import USER_ID

CA, TWIN, FRONT = authority("clients"), authority("clients"), authority("front proxies")
COMMON, GROUP, UID, UNIT = NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, ObjectIdentifier(USER_ID), NameOID.SURNAME
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12) | st.sampled_from(
    ["alice", "system:masters", " system:masters", "root\n", "a\x00b", "a,b", "CN=root", "ö", "system:authenticated"]
)
SUBJECT = st.lists(st.tuples(st.sampled_from([COMMON, GROUP, GROUP, UID, UNIT]), TEXT), max_size=5)
PURPOSES = st.sampled_from([None, [CLIENT], [SERVER], [ANY], [CLIENT, SERVER]])
LIFETIMES = st.sampled_from([(-10, 10), (-10, 10), (-10, -1), (1, 10)])


class Nobody(Exception):
    """Nobody that anybody could be."""


def stated(subject: Sequence[Attribute]) -> Identity | None:
    """Whom the certificate names, by wire contract §6.4; None: nobody.

    Raises:
        Nobody: whom nobody could be.
    """
    names = [value for kind, value in subject if kind == COMMON]
    uids = [value for kind, value in subject if kind == UID]
    if len(names) > 1 or (names and len(uids) > 1):
        raise Nobody
    if not names:
        return None
    try:
        return Identity(names[0], "".join(uids), tuple(value for kind, value in subject if kind == GROUP))
    except InvalidIdentity:
        raise Nobody from None


def found(by: ClientCertificates, on: Connection) -> Identity | None:
    """Who it is; Nobody, when it is refused."""
    try:
        return by.identify(Presented((), on))
    except InvalidCredentials:
        raise Nobody from None


@settings(max_examples=300)
@given(SUBJECT, PURPOSES, LIFETIMES)
def test_a_certificate_is_who_it_states(
    subject: list[Attribute], purposes: list[ObjectIdentifier] | None, lifetime: tuple[int, int]
) -> None:
    """Whatever names it has: exactly those, in groups of ours only `system:authenticated`; or nobody."""
    by = ClientCertificates(CA.pem, clock=NOW.timestamp)
    try:
        certificate = leaf(CA, subject, purposes=purposes, lifetime=lifetime)
    except ValueError:
        assume(False)  # no certificate can hold that
    on = connection(certificate, CA)
    try:
        identity = found(by, on)
    except Nobody:
        if lifetime == (-10, 10) and purposes != [SERVER]:
            with pytest.raises(Nobody):
                stated(subject)
        return
    expected = stated(subject)
    if expected is None:
        assert identity is None
        return
    assert identity is not None
    assert (identity.user, identity.uid) == (expected.user, expected.uid)
    added = () if SYSTEM_AUTHENTICATED in expected.groups else (SYSTEM_AUTHENTICATED,)
    if expected.user != "system:anonymous" and "system:unauthenticated" not in expected.groups:
        assert identity.groups == (*expected.groups, *added)
    assert list(identity.extra) == ["authentication.kubernetes.io/credential-id"]
    assert (lifetime, purposes == [SERVER]) == ((-10, 10), False)


@settings(max_examples=100)
@given(SUBJECT, st.sampled_from([TWIN, FRONT]), st.booleans())
def test_what_another_authority_states_is_nobody(subject: list[Attribute], signer: object, between: bool) -> None:
    """An authority of the same name, or our own in the middle of its chain, makes nobody of its certificates."""
    by = ClientCertificates(CA.pem, clock=NOW.timestamp)
    try:
        certificate = leaf(signer, subject)  # type: ignore[arg-type]  # one of the two
    except ValueError:
        assume(False)
    chain = [certificate, CA, signer] if between else [certificate, signer]
    assert found(by, connection(*chain)) is None  # type: ignore[arg-type]
    revoking = ClientCertificates(CA.pem, crl=revocations(CA, certificate), clock=NOW.timestamp)
    assert found(revoking, connection(*chain)) is None  # type: ignore[arg-type]


@given(st.binary(max_size=200), st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_bytes_are_no_certificate(noise: bytes, place: int, change: bytes) -> None:
    """What is no certificate under a root of ours is refused, never a failure of ours, and never somebody else."""
    by = ClientCertificates(CA.pem, clock=NOW.timestamp)
    with pytest.raises(Nobody):
        found(by, Connection(tls=True, chain=(noise, CA.der), trailers_apart=True))
    whole = leaf(CA).der
    changed = whole[:place] + change + whole[place + len(change) :]
    try:
        identity = found(by, Connection(tls=True, chain=(changed, changed), trailers_apart=True))
    except Nobody:
        return
    assert identity is None


IDENTITIES = st.builds(
    Identity,
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12),
    st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=8),
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8), max_size=3),
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z", "Lu", "Lt"]), min_size=1, max_size=8).filter(
            lambda key: key == key.lower()
        ),
        st.lists(st.text("abc ,;=", min_size=1, max_size=5).map(str.strip), min_size=1, max_size=2),
        max_size=2,
    ),
)


@given(IDENTITIES)
def test_what_a_front_proxy_writes_is_what_the_next_one_reads(identity: Identity) -> None:
    """Whoever it is: the fields say that caller and nobody else, and none of them is split or joined on the way."""
    fields = tuple((name.lower(), value) for name, value in write_identity(identity))
    assert read_identity(fields) == identity


FIELDS = st.lists(
    st.tuples(
        st.sampled_from([b"x-remote-user", b"x-remote-group", b"x-remote-uid", b"x-remote-extra-a", b"x_remote_user"]),
        st.sampled_from([b"root", b"system:masters", b"", b"\xff", b" a", b"alice"]) | st.binary(max_size=6),
    ),
    max_size=5,
)
PEERS = {
    "nobody": Connection(trailers_apart=True),
    "a client": connection(leaf(CA), CA),
    "another name": connection(leaf(FRONT, [(COMMON, "other")]), FRONT),
    "the name of another authority": connection(leaf(CA, [(COMMON, "front-proxy")]), CA),
    "a server": connection(leaf(FRONT, [(COMMON, "front-proxy")], purposes=[SERVER]), FRONT),
}


@pytest.mark.parametrize("peer", PEERS)
@given(FIELDS)
def test_fields_of_others_are_nobody(peer: str, fields: list[tuple[bytes, bytes]]) -> None:
    """Whatever fields come from whom: without a front proxy's certificate nobody is whom they name."""
    by = FrontProxies(FRONT.pem, allowed_names=["front-proxy"], clock=NOW.timestamp)
    with suppress(InvalidCredentials, InvalidIdentity):
        assert by.identify(Presented(tuple(fields), PEERS[peer])) is None


@given(FIELDS)
def test_fields_of_a_front_proxy_are_whom_they_name(fields: list[tuple[bytes, bytes]]) -> None:
    """Its word is taken as it is, or not at all: the one user that is named, and groups that are."""
    by = FrontProxies(FRONT.pem, clock=NOW.timestamp)
    on = connection(leaf(FRONT, [(COMMON, "front-proxy")]), FRONT)
    try:
        identity = by.identify(Presented(tuple(fields), on))
    except (InvalidCredentials, InvalidIdentity):
        return
    users = [value for name, value in fields if name == b"x-remote-user"]
    if identity is None:
        assert not any(users)
        return
    assert [identity.user.encode()] == users
    groups = [value.decode() for name, value in fields if name == b"x-remote-group" and value]
    assert [group for group in identity.groups if group != SYSTEM_AUTHENTICATED] == groups
