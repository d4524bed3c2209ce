"""Metrics that declare how they are reduced: sums over micro-batches and ranks, divided once."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import SupportsFloat


@dataclass
class Tally:
    """Sums with denominators, maxima and minima by name."""

    sums: dict[str, tuple[float, float]] = field(default_factory=dict)
    maxima: dict[str, float] = field(default_factory=dict)
    minima: dict[str, float] = field(default_factory=dict)

    def mean(self, name: str, total: SupportsFloat, count: SupportsFloat) -> None:
        """Add `total` over `count` items to the mean called `name`."""
        old_total, old_count = self.sums.get(name, (0.0, 0.0))
        self.sums[name] = (old_total + float(total), old_count + float(count))

    def maximum(self, name: str, value: SupportsFloat) -> None:
        self.maxima[name] = max(self.maxima.get(name, float("-inf")), float(value))

    def minimum(self, name: str, value: SupportsFloat) -> None:
        self.minima[name] = min(self.minima.get(name, float("inf")), float(value))

    def add(self, other: "Tally") -> None:
        for name, (total, count) in other.sums.items():
            self.mean(name, total, count)
        for name, value in other.maxima.items():
            self.maximum(name, value)
        for name, value in other.minima.items():
            self.minimum(name, value)

    def values(self) -> dict[str, float]:
        """The figures; a mean over nothing is left out."""
        means = {name: total / count for name, (total, count) in self.sums.items() if count}
        return means | self.maxima | self.minima


def merged(tallies: Iterable[Tally]) -> Tally:
    """One tally over all ranks."""
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    return whole
