"""A watch: what is, then what changes, as lines of JSON until the client, the deadline or the server ends it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from aggmw.objects.status import status_object

from .objects import API_VERSION, KIND
from .storage import Change, Expired, Object, Storage
from .tables import table

_BOOKMARK_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class Watch:
    """What a watch was asked for.

    Args:
        since: changes after this revision; None begins with everything there is.
        marks_end: whether a bookmark says that the initial events are complete.
        bookmarks: whether the client understands bookmarks.
        timeout: seconds until its proper end.
        table: the version of Table that events are shown as; "" for objects.
        include: what the rows of tables carry.
    """

    since: int | None = None
    marks_end: bool = False
    bookmarks: bool = False
    timeout: float = 1800.0
    table: str = ""
    include: str = "Metadata"

    async def events(self, storage: Storage, wanted: Callable[[Object], bool]) -> AsyncIterator[tuple[str, Object]]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.timeout
        revision = storage.revision if self.since is None else self.since
        if self.since is None:
            for object_ in filter(wanted, storage.all()):
                yield "ADDED", object_
            if self.marks_end and self.bookmarks:
                yield "BOOKMARK", _bookmark(revision, end=True)
        while not storage.closed:
            changed = storage.changed
            try:
                changes = storage.since(revision)
            except Expired as error:
                yield "ERROR", status_object(410, "Expired", str(error))
                return
            for change in changes:
                revision = change.revision
                if (event := _event(change, wanted)) is not None:
                    yield event
            if changes:
                continue
            try:
                async with asyncio.timeout_at(min(deadline, loop.time() + _BOOKMARK_EVERY)):
                    await changed.wait()
            except TimeoutError:
                if loop.time() >= deadline:
                    break
                if self.bookmarks:
                    yield "BOOKMARK", _bookmark(revision)
        if self.bookmarks:
            yield "BOOKMARK", _bookmark(revision)

    async def lines(self, storage: Storage, wanted: Callable[[Object], bool]) -> AsyncIterator[bytes]:
        first = True
        async for kind, object_ in self.events(storage, wanted):
            shown = object_
            if self.table and kind != "ERROR":
                revision = object_["metadata"]["resourceVersion"]
                shown = table([object_], revision, self.table, self.include, columns=first)
                first = False
            yield json.dumps({"type": kind, "object": shown}, separators=(",", ":")).encode() + b"\n"


def _event(change: Change, wanted: Callable[[Object], bool]) -> tuple[str, Object] | None:
    """The change as a selector sees it: entering the selection is ADDED, leaving it is DELETED."""
    was = change.previous if change.previous is not None and wanted(change.previous) else None
    is_ = change.current if change.current is not None and wanted(change.current) else None
    if is_ is not None:
        return ("ADDED" if was is None else "MODIFIED"), is_
    if was is not None:
        return "DELETED", {**was, "metadata": {**was["metadata"], "resourceVersion": str(change.revision)}}
    return None


def _bookmark(revision: int, *, end: bool = False) -> Object:
    metadata: Object = {"resourceVersion": str(revision)}
    if end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return {"kind": KIND, "apiVersion": API_VERSION, "metadata": metadata}


class Lines(Response):
    """Sends lines as they come. Ends with them, or with the client, whichever is first."""

    media_type = "application/json"

    def __init__(self, lines: AsyncIterator[bytes]) -> None:
        self._lines = lines
        self.status_code = 200
        self.background = None
        self.body = b""
        self.init_headers()
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = {asyncio.create_task(self._send(send)), asyncio.create_task(_gone(receive))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": b"", "more_body": True})  # the head goes out at once
        async for line in self._lines:
            await send({"type": "http.response.body", "body": line, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
