"""What a part of the front proxy shows on the metrics page besides the requests: `Source`, in samples.

And where several worker processes serve, what the others count: `Colleagues`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

__all__ = ["Colleagues", "Sample", "Source"]

_NAME = re.compile(r"[a-z_][a-z0-9_]*")


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
        apart: of several worker processes each shows its own, with its number in the label `worker`, because their sum
            says nothing. Otherwise they are added up.

    Raises:
        ValueError: a name that Prometheus would not take, or not for this kind.
    """

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    labels: tuple[tuple[str, str], ...]
    value: float
    apart: bool = False

    def __post_init__(self) -> None:
        for name in (self.name, *(name for name, _ in self.labels)):
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name for a metric or a label: small letters, digits and underscores")
        if (self.kind == "counter") != self.name.endswith("_total"):
            raise ValueError(f"{self.name!r}: the name of a counter, and of nothing else, ends in _total")


@runtime_checkable
class Source(Protocol):
    """Who has figures of its own, such as a transport of its connections."""

    def samples(self) -> Iterable[Sample]:
        """The figures of this moment. Called on the event loop for each page: must not block.

        Those of equal name and labels, from several sources for instance, are added up.
        """
        ...


class Colleagues(Protocol):
    """The other worker processes of a server, seen from one of them.

    Attributes:
        number: which of them this one is, from 1.
    """

    number: int

    async def figures(self, own: bytes) -> bytes:
        """What all the others count, and those that are gone have counted; `own` is what this one counts.

        Both in the form of `aggmw.middleware.metrics.sharing`. Whatever was shown once is never shown less of later.

        Raises:
            StatusError: 503, they cannot be asked at the moment.
        """
        ...
