"""Which tokens are too old to be trained on."""

import numpy as np
import pytest

from learner.staleness import TooStale, staleness


def of(versions: list[int], current: int, limit: int, mask: list[bool] | None = None, allow_late: bool = False):
    chosen = np.ones(len(versions), bool) if mask is None else np.array(mask)
    return staleness(np.array(versions, np.int32), chosen, current, limit, allow_late)


def test_in_versions():
    assert of([3, 5, 5, 4], 5, 2) == {"staleness/mean": 0.75, "staleness/max": 2.0, "staleness/late_share": 0.0}
    assert of([7, 7], 7, 0) == {"staleness/mean": 0.0, "staleness/max": 0.0, "staleness/late_share": 0.0}


def test_a_token_beyond_the_limit_ends_the_run_in_words():
    with pytest.raises(TooStale) as caught:
        of([3, 5, 2], 5, 1)
    assert str(caught.value) == (
        "2 of 3 tokens are up to 3 weight versions behind the learner's, 5; off_policy.max_staleness = 1 allows fewer"
    )


def test_the_limit_itself_is_allowed():
    assert of([4], 5, 1)["staleness/max"] == 1.0
    with pytest.raises(TooStale):
        of([3, 5], 5, 1)


def test_what_does_not_count_in_the_loss_may_be_late():
    assert of([2, 5, 5, 4], 5, 1, [False, True, True, True])["staleness/late_share"] == 0.25
    with pytest.raises(TooStale, match="1 of 3 tokens are up to 3"):
        of([2, 5, 5, 2], 5, 1, [False, True, True, True])


def test_late_tokens_may_be_asked_for():
    assert of([2, 5], 5, 1, allow_late=True) == {
        "staleness/mean": 1.5,
        "staleness/max": 3.0,
        "staleness/late_share": 0.5,
    }


def test_a_token_of_weights_to_come_is_a_mistake():
    with pytest.raises(TooStale, match="tokens of weight version 6 cannot be trained on by the learner's, 5"):
        of([5, 6], 5, 3)
