"""JSON as every document here is written: compact, UTF-8."""

from __future__ import annotations

import json
from typing import Any

from aggmw.middleware.discovery.names import BadDocument

__all__ = ["decode", "encode"]


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def decode(body: bytes) -> object:
    """What a backend sent.

    Raises:
        BadDocument: not JSON, or nested so deep that it cannot be read.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise BadDocument("not JSON") from None
