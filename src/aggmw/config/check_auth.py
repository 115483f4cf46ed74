"""Which authenticator answers what, for one credential: `aggmw check auth`. The credential itself is never shown."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from aggmw.contracts.background import Background
from aggmw.contracts.connection import Connection
from aggmw.contracts.identity import SYSTEM_AUTHENTICATED, Authenticator, Identity, Presented, authenticated
from aggmw.errors import InvalidCredentials, InvalidIdentity, UpstreamError

__all__ = ["Said", "ask", "by_certificate_chain", "by_token", "lines"]

_SECONDS = 30.0

_CERTIFICATE = {
    "user": "the subject's common name, CN",
    "uid": "the subject's attribute 1.3.6.1.4.1.57683.2",
    "group": "an organization of the subject, O",
    "extra": "the certificate's fingerprint",
}
_SOURCES: Mapping[str, Mapping[str, str]] = {
    "ClientCertificates": _CERTIFICATE,
    "ForwardedCertificates": _CERTIFICATE,
    "StaticTokens": {
        "user": "column 2 of authentication.tokenFile",
        "uid": "column 3 of authentication.tokenFile",
        "group": "column 4 of authentication.tokenFile",
    },
    "ServiceAccounts": {
        "user": "namespace and name of the account",
        "uid": "the account's",
        "group": "every service account, and those of its namespace",
        "extra": "the token's own name, jti, and what it is bound to",
    },
    "WebhookTokens": dict.fromkeys(("user", "uid", "group", "extra"), "status.user of the webhook's answer"),
}
"""Where the parts of an identity come from, by the class of the authenticator that has no more to say of it."""


class Said(NamedTuple):
    """What one authenticator said.

    Attributes:
        authenticator: the name of its class.
        identity: whom it knows; None when nobody.
        reason: why not.
        sources: which rule of its gives "user", "uid", "group" and "extra".
    """

    authenticator: str
    identity: Identity | None
    reason: str = ""
    sources: Mapping[str, str] = {}


def by_token(token: str) -> Presented:
    """The request of somebody with a bearer token."""
    return Presented(((b"authorization", b"Bearer " + token.encode()),))


def by_certificate_chain(chain: tuple[bytes, ...]) -> Presented:
    """The request of somebody with a client certificate.

    Args:
        chain: in DER, leaf first, ending in an authority.
    """
    return Presented(connection=Connection(tls=True, chain=chain))


async def ask(authenticators: Sequence[Authenticator], presented: Presented) -> list[Said]:
    """What each of them says; those behind the first success are asked, too.

    Args:
        authenticators: unions and caches among them are asked through.
        presented: the request.
    """
    members = list(dict.fromkeys(_members(authenticators)))
    controllers = [each for member in members for each in getattr(member, "controllers", ())]
    async with Background(controllers):  # which reads the keys of issuers
        return [await _asked(each, presented) for each in members]


def _members(authenticators: Sequence[Authenticator]) -> Iterator[Authenticator]:
    for each in authenticators:
        inner = getattr(each, "members", None)
        if inner is None:
            yield each
        else:
            yield from _members(inner)


async def _asked(authenticator: Authenticator, presented: Presented) -> Said:
    name = type(authenticator).__name__
    try:
        async with asyncio.timeout(_SECONDS):
            identity = await authenticator.authenticate(presented)
    except (InvalidCredentials, InvalidIdentity) as error:
        return Said(name, None, f"refuses it: {error}")
    except UpstreamError as error:
        return Said(name, None, f"is broken: {error}")
    except Exception as error:  # noqa: BLE001  its text may hold anything
        return Said(name, None, f"is broken: {type(error).__name__}")
    if identity is None:
        return Said(name, None, "this is nothing of its kind")
    sources = getattr(authenticator, "sources", None)
    return Said(
        name, authenticated(identity), "", sources(presented) if sources is not None else _SOURCES.get(name, {})
    )


def lines(said: Sequence[Said]) -> Iterator[str]:
    """The report: what each one said, then who it is."""
    width = max((len(each.authenticator) for each in said), default=0)
    known = next((each for each in said if each.identity is not None), None)
    for each in said:
        if each.identity is None:
            verdict = f"no   {each.reason}"
        else:
            verdict = f"yes  {each.identity.user}" + ("" if each is known else " (not asked: the one above knows)")
        yield f"{each.authenticator:<{width}}  {verdict}"
    yield ""
    if known is None or known.identity is None:
        yield "401 Unauthorized: " + ("no authenticator is configured" if not said else "nobody knows this credential")
        return
    yield from _identity(known.identity, known)


def _identity(identity: Identity, known: Said) -> Iterator[str]:
    def shown(what: str, value: str, source: str) -> str:
        return f"{what:<7} {value}" + (f"  ({source})" if source else "")

    yield shown("user", identity.user, known.sources.get("user", ""))
    if identity.uid:
        yield shown("uid", identity.uid, known.sources.get("uid", ""))
    for group in identity.groups:
        everybody = group == SYSTEM_AUTHENTICATED
        yield shown("group", group, "everybody who is known" if everybody else known.sources.get("group", ""))
    for key, values in identity.extra.items():
        source = known.sources.get(f"extra {key}", known.sources.get("extra", ""))
        yield shown("extra", f"{key}: {', '.join(values)}", source)
    if identity.credential.expires is not None:
        yield f"until   {datetime.fromtimestamp(identity.credential.expires, UTC).isoformat(timespec='seconds')}"
    if identity.credential.ambient:
        yield "pages   need a listed origin (authentication.origins): browsers send this by themselves"
