"""`X-Remote-*`, written and read (wire contract §2.3, §6.3, §12.4)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.asgi.headers import fold, is_identity, unfit
from aggmw.asgi.remote_headers import has_identity, read_identity, without_identity, write_identity
from aggmw.asgi.types import Headers
from aggmw.contracts.identity import Identity
from aggmw.errors import InvalidIdentity

ALICE = (b"x-remote-user", b"alice")


def received(headers: Headers) -> Headers:
    """The fields as a server hands them on: names in lower case, blanks around values trimmed."""
    return tuple((name.lower(), value.strip(b" \t")) for name, value in headers)


def test_written() -> None:
    """§2.3: user, uid, groups, extra; every byte of a key that is no token character, and the percent sign, in hex."""
    caller = Identity(
        "ö", "7", ("a", "b"), {"authentication.kubernetes.io/credential-id": ("a", "b"), "50%é": ("ñ", "")}
    )
    assert write_identity(caller) == (
        (b"X-Remote-User", "ö".encode()),
        (b"X-Remote-Uid", b"7"),
        (b"X-Remote-Group", b"a"),
        (b"X-Remote-Group", b"b"),
        (b"X-Remote-Extra-authentication.kubernetes.io%2Fcredential-id", b"a"),
        (b"X-Remote-Extra-authentication.kubernetes.io%2Fcredential-id", b"b"),
        (b"X-Remote-Extra-50%25%C3%A9", "ñ".encode()),
        (b"X-Remote-Extra-50%25%C3%A9", b""),
    )


def test_read() -> None:
    """§6.3: all groups in order, empty ones skipped; extras by key, each value kept."""
    headers = (
        (b"x-remote-group", b"dev"),
        (b"accept", b"*/*"),
        ALICE,
        (b"x-remote-group", b""),
        (b"x-remote-uid", b"u-1"),
        (b"x-remote-extra-acme.com%2fscope", b"read"),
        (b"x-remote-extra-acme.com%2Fscope", b""),
        (b"x-remote-group", b"ops, root"),
    )
    assert read_identity(headers) == Identity("alice", "u-1", ("dev", "ops, root"), {"acme.com/scope": ("read", "")})


@pytest.mark.parametrize("headers", [(), ((b"x-remote-user", b""),), ((b"x-remote-group", b"system:masters"),)])
def test_nobody(headers: Headers) -> None:
    """§6.3: no user: nobody, whatever groups there are."""
    assert read_identity(headers) is None


@pytest.mark.parametrize(
    "name",
    [b"x_remote_user", b"x.remote.user", b"x-remote_user", b"x-remote-user ", b"remote-user", b"x-remote-userx"],
)
def test_c2_no_other_spelling_is_read(name: bytes) -> None:
    """C2, CVE-2025-64484: what a front proxy did not write is not read, however alike it looks."""
    assert read_identity(((name, b"root"),)) is None
    assert read_identity(((name, b"root"), ALICE)) == Identity("alice")


@pytest.mark.parametrize("name", [b"x_remote_group", b"x-remote-groups", b"x_remote_extra_a", b"x-remote-extra.a"])
def test_c2_nor_of_the_others(name: bytes) -> None:
    """C2: the same for groups and extras."""
    assert read_identity((ALICE, (name, b"root"))) == Identity("alice")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"a", "a"),
        (b"%61", "a"),
        (b"%c3%A9", "é"),
        (b"50%25", "50%"),
        (b"%2561", "%61"),
        (b"%", "%"),
        (b"%zz", "%zz"),
        (b"a%2fb%2", "a%2fb%2"),
        (b"%ff", "%ff"),
    ],
)
def test_keys_of_extras(key: bytes, expected: str) -> None:
    """§6.3: decoded once; what cannot be is taken as it is."""
    assert read_identity((ALICE, (b"x-remote-extra-" + key, b"v"))) == Identity("alice", extra={expected: ("v",)})


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ((ALICE, ALICE), "x-remote-user is there 2 times"),
        (((b"x-remote-user", b""), ALICE), "x-remote-user is there 2 times"),
        ((ALICE, (b"x-remote-uid", b"1"), (b"x-remote-uid", b"2")), "x-remote-uid is there 2 times"),
        (((b"x-remote-user", b"\xff"),), "an identity header is not UTF-8"),
        ((ALICE, (b"x-remote-group", b"\xc3")), "an identity header is not UTF-8"),
        ((ALICE, (b"x-remote-extra-\xff", b"")), "an identity header is not UTF-8"),
        ((ALICE, (b"x-remote-group", b" system:masters")), "the group holds a control character or begins"),
        ((ALICE, (b"x-remote-uid", b"1\t2")), "the uid holds a control character or begins"),
        ((ALICE, (b"x-remote-extra-a", b"b\x00")), "the extra value holds a control character or begins"),
        ((ALICE, (b"x-remote-extra-a%0ab", b"c")), "the extra key holds a control character or begins"),
        ((ALICE, (b"x-remote-extra-", b"c")), "an extra key is empty or not in lower case"),
        ((ALICE, (b"x-remote-extra-%41", b"c")), "an extra key is empty or not in lower case"),
    ],
)
def test_refused(headers: Headers, text: str) -> None:
    """§12.4: what a front proxy does not write is not repaired."""
    with pytest.raises(InvalidIdentity, match=text):
        read_identity(headers)


def is_fit(text: str) -> bool:
    try:
        Identity(text)
    except InvalidIdentity:
        return False
    return True


texts = st.text(min_size=1, max_size=8).filter(is_fit)
keys = texts.map(str.lower).filter(lambda key: key == key.lower() and is_fit(key))
identities = st.builds(
    Identity,
    texts,
    texts | st.just(""),
    st.lists(texts, max_size=3).map(tuple),
    st.dictionaries(keys, st.lists(texts | st.just(""), min_size=1, max_size=2).map(tuple), max_size=3),
)


@settings(deadline=None, max_examples=300)
@given(identities)
def test_written_and_read_back(identity: Identity) -> None:
    """What arrives is who was sent: identity → fields → server → identity changes nothing."""
    fields = write_identity(identity)
    assert unfit(fields) is None
    assert read_identity(received(fields)) == identity


@settings(deadline=None, max_examples=300)
@given(identities, identities)
def test_different_callers_have_different_fields(one: Identity, other: Identity) -> None:
    """No two callers can be mistaken for each other on the wire."""
    assert (write_identity(one) == write_identity(other)) is (one == other and list(one.extra) == list(other.extra))


names = st.sampled_from(
    [b"x-remote-user", b"x-remote-uid", b"x-remote-group", b"x-remote-extra-a", b"x_remote_user", b"accept"]
) | st.binary(max_size=6).map(lambda tail: b"x-remote-extra-" + tail.lower())
octets = st.binary(max_size=6) | st.sampled_from([b"alice", b" system:masters", b"a\r\nX-Remote-Group: b", b"\xc2\x85"])


@settings(deadline=None, max_examples=400)
@given(st.lists(st.tuples(names, octets), max_size=6))
def test_whatever_comes(headers: list[tuple[bytes, bytes]]) -> None:
    """Any fields are nobody, refused, or somebody who can be written again and is then the same."""
    try:
        identity = read_identity(tuple(headers))
    except InvalidIdentity:
        return
    if identity is not None:
        everything = [identity.user, identity.uid, *identity.groups, *identity.extra]
        everything += [value for each in identity.extra.values() for value in each]
        for text in everything:
            assert text == text.strip()
            assert not any(ord(character) < 32 or ord(character) == 127 for character in text)
        assert read_identity(received(write_identity(identity))) == identity


SPELLINGS = [b"x-remote-user", b"X_Remote_User", b"x.remote.group", b"x-remote-user ", b"\tx-remote-uid"]


@pytest.mark.parametrize("name", [*SPELLINGS, b"x-aggmw-identity", b"client-cert", b"impersonate-user"])
def test_every_spelling_goes(name: bytes) -> None:
    """C2: what could be read as identity by somebody is seen and taken out; the rest keeps its order."""
    harmless = ((b"accept", b"1"), (b"x-remote", b"2"), (b"x-forwarded-for", b"3"))
    assert has_identity(((name, b""),))
    assert not has_identity(harmless)
    assert without_identity((*harmless[:1], (name, b"root"), *harmless[1:])) == harmless


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SPELLINGS) | st.binary(max_size=16), st.just(b"v")), max_size=8))
def test_nothing_is_left(headers: list[tuple[bytes, bytes]]) -> None:
    """C2: of any fields, none that folds to identity is left."""
    left = without_identity(headers)
    assert not has_identity(left)
    assert not any(is_identity(fold(name)) for name, _ in left)
