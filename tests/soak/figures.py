"""An application inside the front proxy's process that tells what the process holds."""

from __future__ import annotations

import asyncio
import gc
import json
from collections import Counter
from typing import Any

__all__ = ["app"]

_COUNTED = ("Door", "Cycle", "Forwarding", "Exchange", "Connection", "Watched")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The number of tasks; with `?collect`, after a collection, also how many of our objects of a request there are."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    found: dict[str, int] = {"tasks": len(asyncio.all_tasks())}
    if scope["query_string"] == b"collect":
        gc.collect()
        classes = Counter(type(each) for each in gc.get_objects())
        for kind, count in classes.items():
            if kind.__module__.startswith("aggmw.") and kind.__name__ in _COUNTED:
                found[f"{kind.__module__}.{kind.__name__}"] = count
    body = json.dumps(found).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
