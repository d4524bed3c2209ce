"""What the probe reports of updates is what a float64 loop over all states finds, in every layout, and it costs no bit.

The table of logits of tests/learner/test_update.py stands for the model.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from entropy.dynamics import observed_change, predicted_change
from entropy.states import States
from learner import probe as probe_module
from learner.config import ProbeConfig
from learner.metrics import merged
from learner.planning import PassLimits
from learner.probe import Probe, chosen_states
from learner.types import TokenBatch
from learner.update import apply_updates
from tests.learner.objectives import objective, unsteered
from tests.learner.test_update import LAYOUTS, RESPONSES, VOCABULARY, Table, make_batch, plan_of, response_positions

ALL = ProbeConfig(states=1000, responses=1000)
# One response a pass, and all in one.
LIMITS = [PassLimits(1, 0), PassLimits(1000, 100)]
PLAIN = objective()


class Probable(Table):
    """A table that learns and shows the distributions of states."""

    def __init__(self):
        super().__init__(learn=True)
        self.looks = 0

    def distributions(self, batch: TokenBatch, rows, states):
        self.looks += 1
        samples = np.concatenate([np.zeros(0, np.int64), *rows])
        index = batch.response_index(samples)
        inside = np.isin(index, states)
        last = batch.tokens[response_positions(batch, samples) - 1][inside]
        return index[inside], self.logits.detach()[torch.from_numpy(last.astype(np.int64))].clone()


def train(batch: TokenBatch, plans, config=ALL, limits=LIMITS[1], ranks=1):
    """Figures and table after all updates; the ranks hold copies of the table, and each makes the whole update."""
    tallies, tables = [], []
    for rank in range(ranks):
        table = Probable()
        # The plan's passes are those of a single rank; only the number of ranks is the probe's business.
        shared = [replace(plan, passes=plan.passes * ranks) for plan in plans]
        probe = Probe(config, 0, limits) if config else None
        tallies.append(apply_updates(table, table, PLAIN, unsteered(PLAIN), batch, shared, rank, probe)[0])
        tables.append(table)
    return merged(tallies).values(), tables


def plans(rate=0.1):
    return [
        plan_of([[[[0], [1], [2]]]], [0, 1, 2], rate),
        plan_of([[[[3], [4], [5], [6], [7]]]], range(3, 8), rate / 2),
    ]


def tables_between(batch: TokenBatch, updates) -> list[torch.Tensor]:
    """The logits before the first update and after each."""
    return [
        Table().logits.detach(),
        *(train(batch, updates[: n + 1])[1][0].logits.detach() for n in range(len(updates))),
    ]


def states_of(batch: TokenBatch) -> np.ndarray:
    """The token that each trained token follows: the state, in the table."""
    return batch.tokens[response_positions(batch, np.arange(batch.lengths.size)) - 1][batch.mask].astype(np.int64)


@pytest.mark.parametrize("ranks", [1, 2, 3, 9])
@pytest.mark.parametrize("limits", LIMITS, ids=["a response a pass", "one pass"])
def test_figures_are_those_of_all_states_in_every_layout(ranks, limits):
    batch, updates = make_batch(), plans()
    figures, tables = train(batch, updates, limits=limits, ranks=ranks)
    states = torch.from_numpy(states_of(batch))
    between = [table[states] for table in tables_between(batch, updates)]
    looks = [States.of(logits) for logits in between]
    observed = torch.stack([observed_change(*pair) for pair in pairwise(looks)])
    predicted = torch.stack([predicted_change(*pair) for pair in pairwise(looks)])
    chosen = torch.from_numpy(batch.tokens[response_positions(batch, np.arange(8))][batch.mask].astype(np.int64))
    advantages = torch.from_numpy(batch.advantages[batch.mask]).double()
    theorem1, theorem2 = [], []
    for logits, rate in zip(between[:-1], (0.1, 0.05), strict=True):
        p = logits.softmax(-1)
        entropy = -(p * p.log()).sum(-1)
        s = p * (p.log() + entropy[:, None])
        own = torch.arange(len(states)), chosen
        theorem1.append(-rate * advantages * (s[own] - (p * s).sum(-1)))
        theorem2.append(-rate * advantages * (p[own].log() + entropy))
    expected = {
        "dynamics/probe_states": len(states),
        "dynamics/entropy_mean": float(looks[0].entropies.mean()),
        "dynamics/entropy_change_observed": float(observed.mean()),
        "dynamics/entropy_change_observed_std": float(observed.std(correction=0)),
        "dynamics/entropy_change_lemma1": float(predicted.mean()),
        "dynamics/entropy_change_theorem1": float(torch.stack(theorem1).mean()),
        "dynamics/entropy_change_theorem2": float(torch.stack(theorem2).mean()),
        "dynamics/lemma1_missed_share": float(((observed - predicted) ** 2).sum() / (observed**2).sum()),
    }
    for name, values in (("lemma1", predicted), ("theorem1", theorem1), ("theorem2", theorem2)):
        flat = values if isinstance(values, torch.Tensor) else torch.stack(values)
        pair = torch.stack([flat.flatten(), observed.flatten()])
        expected[f"dynamics/{name}_agreement"] = float(torch.corrcoef(pair)[0, 1])
    found = {name: value for name, value in figures.items() if name.startswith("dynamics/")}
    assert found == pytest.approx(expected, rel=1e-9)
    # As often on every rank: once before the first update and once after each.
    assert len({table.looks for table in tables}) == 1
    assert tables[0].looks % 3 == 0


def test_chunks_of_states_change_nothing(monkeypatch):
    whole, _ = train(make_batch(), plans())
    monkeypatch.setattr(probe_module, "CHUNK_LOGITS", 2 * VOCABULARY)
    parts, _ = train(make_batch(), plans())
    drop = {name: value for name, value in parts.items() if not name.startswith("speed/")}
    assert drop == pytest.approx({name: whole[name] for name in drop}, rel=1e-9)


def test_lemma_1_misses_a_quarter_of_it_when_the_step_is_halved():
    """The prediction is exact to first order: its error falls with the square of the step, the change with the step."""
    batch, rates = make_batch(), [0.08, 0.04, 0.02, 0.01]
    errors, changes = [], []
    for rate in rates:
        figures, _ = train(batch, [plan_of(LAYOUTS["one_pass"], learning_rate=rate)])
        errors.append(figures["dynamics/entropy_change_observed"] - figures["dynamics/entropy_change_lemma1"])
        changes.append(figures["dynamics/entropy_change_observed"])
    assert np.polyfit(np.log(rates), np.log(np.abs(errors)), 1)[0] == pytest.approx(2, abs=0.1)
    assert np.polyfit(np.log(rates), np.log(np.abs(changes)), 1)[0] == pytest.approx(1, abs=0.1)


def test_theorem_1_is_the_tabular_update_where_every_state_is_visited_once():
    """On policy and by plain gradient descent, the step on the logits of a state is rate / N · A (e_y - p)."""
    batch = replace(make_batch(scored=False), reference_logprobs=None)
    single = TokenBatch(
        tokens=np.array([v for pair in zip(range(7), [3, 3, 0, 5, 5, 1, 2], strict=True) for v in pair], np.int32),
        lengths=np.full(7, 2, np.int32),
        prompt_lengths=np.ones(7, np.int32),
        groups=np.zeros(7, np.int32),
        sample_keys=np.arange(7, dtype=np.uint64),
        temperature=1.0,
        behaviour_logprobs=np.zeros(7, np.float32),
        mask=np.ones(7, bool),
        versions=np.zeros(7, np.int32),
        advantages=np.array([1.5, -0.5, 2, -2, 0.25, 1, -1], np.float32),
        old_logprobs=batch.old_logprobs,
        old_entropies=None,
        reference_logprobs=None,
    )
    figures, _ = train(single, [plan_of([[[[i] for i in range(7)]]], range(7), 1e-3)])
    lemma, theorem = (figures[f"dynamics/entropy_change_{name}"] for name in ("lemma1", "theorem1"))
    assert lemma == pytest.approx(theorem / 7, rel=1e-9)
    assert figures["dynamics/theorem1_agreement"] > 0.99999
    assert abs(figures["dynamics/theorem2_agreement"]) < 0.99


def test_training_does_not_notice_the_probe():
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    with_probe, [probed] = train(make_batch(), plans())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    without, [plain] = train(make_batch(), plans(), config=None)
    assert torch.equal(probed.logits, plain.logits)
    assert plain.looks == 0
    assert {name: value for name, value in with_probe.items() if name in without} == without


def test_states_are_drawn_by_key_from_trained_tokens_of_a_few_responses():
    batch = make_batch()
    owners = np.repeat(np.arange(8), RESPONSES)
    for config in (ProbeConfig(5, 3), ProbeConfig(2, 8), ProbeConfig(100, 1)):
        samples, states = chosen_states(batch, config, (0, 5, 0))
        assert samples.size == min(config.responses, np.unique(owners[batch.mask]).size)
        assert set(owners[states]) <= set(samples.tolist())
        assert batch.mask[states].all()
        assert states.size == min(config.states, np.isin(owners[batch.mask], samples).sum())
        assert np.array_equal(states, np.unique(states))
    drawn = {tuple(chosen_states(batch, ProbeConfig(4, 3), (0, 5, number))[1]) for number in range(20)}
    assert len(drawn) > 10


def test_every_trained_token_is_a_state_equally_often():
    """Of responses of equal length."""
    batch = equal_lengths()
    counts = np.zeros(batch.mask.size)
    repeats = 4000
    for number in range(repeats):
        counts[chosen_states(batch, ProbeConfig(4, 3), (0, 5, number))[1]] += 1
    expected = repeats * 4 / counts.size
    # Five standard deviations of a binomial.
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def equal_lengths() -> TokenBatch:
    return TokenBatch(
        tokens=np.zeros(40, np.int32),
        lengths=np.full(10, 4, np.int32),
        prompt_lengths=np.ones(10, np.int32),
        groups=np.zeros(10, np.int32),
        sample_keys=np.arange(10, dtype=np.uint64),
        temperature=1.0,
        behaviour_logprobs=np.zeros(30, np.float32),
        mask=np.ones(30, bool),
        versions=np.zeros(30, np.int32),
        advantages=None,
        old_logprobs=None,
        old_entropies=None,
        reference_logprobs=None,
    )


def test_without_a_trained_token_there_is_nothing_to_look_at():
    batch = make_batch()
    figures, [table] = train(replace(batch, mask=np.zeros_like(batch.mask)), plans())
    assert table.looks == 0
    assert not [name for name in figures if name.startswith("dynamics/")]
