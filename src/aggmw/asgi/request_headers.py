"""Who is asking in the words of a front proxy, and whether it is one: `--requestheader-*` (wire contract §6.3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from aggmw.asgi.headers import first
from aggmw.asgi.remote_headers import RemoteNames, has_identity, read_identity
from aggmw.asgi.types import Headers
from aggmw.contracts.connection import Connection
from aggmw.contracts.identity import Credential, Identity, authenticated
from aggmw.contracts.options import check_type
from aggmw.errors import ConfigurationError, InvalidCredentials, Problem
from aggmw.pki.verify import Authorities, ClientCA, Subject

__all__ = ["RequestHeaders"]

_NOBODY = (
    "nobody is to be believed: give ca=… (the front-proxy CA, PEM), or in_process_only=True where the front proxy calls"
    " this application itself, or accept_any_peer=True where nobody but the front proxy can reach this server"
)
_BOTH = "accept_any_peer=True asks for no certificate: leave it out, or ca and allowed_names"


class RequestHeaders:
    """Callers as `X-Remote-*` names them, on connections whose client is a front proxy.

    A front proxy shows a certificate of the front-proxy CA: the chain's last certificate is a member of that bundle,
    byte for byte. One of another authority that the listener accepts is not enough, whatever its name.

    Args:
        ca: the front-proxy CA, a PEM bundle.
        allowed_names: common names that a front proxy's certificate may have; empty: any that this CA has signed.
        crl: certificate revocation lists for those certificates, a PEM bundle.
        names: the fields that name callers.
        accept_any_peer: ask for no certificate. Whoever reaches the server is then whoever they say they are.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: no CA, one that cannot be read, or a CA that nobody would be asked for.
        TypeError: one name instead of several, or a CA that is not bytes.
    """

    def __init__(
        self,
        ca: bytes | None = None,
        *,
        allowed_names: Iterable[str] = (),
        crl: bytes | None = None,
        names: RemoteNames | None = None,
        accept_any_peer: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if isinstance(allowed_names, str):
            raise TypeError("allowed_names takes a list of names, not one string")
        self._allowed = frozenset(allowed_names)
        self._names = names or RemoteNames()
        self._ca: ClientCA[Subject] | None = None
        if accept_any_peer:
            if ca is not None or self._allowed:
                raise ConfigurationError([Problem("front-proxy CA", _BOTH)])
        elif ca is None:
            raise ConfigurationError([Problem("front-proxy CA", _NOBODY)])
        else:
            check_type("ca", ca, bytes)
            self._ca = ClientCA(ca, self._front_proxy, crl=crl, name="front-proxy CA", clock=clock)

    def __repr__(self) -> str:
        if self._ca is None:
            return "RequestHeaders(accept_any_peer=True)"
        names = f", allowed_names={sorted(self._allowed)!r}" if self._allowed else ""
        return f"RequestHeaders({self._ca.size} authorities{names})"

    @property
    def needs_connection(self) -> bool:
        """Whether the server has to tell whose certificate a connection has."""
        return self._ca is not None

    @property
    def names(self) -> RemoteNames:
        """The fields that name callers."""
        return self._names

    def reload(self, ca: bytes | Authorities, *, crl: bytes | None = None) -> None:
        """Believe front proxies of this CA from now on, also on connections that are open.

        Raises:
            ConfigurationError: it cannot be read; everything stays as it was.
        """
        if self._ca is not None:
            self._ca.reload(ca, crl=crl)

    def find(self, headers: Headers, connection: Connection) -> Identity | None:
        """The caller; None when the connection has no client certificate, or the headers name no user.

        Raises:
            InvalidCredentials: another authority's certificate, or one that is not for clients, not valid now, or of
                another name; or fields that may have been trailers.
            InvalidIdentity: a caller that cannot be.
        """
        if (
            not connection.trailers_apart
            and first(headers, b"transfer-encoding") is not None
            and (has_identity(headers) or self._names.name_somebody(headers))
        ):
            raise InvalidCredentials(
                "identity headers beside Transfer-Encoding, under a server that mixes trailers into the headers"
            )
        credential = Credential()
        if self._ca is not None:
            if not connection.chain:
                return None
            front_proxy = self._ca.find(connection)
            if front_proxy is None:
                raise InvalidCredentials("the client certificate is not signed by the front-proxy CA")
            credential = Credential(expires=front_proxy.expires, withdrawal=front_proxy.withdrawal)
        identity = read_identity(headers, self._names)
        return None if identity is None else authenticated(identity.known_by(credential))

    def _front_proxy(self, subject: Subject) -> Subject:
        if self._allowed and subject.common_name not in self._allowed:
            raise InvalidCredentials(
                f"the client certificate's common name {subject.common_name!r} is not in allowed_names"
            )
        return subject
