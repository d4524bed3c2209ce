"""Estimators of a policy's entropy, in nats. Temperature is that of the policy meant: logits are divided by it first.

Jin et al. (arXiv 2511.05993) and Cui et al. (arXiv 2505.22617) average the exact token entropy over response tokens.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch


def token_entropy(logits: torch.Tensor, temperature: float = 1.0, chunk: int = 2048) -> torch.Tensor:
    """Exact entropy of each row's distribution: float32 [...], float64 where the logits are. With gradients.

    Rows are worked on `chunk` at a time in float32 or better. A logit of -inf has probability zero and adds nothing, to
    the gradient either. The states are response tokens, or prompt tokens for the entropy of the prompt.

    logits  float [..., vocabulary], of which at least one in a row is finite
    """
    rows = logits.reshape(-1, logits.shape[-1])
    parts = [_entropy(rows[start : start + chunk], temperature) for start in range(0, len(rows), chunk)]
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return torch.cat(parts).view(logits.shape[:-1]) if parts else logits.new_zeros(logits.shape[:-1], dtype=dtype)


def _entropy(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    logp = exact.log_softmax(-1)
    # -inf where p is 0: replaced before the product, or its gradient would be NaN.
    finite = torch.where(torch.isneginf(logp), torch.zeros_like(logp), logp)
    return -(logp.exp() * finite).sum(-1)


def entropy_gradient(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """dH / d logits = -p (log p + H) / temperature: the closed form, float32 or float64 [..., vocabulary]."""
    logp = (logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature).log_softmax(-1)
    p = logp.exp()
    weighted = torch.where(p > 0, p * logp, torch.zeros_like(p))
    entropy = -weighted.sum(-1, keepdim=True)
    return -(weighted + p * entropy) / temperature


def sampled_entropy(logprobs: np.ndarray) -> float:
    """-mean log pi of sampled tokens: unbiased where they were drawn from pi itself, of high variance. NaN of none."""
    return float(-np.mean(logprobs, dtype=np.float64)) if logprobs.size else float("nan")


def importance_weighted_entropy(logprobs: np.ndarray, behaviour_logprobs: np.ndarray, most: float = math.inf) -> float:
    """Entropy of pi from tokens that another policy drew: -Σ w log pi / Σ w with w = min(pi / behaviour, most).

    Self-normalised, so consistent and biased by O(1 / n); a finite `most` adds a bias and takes variance away.
    """
    if not logprobs.size:
        return float("nan")
    log_weights = logprobs.astype(np.float64) - behaviour_logprobs
    if most < math.inf:
        log_weights = np.minimum(log_weights, math.log(most))
    weights = np.exp(log_weights - log_weights.max())
    # A token that pi never draws has weight 0 and log pi = -inf.
    terms = np.multiply(weights, logprobs, out=np.zeros_like(weights), where=weights > 0)
    return float(-terms.sum() / weights.sum())


def top_k_bounds(logprobs: np.ndarray, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest entropy that a distribution with these k largest log-probabilities can have: float64 [n] each.

    The tail of mass m over the other tokens is at most uniform, and at least as concentrated as the order allows: as
    many tokens as fit at the k-th probability, and one with the rest.

    logprobs    float [n, k], of the k likeliest tokens in any order, of the policy itself (not of a cut one)
    vocabulary  tokens there are

    Raises ValueError where that is less than k.
    """
    logp = np.asarray(logprobs, np.float64)
    p = np.exp(logp)
    head = -np.where(p > 0, p * np.where(p > 0, logp, 0.0), 0.0).sum(-1)
    others, least = vocabulary - p.shape[-1], p.min(-1)
    if others < 0:
        raise ValueError(f"{p.shape[-1]} log-probabilities of a vocabulary of {vocabulary}")
    tail = np.clip(1.0 - p.sum(-1), 0.0, 1.0) if others else np.zeros(p.shape[:-1])
    upper = head - _xlogx_over(tail, others)
    # Round-off in the tail must not put more tokens there than the vocabulary has.
    whole = np.floor(np.minimum(np.divide(tail, least, out=np.zeros_like(tail), where=least > 0), others))
    rest = np.clip(tail - whole * least, 0.0, None)
    lower = head - whole * _xlogx(least) - _xlogx(rest)
    return lower, upper


def _xlogx(x: np.ndarray) -> np.ndarray:
    return x * np.log(np.where(x > 0, x, 1.0))


def _xlogx_over(mass: np.ndarray, parts: int) -> np.ndarray:
    return _xlogx(mass) - mass * math.log(parts) if parts else np.zeros_like(mass)


def sequence_entropy(entropies: np.ndarray, lengths: np.ndarray) -> float:
    """Mean over responses of the sum of their exact token entropies: unbiased for H(Y | x) by the chain rule.

    entropies  float [n], sample after sample; lengths int [s]
    """
    if not lengths.size:
        return float("nan")
    return float(entropies.astype(np.float64).sum() / lengths.size)


def sequence_mean_entropy(entropies: np.ndarray, lengths: np.ndarray) -> float:
    """Mean over responses of the mean of their tokens (Cui et al., eq. 5); long responses do not weigh more.

    Responses without tokens are left out.
    """
    filled = lengths[lengths > 0]
    if not filled.size:
        return float("nan")
    sums = np.add.reduceat(entropies.astype(np.float64), np.cumsum(filled) - filled)
    return float((sums / filled).mean())


def answer_entropy(answers: Sequence[object]) -> float:
    """Entropy of the answers to one prompt, by their frequency: a cheap semantic entropy. None is an answer too."""
    if not answers:
        return float("nan")
    _, counts = np.unique([repr(answer) for answer in answers], return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())
