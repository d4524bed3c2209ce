"""How the probability of tokens goes with their advantage: the quantity that the entropy of the policy follows.

Cui et al. 2025 (arXiv 2505.22617), equation and theorem numbers are its.
"""

import numpy as np
import torch

from entropy.tokens import UpdateTokens


def token_covariance(tokens: UpdateTokens) -> np.ndarray:
    """float64 [n]: (log pi - mean log pi) (A - mean A) of each token, the means over all n tokens. Eq. 10.

    The mean of it over the tokens is their population covariance.
    """
    if not tokens.size:
        return np.zeros(0)
    centred = tokens.logprobs - tokens.mean(tokens.logprobs)
    return centred * (tokens.advantages - tokens.mean(tokens.advantages))


def first_order_change(tokens: UpdateTokens) -> np.ndarray:
    """float64 [n]: A (S_y - Σ_v p_v S_v), minus the entropy change of the token's state per unit of step on its logits.

    One policy-gradient step of size η on the logits of a state, Δz = η A (e_y - p), changes its entropy by minus η
    times this, to first order; its mean over y ~ p is Theorem 1. It is the exact counterpart of `token_covariance`.
    """
    if tokens.discriminators is None:
        raise ValueError("the exact score needs the discriminators of the tokens, and they were not computed")
    return tokens.advantages * tokens.discriminators


def discriminators(logits: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """S_y - Σ_v p_v S_v with S_v = p_v (log p_v + H): float [n].

    logits  float [n, vocabulary], tempered; chosen int64 [n]
    """
    logp = logits.log_softmax(-1)
    p = logp.exp()
    weighted = torch.where(p > 0, p * logp, torch.zeros_like(p))
    s = weighted - p * weighted.sum(-1, keepdim=True)
    return s.gather(-1, chosen[:, None]).squeeze(-1) - (p * s).sum(-1)


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
