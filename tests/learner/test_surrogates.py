"""Each surrogate on single tokens by hand, branch by branch, and its gradient against finite differences."""

import math

import pytest
import torch

from learner.surrogates import surrogate
from tests.learner.objectives import SURROGATES, objective

LOGPROB = -1.5


def apply(name, log_ratios, advantages, **changes):
    """The surrogate of tokens of log-probability -1.5, and its gradient to the log-probabilities."""
    settings = SURROGATES[name] | changes
    config = objective(**settings)
    logprobs = torch.full((len(log_ratios),), LOGPROB, dtype=torch.float64, requires_grad=True)
    log_ratio = (logprobs - LOGPROB) + torch.tensor(log_ratios, dtype=torch.float64)
    advantages = torch.tensor(advantages, dtype=torch.float64)
    found = surrogate(log_ratio, logprobs, advantages, config.clip.low, config.clip.high, config.algorithm)
    found.losses.sum().backward()
    return found, logprobs.grad


def one(name, ratio, advantage, **changes):
    found, gradient = apply(name, [math.log(ratio)], [advantage], **changes)
    sides = [side for side in ("below", "above", "dual") if getattr(found, side).item()]
    return found.losses.item(), gradient.item(), sides


def close(*values):
    return tuple(pytest.approx(value, rel=1e-12, abs=1e-15) for value in values)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient", "sides"),
    [
        (1.0, 2.0, -2.0, -2.0, []),  # inside: d(-A r)/d log p = -A r
        (1.25, 2.0, -2.5, -2.5, []),  # still inside above: high is 0.3, not 0.2
        (0.85, -2.0, 1.7, 1.7, []),  # inside below
        (0.75, -2.0, 1.6, 0.0, ["below"]),  # A < 0 below 1 - low: clipped to 0.8
        (0.75, 2.0, -1.5, -1.5, []),  # A > 0 below: the pessimistic bound leaves it open
        (1.5, 2.0, -2.6, 0.0, ["above"]),  # A > 0 above 1 + high: clipped to 1.3
        (1.5, -2.0, 3.0, 3.0, []),  # A < 0 above: open
        (5.0, 0.0, 0.0, 0.0, []),
    ],
)
def test_ppo_branches(ratio, advantage, loss, gradient, sides):
    found = one("ppo", ratio, advantage)
    assert found == (*close(loss, gradient), sides)


def test_ppo_gradient_is_whole_at_a_bound():
    # A ratio exactly on a bound is not clipped yet.
    assert one("ppo", 1.0, 2.0, low=0.0, high=0.0) == (-2.0, -2.0, [])
    assert one("ppo", 1.0, -2.0, low=0.0, high=0.0) == (2.0, 2.0, [])


def test_ppo_with_one_threshold():
    # Ratio 1.5 under A > 0 and 0.75 under A < 0: clipped to 1.3 and to 0.8 where there is a bound.
    assert [one("ppo", 1.5, 2.0, low=low, high=high)[1] for low, high in ((None, 0.3), (0.2, None))] == [
        0.0,
        pytest.approx(-3.0),
    ]
    assert [one("ppo", 0.75, -2.0, low=low, high=high)[1] for low, high in ((None, 0.3), (0.2, None))] == [
        pytest.approx(1.5),
        0.0,
    ]


@pytest.mark.parametrize("advantage", [2.0, -2.0])
@pytest.mark.parametrize("ratio", [0.01, 1.0, 50.0])
def test_unclipped_is_minus_advantage_times_ratio(ratio, advantage):
    assert one("unclipped", ratio, advantage) == (*close(-advantage * ratio, -advantage * ratio), [])


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient", "sides"),
    [
        (4.0, -2.0, 6.0, 0.0, ["dual"]),  # -A r = 8 is more than 3 |A|
        (2.9, -2.0, 5.8, 5.8, []),  # below the ceiling
        (0.5, -2.0, 1.6, 0.0, ["below"]),  # the lower threshold as without
        (4.0, 2.0, -2.6, 0.0, ["above"]),  # A > 0 has no ceiling: the upper threshold as without
    ],
)
def test_dual_clip(ratio, advantage, loss, gradient, sides):
    found = one("ppo_dual", ratio, advantage)
    assert found == (*close(loss, gradient), sides)


def test_dual_clip_at_its_ceiling_keeps_the_whole_gradient():
    assert math.exp(math.log(2.0)) == 2.0
    found, gradient = apply("ppo_dual", [math.log(2.0)], [-2.0], dual_clip=2.0)
    assert gradient.tolist() == [4.0]
    assert not found.dual.any()


@pytest.mark.parametrize(
    ("ratio", "advantage", "weight", "sides"),
    [
        (1.5, 2.0, 1.5, []),
        (3.0, 2.0, 2.0, ["above"]),  # the cap is the ratio 2, not 1 + 2
        (3.0, -2.0, 2.0, ["above"]),  # on both signs
        (0.01, -2.0, 0.01, []),  # nothing below is dropped
        (0.01, 2.0, 0.01, []),
        (3.0, 0.0, 0.0, []),
    ],
)
def test_cispo_weighs_the_log_probability(ratio, advantage, weight, sides):
    found = one("cispo", ratio, advantage)
    assert found == (*close(-weight * advantage * LOGPROB, -weight * advantage), sides)


@pytest.mark.parametrize(("advantage", "temperature"), [(2.0, 1.0), (-2.0, 3.0)])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_sapo_gate(ratio, advantage, temperature):
    found, gradient = apply(
        "sapo", [math.log(ratio)], [advantage], sapo_temperature_positive=1.0, sapo_temperature_negative=3.0
    )
    opening = 1 / (1 + math.exp(-temperature * (ratio - 1)))
    gate = 4 * opening * (1 - opening)
    assert found.losses.item() == pytest.approx(-advantage * 4 / temperature * opening, rel=1e-12)
    assert gradient.item() == pytest.approx(-advantage * ratio * gate, rel=1e-12)
    assert found.gate.item() == pytest.approx(gate, rel=1e-12)
    assert (found.gate.item() == 1) == (ratio == 1)


def test_sapo_of_no_advantage_is_zero():
    assert one("sapo", 1.7, 0.0)[:2] == (0, 0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient", "sides"),
    [
        (1.25, 2.0, -2.5, -2.5, []),
        (0.75, -2.0, 0.8, 0.8, ["below"]),  # 0.5 · 0.8 · |A|, where ppo has no gradient
        (0.01, -2.0, 0.8, 0.8, ["below"]),  # bounded: the same however far
        (1.5, 2.0, -1.95, -1.95, ["above"]),  # 0.75 · 1.3 · |A|
        (100.0, 2.0, -1.95, -1.95, ["above"]),
        (0.75, 2.0, -1.5, -1.5, []),
        (1.5, -2.0, 3.0, 3.0, []),
        (1.5, 0.0, 0.0, 0.0, []),
    ],
)
def test_ce_gppo_branches(ratio, advantage, loss, gradient, sides):
    found = one("ce_gppo", ratio, advantage)
    assert found == (*close(loss, gradient), sides)


def test_ce_gppo_with_one_threshold():
    assert one("ce_gppo", 1.5, 2.0, high=None) == (*close(-3.0, -3.0), [])
    assert one("ce_gppo", 0.5, -2.0, low=None) == (*close(1.0, 1.0), [])


@pytest.mark.parametrize("name", SURROGATES)
def test_gradients_by_finite_differences(name):
    # Where the surrogate stops gradients, the stopped factor is held at its value.
    ratios, step = [0.05, 0.7, 0.9, 1.0, 1.2, 1.6, 3.5], 1e-6
    for advantage in (1.3, -0.7):
        base = [math.log(r) for r in ratios]
        advantages = [advantage] * len(ratios)
        _, gradient = apply(name, base, advantages)
        up, down = (apply(name, [x + sign * step for x in base], advantages)[0].losses for sign in (1, -1))
        numeric = (up - down) / (2 * step)
        if name == "cispo":
            numeric = torch.tensor([-min(r, 2.0) * advantage for r in ratios], dtype=torch.float64)
        if name == "ce_gppo":
            held = torch.tensor([r < 0.8 if advantage < 0 else r > 1.3 for r in ratios])
            bound = 0.5 * 0.8 if advantage < 0 else 0.75 * 1.3
            numeric = torch.where(held, -advantage * bound, numeric)
        torch.testing.assert_close(gradient, numeric.detach(), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_clamped_extremes_stay_finite(name, advantage):
    found, gradient = apply(name, [20.0, -20.0], [advantage] * 2)
    assert found.losses.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", SURROGATES)
def test_no_tokens(name):
    found, gradient = apply(name, [], [])
    assert found.losses.shape == gradient.shape == (0,)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"surrogate": "cispo"}, "algorithm.cispo_cap"),
        ({"surrogate": "sapo", "sapo_temperature_positive": 1.0}, "algorithm.sapo_temperature_negative"),
        ({"surrogate": "ce_gppo", "ce_gppo_high": 1.0}, "algorithm.ce_gppo_low"),
        ({"surrogate": "cispo", "cispo_cap": 2.0, "dual_clip": 3.0}, "algorithm.dual_clip=null"),
        ({"dual_clip": 1.0}, "algorithm.dual_clip = 1.0 has to be above 1"),
        ({**SURROGATES["ce_gppo"], "ratio": "sequence"}, "algorithm.ratio=token"),
        ({"surrogate": "trpo"}, "ppo, cispo, sapo or ce_gppo"),
    ],
)
def test_settings_without_a_meaning_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        apply("unclipped", [0.0], [1.0], **changes)
