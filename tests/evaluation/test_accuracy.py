"""avg@k, pass@k, maj@k and their intervals, against enumeration and closed forms."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from launch.accuracy import average_at_k, interval, majority_at_k, pass_at_k

NAN = float("nan")


def test_averages_leave_out_what_has_no_verdict():
    right = np.array([[1, 0, NAN, 1], [NAN, NAN, NAN, NAN], [0, 0, 0, 0]])
    np.testing.assert_allclose(average_at_k(right), [2 / 3, NAN, 0])


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_pass_at_k_is_the_share_of_draws_with_a_right_one(k):
    generator = np.random.default_rng(k)
    right = (generator.random((20, 5)) < 0.3).astype(float)
    expected = [np.mean([max(draw) for draw in combinations(row, k)]) for row in right]
    np.testing.assert_allclose(pass_at_k(right, k), expected)


def test_pass_at_one_is_the_average_and_too_few_verdicts_give_none():
    right = np.array([[1, 0, NAN], [1, 1, 0]])
    np.testing.assert_allclose(pass_at_k(right, 1), average_at_k(right))
    np.testing.assert_allclose(pass_at_k(right, 3), [NAN, 1])


def enumerated(answers: list[str | None], right: list[bool], k: int) -> float:
    """By the definition: every draw votes, ties are shared."""
    shares = []
    for draw in combinations(range(len(answers)), k):
        votes = Counter("right" if right[i] else answers[i] for i in draw if answers[i] is not None)
        winners = [answer for answer, count in votes.items() if count == max(votes.values())]
        shares.append(winners.count("right") / max(len(winners), 1))
    return float(np.mean(shares))


@pytest.mark.parametrize("seed", range(12))
def test_majority_is_the_mean_over_all_draws(seed):
    generator = np.random.default_rng(seed)
    answers = [None if answer == 4 else str(answer) for answer in generator.integers(0, 4 + seed % 2, size=9)]
    right = [answer == "0" for answer in answers]
    for k in range(1, 10):
        assert majority_at_k(answers, right, k) == pytest.approx(enumerated(answers, right, k), abs=1e-12)


def test_majority_by_hand():
    assert majority_at_k(["a", "a", "b"], [True, True, False], 3) == 1.0
    assert majority_at_k(["a", "b"], [True, False], 2) == 0.5
    # 1/2 and 0.5 are both right, and together they outvote 3.
    assert majority_at_k(["1/2", "0.5", "3", "4"], [True, True, False, False], 4) == 1.0
    assert majority_at_k(["a"] * 40 + ["b"] * 24, [True] * 40 + [False] * 24, 64) == 1.0
    with pytest.raises(ValueError, match="3 votes of 2 responses"):
        majority_at_k(["a", "b"], [True, False], 3)


def test_majority_of_one_is_the_average_and_many_responses_stay_exact():
    answers, right = [str(i % 7) for i in range(256)], [i % 7 == 0 for i in range(256)]
    assert majority_at_k(answers, right, 1) == pytest.approx(np.mean(right))
    # 37 right, and 37 each of three wrong ones: the sums of all draws of all answers are those of one.
    assert 0.0 < majority_at_k(answers, right, 128) < 1.0


def test_the_interval_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = interval((generator.random(80) < 0.4).astype(float), seed=trial, resamples=400)
        hits += low <= 0.4 <= high
    assert 0.90 <= hits / 200 <= 0.99


def test_the_interval_has_a_generator_of_its_own():
    values = np.random.default_rng(1).random(50)
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    assert interval(values, seed=3) == interval(values, seed=3) != interval(values, seed=4)
    assert (np.random.get_state()[1] == before).all()
    assert interval(np.array([0.5, NAN]), seed=0) == (0.5, 0.5)
    with pytest.raises(ValueError, match="no prompt has a value"):
        interval(np.array([NAN]), seed=0)
