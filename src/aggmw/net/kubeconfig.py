"""Where a webhook is and how it is spoken to, from a kubeconfig file (`clientcmd.Config`, its current context).

Plugins (`exec`, `auth-provider`), outbound proxies and skipped verification are refused: what such a file leads to
decides who is let in.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from aggmw.errors import ConfigurationError, Problem, UpstreamUnreachable
from aggmw.net.tls import KeyPairPem, trusting_context
from aggmw.objects.fields import Fields
from aggmw.objects.yaml_files import read_documents

__all__ = ["Remote", "read_kubeconfig"]

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_CLUSTER = {"server", "certificate-authority", "certificate-authority-data", "tls-server-name"}
_USER = {
    *("client-certificate", "client-certificate-data", "client-key", "client-key-data"),
    *("token", "tokenFile", "username", "password"),
}
_REFUSED = {
    "insecure-skip-tls-verify": "whoever answered would decide who is let in; give certificate-authority instead",
    "proxy-url": "outbound proxies are not used for webhooks",
    "exec": "plugins are not run; give a certificate, a token or a tokenFile",
    "auth-provider": "plugins are not run; give a certificate, a token or a tokenFile",
}
_Report = Callable[[str, str], None]
_UNREADABLE = b"(unreadable)"


@dataclass(frozen=True, slots=True)
class Remote:
    """A server that is asked on the front proxy's own account.

    Args:
        url: `https://…`; `http://` only on loopback.
        context: whom to trust and what to show; None for `http://`.
        server_name: to verify instead of the URL's host; "" for that.
        token: bearer token; "" for none.
        token_file: a file that holds it, read again for each request.
        basic: user and password.
    """

    url: str
    context: ssl.SSLContext | None = field(repr=False)
    server_name: str = ""
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    basic: tuple[str, str] | None = field(default=None, repr=False)

    def authorization(self) -> bytes | None:
        """The value of the `Authorization` field for one request; None without one. May read a small file.

        Raises:
            OSError: the token's file cannot be read.
        """
        token = self.token_file.read_text().strip() if self.token_file is not None else self.token
        if token:
            return b"Bearer " + token.encode()
        if self.basic is not None:
            return b"Basic " + base64.b64encode(":".join(self.basic).encode())
        return None


def read_kubeconfig(path: Path) -> Remote:
    """The server and user of the current context. Other files are found beside this one.

    Raises:
        ConfigurationError: all the mistakes, each with its place.
    """
    problems: list[Problem] = []

    def report(where: str, message: str) -> None:
        problems.append(Problem(f"{path}: {where}" if where else str(path), message))

    documents = read_documents(path)
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise ConfigurationError([Problem(str(path), "must be one kubeconfig object")])
    whole = Fields(documents[0].value, report)
    if whole.text("kind") not in ("", "Config"):
        whole.problem("kind", "must be Config")
    cluster, user = _chosen(whole)
    remote = _remote(cluster, user, path.parent) if cluster is not None else None
    if problems or remote is None:
        raise ConfigurationError(problems or [Problem(str(path), "names no server")])
    return remote


def _chosen(whole: Fields) -> tuple[Fields | None, Fields | None]:
    """Cluster and user of the current context."""
    name = whole.text("current-context")
    if not name:
        whole.problem("current-context", "Required value: which context says where the webhook is")
        return None, None
    entry = _named(whole, "contexts", name)
    context = None if entry is None else entry.inner("context")
    if context is None:
        whole.problem("current-context", "names a context that is not in contexts")
        return None, None
    cluster = _named(whole, "clusters", context.text("cluster"))
    if cluster is None:
        context.problem("cluster", "names a cluster that is not in clusters")
    user_name = context.text("user")
    user = _named(whole, "users", user_name) if user_name else None
    if user_name and user is None:
        context.problem("user", "names a user that is not in users")
    return (
        None if cluster is None else cluster.inner("cluster"),
        None if user is None else user.inner("user"),
    )


def _named(whole: Fields, part: str, name: str) -> Fields | None:
    return next((entry for entry in whole.each(part) if entry.text("name") == name), None)


def _remote(cluster: Fields, user: Fields | None, directory: Path) -> Remote | None:
    _refuse(cluster, _CLUSTER)
    url = cluster.text("server")
    _check_url(cluster, url)
    ca = _content(cluster, "certificate-authority", directory)
    shown = None
    if user is not None:
        _refuse(user, _USER)
        shown = _pair(user, directory)
    context: ssl.SSLContext | None = None
    if url.lower().startswith("https:"):
        try:
            context = trusting_context(b"" if ca is None or ca is _UNREADABLE else ca, shown=shown)
        except UpstreamUnreachable:
            cluster.problem("certificate-authority", "is not a bundle of certificates in PEM")
        except (OSError, ValueError):
            # Only the user's pair can be why.
            (user or cluster).problem(
                "client-certificate", "certificate and key cannot be used, or do not belong together"
            )
    server_name = cluster.text("tls-server-name")
    if user is None:
        return Remote(url, context, server_name)
    name, token_file = user.text("username"), user.text("tokenFile")
    if "\0" in token_file:
        user.problem("tokenFile", "cannot be read: embedded null byte")
    return Remote(
        url,
        context,
        server_name,
        user.text("token"),
        directory / token_file if token_file else None,
        (name, user.text("password")) if name else None,
    )


def _pair(user: Fields, directory: Path) -> KeyPairPem | None:
    certificate, key = _content(user, "client-certificate", directory), _content(user, "client-key", directory)
    if certificate is _UNREADABLE or key is _UNREADABLE:
        return None  # which was told
    if certificate is not None and key is not None:
        return KeyPairPem(certificate, key)
    if certificate is not None or key is not None:
        user.problem("client-certificate", "a certificate and its key must be given together")
    return None


def _refuse(fields: Fields, known: set[str]) -> None:
    for name, reason in _REFUSED.items():
        if name in fields:
            fields.problem(name, f"is not supported: {reason}")
    fields.only({*known, *_REFUSED, "extensions"})


def _check_url(cluster: Fields, url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        cluster.invalid("server", "must be a URL")
        return
    if parts.username is not None or parts.fragment or not host or parts.scheme not in ("https", "http"):
        cluster.invalid("server", "must be a URL like https://host:port/path, without a user and without a fragment")
    elif parts.scheme == "http" and host not in _LOOPBACK:
        cluster.invalid(
            "server", "must be https: what is sent there is not for everybody, and the answer may let somebody in"
        )


def _content(fields: Fields, name: str, directory: Path) -> bytes | None:
    """What `name-data` holds in base64, else the file that `name` names; None when neither is there.

    `_UNREADABLE` where one of them is there and cannot be read, which is told.
    """
    if f"{name}-data" in fields:
        try:
            return base64.b64decode(fields.text(f"{name}-data"), validate=True)
        except (binascii.Error, ValueError):
            fields.problem(f"{name}-data", "is not base64")
            return _UNREADABLE
    if not (file := fields.text(name)):
        return None
    try:
        return (directory / file).read_bytes()
    except (OSError, ValueError) as error:  # the second for a name with a zero byte
        fields.problem(name, f"cannot be read: {getattr(error, 'strerror', None) or error}")
        return _UNREADABLE
