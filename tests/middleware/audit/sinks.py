"""A sink that tests look into, and policies."""

from __future__ import annotations

import asyncio
from typing import Any

from aggmw.contracts.audit import AuditEvent
from aggmw.middleware.audit import AuditPolicy


class Collected:
    """Keeps events; `writable` says what `written` answers."""

    name = "collected"

    def __init__(self, *, writable: bool = True) -> None:
        self.events: list[Any] = []
        self.writable = writable
        self.full = False
        self.has_room = asyncio.Event()
        self.runs = 0

    async def room(self) -> None:
        await self.has_room.wait()

    def put(self, event: AuditEvent) -> None:
        self.events.append(dict(event))

    async def written(self) -> bool:
        return self.writable

    async def run(self) -> None:
        self.runs += 1
        await asyncio.Event().wait()

    @property
    def stages(self) -> list[str]:
        return [event["stage"] for event in self.events]


def policy(level: str = "Metadata", **fields: Any) -> AuditPolicy:
    """One rule for everything."""
    return AuditPolicy({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": level}], **fields})
