"""How well a confidence tells right responses from wrong ones. Pure."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

BINS = 10


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, by their share of the responses.

    sum over bins of n_b / N · |accuracy_b - confidence_b| (Naeini et al. 2015). A bin holds what is above its lower
    edge up to its upper edge, and the first one 0 too.

    confidence  float [responses] in [0, 1]; right bool [responses]
    """
    gaps = np.bincount(_bins(confidence, bins), right.astype(float) - confidence, bins)
    return float(np.abs(gaps).sum() / confidence.size)


@dataclass(frozen=True)
class Reliability:
    """Of the bins that hold a response, in order: mean confidence, share of right ones, responses."""

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> Reliability:
    """The bins of `expected_calibration_error`, whose arguments it takes, for a diagram."""
    where = _bins(confidence, bins)
    count = np.bincount(where, minlength=bins)
    held = count > 0
    sums = (np.bincount(where, values, bins)[held] for values in (confidence, right.astype(float)))
    mean, accuracy = (total / count[held] for total in sums)
    return Reliability(mean, accuracy, count[held])


def _bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)


def brier_score(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean squared distance between the confidence and 1 for right, 0 for wrong responses."""
    return float(np.mean((confidence - right) ** 2))


def auroc(confidence: np.ndarray, right: np.ndarray) -> float | None:
    """Chance that a right response has more confidence than a wrong one, ties counting half; None without both kinds.

    The area under the receiver operating characteristic, by ranks (Mann and Whitney).
    """
    positives = int(np.count_nonzero(right))
    negatives = right.size - positives
    if not positives or not negatives:
        return None
    ranks = rankdata(confidence)[right.astype(bool)].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))
