"""An application inside the front proxy's process that tells what the process holds."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import sys
from collections import Counter
from typing import Any

__all__ = ["app"]

MIB = 1 << 20
_COUNTED = ("Door", "Cycle", "Forwarding", "Exchange", "Connection", "Watched")


class _Information(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


_C = ctypes.CDLL(None)
_C.mallinfo2.restype = _Information


def _allocated() -> int:
    """Bytes that are in use of the C library's heap, Python's own arenas among them."""
    information = _C.mallinfo2()
    return int(information.uordblks + information.hblkhd)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Tasks, Python's blocks and the C library's bytes in use; with `?collect`, after giving back what can be given
    back, also how many of our objects of a request there are."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    collect = scope["query_string"] == b"collect"
    if collect:
        gc.collect()
        _C.malloc_trim(0)  # else what is resident shows the most there ever was
    found: dict[str, float] = {
        "tasks": len(asyncio.all_tasks()),
        "thousand blocks": sys.getallocatedblocks() / 1000,
        "MiB allocated": _allocated() / MIB,
    }
    if collect:
        classes = Counter(type(each) for each in gc.get_objects())
        for kind, count in classes.items():
            if kind.__module__.startswith("aggmw.") and kind.__name__ in _COUNTED:
                found[f"{kind.__module__}.{kind.__name__}"] = count
    body = json.dumps(found).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
