"""Each composition of controls that contradicts itself or does nothing has its sentence."""

import math
from dataclasses import fields, is_dataclass

import pytest

from entropy.config import EntropyConfig
from launch.config import CONF
from launch.optional import without_none
from launch.validate import check
from launch.validate_entropy import BOUNDS, CHOICES, entropy_problems
from tests.composed import compose

OPTIONS = sorted(file.stem for file in (CONF / "entropy").glob("*.yaml") if file.stem != "base")
SECTIONS = {
    "clip_cov": "clip_cov",
    "kl_cov": "kl_cov",
    "adaptive_bonus": "adaptive_bonus",
    "positive_advantage": "prog_adv_guided",
    "sign_only": "positive_only",
    "rand_pos_clip": "rand_pos_clip",
    "high_entropy": "high_entropy",
    "entropy_advantage": "entropy_advantage",
    "temperature": "temperature",
}


def problems(*overrides: str) -> list[str]:
    return entropy_problems(compose(list(overrides)))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_passes(option):
    assert problems(f"entropy={option}") == []


def test_the_check_before_a_run_looks_at_the_controls():
    assert check(compose(["entropy=bonus", "entropy.bonus.coef=0"]))[-1].startswith("entropy.bonus does nothing")
    assert not check(compose(["entropy=bonus", "entropy.bonus.coef=0"]), training=False)


@pytest.mark.parametrize("setting", CHOICES)
def test_an_unknown_word_lists_the_known_ones(setting):
    option = SECTIONS[setting.split(".")[1]]
    assert problems(f"entropy={option}", f"{setting}=best") == [
        f"{setting} = best is not one of {', '.join(CHOICES[setting])}."
    ]


def test_words_and_shares_of_every_control_are_checked():
    words = {"bounds", "score", "choice", "scope", "penalty", "rule", "positive", "keep"}
    for field in fields(EntropyConfig):
        section = without_none(EntropyConfig.__annotations__[field.name])
        for setting in fields(section) if is_dataclass(section) else ():
            name = f"entropy.{field.name}.{setting.name}"
            assert (name in CHOICES) == (setting.name in words), name
            assert setting.name not in ("rate", "share") or name in BOUNDS[0][0], name


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("clip_cov.rate", -0.1, "has to be from 0 to 1"),
        ("clip_cov.rate", 1.1, "has to be from 0 to 1"),
        ("kl_cov.rate", 2.0, "has to be from 0 to 1"),
        ("rand_pos_clip.rate", 1.5, "has to be from 0 to 1"),
        ("high_entropy.share", 0.0, "has to be above 0"),
        ("kl_cov.coef", -1.0, "must not be negative"),
        ("positive_advantage.target", 0.0, "has to be above 0"),
        ("positive_advantage.band", -0.1, "must not be negative"),
        ("entropy_advantage.bound", 0.0, "has to be above 0"),
        ("adaptive_bonus.step", 0.0, "has to be above 0"),
        ("positive_advantage.epochs", 1, "has to be at least 2"),
        ("temperature.target", 0.0, "has to be above 0"),
        ("temperature.anneal_share", 1.2, "has to be from 0 to 1"),
        ("temperature.anneal_to", 0.0, "has to be above 0"),
        ("temperature.lowest", 0.0, "has to be above 0"),
    ],
)
def test_a_number_out_of_bounds(setting, value, sentence):
    option = SECTIONS[setting.split(".")[0]]
    assert problems(f"entropy={option}", f"entropy.{setting}={value}") == [f"entropy.{setting} = {value} {sentence}."]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none(value):
    assert problems("entropy=bonus", f"entropy.bonus.coef={value}") == [
        f"entropy.bonus.coef = {value} has to be a finite number."
    ]


def test_a_band_without_an_upper_end():
    assert problems("entropy=clip_cov", "entropy.clip_cov.high=inf") == []


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            "entropy=kl_cov off_policy=updates1",
            "entropy.kl_cov penalises leaving the policy before the batch's updates, and with off_policy.minibatches x "
            "off_policy.epochs = 1 no token has left it; raise one of them, or set entropy.allow_inert=true to "
            "run it all "
            "the same.",
        ),
        (
            "entropy=clip_cov algorithm.ratio=sequence",
            "entropy.clip_cov steers single tokens, and with algorithm.ratio = sequence every token's surrogate "
            "moves the "
            "whole sequence; set entropy.clip_cov=null, or algorithm.ratio=token.",
        ),
        (
            "entropy=entropy_advantage algorithm.ratio=sequence",
            "entropy.entropy_advantage steers single tokens, and with algorithm.ratio = sequence every token's "
            "surrogate "
            "moves the whole sequence; set entropy.entropy_advantage=null, or algorithm.ratio=token.",
        ),
        (
            "entropy=prog_adv_guided entropy.positive_advantage.target=null",
            "entropy.positive_advantage.rule = guided needs entropy.positive_advantage.target, and it is null.",
        ),
        (
            "entropy=prog_adv_epoch entropy.positive_advantage.epochs=null",
            "entropy.positive_advantage.rule = epoch needs entropy.positive_advantage.epochs, and it is null.",
        ),
        (
            "entropy=prog_adv_epoch steps=5",
            "entropy.positive_advantage.epochs = 6 parts do not fit into steps = 5; lower it.",
        ),
        (
            "entropy=prog_adv_stage entropy.positive_advantage.target=0.4",
            "entropy.positive_advantage.target = 0.4 has no effect under entropy.positive_advantage.rule = "
            "stage; set it "
            "to null.",
        ),
        (
            "entropy=prog_adv_guided entropy.positive_advantage.lowest=1.0",
            "entropy.positive_advantage.lowest = 1.0 and entropy.positive_advantage.highest = 1.0 leave the weight no "
            "room; lowest has to be below highest.",
        ),
        (
            "entropy=prog_adv_guided entropy.positive_advantage.lowest=0.05",
            "entropy.positive_advantage.initial = 0.0 is not between entropy.positive_advantage.lowest = 0.05 and "
            "entropy.positive_advantage.highest = 1.0.",
        ),
        (
            "entropy=adaptive_bonus entropy.adaptive_bonus.lowest=0.1",
            "entropy.adaptive_bonus.lowest = 0.1 and entropy.adaptive_bonus.highest = 0.005 leave the coefficient no "
            "room; lowest has to be below highest.",
        ),
        (
            "entropy=adaptive_bonus entropy.adaptive_bonus.initial=0.1",
            "entropy.adaptive_bonus.initial = 0.1 is not between entropy.adaptive_bonus.lowest = 0.0 and "
            "entropy.adaptive_bonus.highest = 0.005.",
        ),
        (
            "entropy=clip_cov entropy.clip_cov.low=5",
            "entropy.clip_cov.low = 5.0 and entropy.clip_cov.high = 5.0 leave no band; low has to be below high.",
        ),
        (
            "entropy=clip_cov entropy.clip_cov.bounds=quantile",
            "entropy.clip_cov.low = 1.0 and entropy.clip_cov.high = 5.0 have to be from 0 to 1 with "
            "entropy.clip_cov.bounds = quantile.",
        ),
        (
            "entropy=clip_cov entropy.clip_cov.scope=rollout entropy.clip_cov.score=first_order",
            "entropy.clip_cov.score = first_order needs the distributions of the current policy, and "
            "entropy.clip_cov.scope = rollout makes no pass to find them; take scope=update, or score=covariance.",
        ),
        (
            "entropy=kl_cov entropy.kl_cov.scope=microbatch entropy.kl_cov.score=first_order",
            "entropy.kl_cov.score = first_order is not known to the reference implementations, which "
            "entropy.kl_cov.scope = microbatch follows; take scope=update, or score=covariance.",
        ),
        (
            "entropy=[positive_only,w_reinforce]",
            "entropy.sign_only.keep = positive leaves one sign of the advantage, and entropy.positive_advantage "
            "weighs one "
            "against the other; set one of the two sections to null.",
        ),
        (
            "entropy=[negative_only,rand_pos_clip]",
            "entropy.sign_only.keep = negative leaves no token with a positive advantage for entropy.rand_pos_clip to "
            "drop; set one of the two sections to null.",
        ),
    ],
)
def test_a_composition_that_cannot_be_meant(overrides, sentence):
    assert problems(*overrides.split()) == [sentence]


def test_one_update_may_be_two_passes():
    assert problems("entropy=kl_cov", "off_policy=updates1", "off_policy.epochs=2") == []


@pytest.mark.parametrize(
    ("option", "setting", "neutral"),
    [
        ("clip_cov", "clip_cov.rate", 0),
        ("kl_cov", "kl_cov.rate", 0),
        ("kl_cov", "kl_cov.coef", 0),
        ("bonus", "bonus.coef", 0),
        ("rand_pos_clip", "rand_pos_clip.rate", 0),
        ("high_entropy", "high_entropy.share", 1),
        ("entropy_advantage", "entropy_advantage.coef", 0),
        ("w_reinforce", "positive_advantage.initial", 1),
    ],
)
def test_what_does_nothing_runs_only_where_it_is_allowed(option, setting, neutral):
    given = [f"entropy={option}", f"entropy.{setting}={neutral}"]
    [sentence] = problems(*given)
    assert f"entropy.{setting} = {neutral}" in sentence
    assert "entropy.allow_inert=true" in sentence
    assert problems(*given, "entropy.allow_inert=true") == []


def test_several_controls_that_go_together():
    assert problems("entropy=[clip_cov,kl_cov,bonus,prog_adv_guided,high_entropy]") == []


def test_a_kl_penalty_and_a_bonus_go_with_a_sequence_ratio():
    assert problems("entropy=[kl_cov,bonus]", "algorithm.ratio=sequence") == []


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["rollout.mode=one_step_off", "off_policy.max_staleness=1"],
            "entropy.temperature decides after each batch at which temperature the next is drawn, and under "
            "rollout.mode = one_step_off that has begun by then; give rollout.mode=synchronous, or set "
            "entropy.temperature=null.",
        ),
        (
            ["rollout.mode=asynchronous"],
            "entropy.temperature decides after each batch at which temperature the next is drawn, and under "
            "rollout.mode = asynchronous that has begun by then; give rollout.mode=synchronous, or set "
            "entropy.temperature=null.",
        ),
        (
            ["rollout.filter.oversample=3", "rollout.filter.no_signal=true"],
            "rollout.filter.oversample = 3 leaves groups over for the next batch, and entropy.temperature has that "
            "drawn at another temperature; give 1, or set entropy.temperature=null.",
        ),
        (
            ["entropy.temperature.lowest=2.0"],
            "entropy.temperature.lowest = 2.0 and entropy.temperature.highest = 2.0 leave the temperature no room; "
            "lowest has to be below highest.",
        ),
        (
            ["rollout.temperature=0.4"],
            "rollout.temperature = 0.4, of the first rollout, is not between entropy.temperature.lowest = 0.5 and "
            "entropy.temperature.highest = 2.0.",
        ),
    ],
)
def test_a_temperature_that_the_next_rollout_cannot_be_given(overrides, sentence):
    assert problems("entropy=temperature", *overrides) == [sentence]
    assert problems("entropy=temperature", "rollout.filter.no_signal=true") == []
