"""Who judges bearer tokens by themselves, and what says whether a service account is still there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from aggmw.contracts.identity import Identity

__all__ = ["NO_AUDIENCES", "AccountLookup", "BoundObject", "TokenAuthenticator"]

NO_AUDIENCES: frozenset[str] = frozenset()
"""Nobody asks for certain audiences: an authenticator's own count."""


class TokenAuthenticator(Protocol):
    """Finds out whose bearer token it is, from the token alone, so that its answers may be remembered for a while.

    `Identity.credential.expires` says how long a good answer holds at most.
    """

    @property
    def revision(self) -> object:
        """Another object as soon as it might judge a token differently: other keys, another configuration."""
        ...

    async def authenticate_token(self, token: bytes, audiences: frozenset[str] = NO_AUDIENCES) -> Identity | None:
        """Whose token it is; None when it is not this authenticator's.

        Args:
            token: as it was presented.
            audiences: one of these must be meant by the token; none: one of the authenticator's own.

        Raises:
            InvalidCredentials: it is this authenticator's and it is bad.
            Exception: anything else means that the authenticator itself is broken; never remembered.
        """
        ...


@dataclass(frozen=True, slots=True)
class BoundObject:
    """What a token is bound to: when it goes, so does the token.

    Args:
        kind: "Pod", "Secret" or "Node".
        name: in the namespace of the service account; a node is in none.
        uid: of the object that is meant, not of a later one with the same name.
    """

    kind: str
    name: str
    uid: str


class AccountLookup(Protocol):
    """Which service accounts, and objects that tokens are bound to, there are at the moment.

    What is being deleted counts as gone.
    """

    @property
    def revision(self) -> object:
        """Another object as soon as an answer might differ."""
        ...

    async def account(self, namespace: str, name: str) -> str | None:
        """The uid of a service account; None when there is none."""
        ...

    async def bound(self, kind: str, namespace: str, name: str) -> str | None:
        """The uid of a "Pod", a "Secret" or, with an empty namespace, a "Node"; None when there is none."""
        ...
