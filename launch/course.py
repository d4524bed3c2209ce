"""How a run went: what its first parts brought, and what rises and falls with its entropy. Pure."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from launch.sweep import ENTROPY
from launch.wording import Row, metric_names

# Of a run: Cui et al. (arXiv 2505.22617, section 2) look at 200 and at 800 of 2,400 updates.
PARTS = {"twelfth": 1 / 12, "third": 1 / 3}
SCORE = "reward/accuracy"
# Fewest steps that a share of the whole is read from, and that a correlation is.
FEWEST_STEPS, FEWEST_POINTS = 12, 5
# Of the machine, counters, and what is entropy itself.
NOT_CORRELATED = (
    "step",
    "weight_version",
    "time/",
    "speed/",
    "memory/",
    "alarms/",
    "entropy/",
    ENTROPY,
    "dynamics/entropy_mean",
)


@dataclass(frozen=True)
class Early:
    """Shares of the whole fall of entropy and of the whole gain of accuracy that a first part of the run brought.

    None where there was no fall, or no gain. May be above 1, or below 0, where a run turns back.
    """

    drop: float | None
    gain: float | None


def early(rows: Sequence[Row]) -> dict[str, Early]:
    """By part of the run. Values are means over a window of a twenty-fourth of the steps around a step, which takes
    away noise and not the course. Nothing of a run with fewer than `FEWEST_STEPS` steps."""
    found = [(row[ENTROPY], row[SCORE]) for row in rows if ENTROPY in row and SCORE in row]
    if len(found) < FEWEST_STEPS:
        return {}
    entropies, scores = np.array(found).T
    return {name: Early(_brought(-entropies, part), _brought(scores, part)) for name, part in PARTS.items()}


def _brought(values: np.ndarray, part: float) -> float | None:
    """Share of the rise of `values` over the run that the first `part` of its steps has."""
    width = max(1, values.size // 24)
    place = math.ceil(values.size * part)
    first, last = values[:width].mean(), values[-width:].mean()
    if last <= first:
        return None
    at = values[max(0, place - width // 2 - 1) : place + (width - 1) // 2].mean()
    return float((at - first) / (last - first))


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of a metric with token entropy over the steps that have both."""

    metric: str
    rho: float
    points: int


def correlations(rows: Sequence[Row]) -> list[Correlation]:
    """Of every metric that varies over at least `FEWEST_POINTS` steps, the strongest first.

    Jin et al. (arXiv 2511.05993, table 1). An evaluation in row t is of the weights that draw the responses of step
    t + 1, so it goes with the entropy of that step. Steps of one run follow each other: a rho says that two curves run
    alike, never that one moves the other, and it has no p-value here for that reason.
    """
    entropies = {row["step"]: row[ENTROPY] for row in rows if ENTROPY in row}
    names = [name for name in metric_names(rows) if not name.startswith(NOT_CORRELATED)]
    # One pass over the rows: a long run has millions of figures.
    points: dict[str, tuple[bool, list[float], list[float]]] = {
        name: (name.startswith("eval/"), [], []) for name in names
    }
    for row in rows:
        now, next_ = entropies.get(row["step"]), entropies.get(row["step"] + 1)
        for metric, value in row.items():
            if (place := points.get(metric)) is None:
                continue
            of_next_step, of_entropy, values = place
            entropy = next_ if of_next_step else now
            if entropy is not None:
                of_entropy.append(entropy)
                values.append(value)
    found = []
    for metric, (_, of_entropy, values) in points.items():
        if len(values) < FEWEST_POINTS:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.ConstantInputWarning)
            rho = float(stats.spearmanr(of_entropy, values).statistic)
        if math.isfinite(rho):
            found.append(Correlation(metric, rho, len(values)))
    return sorted(found, key=lambda each: -abs(each.rho))
