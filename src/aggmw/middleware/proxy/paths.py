"""What is different about a path service: prefixes that are taken off, and redirects that are passed on."""

from __future__ import annotations

from aggmw.asgi.types import Headers
from aggmw.contracts.backends import AnyBackend, Backend, BalancedBackend, PathService
from aggmw.errors import StatusError

__all__ = ["relocated", "stripped"]


def stripped(target: bytes, service: PathService) -> bytes:
    """The target without the service's path.

    Raises:
        StatusError: 400, a target that spells the path with escapes: what is left of it could be read in two ways.
    """
    path, question, query = target.partition(b"?")
    prefix = service.path.encode("ascii")
    if path + b"/" == prefix:
        path = b"/"
    elif path.startswith(prefix):
        path = path[len(prefix) - 1 :]
    else:
        raise StatusError(400, "BadRequest", f"the request path must spell {service.path} without escapes")
    return path + question + query


def relocated(headers: Headers, backend: AnyBackend, prefix: bytes) -> Headers:
    """The headers of a redirect as the client needs them: where it leads to the service itself, a path below `prefix`.

    Args:
        headers: names in lower case.
        backend: whose own address is taken off; of several servers that of each.
        prefix: what the client's path has in front of the service's, without a slash at the end; often empty.
    """
    return tuple(
        (name, _relocated(value, backend, prefix)) if name in (b"location", b"content-location") else (name, value)
        for name, value in headers
    )


def _relocated(location: bytes, backend: AnyBackend, prefix: bytes) -> bytes:
    for server in _servers(backend):
        authority = server.authority.encode("ascii", "replace").lower()
        for scheme in (b"http://", b"https://"):
            own = scheme + authority
            rest = location[len(own) :]
            if location[: len(own)].lower() == own and rest[:1] in (b"", b"/", b"?", b"#"):
                location = rest if rest[:1] == b"/" else b"/" + rest
                break
    if prefix and location[:1] == b"/" and location[:2] not in (b"//", b"/\\"):
        return prefix + location
    return location


def _servers(backend: AnyBackend) -> tuple[Backend, ...]:
    if isinstance(backend, BalancedBackend):
        return backend.endpoints
    return (backend,) if isinstance(backend, Backend) else ()
