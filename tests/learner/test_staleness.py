"""Which tokens are too old to be trained on."""

import numpy as np
import pytest

from learner.staleness import TooStale, staleness


def test_in_versions():
    assert staleness(np.array([3, 5, 5, 4], np.int32), 5, 2) == {"staleness/mean": 0.75, "staleness/max": 2.0}
    assert staleness(np.array([7, 7], np.int32), 7, 0) == {"staleness/mean": 0.0, "staleness/max": 0.0}


def test_a_token_beyond_the_limit_ends_the_run_in_words():
    with pytest.raises(TooStale) as caught:
        staleness(np.array([3, 5, 2], np.int32), 5, 1)
    assert str(caught.value) == (
        "2 of 3 tokens are up to 3 weight versions behind the learner's, 5; off_policy.max_staleness = 1 allows fewer"
    )


def test_the_limit_itself_is_allowed():
    assert staleness(np.array([4]), 5, 1)["staleness/max"] == 1.0
    with pytest.raises(TooStale):
        staleness(np.array([3, 5]), 5, 1)


def test_a_token_of_weights_to_come_is_a_mistake():
    with pytest.raises(TooStale, match="tokens of weight version 6 cannot be trained on by the learner's, 5"):
        staleness(np.array([5, 6], np.int32), 5, 3)
