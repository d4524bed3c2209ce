"""The law of Cui et al. 2025 (arXiv 2505.22617, section 2), R = -a e^H + b of accuracy and entropy, and its rivals.

All three forms are linear in their two coefficients, so each is ordinary least squares on (basis(H), R).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

# The part of a run that the paper forecasts from.
EARLY = 0.15
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Form:
    """R = slope · basis(H) + intercept."""

    name: str
    text: str
    basis: Callable[[np.ndarray], np.ndarray]
    at_zero: float  # of the basis at H = 0; infinite where the form has no ceiling


EXPONENTIAL = Form("exponential", "R = -a e^H + b", np.exp, 1.0)
FORMS = (
    EXPONENTIAL,
    Form("linear", "R = c - d H", lambda h: h, 0.0),
    Form("logarithmic", "R = c - d ln H", np.log, -math.inf),
)


@dataclass(frozen=True)
class Interval:
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Fit:
    """One form fitted to the points of a run; intervals are at 95 % under independent normal errors.

    slope, intercept  of the basis: -a and b, or -d and c
    ceiling           R at H = 0: b - a, or c; None where the form has none
    rmse              of the points that were fitted, with n - 2 in the denominator
    r_squared         share of the variance of R that is explained; NaN where R does not vary
    points            that were fitted
    """

    form: Form
    slope: Interval
    intercept: Interval
    ceiling: Interval | None
    rmse: float
    r_squared: float
    points: int

    def predict(self, entropies: np.ndarray) -> np.ndarray:
        return self.slope.value * self.form.basis(np.asarray(entropies, np.float64)) + self.intercept.value


@dataclass(frozen=True)
class Forecast:
    """A fit to the first points of a run, held against the rest.

    rmse         over the points that were predicted
    final_error  predicted minus measured R at the last point
    predicted    points
    """

    fit: Fit
    rmse: float
    final_error: float
    predicted: int


class NoFit(ValueError):
    """Points that a form cannot be fitted to."""


class TooFewPoints(NoFit):
    """Points that do not determine a line."""


def fit(entropies: np.ndarray, scores: np.ndarray, form: Form) -> Fit:
    """Least squares of `form` on points (H, R), both float [n].

    Raises TooFewPoints with fewer than three points or without two different entropies, NoFit for the logarithmic form
    where an entropy is not above 0, ValueError where a value is not finite.
    """
    h, r = np.asarray(entropies, np.float64), np.asarray(scores, np.float64)
    if h.shape != r.shape or h.ndim != 1:
        raise ValueError(f"entropies {h.shape} and scores {r.shape} are one value per point")
    if not (np.isfinite(h).all() and np.isfinite(r).all()):
        raise ValueError("an entropy or a score is not finite")
    if form.name == "logarithmic" and (h <= 0).any():
        raise NoFit(f"{form.text} needs entropies above 0, and {int((h <= 0).sum())} of {h.size} are not")
    x = form.basis(h)
    if h.size < 3:
        raise TooFewPoints(f"{h.size} points do not determine {form.text}; at least 3 are needed")
    if np.ptp(x) == 0:
        raise TooFewPoints(f"{h.size} points that all have entropy {h[0]:.3g} do not determine {form.text}")
    centre, spread = x.mean(), ((x - x.mean()) ** 2).sum()
    slope = float(((x - centre) * (r - r.mean())).sum() / spread)
    intercept = float(r.mean() - slope * centre)
    residual = r - slope * x - intercept
    variance = float((residual**2).sum()) / (h.size - 2)
    width = float(stats.t.ppf((1 + CONFIDENCE) / 2, h.size - 2))

    def at(place: float) -> Interval:
        value = slope * place + intercept
        half = width * math.sqrt(variance * (1 / h.size + (place - centre) ** 2 / spread))
        return Interval(value, value - half, value + half)

    half = width * math.sqrt(variance / spread)
    total = float(((r - r.mean()) ** 2).sum())
    return Fit(
        form=form,
        slope=Interval(slope, slope - half, slope + half),
        intercept=at(0.0),
        ceiling=at(form.at_zero) if math.isfinite(form.at_zero) else None,
        rmse=math.sqrt(variance),
        r_squared=1 - float((residual**2).sum()) / total if np.ptp(r) else math.nan,
        points=h.size,
    )


def forecast(entropies: np.ndarray, scores: np.ndarray, form: Form, early: float = EARLY) -> Forecast:
    """Fit the first `early` share of the points, in the order of training, and predict the rest from their entropies.

    At least three points are fitted. Raises TooFewPoints where nothing is left to predict.
    """
    h, r = np.asarray(entropies, np.float64), np.asarray(scores, np.float64)
    # The margin is for products such as 0.07 * 100, which in floats is a little more than 7.
    first = max(3, math.ceil(early * h.size - 1e-9))
    if first >= h.size:
        raise TooFewPoints(f"{h.size} points leave none to predict after the first {first}")
    fitted = fit(h[:first], r[:first], form)
    error = fitted.predict(h[first:]) - r[first:]
    return Forecast(fitted, float(np.sqrt((error**2).mean())), float(error[-1]), error.size)


@dataclass(frozen=True)
class Scaling:
    """A coefficient against the logarithm of model size (fig. 7): value = slope · ln(size) + intercept."""

    slope: float
    intercept: float
    r_squared: float


def scaling(sizes: np.ndarray, values: np.ndarray) -> Scaling:
    """Least squares of a coefficient of the law on ln(size), both float [runs].

    sizes  parameters without embeddings in the paper, or any measure that all runs share, such as width

    Raises TooFewPoints without two different sizes.
    """
    x, y = np.log(np.asarray(sizes, np.float64)), np.asarray(values, np.float64)
    if np.unique(x).size < 2:
        raise TooFewPoints("coefficients against model size need at least two sizes")
    found = stats.linregress(x, y)
    return Scaling(float(found.slope), float(found.intercept), float(found.rvalue**2))
