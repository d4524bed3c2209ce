"""Controls that keep some tokens, shift advantages, or act together."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from entropy.config import (
    EntropyAdvantageConfig,
    EntropyBonusConfig,
    EntropyConfig,
    HighEntropyConfig,
    RandPosClipConfig,
    SignOnlyConfig,
)
from entropy.control import Controls, Decision, Plain
from entropy.controls import REGISTRY, make_controls, sections
from entropy.controls.covariance import ClipCov
from entropy.controls.tokens import EntropyAdvantage, HighEntropy, RandPosClip, SignOnly
from entropy.plan import NEUTRAL, TokenPlan
from tests.entropy.control_tokens import (
    CLIP_COV,
    GUIDED,
    KL_COV,
    REWEIGHTING,
    dropped,
    random_tokens,
    seen,
    tokens_of,
)

OFF = EntropyConfig(**dict.fromkeys(REGISTRY), allow_inert=False)
NOBODY = tokens_of([], [], [])


@pytest.mark.parametrize(("keep", "expected"), [("positive", [1, 1, 0]), ("negative", [0, 1, 1])])
def test_one_sign_and_zero_stay(keep, expected):
    decision = SignOnly(SignOnlyConfig(keep)).plan(tokens_of([-1, -2, -4], [0.5, 0.0, -0.5]))
    assert decision.plan.weight.tolist() == expected
    assert decision.metrics == {
        "sign_only/dropped_share": (1, 3),
        "sign_only/dropped_negative_share": (expected[0], 1),
        "sign_only/dropped_logprob_mean": (-4 if keep == "positive" else -1, 1),
    }


def test_log_probabilities_that_were_not_computed_are_not_reported():
    unknown = tokens_of([np.nan, np.nan], [1.0, -1.0])
    assert "sign_only/dropped_logprob_mean" not in SignOnly(SignOnlyConfig("negative")).plan(unknown).metrics


def test_rand_pos_clip_drops_a_share_of_all_from_those_with_positive_advantage():
    for seed in range(10):
        tokens = random_tokens(seed)
        positive = np.flatnonzero(tokens.advantages > 0)
        for rate in (0.05, 0.3, 1.0):
            chosen = dropped(RandPosClip(RandPosClipConfig(rate), seed).plan(tokens))
            assert len(chosen) == min(math.floor(rate * tokens.size + 1e-9), positive.size)
            assert set(chosen) <= set(positive)


def test_rand_pos_clip_chooses_anew_in_each_update():
    control = RandPosClip(RandPosClipConfig(0.1), 0)
    first, second = (dropped(control.plan(random_tokens(2, update=update))) for update in (0, 1))
    assert first != second


def test_high_entropy_keeps_the_highest():
    tokens = tokens_of([-1] * 5, [1.0] * 5, entropies=[0.3, 0.9, 0.1, 0.5, 0.2])
    assert dropped(HighEntropy(HighEntropyConfig(0.4), 0).plan(tokens)) == [0, 2, 4]
    assert HighEntropy(HighEntropyConfig(1.0), 0).plan(tokens).plan == NEUTRAL
    assert (HighEntropy.scope, HighEntropy.needs.entropies) == ("rollout", True)


def test_high_entropy_share_is_exact_in_the_long_run():
    control = HighEntropy(HighEntropyConfig(0.2), 0)
    tokens = tokens_of([-1] * 3, [1.0] * 3, entropies=[0.3, 0.9, 0.1])
    assert sum(3 - len(dropped(control.plan(tokens))) for _ in range(50)) == 30


def test_entropy_advantage_by_hand():
    """0.4 H, at most half of |A|: 0.4 and 1 to 2; 0.8 and 0.5 to -1; nothing to 0."""
    control = EntropyAdvantage(EntropyAdvantageConfig(coef=0.4, bound=2.0))
    shaped = control.shape(np.array([2.0, -1.0, 0.0]), np.array([1.0, 2.0, 3.0]))
    assert shaped == pytest.approx([2.4, -0.5, 0.0])
    assert control.plan(tokens_of([-1], [1])).plan == NEUTRAL
    assert control.needs.entropies


def test_entropy_advantage_keeps_signs_and_the_number_type():
    rng = np.random.default_rng(0)
    advantages = rng.normal(size=1000).astype(np.float32)
    control = EntropyAdvantage(EntropyAdvantageConfig(coef=10.0, bound=1.5))
    shaped = control.shape(advantages, rng.exponential(3.0, 1000).astype(np.float32))
    assert shaped.dtype == np.float32
    assert np.array_equal(np.sign(shaped), np.sign(advantages))


@pytest.mark.parametrize(
    "control",
    [
        SignOnly(SignOnlyConfig("positive")),
        RandPosClip(RandPosClipConfig(0.5), 0),
        HighEntropy(HighEntropyConfig(0.5), 0),
    ],
    ids=lambda control: type(control).__name__,
)
def test_without_tokens_the_plan_is_neutral(control):
    assert control.plan(NOBODY).plan == NEUTRAL


@pytest.mark.parametrize(
    "make", [lambda: RandPosClip(RandPosClipConfig(0.037), 0), lambda: HighEntropy(HighEntropyConfig(0.037), 0)]
)
def test_restored_in_mid_run_it_goes_on_the_same(make):
    steps = [random_tokens(seed, update=seed) for seed in range(10)]
    whole, halfway, restored = make(), make(), make()
    expected = [dropped(whole.plan(tokens)) for tokens in steps]
    for tokens in steps[:4]:
        halfway.plan(tokens)
    restored.load_state_dict(halfway.state_dict())
    assert [dropped(restored.plan(tokens)) for tokens in steps[4:]] == expected[4:]


class Fixed(Plain):
    """Plans what it is given."""

    def __init__(self, plan: TokenPlan, scope: str = "update"):
        self._plan, self.scope = plan, scope

    def plan(self, tokens):
        return Decision(self._plan, {f"fixed/{self.scope}": (1.0, 1.0)})


def together(*controls) -> Controls:
    return Controls({str(number): control for number, control in enumerate(controls)})


def test_weights_multiply_and_coefficients_add():
    first = TokenPlan(weight=torch.tensor([0.0, 0.5, 1.0]), kl_coef=torch.tensor([1.0, 0, 0]), entropy_coef=0.1)
    second = TokenPlan(weight=torch.tensor([2.0, 0.5, 1.0]), kl_coef=0.5, entropy_coef=0.2)
    plan = together(Fixed(first), Fixed(second)).plan(NOBODY, "update").plan
    assert plan.weight.tolist() == [0, 0.25, 1]
    assert plan.kl_coef.tolist() == [1.5, 0.5, 0.5]
    assert plan.entropy_coef == pytest.approx(0.3)


@pytest.mark.parametrize("bound", ["clip_low", "clip_high"])
def test_a_bound_has_one_owner(bound):
    one, other = (
        TokenPlan(**{bound: 0.2}),
        TokenPlan(clip_low=0.1) if bound == "clip_high" else TokenPlan(clip_high=0.1),
    )
    plan = together(Fixed(one), Fixed(other)).plan(NOBODY, "update").plan
    assert {plan.clip_low, plan.clip_high} == {0.1, 0.2}
    with pytest.raises(ValueError, match=bound):
        together(Fixed(one), Fixed(one)).plan(NOBODY, "update")


def test_two_kinds_of_penalty_are_refused_and_one_of_coefficient_zero_is_none():
    k2, k3 = TokenPlan(kl_coef=1.0, kl_penalty="k2"), TokenPlan(kl_coef=torch.ones(1), kl_penalty="k3")
    with pytest.raises(ValueError, match="k2 and k3"):
        together(Fixed(k2), Fixed(k3)).plan(NOBODY, "update")
    silent = TokenPlan(kl_coef=0.0, kl_penalty="k2")
    assert together(Fixed(silent), Fixed(k3)).plan(NOBODY, "update").plan.kl_penalty == "k3"
    assert together(Fixed(k3), Fixed(silent)).plan(NOBODY, "update").plan.kl_penalty == "k3"


def test_one_control_decides_about_the_temperature():
    class Wanting(Plain):
        def next_temperature(self):
            return 0.9

    assert together(Plain(), Wanting(), Plain()).next_temperature() == 0.9
    assert together(Plain(), Plain()).next_temperature() is None
    with pytest.raises(ValueError, match="0 and 1 both decide at which temperature"):
        together(Wanting(), Wanting()).next_temperature()


def test_each_scope_has_its_controls():
    both = together(Fixed(TokenPlan(weight=2.0)), Fixed(TokenPlan(weight=3.0), "rollout"))
    assert (both.has("update"), both.has("rollout"), both.has("microbatch")) == (True, True, False)
    assert [both.plan(NOBODY, scope).plan.weight for scope in ("update", "rollout", "microbatch")] == [2, 3, 1]
    assert both.plan(NOBODY, "rollout").metrics == {"fixed/rollout": (1, 1)}


def test_controls_of_a_configuration():
    config = replace(
        OFF,
        clip_cov=CLIP_COV,
        kl_cov=KL_COV,
        bonus=EntropyBonusConfig(0.1),
        positive_advantage=replace(REWEIGHTING, initial=0.5),
    )
    controls = make_controls(config, seed=3, total_steps=10)
    assert list(sections(config)) == ["clip_cov", "kl_cov", "bonus", "positive_advantage"]
    assert (controls.needs.current_logprobs, controls.needs.several_updates, controls.needs.entropies) == (
        True,
        True,
        False,
    )
    # Scores 4.5, 3, -3 and -4.5, 0, 9: the first two are dropped, 9 is positive in nothing.
    tokens = tokens_of([-1, -2, -6, -1, -4, -10], [2, 2, 2, -1, -1, -1], [3, 3])
    plan = controls.plan(tokens, "update").plan
    assert plan.weight.tolist() == [0, 0, 0.5, 1, 1, 1]
    assert plan.kl_coef.tolist() == [2, 2, 0, 0, 0, 2]
    assert plan.entropy_coef == 0.1


def test_without_controls_nothing_is_needed_or_changed():
    controls = make_controls(OFF, seed=0, total_steps=10)
    advantages = np.array([1.0, -1.0])
    assert controls.shape(advantages, np.ones(2)) is advantages
    assert controls.plan(random_tokens(0), "update") == Decision(NEUTRAL, {})
    assert not any(vars(controls.needs).values())
    assert controls.state_dict() == {}


def test_the_state_of_all_goes_through_a_dictionary():
    config = replace(OFF, clip_cov=replace(CLIP_COV, rate=0.037), positive_advantage=GUIDED)
    one, other = (make_controls(config, seed=0, total_steps=20) for _ in range(2))
    for step in range(3):
        one.observe(seen(0.3, step))
        one.plan(random_tokens(step, update=step), "update")
    other.load_state_dict(one.state_dict())
    one.observe(seen(0.3, 3))
    other.observe(seen(0.3, 3))
    tokens = random_tokens(3, update=3)
    assert torch.equal(one.plan(tokens, "update").plan.weight, other.plan(tokens, "update").plan.weight)
    assert one.state_dict() == other.state_dict()


def test_state_of_other_controls_is_refused():
    controls = make_controls(replace(OFF, clip_cov=CLIP_COV), 0, 10)
    with pytest.raises(ValueError, match="kl_cov"):
        controls.load_state_dict({"kl_cov": {"carry": 0.0}})
    with pytest.raises(ValueError, match="no state"):
        SignOnly(SignOnlyConfig("positive")).load_state_dict({"carry": 0.0})


def test_two_controls_choose_independently():
    """Had they the same random numbers, both would drop the same tokens."""
    tokens = tokens_of(np.zeros(2000), np.ones(2000))
    control = ClipCov(replace(CLIP_COV, choice="random", low=-1.0), 0)
    one, other = dropped(control.plan(tokens)), dropped(RandPosClip(RandPosClipConfig(0.5), 0).plan(tokens))
    assert len(one) == len(other) == 1000
    assert abs(len(set(one) & set(other)) - 500) < 100
