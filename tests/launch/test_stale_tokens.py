"""What the learner makes of tokens that are too old, from the engines that drew them to the gradient."""

from dataclasses import replace

import numpy as np
import pytest

from launch.batch import Sample, add_advantages, build_batch
from learner.staleness import TooStale, staleness
from reward.composition import Reward
from rollout.collector import Collector
from rollout.config import KEEP, MASK
from rollout.stream import GroupStream
from tests.learner.objectives import objective
from tests.learner.test_update import run
from tests.rollout.fake_engines import FakeEngines, prompt
from tests.rollout.test_collector import SAMPLES, batch, keep_all, until
from tests.rollout.test_stream import Source

PER_STEP, LIMIT, NOW = 4, 1, 2
# The last token of every prompt, what a sample draws first, and then.
BEFORE, FIRST, THEN = 2, (3, 4, 5), 6


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Of each response version 0 drew the first token, and version 2 the second."""
    engines = FakeEngines(1, eager=False)
    engines.spoil = lambda drawn: replace(drawn, token_ids=np.array([FIRST[drawn.sample], THEN], np.int32))
    stream = GroupStream(PER_STEP, LIMIT, 9, False, False, 9, 1, Source(PER_STEP))
    collector = Collector(engines, stream, prompt, SAMPLES, 7, keep_all, True, 0, 30.0)
    collector.start()
    try:
        until(lambda: engines.has(0) == 2 * PER_STEP * SAMPLES)
        for version in (1, NOW):
            with collector.weights_change(version):
                engines.update(version)
        engines.draw(0)
        found = [group.payload for group in batch(collector).groups]
    finally:
        collector.close()
    responses = [drawn.responses for drawn in found]
    rewards = [Reward(float(response.sample == 0), {}) for group in responses for response in group]
    return Sample.of_groups([drawn.prompt for drawn in found], responses, rewards)


@pytest.mark.parametrize("stale", [MASK, KEEP])
def test_a_late_token_has_a_gradient_only_where_it_is_kept(stale, samples):
    settings = objective(low=0.2, high=0.3)
    made = build_batch(samples, True, NOW - LIMIT if stale == MASK else None, 1.0)
    assert made.versions.tolist() == [0, NOW] * (PER_STEP * SAMPLES)
    trainable = add_advantages(samples, made, settings.algorithm, settings.reference)
    row = staleness(made.versions, made.mask, NOW, LIMIT, allow_late=stale == KEEP)
    assert (row["staleness/max"], row["staleness/late_share"]) == (2, 0.5)
    gradient = run(trainable.batch, settings, [[[list(range(PER_STEP * SAMPLES))]]], range(PER_STEP * SAMPLES)).gradient
    # Logits of the next token by the last one: late tokens came after BEFORE, the others after late ones.
    assert gradient[BEFORE].any() == (stale == KEEP)
    assert all(gradient[token].any() for token in FIRST)
    assert not gradient[[0, 1, THEN]].any()


def test_late_tokens_that_were_neither_masked_nor_asked_for_are_refused(samples):
    made = build_batch(samples, True, None, 1.0)
    with pytest.raises(TooStale, match="12 of 24 tokens are up to 2 weight versions behind"):
        staleness(made.versions, made.mask, NOW, LIMIT, allow_late=False)
