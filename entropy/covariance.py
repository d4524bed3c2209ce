"""How the probability of tokens goes with their advantage: the quantity that the entropy of the policy follows.

Cui et al. 2025 (arXiv 2505.22617), equation and theorem numbers are its.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from entropy.states import States
from entropy.tokens import UpdateTokens

# Shares of the tokens with the largest covariance, as in table 1 of the paper.
TOP_SHARES = (0.0002, 0.002, 0.02, 0.2, 0.5, 1.0)
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99, 0.998)


def token_covariance(tokens: UpdateTokens) -> np.ndarray:
    """float64 [n]: (log pi - mean log pi) (A - mean A) of each token, the means over all n tokens. Eq. 10.

    The mean of it over the tokens is their population covariance. Exactly 0 where all advantages are equal. Raises
    ValueError where a log-probability or an advantage is not finite: no score could be given to any token.
    """
    _finite(tokens, "logprobs", tokens.logprobs)
    _finite(tokens, "advantages", tokens.advantages)
    # Equal values differ from their mean by round-off, whose sign would rank the tokens.
    if not tokens.size or np.ptp(tokens.advantages) == 0:
        return np.zeros(tokens.size)
    centred = tokens.logprobs - tokens.mean(tokens.logprobs)
    centred *= tokens.advantages - tokens.mean(tokens.advantages)
    return centred


def first_order_change(tokens: UpdateTokens) -> np.ndarray:
    """float64 [n]: A (S_y - Σ_v p_v S_v), minus the entropy change of the token's state per unit of step on its logits.

    One policy-gradient step of size η on the logits of a state, Δz = η A (e_y - p), changes its entropy by minus η
    times this, to first order; its mean over y ~ p is Theorem 1. It is the exact counterpart of `token_covariance`.
    Raises ValueError where the discriminators are missing, or one of them or of the advantages is not finite.
    """
    if tokens.discriminators is None:
        raise ValueError("the exact score needs the discriminators of the tokens, and they were not computed")
    _finite(tokens, "discriminators", tokens.discriminators)
    _finite(tokens, "advantages", tokens.advantages)
    return tokens.advantages * tokens.discriminators


def discriminators(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """S_y - Σ_v p_v S_v with S_v = p_v (log p_v + H): float32 [n], float64 where the logits are.

    logits  float [n, vocabulary], tempered, -inf for tokens that cannot be drawn; chosen int64 [n]
    """
    return States.of(logits).discriminators(chosen)


def _finite(tokens: UpdateTokens, name: str, values: np.ndarray) -> None:
    wrong = tokens.size - int(np.count_nonzero(np.isfinite(values)))
    if wrong:
        raise ValueError(f"update {tokens.update}: {name} of {wrong} of {tokens.size} tokens are not finite")


@dataclass(frozen=True)
class CovarianceTail:
    """How heavy the upper tail of the tokens' covariance is; every figure is NaN of no tokens.

    top         mean of the largest scores, by the share of tokens they are (`TOP_SHARES`, rounded up to whole tokens)
    quantiles   by their level (`QUANTILES`), interpolated linearly
    band_share  share of tokens with low < score < high
    """

    top: dict[float, float]
    quantiles: dict[float, float]
    band_share: float


def covariance_tail(scores: np.ndarray, low: float, high: float) -> CovarianceTail:
    """Table 1 of the paper, of any scores [n] in any order, with quantiles and the share of tokens in a band.

    Sorts a copy of the scores, so that the figures are the same to the last bit in whatever order they come.
    """
    if not scores.size:
        nan = float("nan")
        return CovarianceTail(dict.fromkeys(TOP_SHARES, nan), dict.fromkeys(QUANTILES, nan), nan)
    ascending = np.sort(scores.astype(np.float64, copy=False))
    counts = {share: math.ceil(share * scores.size) for share in TOP_SHARES}
    inside = np.searchsorted(ascending, high, side="left") - np.searchsorted(ascending, low, side="right")
    return CovarianceTail(
        top={share: float(ascending[-count:].mean()) for share, count in counts.items()},
        quantiles={level: float(np.quantile(ascending, level)) for level in QUANTILES},
        band_share=max(0.0, float(inside / scores.size)),
    )


def bandit_covariance(logprobs: np.ndarray, lengths: np.ndarray, advantages: np.ndarray, groups: np.ndarray) -> float:
    """Mean over prompts of Cov(log pi(y|x), pi(y|x) A) over their responses, as the paper plots it (fig. 8).

    log pi(y|x) is the mean log-probability of the response's tokens, and pi its exponential; the product over a
    sequence would underflow. Population covariance; prompts with one response count 0.

    logprobs    float [n], sample after sample; lengths int [s], at least 1
    advantages  float [s], one for each response; groups int [s]
    returns     NaN without responses
    """
    if not lengths.size:
        return float("nan")
    means = np.add.reduceat(logprobs.astype(np.float64), np.cumsum(lengths) - lengths) / lengths
    weighted = np.exp(means) * advantages
    found = []
    for group in np.unique(groups):
        x, y = means[groups == group], weighted[groups == group]
        found.append(float(((x - x.mean()) * (y - y.mean())).mean()))
    return float(np.mean(found))
