"""Entropy controls through the update itself: what is chosen, and the gradient that is left, in every layout."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from entropy.config import ClipCovConfig, KlCovConfig, PositiveAdvantageConfig
from entropy.control import Controls, Observed, Plain
from entropy.controls.covariance import ClipCov, KlCov
from entropy.controls.positive_advantage import PositiveAdvantage
from entropy.covariance import token_covariance
from learner.config import ObjectiveConfig
from learner.metrics import merged
from learner.steering import Steering, shown_tokens
from learner.types import Scores, TokenBatch
from learner.update import apply_updates
from tests.learner.objectives import objective, unsteered
from tests.learner.test_update import LAYOUTS, Table, make_batch, plan_of

UNCLIPPED = objective()
CLIP_COV = ClipCovConfig(0.25, 0.2, 1.0, "quantile", "covariance", "covariance", "update")
KL_COV = KlCovConfig(0.25, 2.0, "abs", "covariance", "covariance", "update")
ONES = PositiveAdvantageConfig("constant", "above_zero", 1.0, 0.0, 1.0, None, None, None, None, None, None)


def scored() -> TokenBatch:
    batch = make_batch()
    return replace(batch, old_entropies=np.full_like(batch.old_logprobs, 0.5))


def everyone(batch: TokenBatch) -> Scores:
    """What all ranks find together: the table's log-probabilities of every response token."""
    logprobs, entropies = (v.detach().numpy() for v in Table().forward(batch, (np.arange(batch.lengths.size),)))
    return Scores(np.arange(batch.mask.size), logprobs, entropies)


class Scoring(Table):
    """A table that can be asked for scores, as the second update of a batch does."""

    asked = 0

    def score(self, batch: TokenBatch, passes, exact: bool) -> Scores:
        self.asked += 1
        return everyone(batch)


def train(batch: TokenBatch, control, layout="one_pass", settings: ObjectiveConfig = UNCLIPPED, first=False):
    """Gradient, figures and times that a rank asked for scores, of one update that is not the batch's first."""
    table, plan = Scoring(), plan_of(LAYOUTS[layout])
    tallies = []
    for rank in range(len(LAYOUTS[layout])):
        steering = Steering(Controls(control()), settings.clip, lambda scores: [everyone(batch)], vocabulary=7)
        if not first:
            begin = steering.begin
            steering.begin = lambda *args, is_first, begin=begin: begin(*args, is_first=False)
        tallies.append(apply_updates(table, table, settings, steering, batch, [plan], rank)[0])
    return table.logits.grad, merged(tallies).values(), table.asked


def chosen_by_hand(batch: TokenBatch, seed: int) -> np.ndarray:
    """Indices that Clip-Cov drops."""
    found = everyone(batch)
    index = np.flatnonzero(batch.mask)
    tokens = shown_tokens(batch, 0, index, found.logprobs[index], found.entropies[index], None, UNCLIPPED.clip)
    weight = ClipCov(CLIP_COV, seed).plan(tokens).plan.weight
    return index[(weight == 0).numpy()]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_clip_cov_drops_the_same_tokens_in_every_layout(layout):
    batch = scored()
    gradient, figures, _ = train(batch, lambda: {"clip_cov": ClipCov(CLIP_COV, 0)}, layout)
    dropped = chosen_by_hand(batch, 0)
    assert dropped.size == int(0.25 * batch.mask.sum())
    assert figures["clip_cov/selected_share"] == dropped.size / batch.mask.sum()
    # The same as without those tokens, whose places in the denominator stay.
    advantages = batch.advantages.copy()
    advantages[dropped] = 0.0
    table = Table()
    apply_updates(
        table,
        table,
        UNCLIPPED,
        unsteered(UNCLIPPED),
        replace(batch, advantages=advantages),
        [plan_of(LAYOUTS["one_pass"])],
        0,
    )
    torch.testing.assert_close(gradient, table.logits.grad, rtol=1e-10, atol=1e-12)


def test_another_seed_drops_others():
    batch = scored()
    assert set(chosen_by_hand(batch, 0)) != set(chosen_by_hand(batch, 1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_kl_cov_adds_the_penalty_where_the_score_is_largest(layout):
    batch = scored()
    gradient, _, _ = train(batch, lambda: {"kl_cov": KlCov(KL_COV, 0)}, layout)
    plain, _, _ = train(batch, dict, layout)
    found, index = everyone(batch), np.flatnonzero(batch.mask)
    tokens = shown_tokens(batch, 0, index, found.logprobs[index], found.entropies[index], None, UNCLIPPED.clip)
    count = int(0.25 * index.size)
    largest = index[np.argsort(-token_covariance(tokens), kind="stable")[:count]]
    table = Table()
    logprobs, _ = table.forward(batch, (np.arange(batch.lengths.size),))
    moved = logprobs[largest] - torch.from_numpy(batch.old_logprobs[largest]).double()
    assert (moved.abs() > 1e-3).all()
    (2.0 * moved.abs().sum() / index.size).backward()
    torch.testing.assert_close(gradient - plain, table.logits.grad, rtol=1e-9, atol=1e-12)


def test_weight_one_is_the_plain_update_bit_for_bit():
    batch = scored()
    steered, _, _ = train(batch, lambda: {"positive_advantage": PositiveAdvantage(ONES, 10)})
    plain, _, _ = train(batch, dict)
    assert torch.equal(steered, plain)


def test_only_a_control_that_looks_at_the_current_policy_costs_a_pass():
    batch = scored()
    assert train(batch, lambda: {"positive_advantage": PositiveAdvantage(ONES, 10)})[2] == 0
    assert train(batch, lambda: {"clip_cov": ClipCov(replace(CLIP_COV, scope="rollout"), 0)})[2] == 0
    assert train(batch, lambda: {"clip_cov": ClipCov(CLIP_COV, 0)})[2] == 1
    # The first update finds the policy as it was scored.
    assert train(batch, lambda: {"clip_cov": ClipCov(CLIP_COV, 0)}, first=True)[2] == 0


def test_the_scope_microbatch_depends_on_the_passes_as_the_reference_does():
    batch = scored()
    small = replace(CLIP_COV, scope="microbatch", rate=0.02)
    tokens = batch.mask.sum()
    # A share of 2 % of so few tokens is none, and the reference takes one a pass at least.
    for layout, passes in (("one_pass", 1), ("packed_rows", 2)):
        figures = train(batch, lambda: {"clip_cov": ClipCov(small, 0)}, layout)[1]
        assert figures["clip_cov/selected_share"] == pytest.approx(passes / tokens)


def test_old_scores_are_asked_for_in_words():
    batch = replace(scored(), old_logprobs=None, old_entropies=None)
    with pytest.raises(ValueError, match="look at the policy that drew the rollout, which was not scored"):
        train(batch, lambda: {"clip_cov": ClipCov(replace(CLIP_COV, scope="rollout"), 0)})


def test_a_control_is_shown_the_entropy_of_trained_tokens_and_the_temperature_they_were_drawn_at():
    class Watching(Plain):
        def observe(self, batch):
            self.seen = batch

    batch, control = replace(scored(), temperature=0.8), Watching()
    batch = replace(batch, old_entropies=np.where(batch.mask, 0.25, 9.0).astype(np.float32))
    steering = Steering(Controls({"watching": control}), UNCLIPPED.clip, lambda scores: [scores], vocabulary=7)
    assert steering.open(batch, 3).temperature == 0.8
    assert control.seen == Observed(3, 0.25, 0.8, 7)
    steering.open(replace(batch, old_entropies=None), 4)
    assert (control.seen.step, math.isnan(control.seen.entropy), control.seen.temperature) == (4, True, 0.8)
