"""JSON as every document and every error here is written: compact, UTF-8."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["encode"]


def encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
