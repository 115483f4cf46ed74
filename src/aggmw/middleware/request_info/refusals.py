"""The two refusals of the parser: 400 for what is ambiguous, 405 for methods."""

from __future__ import annotations

from aggmw.errors import StatusError
from aggmw.objects.status import qualified

__all__ = ["bad_request", "method_not_allowed", "method_not_supported"]

RESOURCE_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def bad_request(message: str) -> StatusError:
    """400, reason BadRequest. The message is constant or quotes only what the caller sent."""
    return StatusError(400, "BadRequest", message)


def method_not_allowed(method: str) -> StatusError:
    """405 for a method that no path takes."""
    return StatusError(405, "MethodNotAllowed", f"{method} is not supported", None, _allow(RESOURCE_METHODS))


def method_not_supported(
    method: str, resource: str, group: str, allowed: tuple[str, ...] = RESOURCE_METHODS
) -> StatusError:
    """405 for a method that a resource path does not take (`errors.NewMethodNotSupported`)."""
    kind = qualified(resource, group)
    details = {"group": group, "kind": resource} if group else {"kind": resource}
    message = f'{method.lower()} is not supported on resources of kind "{kind}"'
    return StatusError(405, "MethodNotAllowed", message, details, _allow(allowed))


def _allow(methods: tuple[str, ...]) -> tuple[tuple[bytes, bytes], ...]:
    """The field that RFC 9110 §15.5.6 demands of a 405."""
    return ((b"allow", ", ".join(methods).encode("ascii")),)
