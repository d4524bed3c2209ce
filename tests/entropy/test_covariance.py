"""Covariances of Cui et al. by hand, by brute force and by their theorem; the sampled-token formula exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from entropy.covariance import (
    QUANTILES,
    TOP_SHARES,
    bandit_covariance,
    covariance_tail,
    discriminators,
    first_order_change,
    token_covariance,
)
from entropy.dynamics import observed_change, policy_gradient_change
from entropy.states import States
from tests.entropy.updates import random_update, update_of

VOCABULARY = 50


def states(count: int = 2000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and advantages float64 [count, VOCABULARY] of softmax states from nearly uniform to sharp."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, VOCABULARY, generator=generator, dtype=torch.float64)
    return logits, torch.randn(count, VOCABULARY, generator=generator, dtype=torch.float64)


def sampled(logits: torch.Tensor) -> torch.Tensor:
    return torch.multinomial(logits.softmax(-1), 1, generator=torch.Generator().manual_seed(1)).squeeze(-1)


def test_token_covariance_by_hand():
    # Means: log-probs -2, advantages 0.5.
    tokens = update_of([2, 2], np.array([-1.0, -1.0, -2.0, -4.0]), np.array([2.0, 2.0, -1.0, -1.0]))
    assert token_covariance(tokens).tolist() == [1.5, 1.5, 0.0, 3.0]
    assert token_covariance(update_of([], np.zeros(0), np.zeros(0))).size == 0


def test_mean_of_token_covariance_is_the_population_covariance():
    tokens = random_update(seed=3)
    expected = np.cov(tokens.logprobs, tokens.advantages, ddof=0)[0, 1]
    assert token_covariance(tokens).mean() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("field", ["logprobs", "advantages"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(field, value):
    tokens = update_of([3], np.array([-1.0, -2.0, -3.0]), np.array([1.0, 0.0, 1.0]), update=7)
    getattr(tokens, field)[1] = value
    with pytest.raises(ValueError, match=f"update 7: {field} of 1 of 3 tokens are not finite"):
        token_covariance(tokens)
    if field == "advantages":
        with pytest.raises(ValueError, match="advantages of 1 of 3"):
            first_order_change(replace(tokens, discriminators=np.zeros(3)))


def test_the_exact_score_needs_discriminators_that_are_finite():
    tokens = update_of([2], np.zeros(2), np.array([2.0, -1.0]))
    with pytest.raises(ValueError, match="they were not computed"):
        first_order_change(tokens)
    with pytest.raises(ValueError, match="discriminators of 1 of 2"):
        first_order_change(replace(tokens, discriminators=np.array([0.0, np.nan])))
    assert first_order_change(replace(tokens, discriminators=np.array([0.5, 0.25]))).tolist() == [1.0, -0.25]


def test_discriminators_by_hand():
    # p = 3/4, 1/4: H = -(3/4 ln 3/4 + 1/4 ln 1/4), S_v = p_v (H + ln p_v).
    p = np.array([0.75, 0.25])
    entropy = -(p * np.log(p)).sum()
    s = p * (entropy + np.log(p))
    logits = torch.tensor(np.log(p)).repeat(2, 1)
    found = discriminators(logits, torch.tensor([0, 1]))
    assert found.numpy() == pytest.approx(s - (p * s).sum(), rel=1e-12)
    assert found[0] > 0 > found[1]


def test_tokens_that_cannot_be_drawn_change_no_discriminator():
    logits, _ = states(20)
    chosen = sampled(logits)
    masked = torch.cat([logits, torch.full((20, 5), -torch.inf, dtype=torch.float64)], dim=-1)
    torch.testing.assert_close(discriminators(masked, chosen), discriminators(logits, chosen), rtol=1e-12, atol=1e-13)
    half = discriminators(logits.bfloat16(), chosen)
    assert half.dtype == torch.float32
    assert torch.equal(half, discriminators(logits.bfloat16().float(), chosen))


def test_sampled_token_formula_is_exact_to_first_order():
    """Δz = η A (e_y - p) on 2000 states: the error is of second order, and small at the fact sheet's η."""
    logits, advantages = states()
    chosen = sampled(logits)
    advantage = advantages.gather(-1, chosen[:, None])
    step = advantage * (torch.nn.functional.one_hot(chosen, VOCABULARY) - logits.softmax(-1))
    score = advantage.squeeze(-1) * discriminators(logits, chosen)
    rates = np.array([1e-1, 1e-2, 1e-3, 1e-4])
    errors, relative = [], []
    for rate in rates:
        observed, predicted = observed_change(States.of(logits), States.of(logits + rate * step)), -rate * score
        errors.append(float((observed - predicted).abs().max()))
        relative.append(float((observed - predicted).norm() / observed.norm()))
    assert np.polyfit(np.log(rates), np.log(errors), 1)[0] == pytest.approx(2, abs=0.05)
    assert relative[2] < 1e-3
    assert relative[1] / relative[2] == pytest.approx(10, rel=0.05)


def test_mean_of_the_sampled_token_formula_is_theorem_1():
    logits, advantages = states(200)
    p = logits.softmax(-1)
    actions = torch.arange(VOCABULARY).repeat(len(logits))
    every = discriminators(logits.repeat_interleave(VOCABULARY, 0), actions).view(-1, VOCABULARY)
    # Theorem 1 is of advantages whose mean over the policy is 0 (the paper's Lemma 3).
    centred = advantages - (p * advantages).sum(-1, keepdim=True)
    mean = (p * -centred * every).sum(-1)
    assert float((mean - policy_gradient_change(States.of(logits), centred, 1.0)).abs().max()) < 1e-12


def test_bandit_covariance_by_hand():
    # First prompt: mean log-probs ln 1/2 and ln 1/4 with advantages 1 and -1; second: one response alone.
    logprobs = np.log([0.5, 0.5, 0.25, 0.125])
    x, y = np.log([0.5, 0.25]), np.array([0.5, -0.25])
    expected = ((x - x.mean()) * (y - y.mean())).mean() / 2
    found = bandit_covariance(logprobs, np.array([2, 1, 1]), np.array([1.0, -1.0, 1.0]), np.array([4, 4, 9]))
    assert found == pytest.approx(expected, rel=1e-12)
    assert np.isnan(bandit_covariance(np.zeros(0), np.zeros(0, int), np.zeros(0), np.zeros(0, int)))


def test_covariance_tail_by_hand():
    tail = covariance_tail(np.array([4.0, 0.0, 1.0, 3.0, 2.0]), low=1.0, high=4.0)
    assert tail.top == {0.0002: 4.0, 0.002: 4.0, 0.02: 4.0, 0.2: 4.0, 0.5: 3.0, 1.0: 2.0}
    assert tail.quantiles[0.5] == 2.0
    assert tail.quantiles[0.9] == pytest.approx(3.6)
    assert tail.band_share == 2 / 5  # 2 and 3: the band is open
    assert covariance_tail(np.arange(5.0), low=4.0, high=1.0).band_share == 0


@pytest.mark.parametrize("count", [1, 7, 1000, 35_000])
def test_covariance_tail_by_sorting(count):
    scores = np.random.default_rng(count).standard_t(2, count)
    tail = covariance_tail(scores, 1.0, 5.0)
    ordered = sorted(scores, reverse=True)
    sizes = {share: max(1, -(-count * round(share * 10_000) // 10_000)) for share in TOP_SHARES}
    for share, size in sizes.items():
        assert tail.top[share] == pytest.approx(np.mean(ordered[:size]), rel=1e-9, abs=1e-12)
    means = [tail.top[share] for share in TOP_SHARES]
    assert means == sorted(means, reverse=True)
    assert tail.band_share == np.mean([1 < score < 5 for score in scores])
    assert list(tail.quantiles) == list(QUANTILES)
    assert tail == covariance_tail(np.random.default_rng(0).permutation(scores), 1.0, 5.0)


def test_the_tail_of_an_update_is_heavy_and_of_no_tokens_is_nan():
    tail = covariance_tail(token_covariance(random_update(400, 100)), 1.0, 5.0)
    assert tail.top[0.02] > 10 * abs(tail.top[1.0])
    assert np.isnan([*covariance_tail(np.zeros(0), 1.0, 5.0).top.values()]).all()
