"""Where entropy controls meet an update: the tokens they are shown, and the plan that each forward pass follows."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from entropy.control import MICROBATCH, ROLLOUT, UPDATE, Controls, Decision, Observed
from entropy.plan import NEUTRAL, TokenPlan, composed
from entropy.tokens import UpdateTokens
from learner.config import ClipConfig
from learner.finite import ADVANTAGES, LOGPROBS, check_finite
from learner.metrics import Tally
from learner.pass_tokens import PassTokens
from learner.policy import Policy
from learner.ratios import MAX_LOG_RATIO
from learner.types import Scores, TokenBatch, UpdatePlan, joined


@dataclass
class Steering:
    """The controls of a run on one rank. Every rank holds the same, is shown the same and decides the same.

    gather      from one rank's share of the scores to those of all ranks
    vocabulary  tokens that each is drawn from
    spent_s     what the decisions about the updates of this rollout batch have taken, forward passes included
    """

    controls: Controls
    clip: ClipConfig
    gather: Callable[[Scores], list[Scores]]
    vocabulary: int
    spent_s: float = 0.0

    def open(self, batch: TokenBatch, step: int) -> TokenBatch:
        """Begin rollout batch `step` (from 0): its entropy is observed, and its advantages are shaped."""
        self.spent_s = 0.0
        if batch.advantages is None:
            raise ValueError("the batch has no advantages yet")
        entropies = batch.old_entropies
        trained = np.zeros(0) if entropies is None else entropies[batch.mask].astype(np.float64)
        mean = float(trained.mean()) if trained.size else float("nan")
        self.controls.observe(Observed(step, mean, batch.temperature, self.vocabulary))
        if entropies is None:
            return batch
        shaped = self.controls.shape(batch.advantages.astype(np.float64), entropies.astype(np.float64))
        return replace(batch, advantages=shaped.astype(np.float32))

    def begin(self, policy: Policy, batch: TokenBatch, plan: UpdatePlan, rank: int, is_first: bool) -> "Steered":
        """Decide about the whole update before its first pass. All ranks call it at once.

        The first update of a batch finds the policy as it was when the batch was scored, so it is not scored again.
        Raises NotFinite, on every rank alike, where no control could rank the tokens.
        """
        began = time.perf_counter()
        if batch.advantages is not None:
            check_finite(batch.advantages[_index(batch, plan)], ADVANTAGES)
        plans: list[TokenPlan] = []
        tally = Tally()
        if self.controls.has(UPDATE):
            needs = self.controls.needs
            looks = needs.discriminators or needs.current_logprobs
            if needs.discriminators or (looks and (batch.old_logprobs is None or not is_first)):
                found = policy.score(batch, plan.passes[rank], exact=needs.discriminators)
                current = joined(self.gather(found))
                check_finite(current.logprobs[batch.mask[current.index]], LOGPROBS)
            else:
                current = _old(batch) if looks or batch.old_logprobs is not None else _unknown(batch)
            self._decide(UPDATE, batch, plan, current, plans, tally)
        if self.controls.has(ROLLOUT):
            self._decide(ROLLOUT, batch, plan, _old(batch), plans, tally)
        index = _index(batch, plan)
        self.spent_s += time.perf_counter() - began
        return Steered(self, batch, plan, composed(plans), index, tally if rank == 0 else Tally())

    def _decide(
        self, scope: str, batch: TokenBatch, plan: UpdatePlan, scores: Scores, plans: list[TokenPlan], tally: Tally
    ) -> None:
        decision = self.controls.plan(_shown_update(batch, plan, scores, self.clip), scope)
        plans.append(decision.plan)
        _record(tally, decision)


@dataclass
class Steered:
    """What was decided about one update.

    tally  the controls' metrics; those of the whole update on rank 0 only
    """

    steering: Steering
    batch: TokenBatch
    update: UpdatePlan
    whole: TokenPlan
    index: np.ndarray
    tally: Tally

    def plan(self, tokens: PassTokens) -> TokenPlan:
        """For the tokens of one pass."""
        chosen = NEUTRAL
        if self.whole is not NEUTRAL:
            place = np.searchsorted(self.index, tokens.index)
            chosen = self.whole.select(torch.from_numpy(place)).to(tokens.logprobs)
        if not self.steering.controls.has(MICROBATCH):
            return chosen
        logprobs, entropies = (v.detach().double().cpu().numpy() for v in (tokens.logprobs, tokens.entropies))
        shown = shown_tokens(
            self.batch, self.update.number, tokens.index, logprobs, entropies, None, self.steering.clip
        )
        decision = self.steering.controls.plan(shown, MICROBATCH)
        _record(self.tally, decision)
        return composed([chosen, decision.plan.to(tokens.logprobs)])


def _index(batch: TokenBatch, plan: UpdatePlan) -> np.ndarray:
    """Of the update's tokens that take part in the loss, in the order of the batch."""
    index = batch.response_index(np.sort(plan.samples))
    return index[batch.mask[index]]


def _old(batch: TokenBatch) -> Scores:
    if batch.old_logprobs is None or batch.old_entropies is None:
        raise ValueError("the entropy controls look at the policy that drew the rollout, which was not scored")
    check_finite(batch.old_logprobs[batch.mask], LOGPROBS)
    return Scores(np.arange(batch.mask.size), batch.old_logprobs, batch.old_entropies)


def _unknown(batch: TokenBatch) -> Scores:
    """For controls that look at advantages alone."""
    return Scores(np.arange(batch.mask.size), *np.full((2, batch.mask.size), np.nan))


def _shown_update(batch: TokenBatch, plan: UpdatePlan, scores: Scores, clip: ClipConfig) -> UpdateTokens:
    index = _index(batch, plan)

    def chosen(values: np.ndarray) -> np.ndarray:
        spread = np.full(batch.mask.size, np.nan)
        spread[scores.index] = values
        return spread[index]

    exact = None if scores.discriminators is None else chosen(scores.discriminators)
    return shown_tokens(batch, plan.number, index, chosen(scores.logprobs), chosen(scores.entropies), exact, clip)


def shown_tokens(
    batch: TokenBatch,
    number: int,
    index: np.ndarray,
    logprobs: np.ndarray,
    entropies: np.ndarray,
    discriminators: np.ndarray | None,
    clip: ClipConfig,
) -> UpdateTokens:
    """Response tokens of `batch` as a control sees them.

    number  of the update in the run
    index   int64 [n] into the batch's arrays over response tokens, those of a sample together
    others  float64 [n], of these tokens
    """
    owners = np.searchsorted(batch.response_offsets, index, side="right") - 1
    starts = np.flatnonzero(np.diff(owners, prepend=-1))
    if batch.advantages is None:
        raise ValueError("the batch has no advantages yet")
    advantages = batch.advantages[index].astype(np.float64)
    old = logprobs if batch.old_logprobs is None else batch.old_logprobs[index].astype(np.float64)
    ratio = np.exp(np.clip(logprobs - old, -MAX_LOG_RATIO, MAX_LOG_RATIO))
    below = np.inf if clip.low is None else clip.low
    above = np.inf if clip.high is None else clip.high
    return UpdateTokens(
        sample_keys=batch.sample_keys[owners[starts]],
        lengths=np.diff(starts, append=index.size),
        positions=index - batch.response_offsets[owners],
        logprobs=logprobs,
        old_logprobs=old,
        entropies=entropies,
        discriminators=discriminators,
        advantages=advantages,
        clipped=((advantages > 0) & (ratio > 1 + above)) | ((advantages < 0) & (ratio < 1 - below)),
        update=number,
    )


def _record(tally: Tally, decision: Decision) -> None:
    for name, (total, count) in decision.metrics.items():
        tally.mean(name, total, count)


def gather_objects(scores: Scores) -> list[Scores]:
    """The shares of all ranks of the process group."""
    import torch.distributed as dist

    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, scores)
    return found
