"""Figures of a sweep against calculations by hand, scipy's paired test and brute force."""

import numpy as np
import pytest
from scipy import stats

from launch.sweep_figures import Outcome, Paired, Spread, by_arm, front, measured, paired, smoothed, spread, swept

ROWS = [
    {"step": 0, "eval/heldout/avg_at_k": 0.25, "eval/heldout/k": 4, "time/step_s": 2.0},
    {"step": 1, "entropy/token_mean": 1.0, "tokens/generated": 100, "time/step_s": 3.0},
    {"step": 2, "entropy/token_mean": 0.5, "tokens/generated": 50, "time/step_s": 1.0, "eval/heldout/avg_at_k": 0.5},
]


def outcome(arm: str, seed: int, accuracy: float | None) -> Outcome:
    return Outcome(f"{arm} {seed}", (f"clip={arm}",), str(seed), {} if accuracy is None else {"accuracy": accuracy})


def test_a_run_by_hand():
    assert measured(ROWS) == {
        "accuracy/heldout": 0.5,
        "gain/heldout": 0.25,
        "entropy_first": 1.0,
        "entropy_final": pytest.approx(0.4 * 0.5 + 0.6 * 1.0),
        "tokens": 150,
        "seconds": 6.0,
    }
    assert measured(ROWS[:1]) == {"seconds": 2.0}
    assert measured([]) == {}


def test_the_gap_is_the_last_one_of_heldout_or_of_the_first_set():
    first = {"step": 20, "eval/b/train_gap": 0.3, "eval/heldout/train_gap": 0.1}
    rows = [first, {"step": 40, "eval/b/train_gap": 0.4, "eval/heldout/train_gap": 0.2}, {"step": 41}]
    assert measured(rows) == {"gap/heldout": 0.2}
    assert measured([{"step": 20, "eval/b/train_gap": 0.3, "eval/c/train_gap": 0.1}]) == {"gap/b": 0.3}


def test_smoothing_forgets_at_its_rate():
    assert smoothed([]) is None
    # 1 after a long past of 0 counts 0.4, and after n further zeros 0.4 · 0.6^n.
    assert smoothed([0.0] * 50 + [1.0] + [0.0] * 3) == pytest.approx(0.4 * 0.6**3)


def test_differences_over_common_seeds_are_scipys_paired_t_test():
    a = [outcome("a", seed, value) for seed, value in enumerate((0.5, 0.6, 0.55, 0.7))]
    b = [outcome("b", seed, value) for seed, value in ((3, 0.9), (1, 0.7), (0, 0.8), (7, 0.1))]
    found = paired(a, b, "accuracy")
    tested = stats.ttest_rel([0.8, 0.7, 0.9], [0.5, 0.6, 0.7])
    assert found.seeds == 3
    assert found.difference == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx(tuple(tested.confidence_interval(0.95)))
    # The differences are 0.3, 0.1 and 0.2, their deviation 0.1, and t of 2 degrees 4.302653.
    assert found.high == pytest.approx(0.2 + 4.302653 * 0.1 / np.sqrt(3))
    assert not found.is_clear


def test_one_common_seed_has_no_interval_and_none_no_difference():
    a, b = [outcome("a", 0, 0.5), outcome("a", 1, None)], [outcome("b", 0, 0.75), outcome("b", 1, 0.5)]
    assert paired(a, b, "accuracy") == Paired("accuracy", 0.25, None, None, 1)
    assert paired(a[1:], b, "accuracy") is None


def test_spread_by_hand():
    assert spread([0.5, 0.7]) == Spread(pytest.approx(0.6), pytest.approx(np.sqrt(0.02)), 0.5, 0.7, 2)
    assert spread([0.5]) == Spread(0.5, None, 0.5, 0.5, 1)
    assert spread([]) is None


def test_the_front_against_brute_force():
    points = np.random.default_rng(0).integers(0, 6, (40, 2)).astype(float)
    expected = [not any(all(other >= point) and any(other > point) for other in points) for point in points]
    assert front(points).tolist() == expected
    # Equal points do not push each other out.
    assert front(np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 2.0], [0.0, 1.0]])).tolist() == [True, True, True, False]


def test_arms_and_what_they_differ_in():
    found = by_arm([outcome("a", 0, 0.1), outcome("b", 0, 0.2), outcome("a", 1, 0.3)])
    assert [(arm, [each.seed for each in group]) for arm, group in found.items()] == [
        (("clip=a",), ["0", "1"]),
        (("clip=b",), ["0"]),
    ]
    arms = [("clip=a", "lr=1", "steps=2"), ("clip=b", "lr=1", "steps=2"), ("clip=b", "steps=2", "+x=1")]
    assert swept(arms) == {"clip": ["a", "b"], "lr": ["1", "-"], "+x": ["-", "1"]}
