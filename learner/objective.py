"""The clipped surrogate and its metrics, per token, before any denominator."""

import math

import torch

from entropy.plan import TokenPlan
from learner.config import ClipConfig
from learner.metrics import Tally

MAX_LOG_RATIO = 20.0  # exp of it is still finite in bfloat16 products; beyond, the ratio carries no information


def token_losses(
    logprobs: torch.Tensor,
    entropies: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    clip: ClipConfig,
    plan: TokenPlan,
) -> tuple[torch.Tensor, Tally]:
    """w · max(-A r, -A clip(r, 1 - low, 1 + high)) + kl_coef · |log r| - entropy_coef · H for each token.

    Schulman et al. 2017, eq. 7, with separate thresholds (Yu et al. 2025, eq. 10). r = exp(log pi - log pi_old), the
    log-ratio clamped to ±20 first. A threshold of None bounds nothing: with both None the surrogate is the unclipped
    -A r. Advantages are as the estimator gave them: the caller divides the sum by its
    denominator.

    All tensors float32 [tokens]; returns the losses [tokens] and the metrics over these tokens.
    """
    log_ratio = (logprobs - old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio = log_ratio.exp()
    low = _first_given(plan.clip_low, clip.low)
    high = _first_given(plan.clip_high, clip.high)
    clipped_ratio = ratio.clamp(_like(1.0 - low, ratio), _like(1.0 + high, ratio))
    weight = _like(plan.weight, ratio)
    # A dropped token goes before the arithmetic: 0 times an infinite advantage would be NaN, also in the gradient.
    advantages = torch.where(weight == 0, torch.zeros_like(advantages), advantages)
    plain, clipped = -advantages * ratio, -advantages * clipped_ratio
    losses = weight * torch.maximum(plain, clipped)
    losses = losses + plan.kl_coef * log_ratio.abs() - plan.entropy_coef * entropies

    tally = Tally()
    with torch.no_grad():
        count = len(ratio)
        is_clipped = clipped > plain
        tally.mean("policy/clip_low_share", (is_clipped & (ratio < 1)).sum(), count)
        tally.mean("policy/clip_high_share", (is_clipped & (ratio > 1)).sum(), count)
        tally.mean("policy/ratio_mean", ratio.sum(), count)
        tally.mean("policy/kl_k1", -log_ratio.sum(), count)
        tally.mean("policy/kl_k3", (ratio - 1 - log_ratio).sum(), count)
        tally.mean("policy/loss", losses.sum(), count)
        tally.mean("entropy/update_mean", entropies.sum(), count)
        if count:
            tally.maximum("policy/ratio_max", ratio.max())
            tally.minimum("policy/ratio_min", ratio.min())
    return losses, tally


def _first_given(planned: float | torch.Tensor | None, configured: float | None) -> float | torch.Tensor:
    given = configured if planned is None else planned
    return math.inf if given is None else given


def _like(value: float | torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(value, dtype=reference.dtype, device=reference.device)
