"""The updates of one rollout batch on one rank."""

from typing import Any

import numpy as np

from entropy.plan import NEUTRAL
from learner.config import ObjectiveConfig
from learner.denominators import token_scales
from learner.metrics import Tally
from learner.objective import PassTokens, token_losses
from learner.policy import Policy
from learner.types import Scores, TokenBatch, UpdatePlan, joined


def apply_updates(
    model: Any, policy: Policy, objective: ObjectiveConfig, batch: TokenBatch, updates: list[UpdatePlan], rank: int
) -> tuple[Tally, Scores]:
    """Apply every plan in order; all ranks run this with the same batch and plans.

    Returns this rank's share of the metrics, and what its forward passes of the first update found. A batch without old
    log-probabilities can be trained on once: they are those that the update itself computes, and every ratio is 1.
    """
    if batch.old_logprobs is None and len(updates) > 1:
        raise ValueError("the batch has to be scored before it can be trained on more than once")
    tally, first = Tally(), None
    for plan in updates:
        sums, scores = _apply(model, policy, objective, batch, plan, rank)
        tally.add(sums)
        first = first or scores
    return tally, first or Scores(np.zeros(0, np.int64), *np.zeros((2, 0), np.float32))


def _apply(
    model: Any, policy: Policy, objective: ObjectiveConfig, batch: TokenBatch, plan: UpdatePlan, rank: int
) -> tuple[Tally, Scores]:
    tally, found = Tally(), []
    passes = plan.passes[rank]
    algorithm = objective.algorithm
    scales = token_scales(batch, plan.samples, algorithm.denominator, algorithm.denominator_tokens)
    for number, rows in enumerate(passes):
        model.boundary(number == len(passes) - 1)
        logprobs, entropies = policy.forward(batch, rows)
        tokens = PassTokens.of(batch, rows, logprobs, entropies)
        losses, sums = token_losses(tokens, objective, NEUTRAL)
        model.backward((losses * losses.new_tensor(scales[tokens.index])).sum())
        tally.add(sums)
        found.append(
            Scores(
                tokens.whole_index, logprobs.detach().float().cpu().numpy(), entropies.detach().float().cpu().numpy()
            )
        )
    norm = model.step(plan.learning_rate)
    if rank == 0:
        tally.mean("policy/grad_norm", norm, 1)
        tally.mean("policy/learning_rate", plan.learning_rate, 1)
    return tally, joined(found)
