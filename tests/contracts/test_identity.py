"""Identities refuse what a header could not carry unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggmw.contracts.identity import Identity
from aggmw.errors import InvalidIdentity

UNFIT = ["", " alice", "alice ", "al\rice", "al\nice", "al\x00ice", "\talice", "alice\x7f", "a\u2028b"]


@pytest.mark.parametrize("user", UNFIT)
def test_user_unfit(user: str) -> None:
    """§12.4: a user that is empty, holds a control byte or has white space at an end is refused when it is made."""
    with pytest.raises(InvalidIdentity):
        Identity(user)


@pytest.mark.parametrize("value", [" system:masters", "system:masters ", "a\r\nX-Remote-Group: system:masters", ""])
def test_group_unfit(value: str) -> None:
    """§12.4: receivers trim, so `" system:masters"` would arrive as `system:masters`."""
    with pytest.raises(InvalidIdentity):
        Identity("alice", groups=(value,))


@pytest.mark.parametrize("value", [" v", "v\n"])
def test_extra_and_uid_unfit(value: str) -> None:
    """§12.4 holds for uid and extra values alike."""
    with pytest.raises(InvalidIdentity):
        Identity("alice", extra={"k": [value]})
    with pytest.raises(InvalidIdentity):
        Identity("alice", uid=value)


def test_extra_key_in_lower_case() -> None:
    """Receivers lower-case extra keys, so another case would be two keys here and one there."""
    with pytest.raises(InvalidIdentity):
        Identity("alice", extra={"Key": ["v"]})


def test_frozen_value() -> None:
    """Two identities of equal content are equal and hash alike; lists become tuples; extra cannot be written."""
    one = Identity("alice", "1", groups=["a"], extra={"k": ["v"]})  # type: ignore[arg-type]
    two = Identity("alice", "1", groups=("a",), extra={"k": ("v",)})
    assert one == two
    assert hash(one) == hash(two)
    with pytest.raises(TypeError):
        one.extra["x"] = ("y",)  # type: ignore[index]


@given(st.text(min_size=1))
def test_any_accepted_user_survives_a_header(user: str) -> None:
    """What is accepted is the same after UTF-8 and trimming, and cannot end a header line."""
    try:
        Identity(user)
    except InvalidIdentity:
        return
    wire = user.encode()
    assert wire.decode().strip() == user
    assert not set(wire) & {0, 10, 13}
