"""What `aggmw check auth` says: every authenticator's answer, the identity with its sources, never the credential."""

from __future__ import annotations

from collections.abc import Mapping

from aggmw.config.check_auth import ask, by_certificate_chain, by_token, lines
from aggmw.contracts.identity import EXPLICIT, Credential, Identity, Presented
from aggmw.errors import InvalidCredentials, UpstreamUnreachable
from aggmw.middleware.authentication import AuthenticatorUnion, ClientCertificates, StaticTokens, TokenCache
from aggmw.pki.make import issue_client, make_ca
from aggmw.pki.paths import build_chain
from aggmw.pki.read import pem_certificates

TOKEN = "t0p-secret-token"
ALICE = Identity("alice", "1", ("devs",), credential=EXPLICIT)


class Says:
    """An authenticator with a result of its own."""

    def __init__(self, result: Identity | Exception | None, sources: Mapping[str, str] | None = None) -> None:
        self._result = result
        if sources is not None:
            self.sources = lambda presented: sources

    async def authenticate(self, presented: Presented) -> Identity | None:
        if isinstance(self._result, Exception):
            raise self._result
        return self._result


async def report(*authenticators: object) -> list[str]:
    said = await ask(list(authenticators), by_token(TOKEN))  # type: ignore[arg-type]
    return list(lines(said))


async def test_who_knows_it_and_by_which_rules() -> None:
    """The first who knows it decides; each part of the identity says where it comes from."""
    assert await report(Says(None), StaticTokens({TOKEN: ALICE}), Says(Identity("eve"))) == [
        "Says          no   this is nothing of its kind",
        "StaticTokens  yes  alice",
        "Says          yes  eve (not asked: the one above knows)",
        "",
        "user    alice  (column 2 of authentication.tokenFile)",
        "uid     1  (column 3 of authentication.tokenFile)",
        "group   devs  (column 4 of authentication.tokenFile)",
        "group   system:authenticated  (everybody who is known)",
    ]


async def test_rules_of_an_authenticator_of_ones_own() -> None:
    """Whoever can tell more of its rules is asked; an end and an extra are shown."""
    identity = Identity("ann", groups=("a",), extra={"k": ("v", "w")}, credential=Credential(False, 86400.0))
    sources = {"user": "claim sub", "group": "claim roles", "extra k": "claims.k"}
    assert (await report(Says(identity, sources)))[2:] == [
        "user    ann  (claim sub)",
        "group   a  (claim roles)",
        "group   system:authenticated  (everybody who is known)",
        "extra   k: v, w  (claims.k)",
        "until   1970-01-02T00:00:00+00:00",
    ]


async def test_why_nobody_knows_it() -> None:
    """Refused, broken, or not asked: the reason of each, and what the caller gets."""
    assert await report(
        Says(InvalidCredentials("expired")), Says(UpstreamUnreachable("connection refused")), Says(RuntimeError(TOKEN))
    ) == [
        "Says  no   refuses it: expired",
        "Says  no   is broken: connection refused",
        "Says  no   is broken: RuntimeError",
        "",
        "401 Unauthorized: nobody knows this credential",
    ]
    assert await report() == ["", "401 Unauthorized: no authenticator is configured"]


async def test_unions_and_caches_are_asked_through() -> None:
    """Each member has a line of its own."""

    class Member(Says):
        revision = None

        async def authenticate_token(self, token: bytes, audiences: frozenset[str] = frozenset()) -> Identity | None:
            return None

    found = await report(AuthenticatorUnion([Says(None)]), TokenCache([Member(None)]))
    assert [line.split()[0] for line in found[:2]] == ["Says", "Member"]


async def test_background_work_runs_meanwhile() -> None:
    """An authenticator that reads keys in the background is asked while it does."""

    class Working(Says):
        name = "keys"
        runs = False

        @property
        def controllers(self) -> tuple[object, ...]:
            return (self,)

        async def run(self) -> None:
            self.runs = True
            try:
                await _for_ever()
            finally:
                self.runs = False

        async def authenticate(self, presented: Presented) -> Identity | None:
            return ALICE if self.runs else None

    working = Working(None)
    (said,) = await ask([working], by_token(TOKEN))  # type: ignore[list-item]
    assert said.identity is not None
    assert working.runs is False


async def _for_ever() -> None:
    import asyncio

    await asyncio.Event().wait()


async def test_certificates() -> None:
    """The chain of a file, as TLS would have handed it on; pages need a listed origin."""
    ca = make_ca("clients")
    pair = issue_client(ca, "admin", groups=["system:masters"])
    chain = build_chain(pem_certificates(pair.certificate), pem_certificates(ca.certificate))
    said = await ask([ClientCertificates(ca.certificate)], by_certificate_chain(chain))
    found = list(lines(said))
    assert found[2:4] == [
        "user    admin  (the subject's common name, CN)",
        "group   system:masters  (an organization of the subject, O)",
    ]
    assert found[-1].startswith("pages   need a listed origin")
