"""Choosing tokens: how many, and which. Pure but for the remainder of a quota."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Quota:
    """A share of tokens that is exact in the long run.

    Each call rounds down, and what is lost is carried to the next: no floor of one token, no loss of small batches.

    rate   share, in [0, 1]
    carry  tokens owed, in [0, 1)
    """

    rate: float
    carry: float = 0.0

    def take(self, tokens: int) -> int:
        """How many of `tokens` to choose now."""
        owed = self.rate * tokens + self.carry
        # 0.1 * 30 is 3.0000000000000004 and 0.1 * 3 summed ten times is 2.9999999999999996: both mean 3.
        count = int(np.floor(owed + 1e-9))
        self.carry = max(0.0, owed - count)
        return count


def draw(candidates: np.ndarray, count: int, keys: np.ndarray) -> np.ndarray:
    """int64 [at most `count`]: indices of a uniform choice without replacement, ascending.

    candidates  bool [n]
    keys        uint64 [n], a random number for each token; the smallest win
    """
    indices = np.flatnonzero(candidates)
    if count <= 0:
        return indices[:0]
    if count < indices.size:
        chosen = np.argpartition(keys[indices], count - 1)[:count]
        indices = np.sort(indices[chosen])
    return indices


def largest(scores: np.ndarray, candidates: np.ndarray, count: int, keys: np.ndarray) -> np.ndarray:
    """int64 [at most `count`]: indices of the candidates with the largest scores, ascending; equal scores by key.

    scores  float [n]; candidates bool [n]; keys uint64 [n]

    Raises ValueError where the score of a candidate is NaN, whose rank would be the sorting routine's choice.
    """
    indices = np.flatnonzero(candidates)
    if np.isnan(scores[indices]).any():
        raise ValueError(f"scores of {int(np.isnan(scores[indices]).sum())} of {indices.size} candidates are NaN")
    if count <= 0:
        return indices[:0]
    if count >= indices.size:
        return indices
    values = scores[indices]
    bound = np.partition(values, indices.size - count)[indices.size - count]
    above = scores > bound
    above &= candidates
    tied = (scores == bound) & candidates
    fill = draw(tied, count - int(np.count_nonzero(above)), keys)
    return np.sort(np.concatenate([np.flatnonzero(above), fill]))
