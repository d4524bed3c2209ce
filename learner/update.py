"""The updates of one rollout batch on one rank."""

from typing import Any

import numpy as np
import torch

from entropy.plan import NEUTRAL
from learner.config import ClipConfig
from learner.metrics import Tally
from learner.objective import token_losses
from learner.policy import Policy
from learner.types import TokenBatch, UpdatePlan


def apply_updates(
    model: Any, policy: Policy, clip: ClipConfig, batch: TokenBatch, updates: list[UpdatePlan], rank: int
) -> Tally:
    """Apply every plan in order; all ranks run this with the same batch and plans."""
    tally = Tally()
    for plan in updates:
        tally.add(_apply(model, policy, clip, batch, plan, rank))
    return tally


def _apply(model: Any, policy: Policy, clip: ClipConfig, batch: TokenBatch, plan: UpdatePlan, rank: int) -> Tally:
    tally = Tally()
    passes = plan.passes[rank]
    old_logprobs = batch.old_logprobs
    if old_logprobs is None:
        raise ValueError("the batch has to be scored before it can be trained on")
    for number, samples in enumerate(passes):
        model.boundary(number == len(passes) - 1)
        index = batch.response_index(samples)
        logprobs, entropies = policy.forward(batch, samples)
        losses, sums = token_losses(
            logprobs,
            entropies,
            _tensor(old_logprobs, index, logprobs),
            _tensor(batch.advantages, index, logprobs),
            clip,
            NEUTRAL,
        )
        model.backward(losses.sum() / plan.response_tokens)
        tally.add(sums)
    norm = model.step(plan.learning_rate)
    if rank == 0:
        tally.mean("policy/grad_norm", norm, 1)
        tally.mean("policy/learning_rate", plan.learning_rate, 1)
    return tally


def _tensor(values: np.ndarray, index: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(values[index]).to(like)
