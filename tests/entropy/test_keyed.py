"""Random numbers by key: uniform, independent, and of the token alone."""

import numpy as np
import pytest
from scipy import stats

from entropy.keyed import sample_key, token_keys
from entropy.selection import draw
from tests.entropy.updates import joined, random_update, update_of

M = (1 << 64) - 1
LENGTHS = np.full(2000, 100)
SAMPLES = np.array([sample_key("prompt", i) for i in range(LENGTHS.size)], np.uint64)
POSITIONS = np.tile(np.arange(100), LENGTHS.size)


def splitmix(value: int) -> int:
    """The output for a state, as in Vigna's public-domain splitmix64.c."""
    z = (value + 0x9E3779B97F4A7C15) & M
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M
    return z ^ (z >> 31)


def test_keys_in_integers_of_any_size():
    assert splitmix(0) == 0xE220A8397B1DCDAF  # the first published output of splitmix64 with seed 0
    found = token_keys((7, -1), np.array([5, M], np.uint64), np.array([2, 1]), np.array([0, 3, 1]))
    start = splitmix(splitmix(7) ^ M)
    expected = [
        splitmix((splitmix(start ^ sample) + position * 0x9E3779B97F4A7C15) & M)
        for sample, position in [(5, 0), (5, 3), (M, 1)]
    ]
    assert [int(key) for key in found] == expected


def test_a_sample_is_named_by_prompt_and_index():
    assert sample_key("a", 1) == sample_key("a", 1)
    assert len({sample_key(uid, i) for uid in ("a", "b", "a#1") for i in range(100)}) == 300


@pytest.mark.parametrize("seed", [(0, 0, 0), (0, 0, 1), (1, 2, 3)])
def test_keys_are_uniform_by_chi_square(seed):
    keys = token_keys(seed, SAMPLES, LENGTHS, POSITIONS)
    assert np.unique(keys).size == keys.size
    for shift in (58, 0):  # the highest six bits, and the lowest
        counts = np.bincount(((keys >> np.uint64(shift)) & np.uint64(63)).astype(int), minlength=64)
        assert stats.chisquare(counts).pvalue > 1e-4


def test_choices_are_uniform_over_tokens_by_chi_square():
    everyone = np.ones(40, bool)
    tokens = update_of([10, 20, 10], np.zeros(40), np.zeros(40))
    counts = np.zeros(40, int)
    for control in range(4000):
        counts[draw(everyone, 5, tokens.keys(0, control))] += 1
    # Five of 40 without replacement: less varied than draws with it, by 35/39.
    statistic = ((counts - 500) ** 2 / 500).sum() * 39 / 35
    assert 1e-4 < stats.chi2.sf(statistic, 39) < 1 - 1e-4


@pytest.mark.parametrize("other", [(0, 2, 0), (0, 1, 1), (1, 1, 0)], ids=["control", "update", "seed"])
def test_choices_of_two_controls_updates_or_seeds_are_independent(other):
    """The overlap of two independent choices of k of n is hypergeometric."""
    everyone, count = np.ones(POSITIONS.size, bool), 20_000
    first = draw(everyone, count, token_keys((0, 1, 0), SAMPLES, LENGTHS, POSITIONS))
    second = draw(everyone, count, token_keys(other, SAMPLES, LENGTHS, POSITIONS))
    overlap = np.intersect1d(first, second).size
    expected = stats.hypergeom(everyone.size, count, count)
    assert abs(overlap - expected.mean()) < 4 * expected.std()


def test_equal_keys_choose_equally_and_the_update_is_part_of_the_key():
    tokens = random_update()
    assert (tokens.keys(3, 1) == tokens.keys(3, 1)).all()
    later = update_of(tokens.lengths, tokens.logprobs, tokens.advantages, update=1)
    assert not (tokens.keys(3, 1) == later.keys(3, 1)).any()


def test_a_token_keeps_its_key_wherever_its_sample_stands():
    tokens = random_update()
    turned = joined(tokens, [range(23, 11, -1), range(12)])

    def table(update):
        samples = np.repeat(update.sample_keys, update.lengths)
        return dict(zip(zip(samples, update.positions, strict=True), update.keys(0, 1), strict=True))

    assert table(tokens) == table(turned)
