"""Who did what: the record of one request, and where its events go.

Follows `k8s.io/apiserver/pkg/apis/audit/v1` and `…/pkg/audit` (wire contract §10.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Protocol, TypeAlias

__all__ = ["NO_RECORD", "AuditEvent", "AuditLevel", "AuditRecord", "AuditSink"]

AuditEvent: TypeAlias = Mapping[str, Any]
"""An `audit.k8s.io/v1 Event` as it is written in JSON."""


class AuditLevel(IntEnum):
    """How much of a request is recorded; each level includes those before it."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    REQUEST_RESPONSE = 3

    @property
    def word(self) -> str:
        """As policies and events spell it."""
        return _WORDS[self]


_WORDS = ("None", "Metadata", "Request", "RequestResponse")


class AuditRecord:
    """What is recorded of one request. Stages behind the audit stage may add annotations.

    Attributes:
        level: how much is recorded.
        annotations: name, such as "authorization.k8s.io/reason", and value.
    """

    __slots__ = ("annotations", "level")

    def __init__(self, level: AuditLevel) -> None:
        self.level: AuditLevel = level
        self.annotations: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.level.word})"

    def annotate(self, name: str, value: str) -> None:
        """Add an annotation. The first value of a name stays: nobody behind can change what was said before."""
        self.annotations.setdefault(name, value)


class _NoRecord(AuditRecord):
    __slots__ = ()

    def annotate(self, name: str, value: str) -> None:
        """Nothing is recorded of this request."""


NO_RECORD: AuditRecord = _NoRecord(AuditLevel.NONE)
"""The record of a request of which nothing is recorded: whoever annotates need not ask."""


class AuditSink(Protocol):
    """Takes events and writes them somewhere, in batches and behind the requests' back."""

    name: str

    @property
    def full(self) -> bool:
        """Whether a request should wait in `room` before it goes on. Always false for one that drops instead."""
        ...

    async def room(self) -> None:
        """Wait until there is room."""
        ...

    def put(self, event: AuditEvent) -> None:
        """Take an event. Called on the event loop: does not block and does not raise."""
        ...

    async def written(self) -> bool:
        """Wait until whatever was taken so far is written; False when it cannot be."""
        ...

    async def run(self) -> None:
        """Write what is taken until cancelled; then write the rest."""
        ...
