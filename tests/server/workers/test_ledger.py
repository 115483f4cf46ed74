"""What the supervisor knows of the figures: counters never fall, whoever comes and goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aggmw.contracts.metrics import Sample
from aggmw.middleware.metrics.sharing import NOTHING, Figures, packed, unpacked
from aggmw.server.workers.ledger import Ledger


def said(requests: int, *, streams: int = 0) -> bytes:
    """What a worker says that has served so many."""
    samples = (
        Sample("requests_total", "Requests.", "counter", (), requests),
        Sample("streams", "Streams.", "gauge", (), streams),
        Sample("memory", "Memory.", "gauge", (("worker", "1"),), 5.0, apart=True),
    )
    return packed(Figures(NOTHING.snapshot, samples))


def shown(ledger: Ledger, key: int = 0, leaving: tuple[int, ...] = ()) -> dict[str, float]:
    figures = unpacked(ledger.of_others(key, serving=2, leaving=leaving))
    return {sample.name: sample.value for sample in figures.samples}


def test_others() -> None:
    """Whoever asks is left out: it adds its own."""
    ledger = Ledger()
    ledger.note(1, said(5, streams=1))
    ledger.note(2, said(7, streams=2))
    assert shown(ledger, 1)["requests_total"] == 7
    assert shown(ledger)["requests_total"] == 12
    assert shown(ledger)["streams"] == 3
    assert shown(ledger)["aggmw_workers"] == 2


def test_who_is_gone() -> None:
    """Its counters stay, its levels go, and its key may come again."""
    ledger = Ledger()
    ledger.note(1, said(5, streams=1))
    ledger.gone(1)
    ledger.gone(2)
    ledger.note(1, said(2))
    assert shown(ledger)["requests_total"] == 7
    assert shown(ledger)["streams"] == 0


def test_who_leaves() -> None:
    """While a worker drains, another one has its number: what is shown by number is the other one's."""
    ledger = Ledger()
    ledger.note(1, said(5, streams=1))
    assert "memory" in shown(ledger)
    left = shown(ledger, leaving=(1,))
    assert "memory" not in left
    assert (left["requests_total"], left["streams"]) == (5, 1)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5), st.booleans())))
def test_counters_never_fall(events: list[tuple[int, int, bool]]) -> None:
    """Whatever workers count and whenever they go, the sum only grows."""
    ledger = Ledger()
    counts: dict[int, int] = {}
    before = 0.0
    for key, more, ends in events:
        counts[key] = counts.get(key, 0) + more
        ledger.note(key, said(counts[key]))
        if ends:
            ledger.gone(key)
            del counts[key]
        now = shown(ledger)["requests_total"]
        assert now >= before
        before = now
