"""Proof that engines and learner hold the same weights: both score the same fixed tokens."""

from dataclasses import dataclass

import numpy as np


class CanaryMismatch(RuntimeError):
    """Engine and learner disagree about the canary after a weight sync."""


@dataclass(frozen=True)
class CanaryResult:
    """mean |Δ log p| over all canary tokens of the worst engine, in nats."""

    mean_abs: float
    engine: int


def compare(learner: list[np.ndarray], engines: list[list[np.ndarray]]) -> CanaryResult:
    """Compare every engine's log-probs of the canary sequences with the learner's.

    learner  float [tokens - 1] per sequence; engines  the same for each engine
    """
    reference = np.concatenate(learner).astype(np.float64)
    gaps = [float(np.abs(np.concatenate(scores) - reference).mean()) for scores in engines]
    worst = int(np.argmax(gaps))
    return CanaryResult(gaps[worst], worst)


def prove(learner: list[np.ndarray], engines: list[list[np.ndarray]], bound: float, version: int) -> CanaryResult:
    """`compare`, and raise `CanaryMismatch` past `bound`; NaN never passes."""
    result = compare(learner, engines)
    if not result.mean_abs <= bound:
        tokens = sum(len(scores) for scores in learner)
        raise CanaryMismatch(
            f"canary check failed after the sync of weight version {version}: the log-probabilities of {tokens} tokens "
            f"of {len(learner)} prompts by engine {result.engine} and by the learner differ by {result.mean_abs:.3g} "
            f"nats on average, more than rollout.canary_bound={bound:g}. The engine does not hold the learner's "
            "weights, so nothing it generates can be trusted."
        )
    return result
