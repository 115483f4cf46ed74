"""Front proxies in front of this one (wire contract §6.3): whose word on the caller counts, and whose does not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.pki.certificates import NOW, NameOID, authority, connection, leaf, revocations

from aggmw.contracts.connection import Connection
from aggmw.contracts.exchange import Exchange
from aggmw.contracts.identity import Identity, Presented
from aggmw.errors import ConfigurationError, InvalidCredentials, InvalidIdentity
from aggmw.middleware.authentication import (
    Anonymous,
    Authentication,
    AuthenticatorUnion,
    ClientCertificates,
    FrontProxies,
)
from aggmw.middleware.proxy.headers import IdentityFields

FRONT = authority("front proxies")
CLIENTS = authority("clients")
PROXY = leaf(FRONT, [(NameOID.COMMON_NAME, "front-proxy-client")])
ALICE = Identity("alice", "u-1", ("dev", "ops"), {"example.com/a": ("b",)})


def now() -> float:
    return NOW.timestamp()


def presented(on: Connection, *fields: tuple[str, str]) -> Presented:
    return Presented(tuple([(name.lower().encode(), value.encode()) for name, value in fields]), on)


def told(identity: Identity = ALICE) -> list[tuple[str, str]]:
    """The caller in the words of a front proxy of ours."""
    return [(name.decode(), value.decode()) for name, value in IdentityFields().of(identity)]


def proxies(**options: object) -> FrontProxies:
    return FrontProxies(FRONT.pem, clock=now, **options)  # type: ignore[arg-type]  # options of each test


async def test_what_one_says_the_next_believes() -> None:
    """Front proxies chain: the caller that one of ours tells is the caller that the next one finds."""
    found = await proxies().authenticate(presented(connection(PROXY, FRONT), *told()))
    assert found == ALICE.with_groups((*ALICE.groups, "system:authenticated"))


async def test_ends_with_the_certificate() -> None:
    """A stream that was opened so ends when the front proxy's certificate does; and pages need their origin listed."""
    found = await proxies().authenticate(presented(connection(PROXY, FRONT), *told()))
    assert found is not None
    assert found.credential.expires == PROXY.x509.not_valid_after_utc.timestamp()
    assert found.credential.ambient


async def test_c5_4_ends_when_the_certificate_no_longer_counts() -> None:
    """C5.4: everybody for whom that front proxy spoke is told when its authority goes."""
    one = proxies()
    on = connection(PROXY, FRONT)
    alice = await one.authenticate(presented(on, *told()))
    bob = await one.authenticate(presented(on, *told(Identity("bob"))))
    assert alice is not None
    assert bob is not None
    one.reload(FRONT.pem)
    assert [each.credential.withdrawal.begun for each in (alice, bob) if each.credential.withdrawal] == [False, False]
    one.reload(CLIENTS.pem)
    assert [each.credential.withdrawal.begun for each in (alice, bob) if each.credential.withdrawal] == [True, True]


@pytest.mark.parametrize("on", [Connection(trailers_apart=True), connection(PROXY, FRONT)], ids=["none", "front"])
async def test_no_user_is_no_opinion(on: Connection) -> None:
    """Without a user, or without a certificate, it is somebody else's to say."""
    assert await proxies().authenticate(presented(on, ("X-Remote-Group", "system:masters"))) is None
    if not on.chain:
        assert await proxies().authenticate(presented(on, *told())) is None


async def test_client_ca_certificate_with_the_front_proxys_name() -> None:
    """http-facts 6: the root decides, not the name."""
    forged = leaf(CLIENTS, [(NameOID.COMMON_NAME, "front-proxy-client")])
    with pytest.raises(InvalidCredentials, match="not signed by the front-proxy CA"):
        await proxies(allowed_names=["front-proxy-client"]).authenticate(
            presented(connection(forged, CLIENTS), *told())
        )


async def test_other_names_are_refused() -> None:
    """A certificate of the CA whose name is not listed is nobody's word."""
    other = leaf(FRONT, [(NameOID.COMMON_NAME, "other")])
    with pytest.raises(InvalidCredentials, match="not in allowed_names"):
        await proxies(allowed_names=["front-proxy-client"]).authenticate(presented(connection(other, FRONT), *told()))


async def test_union_with_client_certificates() -> None:
    """§12.9: a client that claims to be somebody is still itself, by its own certificate; never whom it claims."""
    alice = leaf(CLIENTS)
    union = AuthenticatorUnion([proxies(), ClientCertificates(CLIENTS.pem, clock=now)])
    finding = await union.find(presented(connection(alice, CLIENTS), ("X-Remote-User", "root")))
    assert finding.identity is not None
    assert finding.identity.user == "alice"
    assert len(finding.failures) == 1
    assert not (await union.find(presented(connection(alice, CLIENTS)))).failures


NAMED: dict[str, Any] = {
    "user_headers": ["X-User", "X-Login"],
    "uid_headers": ["X-User-Id", "X-Remote-Uid"],
    "group_headers": ["X-Teams", "X-Roles"],
    "extra_prefixes": ["X-About-", "X-More_"],
}


async def test_other_names_of_headers() -> None:
    """§6.3: of several names for the user and the uid the first that is not empty; all groups; all that begins so."""
    fields = [
        ("X-User", ""),
        ("X-Login", "alice"),
        ("X-Remote-Uid", "u-1"),
        ("X-Roles", "ops"),
        ("X-Teams", "dev"),
        ("X-Teams", ""),
        ("X-About-Scopes", "a"),
        ("X-More_example.com%2FTenant", "b"),
        ("X-Remote-User", "root"),
        ("X-Remote-Group", "system:masters"),
        ("X-Remote-Extra-Scopes", "all"),
    ]
    found = await proxies(**NAMED).authenticate(presented(connection(PROXY, FRONT), *fields))
    assert found is not None
    assert (found.user, found.uid, found.groups) == ("alice", "u-1", ("dev", "ops", "system:authenticated"))
    assert found.extra == {"scopes": ("a",), "example.com/tenant": ("b",)}
    assert await proxies(**NAMED).authenticate(presented(connection(PROXY, FRONT), *told())) is None


async def test_other_names_that_were_trailers() -> None:
    """C5.1: whatever the headers are called, they are not believed beside Transfer-Encoding under such a server."""
    mixed = Connection(tls=True, chain=(PROXY.der, FRONT.der))
    with pytest.raises(InvalidCredentials, match="mixes trailers"):
        await proxies(**NAMED).authenticate(presented(mixed, ("Transfer-Encoding", "chunked"), ("X-User", "alice")))


def without_some(name: str) -> list[str]:
    """Spellings that a careless receiver reads alike."""
    words = name.strip("-_").split("-")
    return [separator.join(words) for separator in "-_.~"] + [name.upper(), f"{name} "]


@pytest.mark.parametrize("options", [{}, {"exempt": ["/"]}, {"strip_credentials": False}], ids=str)
@pytest.mark.parametrize("nested", [False, True])
async def test_c2_other_names_never_arrive(options: dict[str, Any], *, nested: bool) -> None:
    """C2: in every spelling, from anybody, on every route, besides the usual ones; what only looks alike stays."""
    one: Any = proxies(**NAMED)
    names = [*NAMED["user_headers"], *NAMED["uid_headers"], *NAMED["group_headers"], "X-About-A", "X-More_A", "X-More"]
    forged = [
        (spelling.lower().encode(), b"root") for name in [*names, "X-Remote-User"] for spelling in without_some(name)
    ]
    kept = ((b"x-users", b"1"), (b"x-abouts", b"2"), (b"host", b"h"))
    exchange = Exchange({"type": "http", "path": "/"}, (*kept, *forged))
    stage = Authentication([AuthenticatorUnion([one]) if nested else one], anonymous=Anonymous.everywhere(), **options)
    assert await stage.decide(exchange) is None
    assert exchange.headers == kept


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"user_headers": []}, "no header is named that says who the user is"),
        ({"uid_headers": ["X-Id"]}, "must include X-Remote-Uid"),
        ({"user_headers": ["X User"]}, "'X User' is no name of a header"),
        ({"group_headers": [""]}, "'' is no name of a header"),
        ({"group_headers": ["Authorization"]}, "'Authorization' is the name of a header that says something else"),
        ({"extra_prefixes": ["-"]}, "'-' is the name of a header that says something else"),
        ({"extra_prefixes": ["Impersonate-"]}, "'Impersonate-' is the name of a header that says something else"),
        ({"user_headers": ["impersonate_user"]}, "is the name of a header that says something else"),
    ],
)
def test_names_that_cannot_be(options: dict[str, Any], error: str) -> None:
    """A mistake is found when it is made: what means something already is no name of a caller."""
    with pytest.raises(ValueError, match=error):
        proxies(**options)
    with pytest.raises(TypeError, match="a list, not one string"):
        proxies(user_headers="X-User")
    assert proxies(uid_headers=[], group_headers=[], extra_prefixes=[]).identity_fields == {b"x-remote-user"}


async def test_c5_4_revoked_front_proxy() -> None:
    """C5.4: a front proxy whose certificate is on a list speaks for nobody, from the next request on."""
    one, on = proxies(), connection(PROXY, FRONT)
    assert await one.authenticate(presented(on, *told())) is not None
    one.reload(FRONT.pem, crl=revocations(FRONT, PROXY))
    with pytest.raises(InvalidCredentials, match="revoked"):
        await one.authenticate(presented(on, *told()))
    with pytest.raises(InvalidCredentials, match="revoked"):
        await proxies(crl=revocations(FRONT, PROXY)).authenticate(presented(on, *told()))


async def test_callers_that_cannot_be() -> None:
    """Two users are a forgery of one of them."""
    fields = [("X-Remote-User", "alice"), ("X-Remote-User", "root")]
    with pytest.raises(InvalidIdentity, match="is there 2 times"):
        await proxies().authenticate(presented(connection(PROXY, FRONT), *fields))


async def test_trailers_are_not_believed() -> None:
    """C5.1: where a server mixes trailers into the headers, identity beside Transfer-Encoding is refused."""
    mixed = Connection(tls=True, chain=(PROXY.der, FRONT.der))
    with pytest.raises(InvalidCredentials, match="mixes trailers"):
        await proxies().authenticate(presented(mixed, ("Transfer-Encoding", "chunked"), *told()))


async def test_reload() -> None:
    """A new CA counts from the next request on, also on connections that are open."""
    one = proxies()
    on = connection(PROXY, FRONT)
    assert await one.authenticate(presented(on, *told())) is not None
    one.reload(CLIENTS.pem)
    with pytest.raises(InvalidCredentials):
        await one.authenticate(presented(on, *told()))
    with pytest.raises(ConfigurationError):
        one.reload(b"nonsense")


def test_repr() -> None:
    """What is shown: how many authorities, and which names."""
    assert repr(proxies(allowed_names=["a"])) == "FrontProxies(1 authorities, allowed_names=['a'])"
