"""How well a confidence tells right responses from wrong ones. Pure."""

import numpy as np
from scipy.stats import rankdata

BINS = 10


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, by their share of the responses.

    sum over bins of n_b / N · |accuracy_b - confidence_b| (Naeini et al. 2015). A bin holds what is above its lower
    edge up to its upper edge, and the first one 0 too.

    confidence  float [responses] in [0, 1]; right bool [responses]
    """
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    gaps = np.bincount(bin_of, right.astype(float) - confidence, bins)
    return float(np.abs(gaps).sum() / confidence.size)


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
