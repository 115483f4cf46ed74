"""Who is believed by a bearer token, of the token file, signed, or known to a webhook; also in a cookie."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from aggmw.config.configuration import Configuration
from aggmw.config.reloads import read_aside
from aggmw.config.tokens import SignedTokens, signed_tokens
from aggmw.contracts.anonymous import Anonymous
from aggmw.contracts.identity import Authenticator
from aggmw.contracts.kinds import VirtualKind
from aggmw.contracts.reloading import Reload
from aggmw.contracts.tokens import TokenAuthenticator
from aggmw.errors import ConfigurationError, Problem
from aggmw.middleware.authentication import AuthenticatorUnion, StaticTokens, TokenCache, TokenCookie
from aggmw.net.kubeconfig import read_kubeconfig

if TYPE_CHECKING:
    from aggmw.middleware.authentication.webhook import WebhookTokens

__all__ = ["ByToken", "by_token"]


class ByToken(NamedTuple):
    """What a configuration says of tokens.

    Attributes:
        authenticators: in the order in which they are asked.
        anonymous: who may come without credentials, where Kubernetes' file says so.
        kinds: what issues tokens over the API.
        reloads: what can be read again, by name.
    """

    authenticators: tuple[Authenticator, ...] = ()
    anonymous: Anonymous | None = None
    kinds: tuple[VirtualKind, ...] = ()
    reloads: Mapping[str, Reload] = {}


def by_token(configuration: Configuration) -> ByToken:
    """The authenticators that a configuration describes.

    Raises:
        ConfigurationError: all the mistakes in all the files.
    """
    settings = configuration.authentication
    problems: list[Problem] = []
    found: list[Authenticator] = []
    reloads: dict[str, Reload] = {}
    if settings.token_file is not None:
        try:
            tokens = StaticTokens.load(settings.token_file)
        except ConfigurationError as error:
            problems += error.problems
        else:
            found.append(tokens)
            reloads["token file"] = read_aside(partial(StaticTokens.load, settings.token_file), tokens.swap)
    signed = SignedTokens()
    try:
        signed = signed_tokens(configuration)
    except ConfigurationError as error:
        problems += error.problems
    judges: list[TokenAuthenticator] = [*signed.members]
    reloads |= signed.reloads
    if settings.webhook is not None:
        try:
            webhook = _webhook(configuration)
        except ConfigurationError as error:
            problems += error.problems
        else:
            judges.append(webhook)
            read = partial(read_kubeconfig, settings.webhook.kubeconfig)
            reloads["webhook of tokens"] = read_aside(read, webhook.reload)
    if problems:
        raise ConfigurationError(problems)
    if judges:
        found.append(TokenCache(judges))
    if settings.cookie is not None:
        found.append(TokenCookie(settings.cookie, found[0] if len(found) == 1 else AuthenticatorUnion(found)))
    return ByToken(tuple(found), signed.anonymous, signed.kinds, reloads)


def _webhook(configuration: Configuration) -> WebhookTokens:
    """The server that knows tokens."""
    from aggmw.middleware.authentication.webhook import WebhookTokens  # with httpx, which takes long

    settings = configuration.authentication
    assert settings.webhook is not None
    return WebhookTokens.load(
        settings.webhook.kubeconfig,
        version=settings.webhook.version,
        audiences=settings.audiences,
        system_names=settings.webhook.system_names,
        remember_seconds=settings.webhook.remember,
    )
