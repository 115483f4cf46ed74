"""Who is asking: `Identity`, and the Protocol of what finds it out.

Follows `k8s.io/apiserver/pkg/authentication/user` and `…/authenticator`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from aggmw.asgi.types import Headers
from aggmw.contracts.connection import Connection
from aggmw.contracts.drain import Drain
from aggmw.errors import InvalidIdentity

__all__ = [
    "ANONYMOUS",
    "EXPLICIT",
    "SYSTEM_ANONYMOUS",
    "SYSTEM_AUTHENTICATED",
    "SYSTEM_MASTERS",
    "SYSTEM_UNAUTHENTICATED",
    "Authenticator",
    "Credential",
    "Identity",
    "Presented",
    "authenticated",
    "with_members",
]

SYSTEM_ANONYMOUS = "system:anonymous"
SYSTEM_AUTHENTICATED = "system:authenticated"
SYSTEM_UNAUTHENTICATED = "system:unauthenticated"
SYSTEM_MASTERS = "system:masters"

_UNFIT = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]|^\s|\s$|[\ud800-\udfff]")


def _fit(what: str, value: str) -> str:
    """The value, if a header can carry it unchanged: receivers trim, and a line break would be a new header."""
    if _UNFIT.search(value):
        # The value is not repeated: it came from outside, and this text goes into logs.
        raise InvalidIdentity(f"the {what} holds a control character or begins or ends with white space")
    return value


@dataclass(frozen=True, slots=True)
class Credential:
    """What a caller was known by.

    Args:
        ambient: whether a browser may send it by itself, whoever's page makes the request: a cookie, a client
            certificate, HTTP Basic. Such a request from a page needs a listed origin before it may change anything
            (security cases C5.10). False only for what the page itself has to know and to put into the request, as a
            bearer token; true unless an authenticator says so, because a mistake must not let anybody in.
        expires: seconds since the epoch; what it opened ends then, at the latest. None: it has no end.
        withdrawal: begins when it is no longer believed, as a certificate that is revoked; what it opened ends then.
            None where nobody would tell.
    """

    ambient: bool = True
    expires: float | None = None
    withdrawal: Drain | None = field(default=None, compare=False, repr=False)


EXPLICIT = Credential(ambient=False)
"""What a caller has put into the request on purpose, such as a bearer token without an end."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller, as Kubernetes' `user.Info`, and what it was known by.

    Values that could not travel in `X-Remote-*` headers unchanged are refused here, when the identity is made
    (wire contract §12.4).

    Args:
        user: the name; never empty.
        uid: unique over time; may be empty.
        groups: in order; the authentication stage adds `system:authenticated`.
        extra: further claims, each a list of strings; keys in lower case.
        credential: what the caller was known by; no part of who it is, so equal identities may differ in it.

    Raises:
        InvalidIdentity: an empty name, a control character, or white space at an end of a value.
    """

    user: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)
    credential: Credential = field(default=Credential(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.user:
            raise InvalidIdentity("the user name is empty")
        _fit("user", self.user)
        _fit("uid", self.uid)
        groups = tuple(self.groups)
        for group in groups:
            if not group:
                raise InvalidIdentity("a group name is empty")
            _fit("group", group)
        extra = {key: tuple(values) for key, values in self.extra.items()}
        for key, values in extra.items():
            if not key or key != key.lower():
                raise InvalidIdentity("an extra key is empty or not in lower case")
            _fit("extra key", key)
            for value in values:
                _fit("extra value", value)
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "extra", MappingProxyType(extra))

    @property
    def user_info(self) -> dict[str, Any]:
        """As JSON has it (`authentication.k8s.io/v1` `UserInfo`); what is empty is left out."""
        extra = {key: list(values) for key, values in self.extra.items()}
        found = {"username": self.user, "uid": self.uid, "groups": list(self.groups), "extra": extra}
        return {name: value for name, value in found.items() if value}

    def with_groups(self, groups: Iterable[str]) -> Identity:
        """The same caller in other groups."""
        return Identity(self.user, self.uid, tuple(groups), self.extra, self.credential)

    def known_by(self, credential: Credential) -> Identity:
        """The same caller, known by something else."""
        return Identity(self.user, self.uid, self.groups, self.extra, credential)


ANONYMOUS = Identity(SYSTEM_ANONYMOUS, groups=(SYSTEM_UNAUTHENTICATED,), credential=EXPLICIT)


def authenticated(identity: Identity) -> Identity:
    """The identity in `system:authenticated` too; itself when it says already which of the two groups it belongs to.

    Authenticators whose identities live longer than a request apply it once, when they are made.
    """
    groups = identity.groups
    if SYSTEM_AUTHENTICATED in groups or SYSTEM_UNAUTHENTICATED in groups or identity.user == SYSTEM_ANONYMOUS:
        return identity
    return identity.with_groups((*groups, SYSTEM_AUTHENTICATED))


@dataclass(slots=True)
class Presented:
    """What a caller presented: everything an authenticator may look at.

    Args:
        headers: the request's header fields, frozen, names in lower case.
        connection: the socket's peer and certificate.
        path: the decoded path below the mount, for anonymous conditions.
        subprotocols: the WebSocket subprotocols offered.
        warnings: an authenticator may add texts for `Warning` response headers.
        audiences: a token must be for one of these; none: for whom the authenticator says.
    """

    headers: Headers = field(default=(), repr=False)
    connection: Connection = field(default_factory=Connection)
    path: str = "/"
    subprotocols: tuple[str, ...] = field(default=(), repr=False)
    warnings: list[str] = field(default_factory=list, compare=False)
    audiences: frozenset[str] = frozenset()

    def header(self, name: bytes) -> list[bytes]:
        """All values of one field, in order. The name is in lower case."""
        return [value for key, value in self.headers if key == name]


class Authenticator(Protocol):
    """Finds out who is asking, with three answers.

    An attribute `credentials: frozenset[bytes]` may name the header fields, in lower case, that carry what this
    authenticator looks at, and the cookies, as `cookie:NAME`: they are removed once it has consumed them. Without it
    that is `Authorization`. `identity_fields: frozenset[bytes]` may name fields by which somebody who is trusted says
    who is asking, and what such fields begin with, as `x-extra-*`: they are removed from every request, whoever sent
    it. `controllers`, a sequence of `Controller`, is its background work, which `FrontProxy` runs;
    `members`, a sequence, are authenticators that it asks.

    The identity says what it was known by (`Identity.credential`). Unless that is said, browsers may have sent it by
    themselves, and it has no end.
    """

    async def authenticate(self, presented: Presented) -> Identity | None:
        """The caller; None when what was presented is not this authenticator's.

        Raises:
            InvalidCredentials: it is this authenticator's and it is bad.
            Exception: anything else means that the authenticator itself is broken; logged, and handled as bad.
        """
        ...


def with_members(authenticators: Iterable[object]) -> Iterator[object]:
    """Authenticators, and those inside of them: each may have an attribute `members`. None twice."""
    seen: list[object] = []
    waiting = list(authenticators)
    while waiting:
        one = waiting.pop(0)
        if not any(one is each for each in seen):
            seen.append(one)
            waiting += getattr(one, "members", ())
            yield one
