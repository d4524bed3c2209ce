"""What a control is shown."""

from dataclasses import replace

import numpy as np
import pytest

from tests.entropy.updates import joined, random_update, update_of


def test_mean_by_hand():
    tokens = update_of([2, 0, 1], np.array([-1.0, -2.0, -6.0]), np.zeros(3))
    assert tokens.size == 3
    assert tokens.mean(tokens.logprobs) == -3.0
    assert np.isnan(update_of([0, 0], np.zeros(0), np.zeros(0)).mean(np.zeros(0)))
    assert np.isnan(update_of([], np.zeros(0), np.zeros(0)).mean(np.zeros(0)))


def test_mean_is_the_same_to_the_last_bit_in_any_order():
    tokens = random_update(samples=200, longest=300, seed=1)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(200) for _ in range(20)]
    shuffled = [joined(tokens, [order]) for order in orders]
    assert len({each.mean(each.logprobs) for each in [tokens, *shuffled]}) == 1
    # Not a property of any mean:
    assert len({float(each.logprobs.sum()) for each in [tokens, *shuffled]}) > 1
    assert tokens.mean(tokens.logprobs) == pytest.approx(tokens.logprobs.mean(), rel=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"advantages": np.zeros(4)},
        {"lengths": np.array([1, 1, 2])},
        {"sample_keys": np.zeros(2, np.uint64)},
        {"discriminators": np.zeros(2)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_fields_of_other_sizes_are_refused(change):
    tokens = update_of([2, 0, 1], np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="each token has one value in every field"):
        replace(tokens, **change)
