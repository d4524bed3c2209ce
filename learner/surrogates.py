"""How a token's ratio and advantage become its loss. Pure.

Everywhere r = exp(log_ratio), A the advantage, and sg stops the gradient.
"""

import math
from dataclasses import dataclass

import torch

from learner.config import AlgorithmConfig

Bound = float | torch.Tensor | None


@dataclass(frozen=True)
class Surrogate:
    """What became of each of n tokens.

    losses  float [n], before any weight or denominator
    below   bool [n], whether the lower threshold changed the token's gradient
    above   bool [n], whether the upper threshold, or the cap of cispo, did
    dual    bool [n], whether the dual clip did
    gate    float [n], the factor on the gradient under sapo, 1 at r = 1; None elsewhere
    """

    losses: torch.Tensor
    below: torch.Tensor
    above: torch.Tensor
    dual: torch.Tensor
    gate: torch.Tensor | None = None


def surrogate(
    log_ratio: torch.Tensor,
    logprobs: torch.Tensor,
    advantages: torch.Tensor,
    low: Bound,
    high: Bound,
    config: AlgorithmConfig,
) -> Surrogate:
    """The surrogate that `config` names.

    log_ratio   float [n], clamped, with gradients; of the token, or of its sequence
    logprobs    float [n], with gradients
    advantages  float [n], as the estimator gave them
    low, high   distances of the thresholds from 1, a number or [n]; None bounds nothing

    Raises ValueError where a setting that the surrogate needs is missing or one that it cannot have is given.
    """
    if config.dual_clip is not None and config.surrogate != "ppo":
        raise ValueError(
            f"algorithm.dual_clip bounds the loss of surrogate = ppo alone, and algorithm.surrogate is "
            f"{config.surrogate}; set algorithm.dual_clip=null"
        )
    if config.surrogate == "ppo":
        return ppo(log_ratio, advantages, low, high, config.dual_clip)
    if config.surrogate == "cispo":
        return cispo(log_ratio, logprobs, advantages, _needed("cispo_cap", config.cispo_cap))
    if config.surrogate == "sapo":
        positive = _needed("sapo_temperature_positive", config.sapo_temperature_positive)
        negative = _needed("sapo_temperature_negative", config.sapo_temperature_negative)
        return sapo(log_ratio, advantages, positive, negative)
    if config.surrogate == "ce_gppo":
        if config.ratio == "sequence":
            raise ValueError(
                "algorithm.surrogate = ce_gppo keeps the gradient of single clipped tokens, which a ratio of the whole "
                "sequence does not have; set algorithm.ratio=token"
            )
        kept_low = _needed("ce_gppo_low", config.ce_gppo_low)
        kept_high = _needed("ce_gppo_high", config.ce_gppo_high)
        return ce_gppo(log_ratio, logprobs, advantages, low, high, kept_low, kept_high)
    raise ValueError(f"algorithm.surrogate = {config.surrogate} is unknown; it is ppo, cispo, sapo or ce_gppo")


def ppo(
    log_ratio: torch.Tensor, advantages: torch.Tensor, low: Bound, high: Bound, dual_clip: float | None
) -> Surrogate:
    """max(-A r, -A clip(r, 1 - low, 1 + high)), and for A < 0 at most dual_clip · |A|.

    Schulman et al. 2017, eq. 7, with thresholds of their own (Yu et al. 2025, arXiv 2503.14476, eq. 10); with neither
    it is -A r. The dual clip is Ye et al. 2020, arXiv 1912.09729. At a bound the gradient is still whole.
    """
    ratio = log_ratio.exp()
    least = -math.inf if low is None else 1.0 - low
    most = math.inf if high is None else 1.0 + high
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(_like(least, ratio), _like(most, ratio))
    losses, is_clipped = torch.maximum(plain, clipped), clipped > plain
    dual = torch.zeros_like(is_clipped)
    if dual_clip is not None:
        if dual_clip <= 1:
            raise ValueError(f"algorithm.dual_clip = {dual_clip} has to be above 1: at 1 and below it clips r = 1")
        ceiling = -advantages * dual_clip
        dual = (advantages < 0) & (losses > ceiling)
        losses = torch.where(dual, ceiling, losses)
    return Surrogate(losses, is_clipped & (ratio < 1), is_clipped & (ratio > 1), dual)


def cispo(log_ratio: torch.Tensor, logprobs: torch.Tensor, advantages: torch.Tensor, cap: float) -> Surrogate:
    """-sg(min(r, cap)) · A · log pi: the ratio weighs the token and no token is dropped.

    MiniMax 2025, arXiv 2506.13585, eq. 4 and 5, with the upper bound alone, as there. The cap is a ratio, not a
    distance from 1. With a ratio of the sequence all its tokens have the same weight.
    """
    ratio = log_ratio.detach().exp()
    nothing = torch.zeros_like(ratio, dtype=torch.bool)
    losses = -ratio.clamp(max=cap) * advantages * logprobs
    return Surrogate(losses, nothing, (ratio > cap) & (advantages != 0), nothing)


def sapo(log_ratio: torch.Tensor, advantages: torch.Tensor, positive: float, negative: float) -> Surrogate:
    """-A · 4/t · sigmoid(t (r - 1)), t = `positive` for A > 0 and `negative` else.

    Gao et al. 2025, arXiv 2511.20347. Its gradient is that of -A r times 4 p (1 - p), p the sigmoid:
    1 at r = 1, and less on both sides. With a ratio of the sequence the gate is that of the sequence.
    """
    ratio = log_ratio.exp()
    temperature = torch.where(advantages > 0, _like(positive, ratio), _like(negative, ratio))
    opening = torch.sigmoid(temperature * (ratio - 1))
    nothing = torch.zeros_like(ratio, dtype=torch.bool)
    losses = -advantages * 4 / temperature * opening
    return Surrogate(losses, nothing, nothing, nothing, (4 * opening * (1 - opening)).detach())


def ce_gppo(
    log_ratio: torch.Tensor,
    logprobs: torch.Tensor,
    advantages: torch.Tensor,
    low: Bound,
    high: Bound,
    kept_low: float,
    kept_high: float,
) -> Surrogate:
    """-A r inside the thresholds; outside, where ppo has no gradient, a bounded one.

        A < 0, r < 1 - low    -A · kept_low · (1 - low) · r / sg(r)
        A > 0, r > 1 + high   -A · kept_high · (1 + high) · r / sg(r)

    Su et al. 2025 (CE-GPPO), arXiv 2509.20712, where the factors are beta_1 and beta_2.
    """
    ratio = log_ratio.exp()
    below = above = torch.zeros_like(ratio, dtype=torch.bool)
    one = (logprobs - logprobs.detach()).exp()  # r / sg(r), also where log r is clamped: 1, with the gradient of log pi
    factor = ratio
    if low is not None:
        least = _like(1.0 - low, ratio)
        below = (advantages < 0) & (ratio < least)
        factor = torch.where(below, kept_low * least * one, factor)
    if high is not None:
        most = _like(1.0 + high, ratio)
        above = (advantages > 0) & (ratio > most)
        factor = torch.where(above, kept_high * most * one, factor)
    return Surrogate(-advantages * factor, below, above, torch.zeros_like(below))


def _needed(setting: str, value: float | None) -> float:
    if value is None:
        raise ValueError(f"the chosen algorithm.surrogate needs algorithm.{setting}, and it is null")
    return value


def _like(value: float | torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(value, dtype=reference.dtype, device=reference.device)
