"""Weights for the mismatch between the learner's policy and the one that drew the tokens.

rho = pi_old / behaviour: the learner's probability of a token at the start of the batch's updates over the engine's
when it drew the token. With both at the same weights it measures their round-off; with stale samples it is the outer
ratio of decoupled PPO (Hilton et al. 2022, arXiv 2110.00641; Fu et al. 2025, AReaL, arXiv 2505.24298).
"""

import math

import torch

from learner.config import CorrectionConfig
from learner.metrics import Tally
from learner.pass_tokens import PassTokens
from learner.ratios import clamped

# What the ratio is taken over, and what is done with it.
KINDS = {
    "none": ("token", "none"),
    "token_truncate": ("token", "truncate"),
    "token_mask": ("token", "mask"),
    "sequence_truncate": ("sequence", "truncate"),
    "sequence_mask": ("sequence", "mask"),
    "geometric_mask": ("geometric", "select"),
}


def correction_weights(tokens: PassTokens, config: CorrectionConfig) -> tuple[torch.Tensor, Tally]:
    """Factors [n] on the surrogates of the tokens, without gradients, and the metrics.

    kind  none               1
          token_truncate     min(rho, high) (TIS, Yao et al. 2025)
          token_mask         rho within [low, high], 0 outside (IcePop, Ling Team 2025, arXiv 2510.18855)
          sequence_truncate  min(P, high), P the product of rho over the sample's trained tokens
          sequence_mask      P within [low, high], 0 outside (the meaning it has in TRL)
          geometric_mask     1 where the geometric mean of rho is within [low, high], 0 outside

    Every logarithm, that of the product too, is clamped to ±20 before exp. A bound of None bounds nothing. What gets 0
    is still counted by the denominator.

    The metrics mismatch/* are of the ratios before anything is capped or dropped; correction/* say how much was.
    Raises ValueError where a kind that truncates has no `high`, or has a `low`.
    """
    if config.kind not in KINDS:
        raise ValueError(f"correction.kind = {config.kind} is unknown; it is one of {', '.join(KINDS)}")
    level, action = KINDS[config.kind]
    if action == "truncate" and (config.high is None or config.low is not None):
        raise ValueError(f"correction.kind = {config.kind} needs correction.high and takes no correction.low")
    with torch.no_grad():
        log_ratio = (tokens.old_logprobs - tokens.behaviour_logprobs).double()
        if level == "sequence":
            log_ratio = tokens.sequence_sums(log_ratio)
        if level == "geometric":
            log_ratio = tokens.sequence_means(log_ratio)
        ratio = clamped(log_ratio).exp()
        low, high = (0.0 if config.low is None else config.low), (math.inf if config.high is None else config.high)
        inside = (ratio >= low) & (ratio <= high)
        choices = {
            "none": torch.ones_like,
            "truncate": lambda ratio: ratio.clamp(max=high),
            "mask": lambda ratio: torch.where(inside, ratio, 0.0),
            "select": lambda ratio: inside.to(ratio),
        }
        weights, outside = choices[action](ratio), ~inside
        if level != "token":
            weights, outside = weights[tokens.sequence], outside[tokens.sequence]
        tally = _mismatch(ratio, level)
        if action != "none":
            tally.mean("correction/truncated_share", outside.sum() if action == "truncate" else 0, len(weights))
            kept = tokens.sequence_sums(weights != 0) > 0
            tally.mean("correction/dropped_token_share", (weights == 0).sum(), len(weights))
            tally.mean("correction/dropped_sequence_share", (~kept).sum(), len(kept))
        return weights.to(tokens.logprobs.dtype), tally


def _mismatch(ratio: torch.Tensor, level: str) -> Tally:
    """Of ratios [items], an item being a token or a sequence: mean, maximum, E[rho²] - 1 and effective sample size."""
    tally, name, count = Tally(), f"mismatch/{level}_ratio", len(ratio)
    total, squares = ratio.sum(), ratio.square().sum()
    tally.mean(f"{name}_mean", total, count)
    tally.mean(f"{name}_chi_square", squares - count, count)
    tally.effective_share(f"{name}_effective_share", total, squares, count)
    if count:
        tally.maximum(f"{name}_max", ratio.max())
    return tally
