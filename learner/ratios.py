"""Probability ratios and divergences of single tokens, from differences of log-probabilities that stay finite."""

import torch

from learner.pass_tokens import PassTokens

MAX_LOG_RATIO = 20.0  # exp of it, and its square, are finite in float32; beyond, the ratio carries no information


def clamped(log_ratio: torch.Tensor) -> torch.Tensor:
    """Log-ratios within ±20. Beyond, the gradient is zero; infinities become finite."""
    return log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def log_ratios(tokens: PassTokens, level: str) -> torch.Tensor:
    """[n]: log r of each token, clamped to ±20.

    level  token     log pi - log pi_old
           sequence  its mean over the trained tokens of the sample, the same for all of them and with a gradient to
                     all of them; the mean is clamped, not its terms (GSPO, Zheng et al. 2025, arXiv 2507.18071, eq. 7)
    """
    difference = tokens.logprobs - tokens.old_logprobs
    if level == "token":
        return clamped(difference)
    if level == "sequence":
        return clamped(tokens.sequence_means(difference))[tokens.sequence].to(difference.dtype)
    raise ValueError(f"algorithm.ratio = {level} is unknown; it is token or sequence")


def reference_divergence(logprobs: torch.Tensor, reference_logprobs: torch.Tensor, estimator: str) -> torch.Tensor:
    """[n]: an estimate of KL(pi || reference) at each token, d = log ref - log pi clamped to ±20 (Schulman 2020).

    estimator  k1  -d           unbiased; as a term of the loss its gradient has expectation zero, see docs/objective.md
               k2  d² / 2       biased; on policy its gradient is that of KL(pi || reference)
               k3  e^d - 1 - d  unbiased, never negative; on policy its gradient is that of KL(reference || pi)
    """
    distance = clamped(reference_logprobs - logprobs)
    if estimator == "k1":
        return -distance
    if estimator == "k2":
        return distance.square() / 2
    if estimator == "k3":
        return torch.expm1(distance) - distance
    raise ValueError(f"reference.estimator = {estimator} is unknown; it is k1, k2 or k3")


def old_divergence(log_ratio: torch.Tensor, penalty: str) -> torch.Tensor:
    """[n]: how far each token's policy is from the one before the batch's updates; log_ratio = log pi - log pi_old.

    penalty  abs  |log r|        gradient sign(log r), exactly 0 at r = 1 (Cui et al. 2025, arXiv 2505.22617)
             k2   (log r)² / 2   gradient log r
             k3   r - 1 - log r  estimates KL(pi_old || pi) on tokens drawn from pi_old; gradient r - 1
    """
    if penalty == "abs":
        return log_ratio.abs()
    if penalty == "k2":
        return log_ratio.square() / 2
    if penalty == "k3":
        return log_ratio.exp() - 1 - log_ratio
    raise ValueError(f"a penalty on the log-ratio is abs, k2 or k3, not {penalty}")
