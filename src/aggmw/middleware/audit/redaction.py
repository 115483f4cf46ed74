"""What is never recorded: bodies that are secrets, and tokens in queries. `Authorization` is not looked at at all."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

from aggmw.contracts.audit import AuditLevel
from aggmw.contracts.request_info import RequestInfo
from aggmw.middleware.audit.policy import Recorded

__all__ = ["REDACTED", "redacted_uri", "without_secrets"]

REDACTED = "REDACTED"

_NONE = AuditLevel.NONE  # looked up on the enumeration each time otherwise
_METADATA = AuditLevel.METADATA

_SECRET = frozenset(
    {
        ("", "secrets", ""),
        ("", "serviceaccounts", "token"),
        ("authentication.k8s.io", "tokenreviews", ""),
    }
)
"""Group, resource and subresource of objects that carry credentials; of "" any subresource."""

_CREDENTIAL = re.compile(
    r"(?is).*(token|password|passwd|secret|assertion|credential|api[-_.]?key|signature|jwt).*|code|auth|authorization|sig"
).fullmatch


def without_secrets(recorded: Recorded, info: RequestInfo) -> Recorded:
    """What may be recorded of a request: never the body of a Secret, a TokenReview or a TokenRequest.

    Nor, as in Kubernetes, that of a request for a path: it may be anything, such as somebody's password for a page, or
    a Secret of the API server that a path leads to.
    """
    if recorded.level is not _METADATA and recorded.level is not _NONE:
        group, resource = info.api_group, info.resource
        if not info.is_resource:
            return recorded._replace(level=_METADATA)
        if (group, resource, "") in _SECRET or (group, resource, info.subresource) in _SECRET:
            return recorded._replace(level=_METADATA)
    return recorded


def redacted_uri(target: bytes) -> str:
    """A request target for the record: the values of query keys that may hold credentials are replaced.

    Keys are compared decoded, so that no escape hides one.
    """
    text = target.decode("ascii", "backslashreplace")
    path, mark, query = text.partition("?")
    if not mark:
        return text
    return f"{path}?{'&'.join(map(_redacted, query.split('&')))}"


def _redacted(pair: str) -> str:
    key, equals, value = pair.partition("=")
    return f"{key}={REDACTED}" if equals and value and _CREDENTIAL(unquote_plus(key)) else pair
