"""The updates of one rollout batch on one rank."""

from typing import Any

import numpy as np
import torch

from learner.config import ObjectiveConfig
from learner.denominators import token_scales
from learner.metrics import Tally
from learner.objective import token_losses
from learner.pass_tokens import PassTokens
from learner.policy import Policy
from learner.probe import Probe
from learner.steering import Steered, Steering
from learner.types import Scores, TokenBatch, UpdatePlan, joined


def apply_updates(
    model: Any,
    policy: Policy,
    objective: ObjectiveConfig,
    steering: Steering,
    batch: TokenBatch,
    updates: list[UpdatePlan],
    rank: int,
    probe: Probe | None = None,
) -> tuple[Tally, Scores]:
    """Apply every plan in order; all ranks run this with the same batch and plans.

    Returns this rank's share of the metrics, and what its forward passes of the first update found. A batch without old
    log-probabilities can be trained on once: they are those that the update itself computes, and every ratio is 1.
    """
    if batch.old_logprobs is None and len(updates) > 1:
        raise ValueError("the batch has to be scored before it can be trained on more than once")
    tally, first = Tally(), None
    probed = probe.open(policy, batch, updates, rank) if probe else None
    for number, plan in enumerate(updates):
        steered = steering.begin(policy, batch, plan, rank, is_first=number == 0)
        sums, scores = _apply(model, policy, objective, steered, batch, plan, rank)
        tally.add(sums)
        tally.add(steered.tally)
        first = first or scores
        if probed:
            probed.after(plan)
    if probed:
        tally.add(probed.tally())
    return tally, first or Scores(np.zeros(0, np.int64), *np.zeros((2, 0), np.float32))


def _apply(
    model: Any,
    policy: Policy,
    objective: ObjectiveConfig,
    steered: Steered,
    batch: TokenBatch,
    plan: UpdatePlan,
    rank: int,
) -> tuple[Tally, Scores]:
    tally, found = Tally(), []
    passes = plan.passes[rank]
    algorithm = objective.algorithm
    scales = token_scales(batch, plan.samples, algorithm.denominator, algorithm.denominator_tokens)
    for number, rows in enumerate(passes):
        model.boundary(number == len(passes) - 1)
        logprobs, entropies = policy.forward(batch, rows)
        tokens = PassTokens.of(batch, rows, logprobs, entropies)
        losses, sums = token_losses(tokens, objective, steered.plan(tokens))
        # A sum over no tokens still hangs on the forward pass, so its backward joins the other ranks' collectives.
        loss = (losses * losses.new_tensor(scales[tokens.index])).sum()
        model.backward(loss)
        tally.add(sums)
        _add_share(tally, loss.item(), tokens.index.size, tokens.sequences, updates=0)
        found.append(Scores(tokens.whole_index, _float32(logprobs), _float32(entropies)))
    norm = model.step(plan.learning_rate)
    if rank == 0:
        tally.mean("policy/grad_norm", norm, 1)
        tally.mean("policy/learning_rate", plan.learning_rate, 1)
        _add_share(tally, 0.0, 0, 0, updates=1)
    return tally, joined(found)


def _add_share(tally: Tally, loss: float, tokens: int, sequences: int, updates: int) -> None:
    """Means over updates of what the passes of all ranks add up to; the update itself is counted once."""
    tally.mean("policy/loss", loss, updates)
    tally.mean("policy/trained_tokens", tokens, updates)
    tally.mean("policy/trained_sequences", sequences, updates)


def _float32(values: torch.Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
