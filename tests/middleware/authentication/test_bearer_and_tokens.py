"""Bearer tokens and the static token file (wire contract §6.5)."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from aggmw.contracts.drain import Drain
from aggmw.contracts.identity import Credential, Identity, Presented
from aggmw.errors import ConfigurationError, InvalidCredentials
from aggmw.middleware.authentication import StaticTokens
from aggmw.middleware.authentication.bearer import (
    SUBPROTOCOL,
    TOO_MANY_SPACES,
    presented_token,
    without_token,
    without_token_value,
)


def header(*values: bytes, subprotocols: tuple[str, ...] = ()) -> Presented:
    return Presented(tuple((b"authorization", value) for value in values), subprotocols=subprotocols)


def encoded(token: bytes) -> str:
    return SUBPROTOCOL + base64.urlsafe_b64encode(token).decode().rstrip("=")


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (b"Bearer t0k", b"t0k"),
        (b"bearer t0k", b"t0k"),
        (b"BEARER t0k", b"t0k"),
        (b" Bearer t0k ", b"t0k"),
        (b"Bearer caf\xc3\xa9", b"caf\xc3\xa9"),
        (b"", None),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"Bearert0k", None),
        (b"Basic dTpw", None),
        (b"Bearer\tt0k", None),
    ],
)
def test_header(value: bytes, token: bytes | None) -> None:
    """§6.5: the scheme in any case; an empty token, or another scheme, is no opinion."""
    presented = header(value)
    assert presented_token(presented) == token
    assert presented.warnings == []


def test_two_spaces_are_ignored_with_a_warning() -> None:
    """§6.5: kube-apiserver's words, once however many authenticators look."""
    presented = header(b"Bearer  t0k")
    assert [presented_token(presented) for _ in range(2)] == [None, None]
    assert presented.warnings == [TOO_MANY_SPACES]


@pytest.mark.parametrize("values", [(b"Bearer a", b"Bearer b"), (b"Bearer a", b"Bearer a"), (b"Basic a", b"Bearer b")])
def test_several_authorization_fields_are_bad(values: tuple[bytes, ...]) -> None:
    """C5.1: a second field, such as a trailer, never replaces the first: it spoils both."""
    with pytest.raises(InvalidCredentials, match="several Authorization fields"):
        presented_token(header(*values))


def test_white_space_in_a_token_is_bad() -> None:
    """Receivers cut at different places."""
    with pytest.raises(InvalidCredentials, match="white space in the bearer token"):
        presented_token(header(b"Bearer a b"))


def test_subprotocol() -> None:
    """§6.5: a WebSocket may carry the token beside a subprotocol that can be chosen."""
    assert presented_token(Presented(subprotocols=("v5.channel.k8s.io", encoded(b"t0k")))) == b"t0k"
    assert presented_token(Presented(subprotocols=("v5.channel.k8s.io",))) is None
    assert presented_token(Presented(subprotocols=("v5.channel.k8s.io", SUBPROTOCOL))) is None


@pytest.mark.parametrize(
    ("subprotocols", "reason"),
    [
        ((encoded(b"a"),), "the only subprotocol"),
        (("x", encoded(b"a"), encoded(b"a")), "several bearer tokens"),
        (("x", SUBPROTOCOL + "YQ=="), "not base64url without padding"),
        (("x", SUBPROTOCOL + "a+b/"), "not base64url without padding"),
        (("x", SUBPROTOCOL + "a"), "not UTF-8 in base64url"),
        (("x", encoded(b"\xff")), "not UTF-8 in base64url"),
        (("x", SUBPROTOCOL.upper() + "YQ"), "not base64url without padding"),
    ],
)
def test_bad_subprotocols(subprotocols: tuple[str, ...], reason: str) -> None:
    """§6.5: exactly one, decodable, and not alone."""
    with pytest.raises(InvalidCredentials, match=reason):
        presented_token(Presented(subprotocols=subprotocols))


def test_token_in_both_places_is_bad() -> None:
    """Two tokens could belong to two callers."""
    with pytest.raises(InvalidCredentials, match="a token in Authorization and another"):
        presented_token(header(b"Bearer a", subprotocols=("x", encoded(b"a"))))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(["v4.channel.k8s.io", "x", encoded(b"t0k"), encoded(b"u").upper()]), max_size=5))
def test_no_token_is_left_among_subprotocols(offered: list[str]) -> None:
    """§12.5: the token entries go, from the list and from the field, and nothing else does."""
    kept = [each for each in offered if not each.lower().startswith(SUBPROTOCOL)]
    assert list(without_token(offered)) == kept
    assert without_token_value(", ".join(offered).encode()) == ", ".join(kept).encode()


FILE = """\
t-alice,alice,uid-1,"dev,ops"
t-bob,bob,

t-root,root,0,system:masters,ignored
,nobody,1
t-bob,bobby,2,""
"""


async def test_file(tmp_path: Path) -> None:
    """§6.5: three columns or more; empty tokens are skipped; the last of two rows wins; both are warned of."""
    path = tmp_path / "tokens.csv"
    path.write_text(FILE)
    with structlog.testing.capture_logs() as logs:
        tokens = StaticTokens.load(path)
    assert [(log["event"], log["line"], log["log_level"]) for log in logs] == [
        ("empty token skipped", 5, "warning"),
        ("token listed twice: the last line wins", 6, "warning"),
    ]
    assert "t-bob" not in str(logs)
    alice = await tokens.authenticate(header(b"Bearer t-alice"))
    assert alice == Identity("alice", "uid-1", ("dev", "ops", "system:authenticated"))
    assert await tokens.authenticate(header(b"Bearer t-bob")) == Identity("bobby", "2", ("system:authenticated",))
    root = await tokens.authenticate(header(b"Bearer t-root"))
    assert root is not None
    assert root.groups == ("system:masters", "system:authenticated")


async def test_three_answers() -> None:
    """Architecture §5: nothing presented is None; a token nobody has is bad."""
    tokens = StaticTokens({"t0k": Identity("alice")})
    assert await tokens.authenticate(Presented()) is None
    for token in (b"t0", b"t0kk", b"T0K", b"\xff"):
        with pytest.raises(InvalidCredentials, match="unknown bearer token"):
            await tokens.authenticate(header(b"Bearer " + token))


async def test_nothing_shows_a_token() -> None:
    """C3: neither the object nor its errors hold what was listed or presented."""
    tokens = StaticTokens({"t0k-secret": Identity("alice")})
    assert repr(tokens) == "StaticTokens(1 tokens)"
    assert "t0k-secret" not in repr(vars(tokens))
    with pytest.raises(InvalidCredentials) as refused:
        await tokens.authenticate(header(b"Bearer other-secret"))
    assert "secret" not in str(refused.value)


async def test_byte_order_mark_and_quotes(tmp_path: Path) -> None:
    """A file saved by a spreadsheet works; a quoted field may hold a comma."""
    path = tmp_path / "tokens.csv"
    path.write_bytes(b'\xef\xbb\xbf"a,b",alice,1\r\nc,caf\xc3\xa9,2\r\n')
    tokens = StaticTokens.load(str(path))
    assert (await tokens.authenticate(header(b"Bearer a,b"))) == Identity("alice", "1", ("system:authenticated",))
    assert (await tokens.authenticate(header(b"Bearer c"))) == Identity("café", "2", ("system:authenticated",))


def test_mistakes_are_found_in_one_pass(tmp_path: Path) -> None:
    """Issue, bad input: a line per mistake, path first, word for word; no token in any."""
    path = tmp_path / "tokens.csv"
    path.write_text(
        'only\na,b\nok,alice,1\nx y,bob,2\nc,,3\nd,eve ,4\ne,mallory,5,"a,,b"\nf,trent,6,"a, b"\n"g,unclosed\n'
    )
    with pytest.raises(ConfigurationError) as refused:
        StaticTokens.load(path)
    columns = 'where at least 3 are needed: token,user,uid[,"group1,group2"]'
    unfit = "holds a control character or begins or ends with white space"
    assert str(refused.value).splitlines() == [
        f"{path}:1: 1 column, {columns}",
        f"{path}:2: 2 columns, {columns}",
        f"{path}:4: the token holds white space or a control character, so nobody could present it",
        f"{path}:5: the user name is empty",
        f"{path}:6: the user {unfit}",
        f"{path}:7: a group name is empty",
        f"{path}:8: the group {unfit}",
        f"{path}:9: the quotes are not balanced, or stand inside a field",
    ]


def test_unreadable_files(tmp_path: Path) -> None:
    """Issue, bad input: a missing file and one that is not UTF-8."""
    missing = tmp_path / "missing.csv"
    with pytest.raises(ConfigurationError) as refused:
        StaticTokens.load(missing)
    assert str(refused.value) == f"{missing}: cannot be read: No such file or directory"
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"a,b,c\nd,\xff,f\n")
    with pytest.raises(ConfigurationError) as refused:
        StaticTokens.load(binary)
    assert str(refused.value) == f"{binary}:2: is not UTF-8"


async def test_tokens_that_may_be_withdrawn() -> None:
    """What the owner of a list says of a credential stays, but for how it came: on purpose."""
    withdrawal = Drain()
    said = Identity("jane", credential=Credential(expires=5.0, withdrawal=withdrawal))
    found = StaticTokens({"t": said}).identify(Presented(((b"authorization", b"Bearer t"),)))
    assert found is not None
    assert found.credential == Credential(ambient=False, expires=5.0)
    assert found.credential.withdrawal is not None
    assert not found.credential.withdrawal.begun
    withdrawal.begin()
    assert found.credential.withdrawal.begun


async def test_another_list() -> None:
    """What was opened by a token ends when that is off the list, or somebody else's; whoever stays goes on."""
    names = ("stays", "gone", "renamed", "regrouped")
    tokens = StaticTokens({name: Identity(name) for name in names})

    def withdrawal(token: str) -> Drain:
        identity = tokens.identify(Presented(((b"authorization", b"Bearer " + token.encode()),)))
        assert identity is not None
        assert identity.credential.withdrawal is not None
        return identity.credential.withdrawal

    before = [withdrawal(name) for name in names]
    tokens.swap(
        StaticTokens(
            {"stays": Identity("stays"), "renamed": Identity("jane"), "regrouped": Identity("regrouped", "", ("a",))}
        )
    )
    assert [each.begun for each in before] == [False, True, True, True]
    assert [withdrawal(name).begun for name in ("stays", "renamed", "regrouped")] == [False] * 3
    tokens.swap(StaticTokens({}))
    assert before[0].begun
