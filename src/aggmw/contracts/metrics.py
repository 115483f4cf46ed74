"""What a part of the front proxy shows on the metrics page besides the requests: `Source`, in samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

__all__ = ["Sample", "Source"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure of this moment.

    Args:
        name: as Prometheus spells it; that of a counter ends in "_total". Equal names have equal help, kind and label
            names.
        help: one line.
        kind: a counter only grows; a gauge goes up and down.
        labels: name and value, in the order of the documentation. Values come from a set that no caller can grow.
        value: in base units: seconds, bytes, pieces.
    """

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    labels: tuple[tuple[str, str], ...]
    value: float


@runtime_checkable
class Source(Protocol):
    """Who has figures of its own, such as a transport of its connections."""

    def samples(self) -> Iterable[Sample]:
        """The figures of this moment. Called on the event loop for each page: must not block.

        No two samples have the same name and labels.
        """
        ...
