"""Tokens in a cookie: what a browser shows for a person who has signed in elsewhere."""

from __future__ import annotations

from dataclasses import replace

from aggmw.asgi.stacking import shown
from aggmw.contracts.identity import Authenticator, Identity, Presented
from aggmw.contracts.options import check_seam
from aggmw.errors import InvalidCredentials
from aggmw.middleware.authentication.cookies import COOKIE, check_name, cookie_values

__all__ = ["TokenCookie"]

_REMEMBERED = 1024


class TokenCookie:
    """Callers by a token in a cookie, which another authenticator judges as if it had come as `Authorization: Bearer`.

    Browsers send cookies by themselves, so requests from pages may change something only where their origin is listed.
    The cookie goes no further; other cookies do. This does not set it: an application that people sign in to does, with
    `Secure`, `HttpOnly` and `SameSite`.

    Args:
        name: the cookie's; one that begins with `__Host-` cannot be set by a neighbouring host.
        authenticator: judges the token, such as `StaticTokens`; it sees nothing else of the request.

    Raises:
        ValueError: not the name of a cookie.
        TypeError: no authenticator.
    """

    def __init__(self, name: str, authenticator: Authenticator) -> None:
        check_seam("authenticator", authenticator, "authenticate")
        self._name = check_name(name)
        self._authenticator = authenticator
        self._made: dict[int, tuple[Identity, Identity]] = {}
        self.credentials = frozenset({COOKIE + self._name})

    @property
    def members(self) -> tuple[Authenticator, ...]:
        """Who judges the token."""
        return (self._authenticator,)

    def __repr__(self) -> str:
        return f"TokenCookie({self._name.decode()!r}, {shown(self._authenticator)})"

    async def authenticate(self, presented: Presented) -> Identity | None:
        """Who presents the token in the cookie; None without the cookie, or with an empty one.

        Raises:
            InvalidCredentials: several cookies of the name, or a token that the other authenticator refuses.
        """
        tokens = cookie_values(presented.headers, self._name)
        if len(tokens) > 1:
            raise InvalidCredentials("several cookies of the name that carries the token")
        if not tokens or not tokens[0]:
            return None
        headers = ((b"authorization", b"Bearer " + tokens[0]),)
        identity = await self._authenticator.authenticate(
            Presented(headers, path=presented.path, warnings=presented.warnings)
        )
        return None if identity is None else self._ambient(identity)

    def _ambient(self, identity: Identity) -> Identity:
        """The same caller, known by a cookie: one object for one object, as what is remembered of identities needs."""
        made = self._made.get(id(identity))
        if made is not None and made[0] is identity:
            return made[1]
        ambient = identity.known_by(replace(identity.credential, ambient=True))
        if len(self._made) >= _REMEMBERED:
            del self._made[next(iter(self._made))]
        self._made[id(identity)] = (identity, ambient)
        return ambient
