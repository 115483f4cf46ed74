"""What of a path lies below the mount: ASGI's `root_path`, which servers and frameworks fill differently.

uvicorn's `--root-path` prefixes `path` and `raw_path`; Starlette's `Mount` adds to `root_path` and leaves both whole;
other servers set `root_path` alone. Only where it is a prefix of both is it certain what was asked for (security cases
C5.6).
"""

from __future__ import annotations

from urllib.parse import quote

from aggmw.asgi.types import Scope
from aggmw.middleware.request_info.refusals import bad_request

__all__ = ["below"]

_UNQUOTED = "/!$&'()*+,;=:@~"


def below(scope: Scope) -> tuple[str, bytes]:
    """The decoded path and the raw path below the mount, not yet known to agree.

    Where the server gives no `raw_path` it is made by quoting `path`.

    Raises:
        StatusError: 400 when `root_path` is not a prefix of both, at a slash, or when a missing `raw_path` cannot be
            made.
    """
    path: str = scope["path"]
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        raw = _quoted(path)
    root = (scope.get("root_path") or "").rstrip("/")
    if not root:
        return path, raw
    quoted = _quoted(root)
    inside, raw_inside = path[len(root) :] or "/", raw[len(quoted) :] or b"/"
    if not (path.startswith(root) and raw.startswith(quoted) and inside[0] == "/" and raw_inside[:1] == b"/"):
        raise bad_request("the request path is not below the path that this application is mounted at")
    return inside, raw_inside


def _quoted(path: str) -> bytes:
    """The path as a server could have received it. U+FFFD is what servers leave of bytes that are not UTF-8."""
    if "\ufffd" in path:
        raise bad_request("the request path is not UTF-8 when it is decoded")
    try:
        return quote(path, safe=_UNQUOTED).encode("ascii")
    except UnicodeEncodeError:
        raise bad_request("the request path is not UTF-8 when it is decoded") from None
