"""The course of a run on curves whose shares are known, and scipy's rank correlation on rows."""

import numpy as np
import pytest
from scipy import stats

from launch.course import Correlation, Early, correlations, early


def rows_of(entropies, **metrics) -> list[dict[str, float]]:
    rows = [{"step": step, "entropy/token_mean": value} for step, value in enumerate(entropies, 1)]
    for name, values in metrics.items():
        for row, value in zip(rows, values, strict=True):
            row[name.replace("__", "/")] = value
    return rows


def test_a_run_in_a_straight_line_brings_its_parts_in_proportion():
    line = np.linspace(0, 1, 241)
    found = early(rows_of(1 - line, reward__accuracy=0.2 + 0.5 * line))
    for part, share in (("twelfth", 1 / 12), ("third", 1 / 3)):
        # First and last are means of ten steps, so a line's share is off by at most half a window at each end.
        assert found[part].drop == pytest.approx(share, abs=0.03)
        assert found[part].gain == pytest.approx(found[part].drop)


def test_a_run_that_is_over_at_once_has_everything_in_its_first_part():
    falling = np.exp(-np.arange(240) / 8)
    found = early(rows_of(falling, reward__accuracy=-falling))
    # Means of ten steps, q^i for i from 0, 14 and 230 on, are q^0, q^14 and q^230 times the same sum.
    q = np.exp(-1 / 8)
    assert found["twelfth"].drop == pytest.approx((1 - q**14) / (1 - q**230))
    assert found["third"].gain == pytest.approx((1 - q**74) / (1 - q**230))


def test_what_did_not_fall_or_rise_has_no_share_and_a_short_run_nothing():
    rising, falling = np.linspace(0, 1, 60), np.linspace(1, 0, 60)
    assert early(rows_of(rising, reward__accuracy=falling))["third"] == Early(None, None)
    assert early(rows_of(falling[:11], reward__accuracy=rising[:11])) == {}


def test_rank_correlations_are_scipys_and_the_strongest_come_first():
    rng = np.random.default_rng(0)
    entropies = rng.random(30)
    noise = rng.random(30)
    rows = rows_of(entropies, a__with=np.exp(entropies), a__against=-(entropies**3), a__noise=noise, a__flat=[1.0] * 30)
    found = {each.metric: each for each in correlations(rows)}
    assert found["a/with"] == Correlation("a/with", pytest.approx(1.0), 30)
    assert found["a/against"].rho == pytest.approx(-1.0)
    assert found["a/noise"].rho == pytest.approx(stats.spearmanr(entropies, noise).statistic)
    assert set(found) == {"a/with", "a/against", "a/noise"}
    assert list(found)[-1] == "a/noise"


def test_an_evaluation_goes_with_the_entropy_of_the_next_step():
    rows = rows_of([5.0, 4.0, 3.0, 2.0, 1.0, 0.5])
    for row, value in zip(rows, (0.3, 0.1, 0.2, 0.4, 0.5, -1.0), strict=True):
        row["eval/set/avg_at_k"] = value
    [found] = correlations([{"step": 0, "eval/set/avg_at_k": 0.0}, *rows])
    # Entropies of steps 1 to 6 with the evaluations after steps 0 to 5; the last has no next step.
    assert found.points == 6
    assert found.rho == pytest.approx(stats.spearmanr([5, 4, 3, 2, 1, 0.5], [0, 0.3, 0.1, 0.2, 0.4, 0.5]).statistic)


def test_few_points_have_no_correlation():
    assert correlations(rows_of([1.0, 2.0, 3.0, 4.0], a__x=[1, 2, 3, 4])) == []
