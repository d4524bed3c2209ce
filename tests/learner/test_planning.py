"""The invariants that learner/planning.py states, on random batches and on small ones by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.planning import minibatches, plan_passes

lengths_of_samples = st.lists(st.integers(1, 40), max_size=40).map(lambda x: np.array(x, np.int32))


@given(lengths_of_samples, st.data(), st.integers(1, 4), st.integers(1, 100))
def test_passes(lengths, data, ranks, budget):
    chosen = data.draw(st.permutations(range(lengths.size)))[: data.draw(st.integers(0, lengths.size))]
    samples = np.array(chosen, np.int64)
    plan = plan_passes(lengths, samples, ranks, budget)
    flat = [one for share in plan for one in share]
    assert len(plan) == ranks
    assert len({len(share) for share in plan}) == 1
    assert len(plan[0]) >= 1
    assert all(one.dtype == np.int64 for one in flat)
    assert sorted(np.concatenate(flat)) == sorted(samples)
    for one in flat:
        assert one.size < 2 or one.size * lengths[one].max() <= budget


@given(lengths_of_samples, st.integers(1, 4))
def test_ranks_carry_near_equal_tokens(lengths, ranks):
    samples = np.arange(lengths.size)
    plan = plan_passes(lengths, samples, ranks, token_budget=10**9)
    sizes = [sum(one.size for one in share) for share in plan]
    tokens = [sum(int(lengths[one].sum()) for one in share) for share in plan]
    assert max(sizes) - min(sizes) <= 1
    assert max(tokens) - min(tokens) <= lengths.max(initial=0)


def test_passes_by_hand():
    # From the longest: 9 to rank 0, 7 and 4 to rank 1, 3 and 2 to rank 0; rank 1 cuts its one pass to keep step.
    plan = plan_passes(np.array([9, 2, 3, 7, 4]), np.arange(5), ranks=2, token_budget=14)
    assert [[one.tolist() for one in share] for share in plan] == [[[1, 2], [0]], [[4], [3]]]


def test_a_rank_without_samples_gets_empty_passes():
    plan = plan_passes(np.array([5, 5, 5]), np.array([2]), ranks=2, token_budget=5)
    assert [[one.tolist() for one in share] for share in plan] == [[[2]], [[]]]


def test_an_empty_batch_is_one_empty_pass_each():
    plan = plan_passes(np.zeros(0, np.int32), np.zeros(0, np.int64), ranks=3, token_budget=5)
    assert [[one.tolist() for one in share] for share in plan] == [[[]]] * 3


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=30).map(lambda x: np.array(x, np.int32)),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(0, 2**31),
)
def test_minibatches(groups, count, epochs, seed):
    parts = minibatches(groups, count, epochs, (seed, 7))
    assert len(parts) == count * epochs
    for epoch in range(epochs):
        of_epoch = parts[epoch * count : (epoch + 1) * count]
        assert sorted(np.concatenate(of_epoch)) == list(range(groups.size))
        owners = [set(groups[part]) for part in of_epoch]
        assert sum(map(len, owners)) == len(set(groups))  # no group is split
        sizes = [len(names) for names in owners]
        assert max(sizes) - min(sizes) <= 1
    again = minibatches(groups, count, epochs, (seed, 7))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


def test_each_key_and_epoch_shuffles_anew():
    groups = np.arange(40)
    first, second = minibatches(groups, 2, 2, (0, 0))[::2]
    (other_step,) = minibatches(groups, 2, 1, (0, 1))[:1]
    (other_seed,) = minibatches(groups, 2, 1, (1, 0))[:1]
    draws = {tuple(part) for part in (first, second, other_step, other_seed)}
    assert len(draws) == 4


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 3, 1, 4, 2, 0]])
def test_the_groups_of_an_update_do_not_depend_on_the_order_of_samples(order):
    groups = np.array([0, 0, 1, 1, 2, 2])
    wanted = [set(groups[part]) for part in minibatches(groups, 3, 1, (0,))]
    assert [set(groups[order][part]) for part in minibatches(groups[order], 3, 1, (0,))] == wanted
