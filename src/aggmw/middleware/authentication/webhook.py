"""Webhook TokenReview: kube-apiserver's `--authentication-token-webhook-config-file` (wire contract §6.8)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aggmw.contracts.identity import EXPLICIT, SYSTEM_AUTHENTICATED, Identity, Presented, authenticated
from aggmw.contracts.tokens import NO_AUDIENCES
from aggmw.errors import ConfigurationError, InvalidCredentials, Problem, UpstreamBroken, UpstreamTimeout
from aggmw.middleware.authentication.bearer import presented_token
from aggmw.net.kubeconfig import Remote, read_kubeconfig
from aggmw.net.webhooks import Webhook

__all__ = ["WebhookTokens"]

_GROUP = "authentication.k8s.io"
_VERSIONS = ("v1", "v1beta1")
_SYSTEM = "system:"
_LONGEST = 60.0  # seconds, with waiting for a turn and all attempts


class WebhookTokens:
    """Bearer tokens that another server knows: each is sent to it in a `TokenReview`.

    Put a `TokenCache` around it: without one every request asks. When the server cannot be asked, or answers something
    else, nobody is let in.

    Args:
        webhook: the server.
        version: of the review that it takes: "v1" or "v1beta1".
        audiences: for whom tokens must be when nobody asks for others; none: the server decides alone.
        system_names: whether users and groups may begin with `system:`; `system:authenticated` may always be said.
        remember_seconds: how long a cache around it keeps a good answer.
        at_once: how many tokens it is asked about at the same time; others wait. So a flood of tokens that nobody knows
            is no flood of connections.

    Raises:
        ConfigurationError: an unknown version, or nothing at once.
    """

    credentials = frozenset({b"authorization"})

    def __init__(
        self,
        webhook: Webhook,
        *,
        version: str = "v1",
        audiences: Iterable[str] = (),
        system_names: bool = False,
        remember_seconds: float = 120.0,
        at_once: int = 256,
    ) -> None:
        if version not in _VERSIONS:
            raise ConfigurationError([Problem("version", f"must be one of {', '.join(_VERSIONS)}")])
        if at_once < 1:
            raise ConfigurationError([Problem("at_once", f"must be at least 1, not {at_once}")])
        self._webhook = webhook
        self._version = f"{_GROUP}/{version}"
        self._audiences = frozenset(audiences)
        self._system_names = system_names
        self._revision = object()
        self._room = asyncio.Semaphore(at_once)
        self.remember_seconds = remember_seconds

    @classmethod
    def load(cls, kubeconfig: str | os.PathLike[str], **options: Any) -> WebhookTokens:
        """From a kubeconfig file, whose current context says where the server is; `options` as in the constructor.

        Raises:
            ConfigurationError: all the mistakes in the file.
        """
        return cls(Webhook(read_kubeconfig(Path(kubeconfig))), **options)

    def __repr__(self) -> str:
        return f"WebhookTokens({self._webhook!r})"

    def reload(self, kubeconfig: str | os.PathLike[str] | Remote) -> None:
        """Ask the server of this file from now on, or one that was read before. On a mistake nothing changes.

        Raises:
            ConfigurationError: all the mistakes in the file.
        """
        self._webhook = Webhook(kubeconfig if isinstance(kubeconfig, Remote) else read_kubeconfig(Path(kubeconfig)))
        self._revision = object()

    @property
    def revision(self) -> object:
        """Changes with another server alone: what it thinks by now nobody tells us."""
        return self._revision

    async def authenticate(self, presented: Presented) -> Identity | None:
        """Whose bearer token it is; None when none is presented, or when it is not the server's."""
        token = presented_token(presented)
        return None if token is None else await self.authenticate_token(token, presented.audiences)

    async def authenticate_token(self, token: bytes, audiences: frozenset[str] = NO_AUDIENCES) -> Identity | None:
        """As `TokenAuthenticator.authenticate_token`.

        Raises:
            InvalidCredentials: the server says why it is bad, or names somebody whom it may not name.
            InvalidIdentity: the server names somebody whom no header could carry.
            UpstreamError: the server could not be asked, or answered nonsense.
        """
        wanted = audiences or self._audiences
        spec: dict[str, Any] = {"token": _text(token)}
        if wanted:
            spec["audiences"] = sorted(wanted)
        review = {"apiVersion": self._version, "kind": "TokenReview", "metadata": {}, "spec": spec}
        try:
            async with asyncio.timeout(_LONGEST), self._room:
                answer = await self._webhook.ask(review)
        except TimeoutError:
            raise UpstreamTimeout("it did not answer in time") from None
        if answer.get("kind") != "TokenReview" or answer.get("apiVersion") != self._version:
            raise UpstreamBroken("the webhook's answer is not a TokenReview of the version that was sent")
        status = answer.get("status")
        if not isinstance(status, dict):
            raise UpstreamBroken("the webhook's answer has no status")
        if status.get("authenticated") is not True:
            if status.get("error"):
                raise InvalidCredentials("the webhook calls the bearer token bad")
            return None
        meant = _texts(status, "audiences")
        # A server that says no audiences knows of none: its tokens are for our own.
        if wanted and not wanted & (frozenset(meant) or self._audiences):
            return None
        return self._identity(status)

    def _identity(self, status: Mapping[str, Any]) -> Identity:
        user = status.get("user")
        if not isinstance(user, dict):
            raise UpstreamBroken("the webhook's answer names no user")
        name, uid = user.get("username"), user.get("uid", "")
        if not isinstance(name, str) or not isinstance(uid, str):
            raise UpstreamBroken("the webhook's answer names no user")
        groups = tuple(dict.fromkeys(_texts(user, "groups")))
        if not self._system_names:
            groups = tuple(group for group in groups if group != SYSTEM_AUTHENTICATED)
            if any(each.startswith(_SYSTEM) for each in (name, *groups)):
                raise InvalidCredentials("the webhook names a user or a group of system:, which it may not")
        extra = {} if user.get("extra") is None else user["extra"]
        if not isinstance(extra, dict):
            raise UpstreamBroken("the webhook's answer has an extra that is no object")
        identity = Identity(name, uid, groups, {key.lower(): _texts(extra, key) for key in extra}, EXPLICIT)
        return authenticated(identity)


def _text(token: bytes) -> str:
    try:
        return token.decode()
    except UnicodeDecodeError:
        raise InvalidCredentials("the bearer token is not UTF-8, so it cannot be sent to the webhook") from None


def _texts(value: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = [] if value.get(name) is None else value[name]
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise UpstreamBroken(f"the webhook's answer has {name} that are no list of texts")
    return tuple(found)
