"""Callers as another front proxy names them: kube-apiserver's `--requestheader-*` flags (wire contract §6.3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from aggmw.asgi.headers import first
from aggmw.asgi.request_headers import RequestHeaders
from aggmw.contracts.identity import Identity, Presented

__all__ = ["FrontProxies"]


class FrontProxies:
    """Callers by `X-Remote-User`, `-Uid`, `-Group` and `-Extra-*`, on connections from a front proxy: so they chain.

    A front proxy shows a certificate that ends in `ca`, byte for byte. One of another authority that the listener
    accepts is not enough, whatever its name: then its headers are believed by nobody, and whose certificate it is, is
    for the other authenticators to say.

    Callers are known as if browsers had sent it by themselves, because the front proxy in front does not say what it
    knew them by; the identity ends with the front proxy's certificate.

    Args:
        ca: the front-proxy CA, a PEM bundle. It should sign nothing but front proxies.
        allowed_names: common names that a front proxy's certificate may have; empty: any that this CA has signed.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: a CA that cannot be read.
        TypeError: one name instead of several, or a CA that is not bytes.
    """

    credentials: frozenset[bytes] = frozenset()  # identity headers go on every request

    def __init__(self, ca: bytes, *, allowed_names: Iterable[str] = (), clock: Callable[[], float] = time.time) -> None:
        self._headers = RequestHeaders(ca, allowed_names=allowed_names, clock=clock)

    def __repr__(self) -> str:
        return repr(self._headers).replace("RequestHeaders", "FrontProxies", 1)

    def reload(self, ca: bytes) -> None:
        """Believe front proxies of this CA from now on, also on connections that are open.

        Raises:
            ConfigurationError: it cannot be read; everything stays as it was.
        """
        self._headers.reload(ca)

    async def authenticate(self, presented: Presented) -> Identity | None:
        """As `identify`."""
        return self.identify(presented)

    def identify(self, presented: Presented) -> Identity | None:
        """Who the front proxy says it is; None where no user is named, and without a client certificate.

        Raises:
            InvalidCredentials: a user is named on a connection of somebody who is no front proxy.
            InvalidIdentity: a caller that cannot be.
        """
        if not first(presented.headers, b"x-remote-user"):
            return None
        return self._headers.find(presented.headers, presented.connection)
