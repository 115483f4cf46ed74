"""kubeconfig files (`clientcmd/api/v1 Config`): how clients find the door and who they are."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

__all__ = ["Access", "certificate_user", "merge_kubeconfig", "render_kubeconfig"]

_LISTS = ("clusters", "users", "contexts")


@dataclass(frozen=True, slots=True)
class Access:
    """One user of one door: a token or a client certificate, not both.

    Args:
        server: the door's URL, such as "https://127.0.0.1:6443".
        ca: PEM bundle that verifies the door.
        user: the name of the entry; who the user is, the credentials say.
        token: a bearer token.
        certificate, key: a client certificate with its key, PEM.
        cluster: the name of the cluster entry.
        namespace: what `-n` defaults to; "" leaves it to the client ("default").
    """

    server: str
    ca: bytes
    user: str
    token: str = field(default="", repr=False)
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    cluster: str = "aggmw"
    namespace: str = ""

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("a client certificate and its key go together")
        if bool(self.token) == bool(self.certificate):
            raise ValueError("a user has a token or a client certificate")


def render_kubeconfig(access: Access) -> bytes:
    """A kubeconfig for one user, everything embedded, as YAML."""
    return _dumped(_document(access))


def merge_kubeconfig(existing: bytes, access: Access) -> bytes:
    """An existing kubeconfig with this access in it.

    Whatever else people put there stays: other clusters, users and contexts, a default namespace, the current context.

    Returns:
        The same bytes when nothing had to change.

    Raises:
        ValueError: `existing` is not a kubeconfig; in one line.
    """
    document, wanted = _parsed(existing), _document(access)
    before = _dumped(document)
    for name in ("clusters", "users"):
        _put(document[name], wanted[name][0], replace=True)
    _put(document["contexts"], wanted["contexts"][0], replace=False)
    if not document.get("current-context"):
        document["current-context"] = wanted["current-context"]
    merged = _dumped(document)
    return existing if merged == before else merged


def certificate_user(existing: bytes, user: str) -> tuple[bytes, bytes] | None:
    """Certificate and key (PEM) of a user in a kubeconfig; None when it has no such user or no embedded ones.

    Raises:
        ValueError: `existing` is not a kubeconfig; in one line.
    """
    for entry in _parsed(existing)["users"]:
        if entry["name"] == user:
            held = entry.get("user")
            return _credentials(held) if isinstance(held, dict) else None
    return None


def _credentials(held: Mapping[str, Any]) -> tuple[bytes, bytes] | None:
    try:
        certificate = base64.b64decode(held["client-certificate-data"], validate=True)
        return certificate, base64.b64decode(held["client-key-data"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None


def _document(access: Access) -> dict[str, Any]:
    context = f"{access.user}@{access.cluster}"
    credentials: dict[str, str] = {"token": access.token}
    if access.certificate:
        credentials = {"client-certificate-data": _data(access.certificate), "client-key-data": _data(access.key)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": access.cluster,
                "cluster": {"server": access.server, "certificate-authority-data": _data(access.ca)},
            }
        ],
        "users": [{"name": access.user, "user": credentials}],
        "contexts": [
            {
                "name": context,
                "context": {
                    "cluster": access.cluster,
                    "user": access.user,
                    **({"namespace": access.namespace} if access.namespace else {}),
                },
            }
        ],
        "current-context": context,
    }


def _parsed(data: bytes) -> dict[str, Any]:
    """The document, its three lists always there and every entry of them named."""
    try:
        document = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError("is not YAML") from error
    if not isinstance(document, dict) or document.get("kind") != "Config":
        raise ValueError("is not a kubeconfig (kind: Config)")
    for name in _LISTS:
        entries = document.get(name) or []
        if not isinstance(entries, list) or not all(
            isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries
        ):
            raise ValueError(f"is not a kubeconfig: {name} is not a list of named entries")
        document[name] = entries
    return document


def _put(entries: list[Any], wanted: dict[str, Any], *, replace: bool) -> None:
    for index, entry in enumerate(entries):
        if entry["name"] == wanted["name"]:
            if replace:
                entries[index] = wanted
            return
    entries.append(wanted)


def _data(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _dumped(document: Mapping[str, Any]) -> bytes:
    text: str = yaml.safe_dump(dict(document), sort_keys=False, width=2**16)
    return text.encode()
