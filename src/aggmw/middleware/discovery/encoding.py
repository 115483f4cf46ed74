"""JSON as backends send it."""

from __future__ import annotations

import json

from aggmw.middleware.discovery.names import BadDocument

__all__ = ["decode"]


def decode(body: bytes) -> object:
    """What a backend sent.

    Raises:
        BadDocument: not JSON, or nested so deep that it cannot be read.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BadDocument("not JSON") from None
