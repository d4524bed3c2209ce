"""The invariants that learner/planning.py states, on random batches and on small ones by hand."""

import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from learner.planning import (
    ATTENTION_TOKENS,
    PassLimits,
    computed_tokens,
    minibatches,
    pass_cost,
    plan_passes,
    sample_costs,
)

lengths_of_samples = st.one_of(
    st.lists(st.integers(1, 40), max_size=60),
    st.lists(st.sampled_from([1, 2, 3, 50, 500]), max_size=60),
).map(lambda x: np.array(x, np.int32))
limits_of_passes = st.builds(PassLimits, tokens=st.integers(1, 200), row_tokens=st.integers(0, 100))


def everything(lengths: np.ndarray) -> np.ndarray:
    return np.arange(lengths.size)


def as_lists(plan) -> list:
    return [[[row.tolist() for row in one] for one in share] for share in plan]


def row_sizes(lengths: np.ndarray, rows) -> list[int]:
    return [int(lengths[row].sum()) for row in rows]


@given(lengths_of_samples, st.data(), st.integers(1, 9), limits_of_passes)
@example(np.array([500]), None, 2, PassLimits(10, 0))  # a giant by itself
@example(np.array([500] + [3] * 30, np.int32), None, 2, PassLimits(20, 10))  # and among small ones
@example(np.array([7, 5], np.int32), None, 8, PassLimits(20, 10))  # more ranks than samples
@example(np.array([3, 3], np.int32), None, 1, PassLimits(5, 5))  # a row too many by one token
@example(np.array([60, 60, 60], np.int32), None, 1, PassLimits(100, 200))  # rows longer than a pass
def test_passes(lengths, data, ranks, limits):
    samples = everything(lengths)
    if data is not None:
        chosen = data.draw(st.permutations(range(lengths.size)))[: data.draw(st.integers(0, lengths.size))]
        samples = np.array(chosen, np.int64)
    plan = plan_passes(lengths, samples, ranks, limits)
    assert len(plan) == ranks
    assert len({len(share) for share in plan}) == 1
    assert len(plan[0]) >= 1

    passes = [one for share in plan for one in share]
    rows = [row for one in passes for row in one]
    assert all(row.dtype == np.int64 and row.size for row in rows)
    assert sorted(np.concatenate([np.zeros(0, np.int64), *rows])) == sorted(samples)
    for row in rows:
        assert row.size == 1 or lengths[row].sum() <= min(limits.row_tokens, limits.tokens)
    for one in passes:
        sizes = row_sizes(lengths, one)
        assert sum(row.size for row in one) <= 1 or len(one) * max(sizes) <= limits.tokens
        assert not one or max(sizes) <= 2 * min(sizes)

    costs = sample_costs(lengths[samples], limits)
    shares = [sample_costs(lengths[np.concatenate([np.zeros(0, np.int64), *sum(s, ())])], limits) for s in plan]
    loads = [int(share.sum()) for share in shares]
    assert max(loads) - min(loads) <= costs.max(initial=0)


@given(lengths_of_samples, st.randoms(use_true_random=False), st.integers(1, 4), limits_of_passes)
def test_a_plan_is_a_function_of_its_arguments_and_not_of_the_order_of_samples(lengths, random, ranks, limits):
    samples = everything(lengths)
    shuffled = samples.tolist()
    random.shuffle(shuffled)
    plan = as_lists(plan_passes(lengths, samples, ranks, limits))
    assert as_lists(plan_passes(lengths, samples, ranks, limits)) == plan
    assert as_lists(plan_passes(lengths, np.array(shuffled, np.int64), ranks, limits)) == plan


@given(lengths_of_samples, st.integers(1, 4), limits_of_passes)
def test_there_are_no_more_passes_than_the_slowest_rank_needs(lengths, ranks, limits):
    def could_be_one(one, two) -> bool:
        sizes = row_sizes(lengths, [*one, *two])
        return len(sizes) * max(sizes) <= limits.tokens and max(sizes) <= 2 * min(sizes)

    plan = plan_passes(lengths, everything(lengths), ranks, limits)
    needed = [all(share) and not any(map(could_be_one, share, share[1:])) for share in plan]
    assert any(needed) or len(plan[0]) == 1


@given(st.lists(st.integers(1, 60), min_size=1, max_size=200).map(np.array))
def test_rows_are_few(lengths):
    # Of rows that are filled before another is begun, at most one is less than half full.
    (share,) = plan_passes(lengths, everything(lengths), 1, PassLimits(60, 60))
    assert sum(len(one) for one in share) <= 2 * lengths.sum() / 60 + 1


def laboratory_lengths(rng: np.random.Generator) -> np.ndarray:
    """32 prompts of 18 to 22 tokens with 8 responses each, of 24 tokens on average and 48 at most."""
    prompts = rng.integers(18, 23, 32).repeat(8)
    return prompts + np.clip(rng.normal(24, 6, 256).round().astype(int), 8, 48)


def test_little_is_padded_on_the_laboratory():
    groups, limits, rng = np.arange(32).repeat(8), PassLimits(4096, 256), np.random.default_rng(0)
    shares, imbalances = [], []
    for step in range(20):
        lengths = laboratory_lengths(rng)
        for part in minibatches(groups, 4, 1, (0, step)):
            plan = plan_passes(lengths, part, 2, limits)
            assert [len(share) for share in plan] == [1, 1]
            computed = sum(computed_tokens(lengths, one) for share in plan for one in share)
            shares.append(lengths[part].sum() / computed)
            first, second = (sum(row_sizes(lengths, share[0])) for share in plan)
            imbalances.append(abs(first - second) / lengths[part].sum())
    assert np.mean(shares) > 0.98
    assert min(shares) > 0.95
    assert max(imbalances) < 0.02


@pytest.mark.parametrize("row_tokens", [0, 256, 8192])
def test_ten_thousand_samples_are_planned_in_a_moment(row_tokens):
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.normal(5, 1, 10_000)).astype(np.int64) + 1
    start = time.process_time()
    plan_passes(lengths, everything(lengths), 8, PassLimits(16_384, row_tokens))
    # It takes some 50 ms; what is quadratic in Python takes minutes.
    assert time.process_time() - start < 1.0


def test_ranks_by_hand():
    # The longest first, each to the rank with the least: 9 | 7 4 | 3 | 2 makes 9 + 3 and 7 + 4 + 2, or 12 and 13.
    lengths = np.array([9, 2, 3, 7, 4])
    plan = plan_passes(lengths, np.arange(5), 2, PassLimits(tokens=100, row_tokens=100))
    assert as_lists(plan) == [[[[0, 2]]], [[[3, 4, 1]]]]


def test_passes_by_hand():
    # Unpacked, 12 tokens a pass: 6 6 | 5 4 | 2 2.
    lengths = np.array([6, 5, 6, 2, 4, 2])
    plan = plan_passes(lengths, np.arange(6), 1, PassLimits(tokens=12, row_tokens=0))
    assert as_lists(plan) == [[[[0], [2]], [[1], [4]], [[3], [5]]]]
    # 4 samples fit into a pass, which makes three passes, and these are alike.
    (share,) = plan_passes(np.full(9, 10), np.arange(9), 1, PassLimits(tokens=40, row_tokens=0))
    assert [len(one) for one in share] == [3, 3, 3]


def test_costs_by_hand():
    # A token costs its share of the linear layers and the length of its row, that of a full one if it is packed.
    lengths, per_token = np.array([100, 3 * ATTENTION_TOKENS]), ATTENTION_TOKENS
    assert sample_costs(lengths, PassLimits(4096, 256)).tolist() == [100 * (per_token + 256), 12 * per_token**2]
    assert sample_costs(lengths, PassLimits(4096, 0)).tolist() == [100 * (per_token + 100), 12 * per_token**2]
    rows = (np.array([0, 1]), np.array([2]))
    assert pass_cost(np.array([3, 4, 5]), rows) == 14 * (per_token + 7)


def test_a_long_sample_costs_a_rank_more_than_its_tokens():
    # The long one costs 12 units of ATTENTION_TOKENS squared, and each short one 2.
    lengths = np.array([3] + [1] * 8) * ATTENTION_TOKENS
    plan = plan_passes(lengths, np.arange(9), 2, PassLimits(tokens=1, row_tokens=0))
    assert [sum(len(one) for one in share) for share in plan] == [2, 7]


def test_rows_by_hand():
    # 3 + 3 and 2 + 2 + 2 fill two rows of 6; dealt evenly, 3 + 2 + 2 would not fit.
    plan = plan_passes(np.array([3, 2, 2, 3, 2]), np.arange(5), 1, PassLimits(tokens=12, row_tokens=6))
    assert as_lists(plan) == [[[[0, 3], [1, 2, 4]]]]
    # 13 of 10 tokens: three rows of up to 5 would hold 5, 4 and 4 of them; one pass takes three rows and no more.
    plan = plan_passes(np.full(13, 10), np.arange(13), 1, PassLimits(tokens=150, row_tokens=50))
    assert [[row.size for row in one] for one in plan[0]] == [[5, 4, 4]]
    # 8 of 10 tokens in rows of up to 3: four rows of 2 pad nothing, and three would have to pad one place.
    plan = plan_passes(np.full(8, 10), np.arange(8), 1, PassLimits(tokens=120, row_tokens=30))
    assert [[row.size for row in one] for one in plan[0]] == [[2, 2, 2, 2]]


def test_a_short_row_is_not_padded_to_a_long_one():
    lengths = np.array([100, 100, 49, 49])
    plan = plan_passes(lengths, np.arange(4), 1, PassLimits(tokens=1000, row_tokens=0))
    assert as_lists(plan) == [[[[0], [1]], [[2], [3]]]]


def test_a_rank_without_samples_gets_empty_passes():
    plan = plan_passes(np.array([5, 5, 5]), np.array([2]), 2, PassLimits(5, 5))
    assert as_lists(plan) == [[[[2]]], [[]]]
    assert computed_tokens(np.array([5]), plan[1][0]) == 1


def test_an_empty_batch_is_one_empty_pass_each():
    plan = plan_passes(np.zeros(0, np.int32), np.zeros(0, np.int64), 3, PassLimits(5, 5))
    assert as_lists(plan) == [[[]]] * 3


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
