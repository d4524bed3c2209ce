"""An update has the loss and the gradient of a plain float64 loop over its tokens, in every layout.

A table of logits stands for the model, a plain object for DeepSpeed, and ranks run one after another.
"""

import itertools
import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from learner.config import ObjectiveConfig
from learner.finite import ADVANTAGES, GRADIENT, LOGPROBS, LOSS
from learner.metrics import merged
from learner.objective import token_losses
from learner.types import TokenBatch, UpdatePlan
from learner.update import apply_updates
from tests.learner.objectives import SURROGATES, objective, unsteered

VOCABULARY = 7
# Of eight samples of three prompts: the sixth has no response.
PROMPTS = [1, 2, 1, 3, 1, 2, 1, 2]
RESPONSES = [4, 1, 6, 3, 2, 0, 5, 3]
GROUPS = [0, 0, 0, 1, 1, 1, 2, 2]
# Rows of each pass of each rank.
LAYOUTS = {
    "one_pass": [[[[0], [1], [2], [3], [4], [5], [6], [7]]]],
    "one_sample_a_pass": [[[[i]] for i in (5, 2, 7, 0, 1, 4, 3, 6)]],
    "packed_rows": [[[[6, 1, 5], [3]], [[0, 2], [7, 4]]]],
    "two_ranks": [[[[0], [3]], [[7]]], [[[2, 4]], [[1], [5, 6]]]],
    "idle_ranks": [[[[5]], []], [[[7], [6, 4, 3, 2]], [[1], [0]]], [[], []]],
}
MASKS = {
    "whole": lambda rng, n: np.ones(n, bool),
    "random": lambda rng, n: rng.random(n) < 0.5,
    # The third prompt, and the first sample, are left out.
    "without_a_prompt": lambda rng, n: (np.arange(n) >= 4) & (np.arange(n) < 16),
}
CORRECTIONS = [
    ("none", None, None),
    ("token_truncate", None, 1.2),
    ("token_mask", 0.6, 1.5),
    ("sequence_truncate", None, 1.1),
    ("sequence_mask", 0.3, 1.9),
    ("geometric_mask", 0.8, 1.3),
]
# A ratio of the sequence goes with neither ce_gppo nor weights of single tokens.
COMPOSITIONS = [
    *itertools.product(SURROGATES, ["token"], CORRECTIONS),
    *itertools.product(
        [name for name in SURROGATES if name != "ce_gppo"],
        ["sequence"],
        [correction for correction in CORRECTIONS if not correction[0].startswith("token")],
    ),
]
DENOMINATORS = {"tokens": None, "sequences": None, "prompts": None, "constant": 5}


class Table:
    """Policy and model: logits of the next token by the last one. `step` moves by plain gradient descent."""

    def __init__(self, learn=False):
        generator = torch.Generator().manual_seed(0)
        self.logits = torch.randn(VOCABULARY, VOCABULARY, generator=generator, dtype=torch.float64).requires_grad_()
        self.learn, self.backwards, self.boundaries, self.rates = learn, 0, [], []
        self.loss = 0.0

    def forward(self, batch, rows):
        samples = np.concatenate([np.zeros(0, np.int64), *rows])
        before = [
            batch.tokens[start + prompt - 1 : start + length - 1]
            for start, prompt, length in zip(
                batch.offsets[samples], batch.prompt_lengths[samples], batch.lengths[samples], strict=True
            )
        ]
        after = batch.tokens[response_positions(batch, samples)]
        last = torch.from_numpy(np.concatenate([np.zeros(0, np.int32), *before]).astype(np.int64))
        distribution = self.logits[last].log_softmax(-1)
        chosen = torch.from_numpy(after.astype(np.int64))
        return distribution.gather(1, chosen[:, None])[:, 0], -(distribution.exp() * distribution).sum(-1)

    def boundary(self, last):
        self.boundaries.append(last)

    def backward(self, loss):
        assert loss.requires_grad  # a rank without tokens takes part in the collectives of the backward pass
        self.backwards += 1
        self.loss += loss.item()
        loss.backward()

    def step(self, learning_rate):
        self.rates.append(learning_rate)
        norm = float(self.logits.grad.norm())
        if self.learn:
            with torch.no_grad():
                self.logits -= learning_rate * self.logits.grad
            self.logits.grad = None
        return norm


def response_positions(batch: TokenBatch, samples) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(o + p, o + n) for o, p, n in places(batch, samples))])


def places(batch: TokenBatch, samples):
    return zip(batch.offsets[samples], batch.prompt_lengths[samples], batch.lengths[samples], strict=True)


def make_batch(mask="random", scored=True) -> TokenBatch:
    rng = np.random.default_rng(1)
    prompts, responses = np.array(PROMPTS, np.int32), np.array(RESPONSES, np.int32)
    size = responses.sum()
    batch = TokenBatch(
        tokens=rng.integers(0, VOCABULARY, (prompts + responses).sum()).astype(np.int32),
        lengths=prompts + responses,
        prompt_lengths=prompts,
        groups=np.array(GROUPS, np.int32),
        sample_keys=np.arange(len(GROUPS), dtype=np.uint64),
        temperature=1.0,
        behaviour_logprobs=np.zeros(size, np.float32),
        mask=MASKS[mask](rng, size),
        versions=np.zeros(size, np.int32),
        advantages=np.repeat(rng.normal(0, 2, prompts.size), responses).astype(np.float32),
        old_logprobs=None,
        old_entropies=None,
        reference_logprobs=None,
    )
    now = Table().forward(batch, [np.arange(prompts.size)])[0].detach().numpy()
    old, behaviour, reference = now + rng.normal(0, [[0.5], [0.6], [0.4]], (3, size))
    return replace(
        batch,
        old_logprobs=old.astype(np.float32) if scored else None,
        old_entropies=None,
        behaviour_logprobs=behaviour.astype(np.float32),
        reference_logprobs=reference.astype(np.float32),
    )


def plan_of(layout, samples=range(8), learning_rate=0.1) -> UpdatePlan:
    passes = tuple(
        tuple(tuple(np.array(row, np.int64) for row in rows) for rows in rank_passes) for rank_passes in layout
    )
    return UpdatePlan(passes, np.array(list(samples), np.int64), learning_rate, 0)


@dataclass
class Outcome:
    loss: float
    gradient: torch.Tensor
    figures: dict[str, float] = field(default_factory=dict)


def run(batch: TokenBatch, settings: ObjectiveConfig, layout, samples=range(8)) -> Outcome:
    """One update; all ranks add to the gradient of the same table."""
    table, plan = Table(), plan_of(layout, samples)
    tallies = [
        apply_updates(table, table, settings, unsteered(settings), batch, [plan], rank)[0]
        for rank in range(len(layout))
    ]
    assert table.backwards == sum(map(len, layout))
    assert table.boundaries == [i == len(passes) - 1 for passes in layout for i in range(len(passes))]
    figures = merged(tallies).values()
    figures.pop("policy/grad_norm")  # of the sum over ranks in DeepSpeed, of the ranks so far here
    return Outcome(table.loss, table.logits.grad, figures)


def brute_force(batch: TokenBatch, settings: ObjectiveConfig, samples=range(8)) -> Outcome:
    """Token by token, from the formulas of docs/objective.md."""
    algorithm, clip, correction = settings.algorithm, settings.clip, settings.correction
    logits = Table().logits
    sequences = []  # of each sample its trained tokens as (log pi, old, behaviour, reference, advantage)
    place = 0
    for number in range(batch.lengths.size):
        tokens = batch.tokens[sum(batch.lengths[:number]) :][: batch.lengths[number]]
        trained = []
        for t in range(batch.prompt_lengths[number], len(tokens)):
            if batch.mask[place] and number in samples:
                row = logits[int(tokens[t - 1])]
                logprob = row[int(tokens[t])] - row.exp().sum().log()
                fixed = (batch.old_logprobs, batch.behaviour_logprobs, batch.reference_logprobs, batch.advantages)
                trained.append((logprob, *(float(values[place]) for values in fixed)))
            place += 1
        sequences.append(trained)
    present = [i for i in samples if sequences[i]]
    prompts = {int(batch.groups[i]) for i in present}
    total = torch.zeros((), dtype=torch.float64)
    for i in present:
        trained = sequences[i]
        mean = sum(logprob - old for logprob, old, *_ in trained) / len(trained)
        product = math.exp(sum(old - behaviour for _, old, behaviour, *_ in trained))
        divisor = {
            "tokens": sum(len(sequences[j]) for j in present),
            "sequences": len(trained) * len(present),
            "prompts": sum(len(sequences[j]) for j in present if batch.groups[j] == batch.groups[i]) * len(prompts),
            "constant": len(list(samples)) * (algorithm.denominator_tokens or 0),
        }[algorithm.denominator]
        for logprob, old, behaviour, reference, advantage in trained:
            ratio = (mean if algorithm.ratio == "sequence" else logprob - old).exp()
            rho = math.exp(old - behaviour)
            weight = {
                "none": 1.0,
                "token_truncate": min(rho, correction.high or 0),
                "token_mask": rho if (correction.low or 0) <= rho <= (correction.high or 9e9) else 0.0,
                "sequence_truncate": min(product, correction.high or 0),
                "sequence_mask": product if (correction.low or 0) <= product <= (correction.high or 9e9) else 0.0,
                "geometric_mask": float(
                    (correction.low or 0) <= product ** (1 / len(trained)) <= (correction.high or 9e9)
                ),
            }[correction.kind]
            loss = weight * plain_surrogate(ratio, logprob, advantage, algorithm, clip)
            if settings.reference.place == "loss":
                distance = reference - logprob
                loss = loss + settings.reference.coef * (distance.exp() - 1 - distance)
            total = total + loss / divisor
    if total.requires_grad:
        total.backward()
    return Outcome(float(total.detach()), torch.zeros_like(logits) if logits.grad is None else logits.grad)


def plain_surrogate(ratio, logprob, advantage, algorithm, clip):
    r = float(ratio.detach())
    if algorithm.surrogate == "cispo":
        return -min(r, algorithm.cispo_cap) * advantage * logprob
    if algorithm.surrogate == "sapo":
        tau = algorithm.sapo_temperature_positive if advantage > 0 else algorithm.sapo_temperature_negative
        return -advantage * (4 / tau) / (1 + (-tau * (ratio - 1)).exp())
    if algorithm.surrogate == "ce_gppo":
        if advantage < 0 and r < 1 - clip.low:
            return -advantage * algorithm.ce_gppo_low * (1 - clip.low) * ratio / r
        if advantage > 0 and r > 1 + clip.high:
            return -advantage * algorithm.ce_gppo_high * (1 + clip.high) * ratio / r
        return -advantage * ratio
    if advantage < 0 and clip.low is not None and r < 1 - clip.low:
        return torch.tensor(-advantage * (1 - clip.low), dtype=torch.float64)
    if advantage > 0 and clip.high is not None and r > 1 + clip.high:
        return torch.tensor(-advantage * (1 + clip.high), dtype=torch.float64)
    if advantage < 0 and algorithm.dual_clip is not None and r > algorithm.dual_clip:
        return torch.tensor(-advantage * algorithm.dual_clip, dtype=torch.float64)
    return -advantage * ratio


def agree(got: Outcome, expected: Outcome) -> None:
    assert got.loss == pytest.approx(expected.loss, rel=1e-12, abs=1e-14)
    torch.testing.assert_close(got.gradient, expected.gradient, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_every_layout_has_the_loss_gradient_and_figures_of_the_plain_loop(denominator, level, mask):
    settings = objective(
        low=0.2,
        high=0.3,
        dual_clip=1.5,
        ratio=level,
        denominator=denominator,
        denominator_tokens=DENOMINATORS[denominator],
        reference=("loss", 0.1, "k3"),
        correction=("token_truncate" if level == "token" else "sequence_truncate", None, 1.5),
    )
    batch = make_batch(mask)
    expected = brute_force(batch, settings)
    assert expected.gradient.abs().max() > 1e-3
    outcomes = {name: run(batch, settings, layout) for name, layout in LAYOUTS.items()}
    for outcome in outcomes.values():
        agree(outcome, expected)
        assert outcome.figures == pytest.approx(outcomes["one_pass"].figures, rel=1e-9, abs=1e-12)
    figures = outcomes["one_pass"].figures
    assert figures["policy/loss"] == pytest.approx(expected.loss, rel=1e-12)
    assert figures["policy/trained_tokens"] == batch.mask.sum()
    owners = np.repeat(np.arange(8), RESPONSES)[batch.mask]
    assert figures["policy/trained_sequences"] == len(set(owners.tolist()))


@pytest.mark.parametrize(
    ("name", "level", "correction"), COMPOSITIONS, ids=lambda value: value if isinstance(value, str) else value[0]
)
def test_every_composition_has_the_loss_and_gradient_of_the_plain_loop(name, level, correction):
    settings = objective(**SURROGATES[name], ratio=level, correction=correction, denominator="sequences")
    batch = make_batch()
    expected = brute_force(batch, settings)
    for layout in ("one_pass", "idle_ranks"):
        agree(run(batch, settings, LAYOUTS[layout]), expected)


@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_an_update_of_some_samples_is_divided_by_those(denominator):
    settings = objective(low=0.2, high=0.3, denominator=denominator, denominator_tokens=DENOMINATORS[denominator])
    batch, samples = make_batch(), [2, 3, 7]
    layouts = [[[[[7], [2], [3]]]], [[[[2, 3]]], [[[7]]]]]
    for layout in layouts:
        agree(run(batch, settings, layout, samples), brute_force(batch, settings, samples))


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_the_order_of_samples_does_not_matter(level):
    settings = objective(low=0.2, high=0.3, ratio=level, denominator="prompts")
    batch, order = make_batch(), np.array([6, 3, 0, 7, 5, 1, 4, 2])
    inside = np.concatenate([np.arange(batch.offsets[s], batch.offsets[s + 1]) for s in order])
    response = batch.response_index(order)
    per_token = ("behaviour_logprobs", "mask", "versions", "advantages", "old_logprobs", "reference_logprobs")
    shuffled = TokenBatch(
        tokens=batch.tokens[inside],
        lengths=batch.lengths[order],
        prompt_lengths=batch.prompt_lengths[order],
        groups=batch.groups[order],
        sample_keys=batch.sample_keys[order],
        temperature=batch.temperature,
        **{name: getattr(batch, name)[response] for name in per_token},
        old_entropies=None,
    )
    first, second = (run(b, settings, LAYOUTS["packed_rows"]) for b in (batch, shuffled))
    agree(second, first)
    assert second.figures == pytest.approx(first.figures, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("denominator", DENOMINATORS)
def test_an_update_without_a_trained_token_has_a_zero_gradient(denominator, level):
    batch = make_batch()
    batch = replace(batch, mask=np.zeros_like(batch.mask))
    settings = objective(
        low=0.2,
        high=0.3,
        ratio=level,
        denominator=denominator,
        denominator_tokens=DENOMINATORS[denominator],
        reference=("loss", 0.1, "k3"),
        correction=("sequence_mask", None, 2.0),
    )
    for layout in LAYOUTS.values():
        outcome = run(batch, settings, layout)
        assert outcome.loss == 0
        assert not outcome.gradient.any()
        assert outcome.figures == {
            "policy/loss": 0,
            "policy/trained_tokens": 0,
            "policy/trained_sequences": 0,
            "policy/learning_rate": 0.1,
        }


def test_a_batch_without_old_logprobs_takes_those_of_its_update():
    batch = make_batch(scored=False)
    table = Table()
    now, entropies = (values.detach().numpy() for values in table.forward(batch, [np.arange(8)]))
    settings = objective(low=0.2, high=0.3, denominator="sequences", correction=("token_truncate", None, 1.5))
    tally, scores, _ = apply_updates(
        table, table, settings, unsteered(settings), batch, [plan_of(LAYOUTS["packed_rows"])], 0
    )
    assert tally.values()["policy/ratio_max"] == tally.values()["policy/ratio_min"] == 1
    assert np.array_equal(np.sort(scores.index), np.arange(sum(RESPONSES)))  # of masked tokens too
    np.testing.assert_allclose(scores.logprobs, now[scores.index], rtol=1e-6)
    np.testing.assert_allclose(scores.entropies, entropies[scores.index], rtol=1e-6)
    same = brute_force(replace(batch, old_logprobs=now), settings)
    torch.testing.assert_close(table.logits.grad, same.gradient)


def test_updates_follow_each_other():
    batch, settings = make_batch(), objective(low=0.2, high=0.3)
    table, plain = Table(learn=True), Table()
    plans = [plan_of([[[[0], [1]]]], [0, 1], 0.5), plan_of([[[[6]], [[7]]]], [6, 7], 0.25)]
    tally, scores, _ = apply_updates(table, table, settings, unsteered(settings), batch, plans, 0)
    assert scores.index.tolist() == [0, 1, 2, 3, 4]  # what the first update found
    norms = []
    for plan in plans:
        plain.logits.grad = None
        apply_updates(plain, plain, settings, unsteered(settings), batch, [plan], 0)
        norms.append(float(plain.logits.grad.norm()))
        with torch.no_grad():
            plain.logits -= plan.learning_rate * plain.logits.grad
    torch.testing.assert_close(table.logits, plain.logits)
    figures = tally.values()
    assert table.rates == [0.5, 0.25]
    assert figures["policy/grad_norm"] == pytest.approx(sum(norms) / 2)
    assert figures["policy/learning_rate"] == 0.375
    assert figures["policy/trained_tokens"] == batch.mask[batch.response_index(np.array([0, 1, 6, 7]))].sum() / 2


def test_a_batch_without_old_logprobs_is_trained_on_once():
    plan = plan_of(LAYOUTS["one_pass"])
    with pytest.raises(ValueError, match="has to be scored before"):
        apply_updates(Table(), Table(), objective(), unsteered(objective()), make_batch(scored=False), [plan, plan], 0)


def test_a_batch_without_advantages_is_refused():
    batch = replace(make_batch(), advantages=None)
    with pytest.raises(ValueError, match="no advantages yet"):
        apply_updates(Table(), Table(), objective(), unsteered(objective()), batch, [plan_of(LAYOUTS["one_pass"])], 0)


class Careful(Table):
    """Applies nothing where the gradient is not finite, as the model under DeepSpeed."""

    def step(self, learning_rate):
        norm = float(self.logits.grad.norm())
        if not math.isfinite(norm):
            self.logits.grad = None
            return norm
        return super().step(learning_rate)


@pytest.mark.parametrize(
    ("what", "cause"), [("advantages", ADVANTAGES), ("logprobs", LOGPROBS), ("loss", LOSS), ("gradient", GRADIENT)]
)
def test_an_update_that_is_not_finite_is_skipped_with_its_cause_and_leaves_no_figure(what, cause, monkeypatch):
    batch, settings = make_batch("whole"), objective(low=0.2, high=0.3)
    first, second = plan_of([[[[0], [1]]]], [0, 1], 0.5), plan_of([[[[6]], [[7]]]], [6, 7], 0.25)

    def spoilt_losses(tokens, *arguments):
        losses, tally = token_losses(tokens, *arguments)
        if tokens.index[0] != 0:
            return losses, tally
        # The second is worth 0, with an infinite slope.
        return losses * math.nan if what == "loss" else losses + (tokens.logprobs * 0).sqrt(), tally

    class Spoilt(Careful):
        def forward(self, batch, rows):
            logprobs, entropies = super().forward(batch, rows)
            return (logprobs * math.nan if rows[0][0] == 0 else logprobs), entropies

    table = Spoilt(learn=True) if what == "logprobs" else Careful(learn=True)
    if what in ("loss", "gradient"):
        monkeypatch.setattr("learner.update.token_losses", spoilt_losses)
    given = batch
    if what == "advantages":
        given = replace(
            batch, advantages=np.where(np.arange(batch.mask.size) == 0, np.float32(np.nan), batch.advantages)
        )
    before = table.logits.detach().clone()
    tally, _, skipped = apply_updates(table, table, settings, unsteered(settings), given, [first], 0)
    assert skipped == {0: cause}
    assert tally.values() == {}
    assert torch.equal(table.logits, before)

    both, _, skipped = apply_updates(table, table, settings, unsteered(settings), given, [first, second], 0)
    assert skipped == {0: cause}
    monkeypatch.undo()
    plain = Careful(learn=True)
    alone, _, skipped = apply_updates(plain, plain, settings, unsteered(settings), batch, [second], 0)
    assert skipped == {}
    assert both.values() == alone.values()
    assert torch.equal(table.logits, plain.logits)


def test_a_batch_that_comes_unscored_is_scored_where_its_update_is_skipped():
    batch, settings = make_batch(scored=False), objective(low=0.2, high=0.3)
    spoilt = replace(batch, advantages=np.full_like(batch.advantages, np.nan))

    class Scoring(Careful):
        def score(self, batch, passes):
            return "scores"

    table = Scoring()
    plan = plan_of(LAYOUTS["one_pass"])
    assert apply_updates(table, table, settings, unsteered(settings), spoilt, [plan], 0)[1] == "scores"
