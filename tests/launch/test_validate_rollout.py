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
