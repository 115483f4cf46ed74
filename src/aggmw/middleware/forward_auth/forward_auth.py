"""ForwardAuth: how another proxy asks, and who may."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from urllib.parse import quote

from aggmw.asgi.headers import first
from aggmw.asgi.types import Headers
from aggmw.contracts.connection import Connection
from aggmw.contracts.options import check_type
from aggmw.contracts.peers import Peers
from aggmw.errors import ConfigurationError, InvalidCredentials, Problem
from aggmw.middleware.forward_auth.questions import PROXIES, Proxy
from aggmw.pki.verify import ClientCA, Subject

__all__ = ["ForwardAuth", "check_host", "check_path"]

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?")
_NOBODY = (
    "nobody may ask: give peers=[…], ca=… (PEM), or both; or accept_any_peer=True where nobody but the proxy can reach"
    " this server"
)
_NAMES = "allowed_names are names of client certificates: give ca=… (PEM), too"
_BOTH = "accept_any_peer=True asks for nothing: leave it out, or peers, ca and allowed_names"


class ForwardAuth:
    """How another proxy asks whether it may forward a request, and who may ask.

    A question states the request that is judged, in header fields that anybody can write. So nobody is answered but
    listed addresses, as this server's socket sees them, or holders of a certificate of `ca`; given both, it has to be
    both. The certificate proves the proxy alone: it is never the caller's.

    Args:
        proxy: "nginx" (`auth_request`), "traefik" (`forwardAuth`) or "envoy" (`ext_authz` over HTTP).
        peers: addresses and networks of the proxies, such as "10.0.0.7".
        ca: the authority of their client certificates, a PEM bundle. It should sign nothing but such proxies.
        allowed_names: common names that these certificates may have; empty: any that `ca` has signed.
        hosts: for which requests are judged: "shop.example.com" on any port, or with one. The policy does not see the
            host: where one policy must not hold for all, list those for which it does. Empty: any.
        accept_any_peer: answer everybody. Whoever reaches the server then learns what each token may do.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: nobody may ask, or a CA that cannot be read.
        ValueError: an unknown proxy, or a peer or host that cannot be read.
        TypeError: one text instead of several, or a CA that is not bytes.
    """

    def __init__(
        self,
        proxy: Proxy,
        *,
        peers: Iterable[str] | None = None,
        ca: bytes | None = None,
        allowed_names: Iterable[str] = (),
        hosts: Iterable[str] = (),
        accept_any_peer: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if proxy not in PROXIES:
            raise ValueError(f"proxy must be one of {', '.join(PROXIES)}, not {proxy!r}")
        for name, value in (("allowed_names", allowed_names), ("hosts", hosts)):
            if isinstance(value, str):
                raise TypeError(f"{name} takes a list, not one string")
        self.proxy: Proxy = proxy
        self._allowed = frozenset(allowed_names)
        self._hosts = frozenset(map(check_host, hosts))
        self._peers = None if peers is None else Peers(peers)
        self._ca: ClientCA[Subject] | None = None
        if accept_any_peer:
            if self._peers is not None or ca is not None or self._allowed:
                raise ConfigurationError([Problem("forward auth", _BOTH)])
        elif ca is not None:
            check_type("ca", ca, bytes)
            self._ca = ClientCA(ca, self._holder, name="forward-auth CA", clock=clock)
        elif self._peers is None or self._allowed:
            raise ConfigurationError([Problem("forward auth", _NOBODY if self._peers is None else _NAMES)])

    def __repr__(self) -> str:
        options = [repr(self.proxy)]
        if self._peers is not None:
            options.append(f"peers={self._peers!r}")
        if self._ca is not None:
            options.append(f"{self._ca.size} authorities")
        if self._hosts:
            options.append(f"hosts={sorted(self._hosts)!r}")
        return f"ForwardAuth({', '.join(options)})"

    def reload(self, ca: bytes) -> None:
        """Answer proxies of this authority from now on, also on connections that are open.

        Raises:
            ConfigurationError: it cannot be read; everything stays as it was.
        """
        if self._ca is not None:
            self._ca.reload(ca)

    def refuses(self, connection: Connection, headers: Headers) -> str | None:
        """Why the other end of a connection is not answered, in words for the log; None when it is."""
        if self._peers is not None and (connection.peer is None or connection.peer[0] not in self._peers):
            return "its address is not listed"
        if self._ca is not None:
            try:
                if self._ca.find(connection) is None:
                    return "it has no client certificate of the forward-auth CA"
            except InvalidCredentials as error:
                return str(error)
        if not connection.trailers_apart and first(headers, b"transfer-encoding") is not None:
            return "its fields may be trailers of the client's, under a server that mixes them into the headers"
        return None

    def judges(self, host: bytes) -> bool:
        """Whether requests for this host are judged here."""
        if not self._hosts:
            return True
        text = host.decode("latin-1").lower()
        match = _HOST.fullmatch(text)
        return match is not None and (text in self._hosts or match[1] in self._hosts)

    def _holder(self, subject: Subject) -> Subject:
        if self._allowed and subject.common_name not in self._allowed:
            raise InvalidCredentials("the common name of its client certificate is not in allowed_names")
        return subject


def check_host(host: str) -> str:
    """A host as it is compared.

    Raises:
        ValueError: something that no `Host` field can hold.
    """
    if not _HOST.fullmatch(host.lower()):
        raise ValueError(f"{host!r} must be a host, or host:port, as in the Host field of a request")
    return host.lower()


def check_path(path: str) -> None:
    """Whether questions can be answered at a path.

    Raises:
        ValueError: a path that is not plain.
    """
    if not path.startswith("/") or path.endswith("/") or quote(path) != path:
        raise ValueError(f"{path!r} must begin and not end with a slash, and need no escapes")
