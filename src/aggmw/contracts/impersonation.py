"""Acting as the caller towards a server that knows nothing of front proxies: `Impersonate`."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["Impersonate"]


class Server(Protocol):
    """What has to be known of a server before it is sent a token; a `Backend` has it."""

    @property
    def host(self) -> str: ...
    @property
    def tls(self) -> bool: ...
    @property
    def insecure_skip_tls_verify(self) -> bool: ...
    @property
    def unix(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Impersonate:
    """Tells a Kubernetes API server who asks by `Impersonate-*`, as a client of its own with the right to do so.

    For clusters that do not trust the front proxy's certificate, such as a managed one. The front proxy is known there
    by the token, or by the client certificate of its transport. It needs the verb `impersonate` on the `users`,
    `groups` and `serviceaccounts` that its callers may be; what else is sent needs rights of its own, so it is only
    sent when that is asked for. `system:authenticated` is not sent: the server adds it itself.

    Args:
        token_file: a file with the front proxy's bearer token, read again while it runs; None: the certificate alone.
        uid: send the caller's uid, too (the right to impersonate `uids` in `authentication.k8s.io`).
        extra: keys of extra values that are sent (the right to impersonate `userextras/KEY` there).
    """

    token_file: Path | None = None
    uid: bool = False
    extra: tuple[str, ...] = ()

    def complaint(self, server: Server) -> str:
        """Why the token must not go to this server, or ""."""
        if self.token_file is None or server.unix:
            return ""
        if not server.insecure_skip_tls_verify if server.tls else _is_loopback(server.host):
            return ""
        return "a bearer token is sent only over TLS to a server whose certificate is verified, or on this machine"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
