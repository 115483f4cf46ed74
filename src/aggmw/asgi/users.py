"""Callers that the application outside has authenticated itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from aggmw.contracts.exchange import Exchange
from aggmw.contracts.identity import Identity, authenticated
from aggmw.errors import InvalidIdentity, StatusError

__all__ = ["host_user"]


def host_user(exchange: Exchange, *, groups: Callable[[Any], Iterable[str]] | None = None) -> Identity | None:
    """The caller in `scope["user"]`, by Starlette's convention: `AuthorizationMiddleware(…, identity=host_user)`.

    The host vouches for its own names, not for Kubernetes': those that begin with `system:` are refused, but for the
    group `system:authenticated`, which everybody gets. Where users look otherwise, write a function of your own.

    Args:
        exchange: the request's.
        groups: the names of a user's groups, without it none: `partial(host_user, groups=lambda user: user.teams)`.

    Returns:
        None where nothing has authenticated anybody.

    Raises:
        StatusError: 401, nobody is signed in, or somebody with a name that may not be used here.
    """
    user = exchange.scope.get("user")
    if user is None:
        return None
    if not user.is_authenticated:
        raise _unauthorized()
    try:
        identity = Identity(user.display_name, groups=tuple(groups(user)) if groups is not None else ())
    except InvalidIdentity as error:
        raise _unauthorized() from error
    if any(name.startswith("system:") for name in (identity.user, *identity.groups)):
        raise _unauthorized()
    return authenticated(identity)


def _unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")
