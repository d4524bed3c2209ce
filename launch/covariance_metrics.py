"""How the probability of a rollout batch's tokens goes with their advantage: figures of every step. Pure."""

import numpy as np

from entropy.config import ClipCovConfig
from entropy.covariance import bandit_covariance, covariance_tail, token_covariance
from learner.config import ClipConfig
from learner.steering import shown_tokens
from learner.types import TokenBatch


def covariance_metrics(
    batch: TokenBatch, logprobs: np.ndarray, entropies: np.ndarray, clip_cov: ClipCovConfig | None
) -> dict[str, float]:
    """Of the trained tokens, under the policy before the batch's updates; docs/entropy/dynamics.md.

    None of no tokens, and none where a log-probability or an advantage is not finite.

    Advantages are those of the estimator, before an entropy control shapes them.

    logprobs, entropies  float32 [response tokens] by the learner, under the weights that drew the tokens
    clip_cov             where its bounds are absolute, the share of the tokens within them is reported too
    """
    index = np.flatnonzero(batch.mask)
    if not index.size:
        return {}
    own, exact = (values[index].astype(np.float64) for values in (logprobs, entropies))
    tokens = shown_tokens(batch, 0, index, own, exact, None, ClipConfig(None, None))
    if not (np.isfinite(own).all() and np.isfinite(tokens.advantages).all()):
        return {}
    scores = token_covariance(tokens)
    banded = clip_cov is not None and clip_cov.bounds == "absolute"
    low, high = (clip_cov.low, clip_cov.high) if clip_cov is not None and banded else (np.inf, np.inf)
    tail = covariance_tail(scores, low, high)
    owners = np.searchsorted(batch.response_offsets, index, side="right") - 1
    present, lengths = np.unique(owners, return_counts=True)
    of_samples = tokens.advantages[np.cumsum(lengths) - lengths]
    row = {
        "covariance/mean": tokens.mean(scores),
        "covariance/std": float(scores.std()),
        "covariance/bandit_mean": bandit_covariance(tokens.logprobs, lengths, of_samples, batch.groups[present]),
    }
    row |= {f"covariance/quantile_{level:g}": value for level, value in tail.quantiles.items()}
    row |= {f"covariance/top_{share:g}": value for share, value in tail.top.items() if share < 1}
    return row | ({"covariance/band_share": tail.band_share} if banded else {})
