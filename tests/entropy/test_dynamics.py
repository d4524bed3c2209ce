"""First-order theory of entropy against what happens: exact on tables, by Lemma 1 on a network, in sign by hand."""

import math

import numpy as np
import pytest
import torch

from entropy.dynamics import (
    entropy_alarm,
    entropy_change,
    natural_gradient_change,
    observed_change,
    policy_gradient_change,
    predicted_change,
    sampled_natural_gradient_change,
    sampled_policy_gradient_change,
)
from entropy.states import States
from tests.entropy.test_covariance import states

RATES = np.array([1e-1, 1e-2, 1e-3, 1e-4])


@pytest.mark.parametrize(
    ("theorem", "natural", "bound", "relative"),
    [(policy_gradient_change, False, 0.6, 3e-4), (natural_gradient_change, True, 2.8, 1e-3)],
    ids=["theorem 1", "theorem 2"],
)
def test_theorems_are_exact_to_first_order_on_a_table(theorem, natural, bound, relative):
    """2000 softmax states of 50 actions: the error falls with the square of the rate, below known constants."""
    logits, advantages = states()
    step = advantages if natural else logits.softmax(-1) * advantages
    old, largest, errors = States.of(logits), [], []
    for rate in RATES:
        observed, predicted = observed_change(old, States.of(logits + rate * step)), theorem(old, advantages, rate)
        largest.append(float((observed - predicted).abs().max()))
        errors.append(float((observed - predicted).norm() / observed.norm()))
    assert np.polyfit(np.log(RATES), np.log(largest), 1)[0] == pytest.approx(2, abs=0.05)
    assert (largest < bound * RATES**2).all()
    assert errors[2] < relative
    assert np.polyfit(np.log(RATES), np.log(errors), 1)[0] == pytest.approx(1, abs=0.05)


def test_lemma_1_with_a_tabular_step_is_theorem_1():
    logits, advantages = states(100)
    before, after = States.of(logits), States.of(logits + 0.01 * logits.softmax(-1) * advantages)
    torch.testing.assert_close(
        predicted_change(before, after), policy_gradient_change(before, advantages, 0.01), rtol=1e-9, atol=1e-15
    )


@pytest.mark.parametrize(
    ("sampled", "theorem"),
    [
        (sampled_policy_gradient_change, policy_gradient_change),
        (sampled_natural_gradient_change, natural_gradient_change),
    ],
    ids=["theorem 1", "theorem 2"],
)
def test_the_mean_over_drawn_actions_is_the_theorem(sampled, theorem):
    logits, advantages = states(200)
    if theorem is policy_gradient_change:  # theorem 2 has a baseline of its own
        advantages -= (logits.softmax(-1) * advantages).sum(-1, keepdim=True)
    before = States.of(logits)
    of_actions = [
        sampled(before, torch.full((200,), action), advantages[:, action], 0.1) for action in range(logits.shape[1])
    ]
    mean = (logits.softmax(-1) * torch.stack(of_actions, -1)).sum(-1)
    torch.testing.assert_close(mean, theorem(before, advantages, 0.1), rtol=1e-10, atol=1e-13)


def test_one_drawn_action_is_exact_to_first_order():
    """2000 states, one action each; 4.8e-4 was measured at this rate elsewhere."""
    logits, advantages = states()
    chosen = torch.multinomial(logits.softmax(-1), 1, generator=torch.Generator().manual_seed(0))[:, 0]
    own = advantages.gather(-1, chosen[:, None])[:, 0]
    direction = own[:, None] * (torch.nn.functional.one_hot(chosen, logits.shape[1]) - logits.softmax(-1))
    before = States.of(logits)
    observed = observed_change(before, States.of(logits + 1e-3 * direction))
    predicted = sampled_policy_gradient_change(before, chosen, own, 1e-3)
    assert float((observed - predicted).norm() / observed.norm()) < 1e-3


def test_lemma_1_does_not_see_a_shift_of_all_logits():
    logits, advantages = states(100)
    before = logits.float()
    after = before + 1e-3 * advantages.float()
    old = States.of(before.double())
    unmoved = predicted_change(old, States.of(after.double()))
    shifted = predicted_change(old, States.of(after.double() + 1e6))
    torch.testing.assert_close(shifted, unmoved, rtol=1e-4, atol=1e-9)


def trained(optimizer: str, rate: float, updates: int):
    """Changes at 64 visited states by updates of a network that all states share, after a policy-gradient step each."""
    torch.manual_seed(0)
    states, actions = torch.randn(64, 8), 20
    network = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, actions))
    with torch.no_grad():
        network[2].weight *= 6  # sharp enough for entropies that differ between states
    quality = torch.randn(64, actions)
    steps = getattr(torch.optim, optimizer)(network.parameters(), lr=rate)
    changes = []
    for _ in range(updates):
        before = network(states).detach()
        chosen = torch.multinomial(before.softmax(-1), 8, replacement=True)
        rewards = quality.gather(-1, chosen)
        advantages = (rewards - rewards.mean(-1, keepdim=True)) / (rewards.std(-1, keepdim=True) + 1e-6)
        loss = -(advantages * network(states).log_softmax(-1).gather(-1, chosen)).mean()
        steps.zero_grad()
        loss.backward()
        steps.step()
        changes.append(entropy_change(before, network(states).detach()))
    return changes


@pytest.mark.parametrize(("optimizer", "rate"), [("Adam", 1e-4), ("SGD", 0.005)])
def test_lemma_1_holds_for_a_network_in_the_small_rate_regime(optimizer, rate):
    changes = trained(optimizer, rate, updates=5)
    assert all(change.states == 64 for change in changes)
    assert min(change.agreement for change in changes) > 0.99
    for change in changes:
        assert change.predicted == pytest.approx(change.observed, rel=0.1)


def test_lemma_1_ends_where_the_step_is_large():
    assert min(change.agreement for change in trained("SGD", 20.0, updates=3)) < 0.9


@pytest.mark.parametrize(
    ("action", "advantage", "sign"),
    [(0, 1.0, -1), (2, 1.0, 1), (2, -1.0, -1), (0, -1.0, 1)],
    ids=["common and good", "rare and good", "rare and bad", "common and bad"],
)
def test_signs_of_three_actions(action, advantage, sign):
    """Advantage on one action of p = 0.7, 0.2, 0.1; the step, the exact change and both theorems have one sign."""
    logits = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64).log()
    advantages = torch.zeros(1, 3, dtype=torch.float64)
    advantages[0, action] = advantage
    step = 0.01 * advantage * (torch.nn.functional.one_hot(torch.tensor([action]), 3) - logits.softmax(-1))
    before, after = States.of(logits), States.of(logits + step)
    changes = [
        observed_change(before, after),
        predicted_change(before, after),
        policy_gradient_change(before, advantages, 0.01),
        natural_gradient_change(before, advantages, 0.01),
    ]
    assert [math.copysign(1, change.item()) for change in changes] == [sign] * 4


def test_tokens_that_cannot_be_drawn_have_no_part():
    logits, advantages = states(10)
    masked = torch.cat([logits, torch.full((10, 3), -torch.inf, dtype=torch.float64)], dim=-1)
    wide = torch.cat([advantages, torch.ones(10, 3, dtype=torch.float64)], dim=-1)
    before, all_of_it = States.of(logits), States.of(masked)
    for change in (policy_gradient_change, natural_gradient_change):
        torch.testing.assert_close(change(all_of_it, wide, 0.1), change(before, advantages, 0.1))
    after, all_after = States.of(logits + advantages), States.of(masked + wide)
    for changed in (predicted_change, observed_change):
        torch.testing.assert_close(changed(all_of_it, all_after), changed(before, after))


def test_entropy_change_of_no_states_one_state_and_no_change():
    logits, advantages = states(5)
    assert all(math.isnan(value) for value in (entropy_change(logits[:0], logits[:0]).observed,))
    one = entropy_change(logits[:1], logits[:1] + 0.01 * advantages[:1])
    assert math.isnan(one.agreement)
    assert one.observed == pytest.approx(
        observed_change(States.of(logits[:1]), States.of(logits[:1] + 0.01 * advantages[:1])).item()
    )
    same = entropy_change(logits, logits)
    assert (same.observed, same.predicted, same.states) == (0, 0, 5)
    assert math.isnan(same.agreement)


def test_alarms_are_of_the_last_entropy_against_the_first():
    assert entropy_alarm([1.0, 0.3, 0.6], collapse=0.5, surge=2.0) is None
    assert entropy_alarm([1.0, 0.5, 2.0], collapse=0.5, surge=2.0) is None
    fallen, risen = entropy_alarm([1.0, 0.4], 0.5, 2.0), entropy_alarm([1.0, 2.5], 0.5, 2.0)
    assert (fallen.kind, risen.kind) == ("collapse", "surge")
    assert fallen.sentence == "entropy fell from 1 to 0.4 nats, below 0.5 times what it was"
    assert risen.sentence == "entropy rose from 1 to 2.5 nats, above 2 times what it was"
    assert entropy_alarm([0.5, 0.3], 0.5, 2.0) is None
    assert entropy_alarm([1.0], 0.5, 2.0) is None
    assert entropy_alarm([1.0, 0.1], None, 2.0) is entropy_alarm([1.0, 9.0], 0.5, None) is None
    assert entropy_alarm([0.0, 1.0], 0.5, 2.0) is None
