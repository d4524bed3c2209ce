"""The loss of each token and its metrics, before any denominator."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from entropy.plan import TokenPlan
from learner.config import ObjectiveConfig
from learner.metrics import Tally
from learner.types import Pass, TokenBatch

MAX_LOG_RATIO = 20.0  # exp of it is still finite in bfloat16 products; beyond, the ratio carries no information


@dataclass(frozen=True)
class PassTokens:
    """The response tokens of one forward pass that take part in the loss, sample after sample, n of them in s samples.

    index               int64 numpy [n] into the batch's arrays over response tokens
    whole_index         the same with the tokens that the mask leaves out
    sequence            int64 [n], which of the s samples the token belongs to, ascending
    sequences           s; a sample none of whose tokens take part is not counted
    logprobs, entropies float [n] with gradients
    the others          float [n] without
    """

    index: np.ndarray
    whole_index: np.ndarray
    sequence: torch.Tensor
    sequences: int
    logprobs: torch.Tensor
    entropies: torch.Tensor
    old_logprobs: torch.Tensor
    behaviour_logprobs: torch.Tensor
    advantages: torch.Tensor
    reference_logprobs: torch.Tensor | None

    @classmethod
    def of(cls, batch: TokenBatch, rows: Pass, logprobs: torch.Tensor, entropies: torch.Tensor) -> Self:
        """The tokens of `rows`; `logprobs` and `entropies` [response tokens of the rows] in the rows' order.

        Without old log-probabilities in the batch, those of now stand for them.
        """
        if batch.advantages is None:
            raise ValueError("the batch has no advantages yet")
        samples = np.concatenate([np.zeros(0, np.int64), *rows])
        whole = batch.response_index(samples)
        kept = batch.mask[whole]
        owner = np.repeat(np.arange(samples.size), batch.response_lengths[samples])[kept]
        names, sequence = np.unique(owner, return_inverse=True)
        chosen = torch.from_numpy(np.flatnonzero(kept)).to(logprobs.device)
        logprobs, entropies = logprobs[chosen], entropies[chosen]
        index = whole[kept]

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values[index]).to(logprobs)

        return cls(
            index=index,
            whole_index=whole,
            sequence=torch.from_numpy(sequence).to(logprobs.device),
            sequences=names.size,
            logprobs=logprobs,
            entropies=entropies,
            old_logprobs=logprobs.detach() if batch.old_logprobs is None else tensor(batch.old_logprobs),
            behaviour_logprobs=tensor(batch.behaviour_logprobs),
            advantages=tensor(batch.advantages),
            reference_logprobs=None if batch.reference_logprobs is None else tensor(batch.reference_logprobs),
        )


def token_losses(tokens: PassTokens, config: ObjectiveConfig, plan: TokenPlan) -> tuple[torch.Tensor, Tally]:
    """w · max(-A r, -A clip(r, 1 - low, 1 + high)) + kl_coef · |log r| - entropy_coef · H for each token.

    Schulman et al. 2017, eq. 7, with separate thresholds (Yu et al. 2025, eq. 10). r = exp(log pi - log pi_old), the
    log-ratio clamped to ±20 first. A threshold of None bounds nothing: with both None the surrogate is the unclipped
    -A r. Advantages are as the estimator gave them: the caller multiplies with the factors of its denominator.

    Returns the losses [n] and the metrics over these tokens.
    """
    logprobs, entropies, advantages, clip = tokens.logprobs, tokens.entropies, tokens.advantages, config.clip
    old_logprobs = tokens.old_logprobs
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
