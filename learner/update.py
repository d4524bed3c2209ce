"""The updates of one rollout batch on one rank."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch

from learner.config import ObjectiveConfig
from learner.denominators import token_scales
from learner.finite import GRADIENT, LOGPROBS, LOSS, NotFinite
from learner.metrics import Tally
from learner.objective import token_losses
from learner.pass_tokens import PassTokens
from learner.policy import Policy
from learner.probe import Probe
from learner.steering import Steered, Steering
from learner.types import Passes, Scores, TokenBatch, UpdatePlan, joined


class Applied(NamedTuple):
    """What one rank has to say about the updates of a batch.

    tally    its share of the metrics; updates that were skipped have none
    scores   of its share of the response tokens, under the weights before the first update; none of a batch that came
             with old log-probabilities and whose first update was skipped
    skipped  causes by the number of the update; the same updates on every rank, each with the cause that this rank saw
    """

    tally: Tally
    scores: Scores
    skipped: dict[int, str]


def apply_updates(
    model: Any,
    policy: Policy,
    objective: ObjectiveConfig,
    steering: Steering,
    batch: TokenBatch,
    updates: list[UpdatePlan],
    rank: int,
    probe: Probe | None = None,
) -> Applied:
    """Apply every plan in order; all ranks run this with the same batch and plans.

    A batch without old log-probabilities can be trained on once: they are those that the update itself computes, and
    every ratio is 1. An update is skipped, weights and moments as they were, for one of the `CAUSES` in finite.py.
    """
    if batch.old_logprobs is None and len(updates) > 1:
        raise ValueError("the batch has to be scored before it can be trained on more than once")
    tally, first = Tally(), None
    skipped: dict[int, str] = {}
    probed = probe.open(policy, batch, updates, rank) if probe else None
    for number, plan in enumerate(updates):
        try:
            steered = steering.begin(policy, batch, plan, rank, is_first=number == 0)
            sums, scores, cause = _apply(model, policy, objective, steered, batch, plan, rank)
        except NotFinite as error:
            skipped[number] = error.cause
            if batch.old_logprobs is None:
                first = policy.score(batch, plan.passes[rank])
            continue
        first = first or scores
        if cause:
            skipped[number] = cause
            continue
        tally.add(sums)
        tally.add(steered.tally)
        if probed:
            probed.after(plan)
    if probed:
        tally.add(probed.tally())
    return Applied(tally, first or Scores(np.zeros(0, np.int64), *np.zeros((2, 0), np.float32)), skipped)


def _apply(
    model: Any,
    policy: Policy,
    objective: ObjectiveConfig,
    steered: Steered,
    batch: TokenBatch,
    plan: UpdatePlan,
    rank: int,
) -> tuple[Tally, Scores, str | None]:
    """This rank's share of the metrics, what its passes found, and why the update was skipped if it was."""
    tally, found, cause = Tally(), [], None
    passes: Passes = plan.passes[rank]
    scales = token_scales(batch, plan.samples, objective.algorithm.denominator, objective.algorithm.denominator_tokens)
    for number, rows in enumerate(passes):
        model.boundary(number == len(passes) - 1)
        logprobs, entropies = policy.forward(batch, rows)
        tokens = PassTokens.of(batch, rows, logprobs, entropies)
        loss, sums, problem = _loss(tokens, objective, steered, scales)
        cause = cause or problem
        model.backward(loss)
        tally.add(sums)
        _add_share(tally, loss.item(), tokens.index.size, tokens.sequences, updates=0)
        found.append(Scores(tokens.whole_index, _float32(logprobs), _float32(entropies)))
    norm = model.step(plan.learning_rate)
    if not math.isfinite(norm):
        return tally, joined(found), cause or GRADIENT
    if rank == 0:
        tally.mean("policy/grad_norm", norm, 1)
        tally.mean("policy/learning_rate", plan.learning_rate, 1)
        _add_share(tally, 0.0, 0, 0, updates=1)
    return tally, joined(found), None


def _loss(
    tokens: PassTokens, objective: ObjectiveConfig, steered: Steered, scales: np.ndarray
) -> tuple[torch.Tensor, Tally, str | None]:
    """The loss of a pass, its metrics, and what is not finite about it.

    The gradient of a loss that is not finite is NaN, whatever it would be by itself: all ranks then learn from the norm
    of the gradient, which they have in common, that the update is skipped.
    """
    if not tokens.logprobs.isfinite().all():
        return tokens.logprobs.sum() * math.nan, Tally(), LOGPROBS
    losses, sums = token_losses(tokens, objective, steered.plan(tokens))
    # A sum over no tokens still hangs on the forward pass, so its backward joins the other ranks' collectives.
    loss = (losses * losses.new_tensor(scales[tokens.index])).sum()
    if not loss.isfinite():
        return tokens.logprobs.sum() * math.nan, sums, LOSS
    return loss, sums, None


def _add_share(tally: Tally, loss: float, tokens: int, sequences: int, updates: int) -> None:
    """Means over updates of what the passes of all ranks add up to; the update itself is counted once."""
    tally.mean("policy/loss", loss, updates)
    tally.mean("policy/trained_tokens", tokens, updates)
    tally.mean("policy/trained_sequences", sequences, updates)


def _float32(values: torch.Tensor) -> np.ndarray:
    return values.detach().float().cpu().numpy()
