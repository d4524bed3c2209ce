"""The temperature control against the published update, by hand and as a closed loop."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from entropy.config import TemperatureConfig
from entropy.controls.temperature import SamplingTemperature
from entropy.plan import NEUTRAL
from tests.entropy.control_tokens import seen, tokens_of

E3 = TemperatureConfig(target=None, anneal_share=0.4, anneal_to=0.9, lowest=0.5, highest=2.0)
TOKENS = tokens_of([-1, -2, -3], [2.0, 0.0, -1.0])
# ln V + ln ln V of a vocabulary of 1,000.
SCALE = 6.907755 + 1.932645


def control(steps: int = 100, **settings) -> SamplingTemperature:
    return SamplingTemperature(replace(E3, **settings), steps)


def course(made: SamplingTemperature, entropies, first: int = 0, temperature: float = 1.0) -> list[float]:
    """The temperature that each batch makes of its own, where each rollout is drawn as the control says."""
    found = []
    for step, entropy in enumerate(entropies, start=first):
        made.observe(seen(entropy, step, temperature))
        temperature = made.next_temperature()
        found.append(temperature)
    return found


def targets(made: SamplingTemperature, steps: int) -> list[float]:
    found = []
    for step in range(steps):
        made.observe(seen(0.5, step))
        found.append(made.plan(TOKENS).metrics["temperature/target"][0])
    return found


def test_the_update_by_hand():
    """ln 2 is 0.693147: 1 + 0.693147 / 8.840400 at half the target, and back from there at twice."""
    one, two, three = course(control(target=0.4), [0.2, 0.4, 0.8])
    assert one == pytest.approx(1.0784067, abs=1e-7)
    assert two == one
    assert three == pytest.approx(1.0784067 * (1 - 1.0784067 * 0.693147 / SCALE), abs=1e-6)
    # A larger vocabulary moves it less: ln 150,000 + ln ln 150,000 is 14.396537.
    made = control(target=0.4)
    made.observe(seen(0.2, 0, temperature=0.8, vocabulary=150_000))
    assert made.next_temperature() == pytest.approx(0.8 + 0.64 * 0.693147 / 14.396537, abs=1e-6)


def test_below_the_target_it_rises_and_above_it_falls():
    rng = np.random.default_rng(0)
    for entropy, temperature in zip(rng.uniform(0.05, 2.0, 50), rng.uniform(0.6, 1.8, 50), strict=True):
        made = control(target=0.5)
        made.observe(seen(entropy, 0, temperature))
        assert (made.next_temperature() > temperature) == (entropy < 0.5)


def test_without_a_target_it_is_the_first_entropy_which_moves_nothing():
    found = course(control(), [math.nan, 0.3, 0.3, 0.15])
    assert found[:3] == [1.0, 1.0, 1.0]
    assert found[3] == pytest.approx(1.0784067, abs=1e-7)
    # There is nothing to hold where a policy has no entropy at the start.
    assert course(control(), [0.0, 0.2, 0.2]) == [1.0, 1.0, 1.0]


def test_the_target_falls_along_half_a_cosine_as_in_the_published_code():
    """Of 10 steps the last 4: cos is 1, 0.707107, 0 and -0.707107 in steps 6 to 9, and would be -1 in the next."""
    wanted = [1.0] * 7 + [0.95 + 0.05 * 0.707107, 0.95, 0.95 - 0.05 * 0.707107]
    assert targets(control(10, target=1.0), 10) == pytest.approx(wanted, abs=1e-6)
    assert targets(control(10, target=1.0), 11)[10] == pytest.approx(0.9)
    assert targets(control(10, target=1.0, anneal_share=0.0), 11) == [1.0] * 11
    assert targets(control(10, target=1.0, anneal_to=1.0), 11) == [1.0] * 11
    # int(0.4 * 7) is 2.
    assert targets(control(7, target=2.0, anneal_to=0.5), 7) == pytest.approx([2.0] * 6 + [1.5])


def published(entropies: list[float], vocabulary: int, steps: int) -> list[float]:
    """Temperatures by the recurrence of the authors' scheduler, which counts steps from 1 and anneals for the next."""
    temperature, target, initial, found = 1.0, 0.0, 0.0, []
    begin = steps - int(steps * 0.4)
    for step, entropy in enumerate(entropies, start=1):
        if step == 1:
            target = initial = entropy
        else:
            alpha = target / entropy
            scale = np.log(vocabulary) + np.log(np.log(vocabulary))
            temperature = temperature * (1 + temperature * np.log(alpha) / scale)
            if step >= begin:
                decay = 0.5 * (1 + math.cos(math.pi * (step - begin) / (steps - begin)))
                target = initial * ((1 - 0.9) * decay + 0.9)
        found.append(float(temperature))
    return found


@pytest.mark.parametrize("steps", [5, 12, 30])
def test_a_whole_run_is_that_of_the_published_code(steps):
    entropies = np.random.default_rng(steps).uniform(0.2, 0.6, steps).tolist()
    unbounded = control(steps, lowest=1e-9, highest=1e9)
    assert course(unbounded, entropies) == pytest.approx(published(entropies, 1000, steps), rel=1e-12)


def test_it_stays_within_its_bounds_whatever_the_entropy():
    assert course(control(target=0.4), [0.0]) == [2.0]
    assert course(control(target=1e-4), [6.9]) == [0.5]
    assert max(course(control(target=0.4), [0.01] * 20)) == 2.0
    assert min(course(control(target=0.4), [6.0] * 20)) == 0.5


@pytest.mark.parametrize("entropy", [math.nan, math.inf])
def test_an_entropy_that_is_no_number_moves_nothing(entropy):
    made = control(target=0.4)
    assert course(made, [entropy], temperature=1.3) == [1.3]
    assert made.plan(TOKENS).metrics == {}


def test_before_a_batch_it_leaves_the_temperature_as_configured_and_tokens_always():
    made = control()
    assert made.next_temperature() is None
    made.observe(seen(0.3, 0, 0.7))
    assert made.next_temperature() == 0.7
    decision = made.plan(TOKENS)
    assert (decision.plan, decision.metrics) == (NEUTRAL, {"temperature/target": (0.3, 1.0)})
    assert (made.needs.entropies, made.needs.synchronous, made.needs.current_logprobs) == (True, True, False)


def test_the_loop_holds_the_entropy_of_what_is_drawn_where_the_policy_sharpens():
    """Logits that grow by 1 % a step: at temperature 1 entropy would vanish, and tempered it stays near its start."""
    logits, made, temperature, found = np.random.default_rng(0).normal(size=1000), control(200), 1.0, []
    for step in range(100):
        powers = np.exp(1.01**step * logits / temperature)
        p = powers / powers.sum()
        found.append(float(-(p * np.log(p)).sum()))
        made.observe(seen(found[-1], step, temperature))
        temperature = made.next_temperature()
    assert temperature > 1.5
    assert min(found) > 0.85 * found[0]


@pytest.mark.parametrize("after", [0, 1, 2, 15, 19])
def test_restored_in_mid_run_it_goes_on_the_same(after):
    entropies = np.random.default_rng(1).uniform(0.1, 0.6, 20)
    whole, halfway, restored = (control(20) for _ in range(3))
    expected = course(whole, entropies)
    course(halfway, entropies[:after])
    restored.load_state_dict(json.loads(json.dumps(halfway.state_dict())))
    # The first rollout after it is drawn as that of the unbroken run.
    temperature = restored.next_temperature()
    assert temperature == (expected[after - 1] if after else None)
    assert course(restored, entropies[after:], after, temperature or 1.0) == expected[after:]
