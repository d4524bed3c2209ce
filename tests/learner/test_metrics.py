"""However values are split into tallies, the figures are those of all values together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.metrics import Tally, merged

numbers = st.lists(st.floats(-100, 100), min_size=1, max_size=20)


def tally_of(values) -> Tally:
    tally = Tally()
    tally.mean("mean", sum(values), len(values))
    for value in values:
        tally.maximum("max", value)
        tally.minimum("min", value)
    return tally


@given(numbers, st.lists(st.integers(0, 20), max_size=5))
def test_any_split_gives_the_same_figures(values, cuts):
    parts = np.split(np.array(values), sorted(cuts))
    figures = merged(tally_of(part.tolist()) for part in parts).values()
    assert figures["mean"] == pytest.approx(np.mean(values), abs=1e-9)
    assert figures["max"] == max(values)
    assert figures["min"] == min(values)


def test_parts_weigh_by_their_counts():
    # Two tokens of mean 1 and one of 4: (1 + 1 + 4) / 3, not (1 + 4) / 2.
    parts = [Tally(sums={"loss": (2.0, 2.0)}), Tally(sums={"loss": (4.0, 1.0)})]
    assert merged(parts).values() == {"loss": 2.0}


def test_adding_leaves_the_other_as_it_was():
    whole, part = tally_of([1.0]), tally_of([3.0])
    whole.add(part)
    assert whole.values() == {"mean": 2.0, "max": 3.0, "min": 1.0}
    assert part.values() == {"mean": 3.0, "max": 3.0, "min": 3.0}


def test_a_mean_over_nothing_is_left_out():
    tally = Tally()
    tally.mean("loss", 0.0, 0)
    assert tally.values() == {}
    assert merged([]).values() == {}


@given(numbers, st.lists(st.integers(0, 20), max_size=5))
def test_moments_of_any_split_are_those_of_all_values(values, cuts):
    def moments(part) -> Tally:
        tally = Tally()
        given_moments = (sum(part), sum(x * x for x in part), len(part))
        tally.deviation("std", *given_moments)
        tally.effective_share("share", *given_moments)
        return tally

    array = np.array(values)
    figures = merged(moments(part.tolist()) for part in np.split(array, sorted(cuts))).values()
    assert figures["std"] == pytest.approx(array.std(), abs=1e-5)
    if (array * array).sum():
        share = array.sum() ** 2 / (array.size * (array * array).sum())
        assert figures["share"] == pytest.approx(share, abs=1e-9)


def test_effective_share_by_hand():
    tally = Tally()
    tally.effective_share("equal", 3 * 0.7, 3 * 0.49, 3)
    tally.effective_share("one_of_four", 5.0, 25.0, 4)  # weights 5, 0, 0, 0
    tally.effective_share("none", 0.0, 0.0, 4)
    assert tally.values() == {"equal": pytest.approx(1.0), "one_of_four": 0.25}


@given(numbers, st.lists(st.integers(0, 20), max_size=5))
def test_correlation_of_any_split_is_that_of_all_pairs(values, cuts):
    x = np.array(values)
    y = x**2 + np.arange(x.size)
    tally = Tally()
    for pair in zip(np.split(x, sorted(cuts)), np.split(y, sorted(cuts)), strict=True):
        part = Tally()
        part.correlation("r", *pair)
        tally.add(part)
    spread = x.std() > 1e-3 * (1 + np.abs(x).max()) and y.std() > 1e-3 * (1 + np.abs(y).max())
    if spread:
        assert tally.values()["r"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)


def test_a_correlation_with_what_does_not_vary_is_left_out():
    tally = Tally()
    tally.correlation("none", np.zeros(0), np.zeros(0))
    tally.correlation("one", np.array([2.0]), np.array([3.0]))
    tally.correlation("constant", np.full(5, 0.1), np.arange(5.0))
    tally.correlation("still", np.arange(5.0), np.zeros(5))
    tally.correlation("opposite", np.arange(5.0), -np.arange(5.0))
    assert tally.values() == {"opposite": pytest.approx(-1.0)}
