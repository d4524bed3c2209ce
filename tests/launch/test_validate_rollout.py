"""Modes, staleness and filters that do not go together are refused in words."""

import pytest

from launch.validate import check
from launch.validate_rollout import rollout_advice
from tests.composed import compose


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            "off_policy.max_staleness=1",
            "off_policy.max_staleness = 1 asks for rollouts by older weights, and rollout.mode = synchronous has none; "
            "give 0, or rollout.mode=one_step_off or asynchronous.",
        ),
        (
            "rollout.mode=one_step_off",
            "off_policy.max_staleness = 0 has to be 1 under rollout.mode = one_step_off: the next batch is drawn by "
            "the weights before an update.",
        ),
        (
            "rollout.mode=asynchronous rollout.adapter=async",
            "rollout.adapter = async does not tell which tokens it drew before weights changed, and rollout.mode = "
            "asynchronous needs that; give rollout.adapter=in_process or auto.",
        ),
        (
            "rollout.mode=asynchronous rollout.tensor_parallel_size=2 cluster.device=cuda",
            "rollout.tensor_parallel_size = 2 needs rollout.adapter = async, which rollout.mode = asynchronous cannot "
            "have; give 1.",
        ),
        (
            "rollout.stale=mask",
            "rollout.stale = mask is without effect under rollout.mode = synchronous, where no token becomes too old; "
            "give drop.",
        ),
        (
            "rollout.mode=one_step_off off_policy.max_staleness=1 rollout.recompute_kv=false",
            "rollout.recompute_kv = false is without effect under rollout.mode = one_step_off, where weights change "
            "while nothing is drawn; give true.",
        ),
        (
            "rollout.filter.no_signal=true rollout.filter.max_rounds=1",
            "rollout.filter.max_rounds = 1 lets the filter drop nothing; give at least 2, or "
            "rollout.filter.no_signal=false and rollout.filter.max_failures=null.",
        ),
        (
            "rollout.filter.max_failures=8",
            "rollout.filter.max_failures = 8 is without effect: a group has rollout.samples_per_prompt = 8 verdicts; "
            "give fewer, or null.",
        ),
        (
            "rollout.filter.oversample=4",
            "rollout.filter.oversample = 4 is without effect where nothing is filtered; give 1, or "
            "rollout.filter.no_signal=true.",
        ),
        (
            "rollout.filter.no_signal=true rollout.filter.oversample=4 rollout.mode=asynchronous "
            "off_policy.max_staleness=1",
            "rollout.filter.oversample = 4 draws groups together, and rollout.mode = asynchronous has no batch to "
            "fill: its engines are busy anyway; give 1.",
        ),
        (
            "rollout.filter.no_signal=true algorithm=reinforce_pp",
            "rollout.filter.no_signal drops groups that algorithm.estimator = reinforce_pp learns from, whose baseline "
            "is not that of the group; give false.",
        ),
        (
            "rollout.filter.no_signal=true algorithm=reinforce_pp rollout.samples_per_prompt=1",
            "rollout.filter.no_signal drops every group of rollout.samples_per_prompt = 1: a single score has nothing "
            "to differ from; give false, or more samples.",
        ),
        (
            "rollout.stragglers.policy=hedge rollout.engines=1",
            "rollout.stragglers.policy = hedge has late responses drawn by another engine, and rollout.engines = 1; "
            "give more engines, or none.",
        ),
        (
            "rollout.stragglers.policy=hedge rollout.mode=asynchronous",
            "rollout.stragglers.policy = hedge takes whichever of two equal responses ends first, and under "
            "rollout.mode = asynchronous weights change while they are drawn: they would not be equal, and the shorter "
            "one would be favoured; give none, as no batch waits for one response there.",
        ),
        (
            "data.curriculum.lowest=0.6 data.curriculum.highest=0.5",
            "data.curriculum.lowest = 0.6 is above data.curriculum.highest = 0.5, so no prompt would be drawn a second "
            "time; exchange them.",
        ),
        (
            "data.curriculum.lowest=0.26 data.curriculum.highest=0.37",
            "data.curriculum allows pass rates from 0.26 to 0.37, and no share of rollout.samples_per_prompt = 8 "
            "responses lies there: every prompt would be passed over once it has been drawn; widen the bounds, or "
            "raise samples_per_prompt.",
        ),
        (
            "data.curriculum.lowest=0",
            "data.curriculum.lowest = 0.0 passes over nothing, as no pass rate is below it; give more, or null.",
        ),
        (
            "data.curriculum.highest=1",
            "data.curriculum.highest = 1.0 passes over nothing, as no pass rate is above it; give less, or null.",
        ),
        ("data.curriculum.lowest=1.5", "data.curriculum.lowest = 1.5 has to be at most 1."),
        ("data.curriculum.revisit_epochs=0", "data.curriculum.revisit_epochs = 0 has to be at least 1."),
        ("rollout.stragglers.factor=1", "rollout.stragglers.factor = 1.0 has to be above 1."),
        ("rollout.stragglers.policy=cut", "rollout.stragglers.policy = cut is not one of none, hedge."),
    ],
)
def test_what_does_not_go_together(overrides, sentence):
    assert sentence in check(compose(overrides.split()))


@pytest.mark.parametrize(
    "overrides",
    [
        "",
        "rollout.mode=asynchronous",
        "rollout.mode=asynchronous off_policy.max_staleness=4 rollout.stale=mask rollout.recompute_kv=false",
        "rollout.mode=one_step_off off_policy.max_staleness=1 correction=tis",
        "rollout.filter.no_signal=true rollout.filter.max_failures=2",
        "rollout.stragglers.policy=hedge",
        "data.curriculum.lowest=0.1 data.curriculum.highest=0.9",
        "data.curriculum.lowest=0.25 data.curriculum.highest=0.25 data.curriculum.revisit_epochs=null",
        "rollout.stragglers.policy=hedge rollout.mode=one_step_off off_policy.max_staleness=1",
    ],
)
def test_what_does(overrides):
    assert check(compose(overrides.split())) == []


def test_the_mode_is_told_and_what_it_asks_for():
    assert rollout_advice(compose([])) == []
    stale = ["rollout.mode=asynchronous", "off_policy.max_staleness=2"]
    told, advised = rollout_advice(compose(stale))
    assert told == (
        "Groups are drawn one by one while the learner trains; tokens are up to 2 weight versions old (rollout.mode)."
    )
    assert "correction=tis" in advised
    assert len(rollout_advice(compose([*stale, "correction=tis"]))) == 1


def test_that_the_first_of_two_answers_counts_is_told_with_its_bias():
    [line] = rollout_advice(compose(["rollout.stragglers.policy=hedge", "rollout.stragglers.factor=2.5"]))
    assert line.startswith("A response that takes 2.5 times the median is drawn by an idle engine too")
    assert line.endswith("that favours the shorter of two responses.")
