"""Settings of an objective, and tokens to apply it to."""

import math

import numpy as np
import torch

from entropy.control import Controls
from learner.config import AlgorithmConfig, ClipConfig, CorrectionConfig, ObjectiveConfig, ReferenceConfig
from learner.pass_tokens import PassTokens
from learner.steering import Steering

ALGORITHM = {
    "estimator": "grpo",
    "normalise": "none",
    "std_epsilon": 1e-6,
    "pass_k": None,
    "surrogate": "ppo",
    "ratio": "token",
    "denominator": "tokens",
    "denominator_tokens": None,
    "dual_clip": None,
    "cispo_cap": None,
    "sapo_temperature_positive": None,
    "sapo_temperature_negative": None,
    "ce_gppo_low": None,
    "ce_gppo_high": None,
    "train_on_truncated": True,
}
# Complete settings of each surrogate.
SURROGATES = {
    "ppo": {"low": 0.2, "high": 0.3},
    "ppo_dual": {"low": 0.2, "high": 0.3, "dual_clip": 3.0},
    "unclipped": {},
    "cispo": {"surrogate": "cispo", "cispo_cap": 2.0},
    "sapo": {"surrogate": "sapo", "sapo_temperature_positive": 1.0, "sapo_temperature_negative": 1.05},
    "ce_gppo": {"surrogate": "ce_gppo", "ce_gppo_low": 0.5, "ce_gppo_high": 0.75, "low": 0.2, "high": 0.3},
}


def objective(low=None, high=None, reference=None, correction=None, **algorithm) -> ObjectiveConfig:
    """Unclipped ppo with what is given; `reference` is (place, coef, estimator), `correction` (kind, low, high)."""
    place, coef, estimator = reference or ("none", 0.0, "k3")
    return ObjectiveConfig(
        AlgorithmConfig(**(ALGORITHM | algorithm)),
        ClipConfig(low, high),
        ReferenceConfig(place, coef, estimator, None, 1, False, False),
        CorrectionConfig(*(correction or ("none", None, None))),
    )


def unsteered(settings: ObjectiveConfig) -> Steering:
    """No entropy controls, on a single rank."""
    return Steering(Controls({}), settings.clip, lambda scores: [scores], vocabulary=7)


def pass_tokens(
    ratios=None,
    advantages=1.0,
    *,
    log_ratios=None,
    mismatch=0.0,
    entropies=0.5,
    reference=None,
    sequence=None,
    dtype=torch.float64,
) -> PassTokens:
    """Tokens of log-probability -1 under the policy, with gradients, and what is given relative to it.

    ratios     of pi over pi_old, or log_ratios
    mismatch   log of pi_old over the behaviour policy
    reference  log of the reference over pi
    sequence   of each token; each its own by default
    """
    log_ratio = _row([math.log(r) for r in ratios] if log_ratios is None else log_ratios, 0, dtype)
    n = len(log_ratio)
    logprobs = torch.full((n,), -1.0, dtype=dtype)
    old = logprobs - log_ratio
    owner = np.arange(n) if sequence is None else np.array(sequence, np.int64)
    return PassTokens(
        index=np.arange(n),
        whole_index=np.arange(n),
        sequence=torch.from_numpy(owner),
        sequences=len(np.unique(owner)),
        logprobs=logprobs.requires_grad_(),
        entropies=_row(entropies, n, dtype).requires_grad_(),
        old_logprobs=old,
        behaviour_logprobs=old - _row(mismatch, n, dtype),
        advantages=_row(advantages, n, dtype),
        reference_logprobs=None if reference is None else logprobs.detach() + _row(reference, n, dtype),
    )


def _row(values, n: int, dtype) -> torch.Tensor:
    if isinstance(values, int | float):
        return torch.full((n,), float(values), dtype=dtype)
    return torch.tensor(values, dtype=dtype)
