"""What the runs of a sweep came to, arm by arm, and how the arms differ over the same seeds. Pure."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from launch.run_folder import evaluations
from launch.sweep import ENTROPY, HELD_OUT, SEED
from launch.wording import Row

LEVEL = 0.95
# Weight of the past in the entropy that a run ends with: Jin et al. (arXiv 2511.05993, section 4).
MEMORY = 0.6
COSTS = {"tokens": "tokens/generated", "seconds": "time/step_s"}


def smoothed(values: Iterable[float], memory: float = MEMORY) -> float | None:
    """The last of H'_k = (1 - memory) H_k + memory H'_{k-1}, from H'_1 = H_1; None of no values."""
    last = None
    for value in values:
        last = value if last is None else (1 - memory) * value + memory * last
    return last


def measured(rows: Sequence[Row]) -> dict[str, float]:
    """Figures of one run from its rows, oldest first; a figure that was not measured is missing.

    accuracy/<set>   the last avg@k; gain/<set>  less that of the base model
    gap/<set>        training accuracy above it at the last evaluation, of the set `heldout`, or the first
    entropy_first, entropy_final   of the first step, and at the end, smoothed
    tokens, seconds  response tokens and time of all steps, start-up left out
    """
    found: dict[str, float] = {}
    for name, figures in evaluations(rows).items():
        accuracy = figures["avg_at_k"]
        if (final := accuracy["final"]) is not None:
            found[f"accuracy/{name}"] = final
            if (base := accuracy["base"]) is not None:
                found[f"gain/{name}"] = final - base
    if gaps := _gaps(rows):
        name = HELD_OUT if HELD_OUT in gaps else next(iter(gaps))
        found[f"gap/{name}"] = gaps[name]
    entropies = [row[ENTROPY] for row in rows if ENTROPY in row]
    if (final := smoothed(entropies)) is not None:
        found |= {"entropy_first": entropies[0], "entropy_final": final}
    for name, metric in COSTS.items():
        values = [row[metric] for row in rows if metric in row]
        if values:
            found[name] = sum(values)
    return found


def _gaps(rows: Sequence[Row]) -> dict[str, float]:
    """The last `eval/<set>/train_gap` of each set."""
    last = {name: value for row in rows for name, value in row.items() if name.endswith("/train_gap")}
    return {name.split("/")[1]: value for name, value in last.items()}


@dataclass(frozen=True)
class Outcome:
    """A finished point of a sweep.

    arm      its overrides without the seed
    seed     None where the point has none of its own
    figures  of `measured`
    """

    name: str
    arm: tuple[str, ...]
    seed: str | None
    figures: Mapping[str, float]


def seed_of(overrides: Sequence[str]) -> str | None:
    return next((each.removeprefix(SEED) for each in overrides if each.startswith(SEED)), None)


def arm_of(overrides: Sequence[str]) -> tuple[str, ...]:
    return tuple(each for each in overrides if not each.startswith(SEED))


def by_arm(outcomes: Iterable[Outcome]) -> dict[tuple[str, ...], list[Outcome]]:
    """The outcomes of each arm, in the order in which the arms begin."""
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.arm, []).append(outcome)
    return groups


@dataclass(frozen=True)
class Spread:
    """Over the seeds of an arm; std is over n - 1, None of a single one."""

    mean: float
    std: float | None
    low: float
    high: float
    seeds: int


def spread(values: Sequence[float]) -> Spread | None:
    """None of no values."""
    if not values:
        return None
    std = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), std, min(values), max(values), len(values))


@dataclass(frozen=True)
class Paired:
    """B minus A over the seeds that both have: mean and interval (Student's t); low and high are None of one seed."""

    figure: str
    difference: float
    low: float | None
    high: float | None
    seeds: int

    @property
    def is_clear(self) -> bool:
        """The interval leaves out 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def paired(a: Sequence[Outcome], b: Sequence[Outcome], figure: str, level: float = LEVEL) -> Paired | None:
    """None where no seed has the figure in both."""
    ours, theirs = ({each.seed: each.figures[figure] for each in arm if figure in each.figures} for arm in (a, b))
    seeds = [seed for seed in ours if seed in theirs]
    if not seeds:
        return None
    differences = np.array([theirs[seed] - ours[seed] for seed in seeds])
    mean = float(differences.mean())
    if len(seeds) < 2:
        return Paired(figure, mean, None, None, len(seeds))
    half = float(stats.t.ppf((1 + level) / 2, len(seeds) - 1) * stats.sem(differences))
    return Paired(figure, mean, mean - half, mean + half, len(seeds))


def front(better: np.ndarray) -> np.ndarray:
    """bool [n]: the points that no other one equals or beats in every column and beats in one (Pareto).

    better  float [n, columns], more is better in each
    """
    at_least = np.all(better[None] >= better[:, None], axis=2)
    above = np.any(better[None] > better[:, None], axis=2)
    return ~np.any(at_least & above, axis=1)


def swept(arms: Iterable[tuple[str, ...]]) -> dict[str, list[str]]:
    """Values of each key that differs among the arms, in order; a key that an arm lacks counts as `-` there."""
    settings = [dict(each.split("=", 1) for each in arm if "=" in each) for arm in arms]
    keys = dict.fromkeys(key for each in settings for key in each)
    values = {key: list(dict.fromkeys(each.get(key, "-") for each in settings)) for key in keys}
    return {key: found for key, found in values.items() if len(found) > 1}
