"""What k responses to each prompt say about a policy: avg@k, pass@k, maj@k and how sure they are. Pure."""

from collections import Counter
from collections.abc import Hashable, Sequence
from math import comb

import numpy as np


def average_at_k(right: np.ndarray) -> np.ndarray:
    """Share of right responses of each prompt, NaN where none has a verdict.

    right  float [prompts, n]: 1 right, 0 wrong, NaN without a verdict
    """
    judged = (~np.isnan(right)).sum(axis=1)
    return np.where(judged, np.nansum(right, axis=1) / np.maximum(judged, 1), np.nan)


def pass_at_k(right: np.ndarray, k: int) -> np.ndarray:
    """Chance of each prompt that k of its judged responses, drawn without replacement, have a right one among them.

    1 - C(n - c, k) / C(n, k) for c right ones of n, the unbiased estimator of Chen et al. (arXiv 2107.03374, eq. 1).
    NaN where fewer than k have a verdict. `right` as in `average_at_k`.
    """
    judged, correct = (~np.isnan(right)).sum(axis=1), np.nansum(right, axis=1).astype(int)
    return np.array(
        [
            1 - comb(n - c, k) / comb(n, k) if n >= k else np.nan
            for n, c in zip(judged.tolist(), correct.tolist(), strict=True)
        ]
    )


def majority_at_k(answers: Sequence[Hashable], right: Sequence[bool], k: int) -> float:
    """Expected share of right answers when k responses to one prompt, drawn without replacement, vote.

    The answer with most votes is given; among several, each with the same chance. A response without an answer is drawn
    and does not vote. Exact: over all draws, not a sample of them. For up to 1,024 responses.

    answers  of the judged responses, None where none was found; right ones are one answer, however they are written
    right    of each of them

    Raises ValueError where there are fewer than k.
    """
    if not 1 <= k <= len(answers):
        raise ValueError(f"{k} votes of {len(answers)} responses")
    wrong = Counter(answer for answer, is_right in zip(answers, right, strict=True) if not is_right)
    correct, silent = sum(right), wrong.pop(None, 0)
    wins = 0.0
    for votes in range(1, min(correct, k) + 1):
        # others[v, t]: ways to draw v others so that no wrong answer has more than `votes`, and t exactly as many.
        others = np.zeros((k - votes + 1, (k - votes) // votes + 1))
        others[: silent + 1, 0] = [comb(silent, drawn) for drawn in range(min(silent + 1, others.shape[0]))]
        for count in wrong.values():
            others = _voted(others, count, votes)
        wins += comb(correct, votes) * float((others[k - votes] / np.arange(1, others.shape[1] + 1)).sum())
    return wins / comb(len(answers), k)


def _voted(ways: np.ndarray, count: int, most: int) -> np.ndarray:
    """`ways` after one more answer, which `count` responses gave, got at most `most` votes."""
    after = ways.copy()
    for votes in range(1, min(count, most, ways.shape[0] - 1) + 1):
        more = comb(count, votes) * ways[:-votes]
        if votes < most:
            after[votes:] += more
        else:
            after[votes:, 1:] += more[:, :-1]
    return after


def interval(values: np.ndarray, seed: int, level: float = 0.95, resamples: int = 2_000) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over prompts, from a generator of its own.

    values  float [prompts]; NaN entries are left out

    Raises ValueError where nothing is left.
    """
    values = values[~np.isnan(values)]
    if not values.size:
        raise ValueError("no prompt has a value")
    generator = np.random.default_rng(seed)
    means = [values[generator.integers(values.size, size=values.size)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
