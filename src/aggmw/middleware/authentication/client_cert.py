"""Client certificates: kube-apiserver's `--client-ca-file` (wire contract §6.4).

The rules on names are those of Kubernetes' `authentication/request/x509`; those on chains are in `aggmw.pki.verify`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from aggmw.contracts.connection import Connection
from aggmw.contracts.identity import Credential, Identity, Presented, authenticated
from aggmw.errors import InvalidCredentials
from aggmw.pki.verify import Authorities, ClientCA, Subject

__all__ = ["ClientCertificates"]

_CREDENTIAL_ID = "authentication.kubernetes.io/credential-id"


class ClientCertificates:
    """Callers by the certificate of their connection: the user is the common name, each organization a group.

    A chain that ends in another authority is somebody else's, so that several of these share one listener. Chains are
    checked once per connection, their validity on every request.

    Args:
        ca: the authorities, a PEM bundle.
        crl: certificate revocation lists, a PEM bundle; each signed by a member of `ca`, and effective for the
            certificates that this member issued itself. A list past its date keeps its effect. The list of an
            intermediate authority needs the certificate of that authority in the same bundle.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: a bundle that cannot be read, or a list of no authority in `ca`.
    """

    credentials: frozenset[bytes] = frozenset()

    def __init__(self, ca: bytes, *, crl: bytes | None = None, clock: Callable[[], float] = time.time) -> None:
        self._ca = ClientCA(ca, _identity, crl=crl, clock=clock)

    def __repr__(self) -> str:
        return f"ClientCertificates({self._ca.size} authorities)"

    def reload(self, ca: bytes | Authorities, *, crl: bytes | None = None) -> None:
        """Trust these authorities from now on, also on connections that are open. On a mistake nothing changes.

        Streams that are forwarded for a certificate that no longer counts end. Call it on the event loop. `Authorities`
        may be read in a thread before.

        Raises:
            ConfigurationError: as on construction.
        """
        self._ca.reload(ca, crl=crl)

    async def authenticate(self, presented: Presented) -> Identity | None:
        """As `identify`."""
        return self.identify(presented)

    def identify(self, presented: Presented) -> Identity | None:
        """Whose certificate it is; None without one, with one of another authority, and without a common name.

        Raises:
            InvalidCredentials: not for clients, not valid now, revoked, or with names that cannot be used.
        """
        return self._ca.find(presented.connection)

    def find(self, connection: Connection) -> Identity | None:
        """As `identify`, by the connection alone."""
        return self._ca.find(connection)


def _identity(subject: Subject) -> Identity | None:
    if not subject.common_name:
        return None
    if len(subject.uids) > 1 or subject.uids == ("",):
        raise InvalidCredentials("the client certificate has several uids, or an empty one")
    extra = {_CREDENTIAL_ID: (f"X509SHA256={subject.fingerprint}",)}
    uid = "".join(subject.uids)
    # Browsers show a certificate that was chosen once to every page's requests.
    credential = Credential(ambient=True, expires=subject.expires, withdrawal=subject.withdrawal)
    return authenticated(Identity(subject.common_name, uid, subject.organizations, extra, credential))
