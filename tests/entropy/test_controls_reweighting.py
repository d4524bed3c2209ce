"""Positive-advantage reweighting and the adaptive coefficient: their rules traced by hand, and as closed loops."""

import math
from dataclasses import replace

import numpy as np
import pytest

from entropy.config import AdaptiveBonusConfig, EntropyBonusConfig
from entropy.controls.bonus import AdaptiveBonus, EntropyBonus
from entropy.controls.positive_advantage import NEEDS, PositiveAdvantage
from entropy.plan import NEUTRAL
from tests.entropy.control_tokens import (
    GUIDED,
    REWEIGHTING,
    seen,
    tokens_of,
)

ADAPTIVE = AdaptiveBonusConfig(target=0.2, initial=0.0, step=0.005, lowest=0.0, highest=0.02)
PI = replace(GUIDED, rule="pi", initial=0.5, step=None, band=None, proportional=0.2, integral=0.1)
TOKENS = tokens_of([-1, -2, -3], [2.0, 0.0, -1.0])


def reweighting(config=REWEIGHTING, steps: int = 10, **settings) -> PositiveAdvantage:
    return PositiveAdvantage(replace(config, **settings), steps)


def weights(control: PositiveAdvantage, entropies) -> list[float]:
    """The weight in force in each step."""
    found = []
    for step, entropy in enumerate(entropies):
        control.observe(seen(entropy, step))
        found.append(control.weight)
    return found


def schedule(rule: str, steps: int, **settings) -> list[float]:
    return weights(reweighting(rule=rule, steps=steps, **settings), [math.nan] * steps)


@pytest.mark.parametrize(("positive", "expected"), [("above_zero", [0.25, 1, 1]), ("from_zero", [0.25, 0.25, 1])])
def test_positive_tokens_get_the_weight_and_others_one(positive, expected):
    decision = reweighting(initial=0.25, positive=positive).plan(TOKENS)
    assert decision.plan.weight.tolist() == expected
    assert decision.metrics == {
        "positive_advantage/weight": (0.25, 1),
        "positive_advantage/share": (expected.count(0.25), 3),
    }


def test_a_weight_of_one_is_the_neutral_plan_and_of_zero_drops():
    assert reweighting(initial=1.0).plan(TOKENS).plan == NEUTRAL
    assert reweighting(initial=0.0).plan(TOKENS).plan.weight.tolist() == [0, 1, 1]
    assert reweighting(initial=0.5).plan(tokens_of([], [], [])).plan.weight.tolist() == []


def test_constant_stays():
    assert weights(reweighting(initial=0.1), [0.1, 0.3, math.nan]) == [0.1] * 3


def test_stage_is_zero_through_half_and_one_at_the_last_step():
    assert schedule("stage", 6) == [0, 0, 0, 0, 0.5, 1]
    assert schedule("stage", 2) == [0, 1]
    assert schedule("stage", 1) == [1]
    for steps in range(2, 50):
        found = schedule("stage", steps)
        assert found[: steps // 2] == [0] * (steps // 2)
        assert found[-1] == 1
        assert found == sorted(found)


def test_stage_is_linear_in_its_second_half():
    found = np.diff(schedule("stage", 100)[50:])
    assert found == pytest.approx(np.full(49, 1 / 49))


def test_epoch_goes_from_zero_to_one_in_equal_parts():
    assert schedule("epoch", 6, epochs=3) == [0, 0, 0.5, 0.5, 1, 1]
    assert schedule("epoch", 7, epochs=3) == [0, 0, 0, 0.5, 0.5, 1, 1]
    assert schedule("epoch", 4, epochs=4) == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_one_epoch_is_its_own_last():
    assert schedule("epoch", 3, epochs=1) == [1, 1, 1]


def test_guided_climbs_by_its_step_and_stays_at_one():
    """Eq. 5 from weight 0 with entropy above the target: 0, 0.05, 0.10, ... 1 after 20 steps."""
    expected = [min(1.0, 0.05 * step) for step in range(24)]
    assert weights(reweighting(GUIDED), [0.3] * 24) == pytest.approx(expected)


def test_guided_falls_below_the_target_and_stays_at_zero():
    expected = [max(0.0, 0.12 - 0.05 * step) for step in range(6)]
    assert weights(reweighting(GUIDED, initial=0.12), [0.1] * 6) == pytest.approx(expected)


def test_guided_acts_on_the_next_step_and_equality_raises():
    found = weights(reweighting(GUIDED, initial=0.5), [0.2, 0.1999, 0.2001, 0.1])
    assert found == pytest.approx([0.5, 0.55, 0.5, 0.55])


def test_guided_stays_within_its_bounds():
    control = reweighting(GUIDED, initial=0.1, lowest=0.08, highest=0.18)
    assert weights(control, [0.1, 0.3, 0.3, 0.3, 0.3]) == pytest.approx([0.1, 0.08, 0.13, 0.18, 0.18])


def test_within_the_band_the_weight_rests():
    control = reweighting(GUIDED, initial=0.5, band=0.05)
    found = weights(control, [0.2, 0.16, 0.24, 0.14, 0.26, 0.2])
    assert found == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.45, 0.5])


def test_pi_by_hand():
    """Errors 0.5, -0.5 and 1 with gains 0.2 and 0.1: 0.5 + 0.1 + 0.05, 0.5 - 0.1 + 0, 0.5 + 0.2 + 0.1."""
    assert weights(reweighting(PI), [0.3, 0.1, 0.4, 0.2]) == pytest.approx([0.5, 0.65, 0.4, 0.8])


def test_pi_does_not_wind_up():
    """Ten steps far above the target hold the weight at its bound; the first one below it moves it off at once."""
    control = reweighting(PI, proportional=0.5, integral=0.5)
    found = weights(control, [0.6] * 10 + [0.1, 0.2])
    assert found[1:11] == pytest.approx([1.0] * 10)
    assert found[11] == pytest.approx(0.5 - 0.25 - 0.25)


def test_entropy_that_is_no_number_moves_nothing():
    found = weights(reweighting(GUIDED, initial=0.5), [0.3, math.nan, math.inf, 0.3, 0.3])
    assert found == pytest.approx([0.5, 0.55, 0.55, 0.55, 0.6])


def test_a_larger_weight_lowers_entropy_and_the_loop_settles_near_the_target():
    """A plant whose entropy falls with the weight: guided hovers around the target, pi rests on it."""
    for config, tolerance in ((GUIDED, 0.1), (replace(PI, proportional=1.0, integral=0.05), 0.005)):
        control, entropy, found = reweighting(config, steps=400), 0.37, []
        for step in range(400):
            control.observe(seen(entropy, step))
            found.append(entropy)
            entropy = max(0.0, entropy + 0.02 * (0.5 - control.weight))
        assert np.abs(np.array(found[200:]) - 0.2).max() < tolerance, config.rule


@pytest.mark.parametrize(
    "config",
    [GUIDED, PI, replace(REWEIGHTING, rule="stage"), replace(REWEIGHTING, rule="epoch", epochs=4)],
    ids=lambda config: config.rule,
)
@pytest.mark.parametrize("after", [0, 1, 7, 19])
def test_restored_in_mid_run_it_goes_on_the_same(config, after):
    entropies = np.random.default_rng(0).uniform(0.1, 0.4, 20)
    whole, halfway, restored = (reweighting(config, steps=20) for _ in range(3))
    expected = weights(whole, entropies)
    weights(halfway, entropies[:after])
    restored.load_state_dict(halfway.state_dict())
    found = []
    for step in range(after, 20):
        restored.observe(seen(entropies[step], step))
        found.append(restored.weight)
    assert found == expected[after:]


@pytest.mark.parametrize(("rule", "setting"), [(rule, name) for rule, names in NEEDS.items() for name in names])
def test_a_rule_without_a_setting_it_needs_is_refused(rule, setting):
    whole = replace(PI, rule=rule, step=0.05, band=0.0, epochs=3)
    reweighting(whole)
    with pytest.raises(ValueError, match="is null"):
        reweighting(whole, **{setting: None})


def test_only_feedback_needs_entropies():
    assert reweighting(GUIDED).needs.entropies
    assert reweighting(PI).needs.entropies
    assert not reweighting(rule="stage").needs.entropies


def test_bonus_is_a_coefficient_for_every_token():
    assert EntropyBonus(EntropyBonusConfig(0.01)).plan(TOKENS).plan == replace(NEUTRAL, entropy_coef=0.01)
    assert EntropyBonus(EntropyBonusConfig(0.0)).plan(TOKENS).plan == NEUTRAL


def coefficients(control: AdaptiveBonus, entropies) -> list[float]:
    found = []
    for step, entropy in enumerate(entropies):
        control.observe(seen(entropy, step))
        found.append(control.plan(TOKENS).plan.entropy_coef)
    return found


def test_adaptive_bonus_by_hand():
    """c is 0, 0.005, 0.01, 0.015, 0.01, 0.015; it acts where the entropy is not above 0.2, and then moves."""
    entropies = [0.1, 0.2, 0.1, 0.3, 0.1, 0.25]
    assert coefficients(AdaptiveBonus(ADAPTIVE), entropies) == pytest.approx([0, 0.005, 0.01, 0, 0.01, 0])


def test_adaptive_bonus_stays_within_its_bounds():
    assert coefficients(AdaptiveBonus(ADAPTIVE), [0.1] * 7)[4:] == pytest.approx([0.02] * 3)
    assert coefficients(AdaptiveBonus(ADAPTIVE), [0.3] * 5 + [0.1] * 2) == pytest.approx([0] * 6 + [0.005])


def test_adaptive_bonus_keeps_still_without_an_entropy():
    found = coefficients(AdaptiveBonus(ADAPTIVE), [0.1, 0.1, math.nan, 0.1])
    assert found == pytest.approx([0, 0.005, 0.005, 0.01])


@pytest.mark.parametrize("after", [0, 1, 9])
def test_adaptive_bonus_restored_goes_on_the_same(after):
    entropies = np.random.default_rng(1).uniform(0.1, 0.3, 20)
    expected = coefficients(AdaptiveBonus(ADAPTIVE), entropies)
    halfway, restored = AdaptiveBonus(ADAPTIVE), AdaptiveBonus(ADAPTIVE)
    coefficients(halfway, entropies[:after])
    restored.load_state_dict(halfway.state_dict())
    assert coefficients(restored, entropies[after:]) == expected[after:]
