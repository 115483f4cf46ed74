"""`/openapi/v3`: the index, merged from the backends' own; hashes and redirects (wire contract §4.3, §4.4)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from time import time
from urllib.parse import parse_qsl, quote, urlsplit

from aggmw.contracts.exchange import Answer
from aggmw.middleware.discovery.names import BadDocument
from aggmw.objects.encoding import encode
from aggmw.objects.etags import Document

__all__ = ["asked_hash", "document_path", "index", "index_key", "parse_index", "redirect", "with_hash"]

_HASH = re.compile(r"[-0-9A-Za-z_.]{1,256}")
_YEAR = 365 * 24 * 3600


def index_key(group: str, version: str) -> str:
    """The key of a group version in the index: no slash in front."""
    return f"apis/{group}/{version}" if group else f"api/{version}"


def document_path(group: str, version: str) -> str:
    """Where the document of a group version is, here and at every backend."""
    return f"/openapi/v3/{index_key(group, version)}"


def url(path: str, hash_: str) -> str:
    return f"{path}?hash={hash_}" if hash_ else path


def index(hashes: Iterable[tuple[str, str, str]]) -> bytes:
    """The index of group, version and the hash of its document ("" where the backend tells none)."""
    return encode(
        {
            "paths": {
                index_key(group, version): {"serverRelativeURL": url(document_path(group, version), hash_)}
                for group, version, hash_ in hashes
            }
        }
    )


def parse_index(document: object, owned: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
    """The hashes in a backend's index, for the group versions that are registered for it.

    A URL that leads anywhere but to the usual place is left out, as if the backend had no document: the URL is the
    backend's to choose, where we send the caller's identity is not.

    Raises:
        BadDocument: not an index.
    """
    paths = document.get("paths") if isinstance(document, dict) else None
    if not isinstance(paths, dict):
        raise BadDocument("not an OpenAPI v3 index")
    found: dict[tuple[str, str], str] = {}
    for group, version in owned:
        entry = paths.get(index_key(group, version))
        relative = entry.get("serverRelativeURL") if isinstance(entry, dict) else None
        if isinstance(relative, str) and (hash_ := _hash_of(relative, document_path(group, version))) is not None:
            found[group, version] = hash_
    return found


def _hash_of(relative: str, expected: str) -> str | None:
    """The hash in a `serverRelativeURL`; "" when it has none, None when it leads elsewhere."""
    try:
        parts = urlsplit(relative)
        query = parse_qsl(parts.query, max_num_fields=10)
    except ValueError:
        return None
    if parts.scheme or parts.netloc or parts.path != expected:
        return None
    hash_ = next((value for key, value in query if key == "hash"), "")
    return hash_ if _HASH.fullmatch(hash_) else ""


def asked_hash(query: bytes) -> str:
    """The `hash` of a request; "" when it names none."""
    if b"hash" not in query:
        return ""
    return next((value for key, value in parse_qsl(query.decode("latin-1")) if key == "hash"), "")


def redirect(root: str, path: str, hash_: str) -> Answer:
    """301 from an outdated hash to the current one.

    Args:
        root: the mount that the client sees in front of our paths.
    """
    # One slash in front: two would name another host.
    mount = quote(root.strip("/"), errors="replace")
    location = (f"/{mount}" if mount else "") + url(path, hash_)
    return Answer(301, ((b"location", location.encode("latin-1")), (b"cache-control", b"no-cache, private")), b"")


def with_hash(document: Document, if_none_match: bytes | None) -> Answer:
    """The answer to a request that named the current hash: what the URL means never changes."""
    answer = document.answer(if_none_match)
    immutable = (
        (b"cache-control", b"public, immutable"),
        (b"expires", formatdate(time() + _YEAR, usegmt=True).encode()),
    )
    headers = tuple(field for field in answer.headers if field[0] != b"cache-control")
    return answer._replace(headers=(*headers, *immutable))
