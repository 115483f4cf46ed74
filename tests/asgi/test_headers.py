"""Which header fields speak of identity, and which may not be read at all."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggmw.asgi.headers import fold, is_identity, is_impersonation, unfit

SEPARATORS = "-_.~!"


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("tail", ["user", "uid", "group", "extra-scopes"])
def test_c2_identity_in_every_spelling(separator: str, tail: str) -> None:
    """C2: `X_Remote_User`, `X.Remote.User` and any mixture are the same name to a careless receiver."""
    name = f"x{separator}remote{separator}{tail}".encode()
    assert is_identity(name)
    assert is_identity(name.upper())


@pytest.mark.parametrize("name", [b"impersonate-user", b"Impersonate_Group", b"IMPERSONATE.EXTRA.X"])
def test_impersonation_in_every_spelling(name: bytes) -> None:
    """§12.6: a request to act as somebody else is seen however it is spelled."""
    assert is_impersonation(name)
    assert is_identity(name)


@pytest.mark.parametrize(
    "name", [b"client-cert", b"X_Forwarded_Client_Cert", b"client.cert.chain", b"x-aggmw-identity"]
)
def test_certificates_of_other_hops(name: bytes) -> None:
    """§12.5: certificate headers of terminators are identity too."""
    assert is_identity(name)


@pytest.mark.parametrize("name", [b"x-remote", b"user-agent", b"x-forwarded-for", b"accept", b"remote-user-agent"])
def test_ordinary_fields_are_not_identity(name: bytes) -> None:
    """Only the listed names are."""
    assert not is_identity(name)


@given(st.binary(max_size=20))
def test_fold_is_idempotent_and_plain(name: bytes) -> None:
    """A folded name holds only lower-case letters, digits and dashes, and folding it again changes nothing."""
    assert re.fullmatch(rb"[a-z0-9-]*", fold(name))
    assert fold(fold(name)) == fold(name)


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\nb", b"a\r", b"x-remote-user ", "é".encode(), b"\n"])
def test_c5_names_are_tokens(name: bytes) -> None:
    """C5 8: servers pass any name; ours are tokens (RFC 9110 §5.6.2)."""
    assert unfit(((b"a", b"1"), (name, b"1"))) == "a header name is not a token"
    assert unfit(((name, b"1"),)) == "a header name is not a token"
    assert unfit(((name, b"1"), (b"a", b"1"))) == "a header name is not a token"


@pytest.mark.parametrize("value", [b"\x00", b"a\rb", b"a\nb", b"\x01", b"\x7f"])
def test_c5_values_hold_no_control_bytes(value: bytes) -> None:
    """C5 8: folding and controls in values."""
    assert unfit(((b"a", value),)) == "a header value holds a control character"


def test_fit() -> None:
    """Ordinary fields pass, tabs and bytes above 127 in values included."""
    assert unfit(()) is None
    assert unfit(((b"accept", b"*/*"), (b"x_a.b~", b"caf\xc3\xa9\t!"))) is None


@given(st.lists(st.tuples(st.binary(max_size=4), st.just(b"v")), max_size=4))
def test_unfit_agrees_with_the_grammar(headers: list[tuple[bytes, bytes]]) -> None:
    """One search over the joined names finds exactly what a check of each name finds."""
    token = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
    good = all(token.fullmatch(name) for name, _ in headers)
    assert (unfit(tuple(headers)) is None) == good
