"""What workers count: the last that each has said, and the sum of those that are gone."""

from __future__ import annotations

from collections.abc import Iterable

from aggmw.contracts.metrics import Sample
from aggmw.middleware.metrics.sharing import NOTHING, Figures, added, left_behind, packed, unpacked, without_apart

__all__ = ["Ledger"]


class Ledger:
    """Figures by worker. Whatever was handed out once stays in the sums, so that counters never fall.

    Attributes:
        deaths: workers that ended without being told to.
    """

    def __init__(self) -> None:
        self.deaths = 0
        self._latest: dict[int, Figures] = {}
        self._past = NOTHING

    def note(self, key: int, figures: bytes) -> None:
        """What a worker counts at the moment; its key is its process identifier."""
        self._latest[key] = unpacked(figures)

    def gone(self, key: int) -> None:
        """The worker is no more: what it has counted stays."""
        if (last := self._latest.pop(key, None)) is not None:
            self._past = added([self._past, left_behind(last)])

    def of_others(self, key: int, *, serving: int, leaving: Iterable[int] = ()) -> bytes:
        """What all but one count and have counted, and the supervisor's own figures.

        Args:
            key: the worker that is left out.
            serving: how many workers serve.
            leaving: workers whose number another one has by now.
        """
        left = set(leaving)
        others = [
            without_apart(figures) if worker in left else figures
            for worker, figures in self._latest.items()
            if worker != key
        ]
        return packed(added([self._past, *others, Figures(NOTHING.snapshot, self._own(serving))]))

    def _own(self, serving: int) -> tuple[Sample, ...]:
        return (
            Sample("aggmw_workers", "Worker processes that serve.", "gauge", (), serving),
            Sample(
                "aggmw_worker_deaths_total",
                "Worker processes that ended without being told to, and were replaced.",
                "counter",
                (),
                self.deaths,
            ),
        )
