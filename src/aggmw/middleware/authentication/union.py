"""Several authenticators as one: any success wins, and one failure is enough to rule out an anonymous caller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aggmw.asgi.stacking import shown
from aggmw.contracts.identity import Authenticator, Identity, Presented, authenticated, with_members
from aggmw.contracts.options import checked_seams
from aggmw.errors import CompositionError, InvalidCredentials, InvalidIdentity

__all__ = ["AuthenticatorUnion", "Failure", "Finding", "credentials_of", "identity_fields_of"]

_AUTHORIZATION = frozenset({b"authorization"})


class Failure(NamedTuple):
    """An authenticator that did not say None and found nobody.

    Attributes:
        authenticator: the name of its class.
        error: what it raised.
        broken: whether it failed itself, instead of finding the credentials bad.
    """

    authenticator: str
    error: Exception
    broken: bool


class Finding(NamedTuple):
    """What a union found out.

    Attributes:
        identity: the caller, or None.
        consumed: the header fields that carried what was believed.
        failures: of the authenticators that were asked.
    """

    identity: Identity | None
    consumed: frozenset[bytes]
    failures: Sequence[Failure]


class AuthenticatorUnion:
    """Asks each authenticator in turn until one knows the caller (wire contract §6.1, §12.9).

    A failure does not stop the next one: where client and front-proxy certificates have different authorities, one of
    the two finds every certificate bad. Is itself an authenticator, so unions nest.

    Args:
        authenticators: in the order in which they are asked.

    Raises:
        TypeError: no list, or something in it that is no authenticator.
    """

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        checked = checked_seams("authenticators", authenticators, "authenticate")
        self.members = checked
        self._authenticators = [
            (each, getattr(each, "identify", None), each.authenticate, credentials_of(each)) for each in checked
        ]
        self.credentials: frozenset[bytes] = frozenset().union(*(names for *_, names in self._authenticators))

    def __repr__(self) -> str:
        return f"AuthenticatorUnion([{', '.join(shown(each) for each in self.members)}])"

    async def find(self, presented: Presented) -> Finding:
        """Ask everybody until one succeeds. Failures are collected, none is raised.

        Raises:
            CompositionError: an authenticator was not opened.
        """
        failures: list[Failure] = []
        for authenticator, identify, authenticate, credentials in self._authenticators:
            try:
                identity = await authenticate(presented) if identify is None else identify(presented)
                if identity is None:
                    continue
                if isinstance(identity, Identity):
                    return Finding(authenticated(identity), credentials, failures)
                raise TypeError("an authenticator returned neither an Identity nor None")
            except (InvalidCredentials, InvalidIdentity) as error:
                failures.append(Failure(type(authenticator).__name__, error, broken=False))
            except CompositionError:
                raise  # not this request's fault, nor the credentials': it is told, not logged
            except Exception as error:  # noqa: BLE001  whatever broke in one must not let anybody in, nor stop the next
                failures.append(Failure(type(authenticator).__name__, error, broken=True))
        return Finding(None, frozenset(), failures)

    async def authenticate(self, presented: Presented) -> Identity | None:
        """As any authenticator: the first failure is raised when nobody knows the caller."""
        finding = await self.find(presented)
        if finding.identity is None and finding.failures:
            raise finding.failures[0].error
        return finding.identity


def credentials_of(authenticator: object) -> frozenset[bytes]:
    """The header fields that carry an authenticator's credentials: `Authorization` unless it says otherwise."""
    return frozenset(getattr(authenticator, "credentials", _AUTHORIZATION))


def identity_fields_of(authenticators: Iterable[object]) -> frozenset[bytes]:
    """The header fields in which authenticators, and those inside of them, believe that somebody says who is asking."""
    return frozenset().union(*(getattr(each, "identity_fields", ()) for each in with_members(authenticators)))
