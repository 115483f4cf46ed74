"""A metrics page, read by prometheus-client's own parser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

__all__ = ["Figures"]


class Figures:
    """The samples of a page.

    Raises:
        AssertionError: two samples have the same name and labels, which a scraper refuses.
    """

    def __init__(self, page: str, *, openmetrics: bool = False) -> None:
        self.families = list((openmetrics_families if openmetrics else text_string_to_metric_families)(page))
        self.samples: list[Sample] = [sample for family in self.families for sample in family.samples]
        keys = [(sample.name, frozenset(sample.labels.items())) for sample in self.samples]
        assert len(keys) == len(set(keys))

    def of(self, name: str, **labels: str) -> Iterator[Sample]:
        """The samples of this name that have these labels, among others."""
        return (
            sample
            for sample in self.samples
            if sample.name == name and all(sample.labels.get(label) == value for label, value in labels.items())
        )

    def sum(self, name: str, **labels: str) -> float:
        """All of them together."""
        return sum(sample.value for sample in self.of(name, **labels))

    def one(self, name: str, **labels: str) -> Sample:
        """The only one.

        Raises:
            ValueError: there is none, or there are several.
        """
        (sample,) = self.of(name, **labels)
        return sample

    def requests(self, *shown: str, **labels: str) -> Iterable[tuple[str, ...]]:
        """The values of these labels over all counted requests, sorted."""
        return sorted(
            tuple(sample.labels[name] for name in shown) for sample in self.of("apiserver_request_total", **labels)
        )
