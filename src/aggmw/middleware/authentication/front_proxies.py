"""Callers as another front proxy names them: kube-apiserver's `--requestheader-*` flags (wire contract §6.3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from aggmw.asgi.remote_headers import RemoteNames
from aggmw.asgi.request_headers import RequestHeaders
from aggmw.contracts.identity import Identity, Presented
from aggmw.pki.verify import Authorities

__all__ = ["FrontProxies"]


class FrontProxies:
    """Callers by `X-Remote-User`, `-Uid`, `-Group` and `-Extra-*`, on connections from a front proxy: so they chain.

    A front proxy shows a certificate that ends in `ca`, byte for byte. One of another authority that the listener
    accepts is not enough, whatever its name: then its headers are believed by nobody, and whose certificate it is, is
    for the other authenticators to say.

    Callers are known as if browsers had sent it by themselves, because the front proxy in front does not say what it
    knew them by; the identity ends with the front proxy's certificate.

    Whatever the headers are called, they are removed from every request in every spelling, besides those that are
    removed anyway.

    Args:
        ca: the front-proxy CA, a PEM bundle. It should sign nothing but front proxies.
        allowed_names: common names that a front proxy's certificate may have; empty: any that this CA has signed.
        crl: certificate revocation lists for those certificates, a PEM bundle.
        user_headers, uid_headers: headers with the user's name and uid; of several the first that is not empty counts.
            Those with the uid include `X-Remote-Uid`, unless there are none.
        group_headers: headers with groups, all of which count.
        extra_prefixes: what the names of headers with extras begin with.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: a CA or a list that cannot be read.
        ValueError: names of headers that cannot be.
        TypeError: one name instead of several, or a CA that is not bytes.
    """

    credentials: frozenset[bytes] = frozenset()  # identity headers go on every request

    def __init__(
        self,
        ca: bytes,
        *,
        allowed_names: Iterable[str] = (),
        crl: bytes | None = None,
        user_headers: Iterable[str] = ("X-Remote-User",),
        uid_headers: Iterable[str] = ("X-Remote-Uid",),
        group_headers: Iterable[str] = ("X-Remote-Group",),
        extra_prefixes: Iterable[str] = ("X-Remote-Extra-",),
        clock: Callable[[], float] = time.time,
    ) -> None:
        names = RemoteNames.of(user_headers, uid_headers, group_headers, extra_prefixes)
        self._headers = RequestHeaders(ca, allowed_names=allowed_names, crl=crl, names=names, clock=clock)
        self.identity_fields = names.fields

    def __repr__(self) -> str:
        return repr(self._headers).replace("RequestHeaders", "FrontProxies", 1)

    def reload(self, ca: bytes | Authorities, *, crl: bytes | None = None) -> None:
        """Believe front proxies of this CA from now on, also on connections that are open.

        Raises:
            ConfigurationError: it cannot be read; everything stays as it was.
        """
        self._headers.reload(ca, crl=crl)

    async def authenticate(self, presented: Presented) -> Identity | None:
        """As `identify`."""
        return self.identify(presented)

    def identify(self, presented: Presented) -> Identity | None:
        """Who the front proxy says it is; None where no user is named, and without a client certificate.

        Raises:
            InvalidCredentials: a user is named on a connection of somebody who is no front proxy.
            InvalidIdentity: a caller that cannot be.
        """
        if not self._headers.names.name_somebody(presented.headers):
            return None
        return self._headers.find(presented.headers, presented.connection)
