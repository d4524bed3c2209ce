"""Metrics that declare how they are reduced: sums over micro-batches and ranks, divided once."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import SupportsFloat

import numpy as np

Moments = tuple[float, float, float]  # sum, sum of squares, count
Crossed = tuple[float, float, float, float, float, float]  # sums of x, y, x², y², xy, and the count
# A variance below this share of the mean square is round-off.
NO_SPREAD = 1e-12


@dataclass
class Tally:
    """Sums with denominators, first two moments, of pairs too, maxima and minima by name."""

    sums: dict[str, tuple[float, float]] = field(default_factory=dict)
    deviations: dict[str, Moments] = field(default_factory=dict)
    effective: dict[str, Moments] = field(default_factory=dict)
    correlations: dict[str, Crossed] = field(default_factory=dict)
    maxima: dict[str, float] = field(default_factory=dict)
    minima: dict[str, float] = field(default_factory=dict)

    def mean(self, name: str, total: SupportsFloat, count: SupportsFloat) -> None:
        """Add `total` over `count` items to the mean called `name`."""
        old_total, old_count = self.sums.get(name, (0.0, 0.0))
        self.sums[name] = (old_total + float(total), old_count + float(count))

    def deviation(self, name: str, total: SupportsFloat, squares: SupportsFloat, count: SupportsFloat) -> None:
        """Add `count` items with this sum and sum of squares to the standard deviation (over n) called `name`."""
        self.deviations[name] = _plus(self.deviations.get(name), total, squares, count)

    def effective_share(self, name: str, total: SupportsFloat, squares: SupportsFloat, count: SupportsFloat) -> None:
        """Add `count` weights to the effective sample size over the sample size called `name`: (Σw)² / (n Σw²)."""
        self.effective[name] = _plus(self.effective.get(name), total, squares, count)

    def correlation(self, name: str, x: np.ndarray, y: np.ndarray) -> None:
        """Add the pairs (x, y), float [n] each, to Pearson's correlation called `name`."""
        x, y = x.astype(np.float64), y.astype(np.float64)
        found = (x.sum(), y.sum(), x @ x, y @ y, x @ y, x.size)
        self._cross(name, tuple(map(float, found)))

    def _cross(self, name: str, found: Iterable[float]) -> None:
        old = self.correlations.get(name, (0.0,) * 6)
        a, b, c, d, e, f = (one + other for one, other in zip(old, found, strict=True))
        self.correlations[name] = (a, b, c, d, e, f)

    def maximum(self, name: str, value: SupportsFloat) -> None:
        self.maxima[name] = max(self.maxima.get(name, float("-inf")), float(value))

    def minimum(self, name: str, value: SupportsFloat) -> None:
        self.minima[name] = min(self.minima.get(name, float("inf")), float(value))

    def add(self, other: "Tally") -> None:
        for name, (total, count) in other.sums.items():
            self.mean(name, total, count)
        for name, moments in other.deviations.items():
            self.deviation(name, *moments)
        for name, moments in other.effective.items():
            self.effective_share(name, *moments)
        for name, crossed in other.correlations.items():
            self._cross(name, crossed)
        for name, value in other.maxima.items():
            self.maximum(name, value)
        for name, value in other.minima.items():
            self.minimum(name, value)

    def values(self) -> dict[str, float]:
        """The figures; one over nothing is left out, and a correlation with what does not vary."""
        means = {name: total / count for name, (total, count) in self.sums.items() if count}
        deviations = {
            name: math.sqrt(max(0.0, squares / count - (total / count) ** 2))
            for name, (total, squares, count) in self.deviations.items()
            if count
        }
        effective = {
            name: total**2 / (count * squares) for name, (total, squares, count) in self.effective.items() if squares
        }
        found = {name: _pearson(*crossed) for name, crossed in self.correlations.items()}
        correlations = {name: value for name, value in found.items() if value is not None}
        return means | deviations | effective | correlations | self.maxima | self.minima


def _plus(old: Moments | None, total: SupportsFloat, squares: SupportsFloat, count: SupportsFloat) -> Moments:
    old_total, old_squares, old_count = old or (0.0, 0.0, 0.0)
    return old_total + float(total), old_squares + float(squares), old_count + float(count)


def _pearson(x: float, y: float, xx: float, yy: float, xy: float, count: float) -> float | None:
    """From the sums of pairs; None where one of the two does not vary."""
    if not count:
        return None
    spread_x, spread_y = xx / count - (x / count) ** 2, yy / count - (y / count) ** 2
    if spread_x <= NO_SPREAD * xx / count or spread_y <= NO_SPREAD * yy / count:
        return None
    shared = xy / count - x * y / count**2
    return max(-1.0, min(1.0, shared / math.sqrt(spread_x * spread_y)))


def merged(tallies: Iterable[Tally]) -> Tally:
    """One tally over all ranks."""
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    return whole
