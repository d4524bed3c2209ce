"""Weights are met exactly in the long run and nearly at every step, and a mixture resumes where it stopped."""

import json
from collections import Counter
from fractions import Fraction
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.mixing import MixedSource, Schedule
from rollout.sources import DataError
from rollout.types import Prompt
from tests.rollout.test_prompts import prompt

SIZES = {"train": 40, "math": 25, "svamp": 60}
WEIGHTS = {"train": 0.5, "math": 0.2, "svamp": 0.3}


def sets(sizes: dict[str, int] = SIZES) -> dict[str, list[Prompt]]:
    return {name: [prompt(f"{name}/{row}", f"{name} {row}") for row in range(size)] for name, size in sizes.items()}


def mixed(weights: dict[str, float] = WEIGHTS, per_step: int = 10, seed: int = 3, **changes) -> MixedSource:
    return MixedSource(changes.get("sets", sets()), weights, per_step, True, seed)


def steps(source: MixedSource, count: int) -> list[list[str]]:
    return [[row.uid for row in source.next()] for _ in range(count)]


def counts(uids) -> Counter:
    return Counter(uid.split("/")[0] for uid in uids)


def test_every_step_of_a_round_number_has_exactly_its_proportions():
    for step in steps(mixed(), 30):
        assert counts(step) == {"train": 5, "math": 2, "svamp": 3}


def test_proportions_that_do_not_fit_a_step_are_exact_in_the_long_run():
    """3 : 1 : 3 over steps of 4: seven steps hold 28 prompts, 12 : 4 : 12."""
    flat = list(chain(*steps(mixed({"train": 3, "math": 1, "svamp": 3}, 4), 70)))
    for begin in range(0, 280, 28):
        assert counts(flat[begin : begin + 28]) == {"train": 12, "math": 4, "svamp": 12}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.integers(1, 300))
def test_no_share_is_ever_off_by_one(weights, turns):
    schedule = Schedule({str(i): weight / 100 for i, weight in enumerate(weights)})
    total = sum(weights)
    for turn in range(1, turns + 1):
        schedule.next()
        for name, weight in enumerate(weights):
            assert abs(schedule.given[str(name)] - Fraction(turn * weight, total)) < 1


def test_weights_are_the_decimals_that_were_written():
    """0.1 : 0.2 is 1 : 2 exactly, which no sum of floats is."""
    assert Schedule({"a": 0.1, "b": 0.2}).weights() == {"a": 1, "b": 2}


def test_sources_alternate_within_a_step():
    [step] = steps(mixed({"train": 1, "math": 1, "svamp": 1}, 9), 1)
    assert [uid.split("/")[0] for uid in step] == ["train", "math", "svamp"] * 3


@pytest.mark.parametrize("weights", [WEIGHTS, {"train": 3, "math": 1, "svamp": 3}])
def test_each_source_goes_through_its_own_epochs_and_no_prompt_comes_twice_in_a_step(weights):
    order = steps(mixed(weights), 200)
    assert all(len(set(step)) == 10 for step in order)
    for name, size in SIZES.items():
        uids = [uid for step in order for uid in step if uid.startswith(f"{name}/")]
        for begin in range(0, len(uids) - size, size):
            assert len(set(uids[begin : begin + size])) == size


def test_the_order_is_a_function_of_the_seed():
    assert steps(mixed(), 20) == steps(mixed(), 20)
    assert steps(mixed(), 20) != steps(mixed(seed=4), 20)


@pytest.mark.parametrize("done", [0, 1, 4, 5, 17])
def test_a_resumed_mixture_goes_on_with_the_same_steps(done):
    weights = {"train": 3, "math": 1, "svamp": 3}
    source = mixed(weights, 8)
    steps(source, done)
    state = json.loads(json.dumps(source.state_dict()))
    expected = steps(source, 30)
    resumed = mixed(weights, 8)
    resumed.load_state_dict(state)
    assert steps(resumed, 30) == expected


def test_the_state_of_another_mixture_is_refused():
    state = mixed().state_dict()
    with pytest.raises(DataError, match=r"The training sources or data\.weights differ from those of the checkpoint"):
        mixed(WEIGHTS | {"math": 0.3}).load_state_dict(state)
    with pytest.raises(DataError, match=r"The training prompts, data\.shuffle or seed differ"):
        mixed(sets=sets(SIZES | {"math": 26})).load_state_dict(state)
    # The same proportions in other numbers are the same mixture.
    mixed({"train": 5, "math": 2, "svamp": 3}).load_state_dict(state)


def test_a_source_too_small_for_its_share_of_a_step():
    with pytest.raises(DataError) as caught:
        mixed({"train": 1, "math": 8, "svamp": 1}, 40)
    assert str(caught.value) == (
        "There are 25 training prompts of math, and a step can take 32: lower data.weights.math or "
        "rollout.prompts_per_step."
    )
