"""The review APIs of `authentication.k8s.io/v1`: whose token is this, and who am I (wire contract §6.8)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import structlog

from aggmw.contracts.catalog import APIResource, GroupVersionKind
from aggmw.contracts.identity import Authenticator, Presented
from aggmw.contracts.kinds import Object, WriteContext
from aggmw.errors import StatusError
from aggmw.middleware.authentication.union import AuthenticatorUnion, Finding

__all__ = ["SelfSubjectReviews", "TokenReviews"]

_log = structlog.get_logger("aggmw.authentication")

_GROUP, _VERSION = "authentication.k8s.io", "v1"
_MAX_AUDIENCES = 32


def _resource(plural: str, kind: str) -> APIResource:
    return APIResource(
        plural,
        GroupVersionKind(_GROUP, _VERSION, kind),
        namespaced=False,
        singular=kind.lower(),
        verbs=("create",),
    )


class SelfSubjectReviews:
    """`SelfSubjectReview`: who the caller is, as the front proxy sees it; what `kubectl auth whoami` asks for.

    Args:
        clock: seconds since the epoch.
    """

    group, version = _GROUP, _VERSION
    resource = _resource("selfsubjectreviews", "SelfSubjectReview")

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def __repr__(self) -> str:
        return "SelfSubjectReviews()"

    async def create(self, value: Object, context: WriteContext) -> Object:
        """The caller. What the object says is not looked at."""
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        return {
            "apiVersion": value["apiVersion"],
            "kind": value["kind"],
            "metadata": {"creationTimestamp": created},
            "status": {"userInfo": context.identity.user_info},
        }


class TokenReviews:
    """`TokenReview`: whose bearer token it is, for servers that leave authentication to the front proxy.

    A token that nobody knows is no error of the request: `status.authenticated` is false. Only what can be known from
    a token counts: client certificates, cookies and header fields of the reviewer's own request are not looked at.

    Whoever may create reviews can try out tokens, so allow it to servers only.

    Args:
        authenticators: asked in this order.
        audiences: for whom a token is meant that does not say so itself. A review that asks for other audiences is not
            answered by authenticators that know of none, such as `StaticTokens`.

    Raises:
        TypeError: no list, or something in it that is no authenticator.
    """

    group, version = _GROUP, _VERSION
    resource = _resource("tokenreviews", "TokenReview")

    def __init__(self, authenticators: Sequence[Authenticator], *, audiences: Iterable[str] = ()) -> None:
        members = AuthenticatorUnion(authenticators).members
        self._aware = AuthenticatorUnion([each for each in members if hasattr(each, "authenticate_token")])
        self._unaware = AuthenticatorUnion([each for each in members if not hasattr(each, "authenticate_token")])
        self._audiences = tuple(audiences)

    def __repr__(self) -> str:
        return f"TokenReviews({len(self._aware.members) + len(self._unaware.members)} authenticators)"

    async def create(self, value: Object, context: WriteContext) -> Object:
        """The object with its status.

        Raises:
            StatusError: 400 without a token, or with too many audiences.
        """
        spec: Object = value.get("spec") or {}
        token: str = spec.get("token") or ""
        if not token:
            raise StatusError(400, "BadRequest", "token is required for TokenReview in authentication")
        asked = tuple(dict.fromkeys(spec.get("audiences") or ()))
        if len(asked) > _MAX_AUDIENCES:
            raise StatusError(400, "BadRequest", f"a TokenReview may ask for {_MAX_AUDIENCES} audiences at most")
        status = await self._status(_written(token), asked)
        return {**value, "metadata": value.get("metadata") or {}, "status": status}

    async def _status(self, token: bytes, asked: Sequence[str]) -> Object:
        finding = await self._aware.find(_presented(token, asked))
        failures = [*finding.failures]
        meant: Sequence[str] = ()
        if finding.identity is not None:
            meant = await self._meant(token, asked) if asked else self._audiences
        else:
            implicit = [each for each in asked if each in self._audiences] if asked else self._audiences
            if implicit or not asked:
                finding = await self._unaware.find(_presented(token, ()))
                failures += finding.failures
                meant = implicit
        if finding.identity is None:
            return _unauthenticated(finding._replace(failures=failures))
        status: dict[str, Any] = {"authenticated": True, "user": finding.identity.user_info}
        if meant:
            status["audiences"] = list(meant)
        return status

    async def _meant(self, token: bytes, asked: Sequence[str]) -> Sequence[str]:
        """Those of the audiences for which the token is."""
        if len(asked) == 1:
            return asked
        return [each for each in asked if (await self._aware.find(_presented(token, (each,)))).identity is not None]


def _written(token: str) -> bytes:
    """The token as a header field would carry it.

    Raises:
        StatusError: 400 when none could.
    """
    if any(character <= " " or character == "\x7f" for character in token):
        raise StatusError(400, "BadRequest", "the token holds white space or a control character")
    return token.encode("utf-8", "replace")


def _presented(token: bytes, audiences: Sequence[str]) -> Presented:
    return Presented(((b"authorization", b"Bearer " + token),), audiences=frozenset(audiences))


def _unauthenticated(finding: Finding) -> Object:
    """What the reviewer may know of the reason: no more than that there is one, and who is broken is the log's."""
    broken = [each for each in finding.failures if each.broken]
    for each in broken:
        _log.error("authenticator broken", authenticator=each.authenticator, error=type(each.error).__name__)
    if broken:
        return {"error": "an authenticator could not be asked whose token this is"}
    return {"error": "invalid bearer token"} if finding.failures else {}
