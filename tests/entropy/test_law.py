"""The law recovers coefficients that are known, with the intervals of textbook regression."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from entropy.law import FORMS, Form, NoFit, TooFewPoints, fit, forecast, scaling

EXPONENTIAL, LINEAR, LOGARITHMIC = FORMS
TRUE = {"exponential": (-0.21, 0.596), "linear": (-0.3, 0.7), "logarithmic": (-0.1, 0.2)}


def series(form: Form, points: int = 80, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A collapse of entropy over a run, and accuracies that follow the form exactly, or but for noise."""
    entropies = 0.02 + 0.6 * np.exp(-np.arange(points) / (points / 5))
    slope, intercept = TRUE[form.name]
    basis = {"exponential": np.exp, "linear": np.asarray, "logarithmic": np.log}[form.name](entropies)
    return entropies, slope * basis + intercept + noise * np.random.default_rng(seed).normal(size=points)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_exact_points_give_the_coefficients_back(form):
    found = fit(*series(form), form)
    assert (found.slope.value, found.intercept.value) == pytest.approx(TRUE[form.name], rel=1e-10)
    assert found.slope.high - found.slope.low < 1e-10
    assert found.rmse < 1e-12
    assert found.r_squared == pytest.approx(1)
    assert found.points == 80


def test_the_ceiling_is_the_form_at_zero_entropy():
    assert fit(*series(EXPONENTIAL), EXPONENTIAL).ceiling.value == pytest.approx(0.596 - 0.21)
    assert fit(*series(LINEAR), LINEAR).ceiling.value == pytest.approx(0.7)
    assert fit(*series(LOGARITHMIC), LOGARITHMIC).ceiling is None


def test_the_published_curve_of_qwen_7b():
    """Cui et al., fig. 3 as drawn: a = 21.0, b = 59.6 in points of accuracy, so 38.7 (of 38.6) at no entropy."""
    entropies = np.linspace(0.56, 0.018, 200)
    found = fit(entropies, 59.6 - 21.0 * np.exp(entropies), EXPONENTIAL)
    assert found.ceiling.value == pytest.approx(38.7, abs=0.15)
    assert fit(entropies, 59.6 - 21.0 * np.exp(entropies), LINEAR).rmse < 0.6


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_intervals_and_errors_are_those_of_textbook_regression(form):
    entropies, scores = series(form, points=25, noise=0.02)
    found, x = fit(entropies, scores, form), form.basis(entropies)
    expected = stats.linregress(x, scores)
    quantile = stats.t.ppf(0.975, 23)
    for interval, value, error in (
        (found.slope, expected.slope, expected.stderr),
        (found.intercept, expected.intercept, expected.intercept_stderr),
    ):
        half = quantile * error
        assert (interval.value, interval.low, interval.high) == pytest.approx((value, value - half, value + half))
    assert found.r_squared == pytest.approx(expected.rvalue**2)
    residuals = scores - expected.slope * x - expected.intercept
    assert found.rmse == pytest.approx(math.sqrt((residuals**2).sum() / 23))


def test_interval_of_the_ceiling_is_by_the_covariance_of_the_coefficients():
    """Of (X'X)^-1 s^2, which another least-squares routine gives."""
    entropies, scores = series(EXPONENTIAL, points=25, noise=0.02)
    found = fit(entropies, scores, EXPONENTIAL).ceiling
    (a, b), covariance = optimize.curve_fit(lambda h, a, b: -a * np.exp(h) + b, entropies, scores, p0=(1, 1))
    half = stats.t.ppf(0.975, 23) * math.sqrt(np.array([-1, 1]) @ covariance @ np.array([-1, 1]))
    assert (found.value, found.low, found.high) == pytest.approx((b - a, b - a - half, b - a + half), rel=1e-5)


def test_intervals_hold_the_truth_as_often_as_they_say():
    fits = [fit(*series(EXPONENTIAL, points=12, noise=0.02, seed=seed), EXPONENTIAL) for seed in range(1000)]
    slope, intercept = TRUE["exponential"]
    truth = {"slope": slope, "intercept": intercept, "ceiling": slope + intercept}
    for name, value in truth.items():
        inside = sum(getattr(each, name).low <= value <= getattr(each, name).high for each in fits)
        assert 930 <= inside <= 970


def test_least_squares_is_least():
    entropies, scores = series(EXPONENTIAL, points=20, noise=0.05)
    found = fit(entropies, scores, EXPONENTIAL)

    def squares(slope: float, intercept: float) -> float:
        return float(((slope * np.exp(entropies) + intercept - scores) ** 2).sum())

    best = squares(found.slope.value, found.intercept.value)
    for along, across in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3), (1e-3, -1e-3)):
        assert squares(found.slope.value + along, found.intercept.value + across) > best


def test_a_forecast_of_what_follows_the_law_has_no_error():
    found = forecast(*series(EXPONENTIAL), EXPONENTIAL)
    assert (found.fit.points, found.predicted) == (12, 68)
    assert found.rmse < 1e-10
    assert abs(found.final_error) < 1e-10
    assert forecast(*series(EXPONENTIAL), LINEAR).rmse > 1e-3


def test_a_forecast_by_hand():
    # The first three points are on R = 1 - H; then 0.2 and 0.1 above and below it.
    entropies, scores = np.array([0.6, 0.5, 0.4, 0.3, 0.2]), np.array([0.4, 0.5, 0.6, 0.9, 0.7])
    found = forecast(entropies, scores, LINEAR)
    assert found.rmse == pytest.approx(math.sqrt((0.2**2 + 0.1**2) / 2))
    assert found.final_error == pytest.approx(0.8 - 0.7)
    assert (found.fit.points, found.predicted) == (3, 2)


@pytest.mark.parametrize(("points", "first"), [(4, 3), (20, 3), (21, 4), (60, 9), (340, 51), (1000, 150)])
def test_how_many_points_are_early(points, first):
    assert forecast(*series(LINEAR, points), LINEAR).fit.points == first


def test_early_is_a_share_on_paper_and_not_in_floats():
    assert math.ceil(0.07 * 100) == 8
    assert forecast(*series(LINEAR, 100), LINEAR, early=0.07).fit.points == 7


def test_points_that_determine_nothing_are_refused():
    with pytest.raises(TooFewPoints, match=r"2 points do not determine R = -a e\^H \+ b; at least 3 are needed"):
        fit(np.array([0.1, 0.2]), np.array([0.5, 0.6]), EXPONENTIAL)
    with pytest.raises(TooFewPoints, match="5 points that all have entropy 0 do not"):
        fit(np.zeros(5), np.linspace(0, 1, 5), EXPONENTIAL)
    with pytest.raises(TooFewPoints, match="3 points leave none to predict after the first 3"):
        forecast(np.array([0.3, 0.2, 0.1]), np.array([0.5, 0.6, 0.7]), LINEAR)
    with pytest.raises(NoFit, match="ln H needs entropies above 0, and 2 of 4 are not"):
        fit(np.array([0.2, 0.1, 0.0, 0.0]), np.linspace(0, 1, 4), LOGARITHMIC)
    with pytest.raises(ValueError, match="not finite"):
        fit(np.array([0.1, 0.2, np.nan]), np.zeros(3), LINEAR)
    with pytest.raises(ValueError, match="one value per point"):
        fit(np.zeros(3), np.zeros(4), LINEAR)


def test_accuracy_that_does_not_vary_has_no_r_squared():
    scores = np.full(3, 0.1)
    assert scores.mean() != 0.1
    found = fit(np.array([0.1, 0.2, 0.4]), scores, LINEAR)
    assert math.isnan(found.r_squared)
    assert found.slope.value == pytest.approx(0, abs=1e-15)


def test_scaling_by_hand_and_of_published_coefficients():
    found = scaling(np.array([math.e, math.e**2, math.e**3]), np.array([1.0, 3.0, 5.0]))
    assert (found.slope, found.intercept, found.r_squared) == pytest.approx((2, -1, 1))
    # Cui et al., fig. 7 as drawn: a of Qwen2.5 0.5B to 32B against billions of parameters without embeddings.
    found = scaling(np.array([0.36, 1.31, 2.77, 6.53, 31.0]), np.array([4.4, 9.5, 17.6, 21.0, 23.6]))
    assert (found.slope, found.intercept, found.r_squared) == pytest.approx((4.6, 10.1, 0.91), rel=0.01)
    with pytest.raises(TooFewPoints, match="at least two sizes"):
        scaling(np.array([96, 96]), np.array([1.0, 2.0]))
