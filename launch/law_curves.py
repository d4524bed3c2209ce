"""The points (entropy, accuracy) of runs on disk, and the forms of `entropy.law` fitted to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from entropy.law import EXPONENTIAL, FORMS, Fit, Forecast, Form, NoFit, Scaling, fit, forecast, scaling
from launch.points import POINTS, REFUSED, read_points
from launch.run_folder import CONFIG, METRICS, RunFolderError, read_metrics
from launch.sweep import ENTROPY, HELD_OUT, SEED, named, shared_by
from launch.wording import Row

TRAIN = "reward/accuracy"


@dataclass(frozen=True)
class Curve:
    """Points of one run in the order of training.

    arm                what runs that differ in the seed alone share
    entropies, scores  float [points]: mean token entropy in nats, accuracy from 0 to 1
    width              model.width of the run; None where it has none
    """

    name: str
    arm: str
    entropies: np.ndarray
    scores: np.ndarray
    width: int | None


@dataclass(frozen=True)
class Line:
    """One form on one curve; a sentence in the place of what the points do not determine."""

    form: Form
    fit: Fit | str
    forecast: Forecast | str


def points(rows: Sequence[Row], accuracy: str) -> tuple[np.ndarray, np.ndarray]:
    """Entropies and accuracies float [points] of the policies that were measured in both.

    Entropy in row t is of the responses of step t, drawn before its updates, and so is its training accuracy; an
    evaluation in row t is of the weights after them, which draw the responses of step t + 1. The last one has no next
    step and is left out. The held-out set is the one of that name, or the first of the run.

    accuracy  train | heldout
    """
    entropies = {row["step"]: row[ENTROPY] for row in rows if ENTROPY in row}
    if accuracy == "train":
        found = [(entropies[row["step"]], row[TRAIN]) for row in rows if TRAIN in row and row["step"] in entropies]
    else:
        sets = list(dict.fromkeys(key for row in rows for key in row if _is_accuracy(key)))
        wanted = f"eval/{HELD_OUT}/avg_at_k"
        key = wanted if wanted in sets or not sets else sets[0]
        found = [(entropies[row["step"] + 1], row[key]) for row in rows if key in row and row["step"] + 1 in entropies]
    table = np.array(found, np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _is_accuracy(key: str) -> bool:
    return key.startswith("eval/") and key.endswith("/avg_at_k")


def curves(folder: Path, accuracy: str) -> tuple[list[Curve], list[str]]:
    """The curves of a run or of the points of a sweep, and a sentence for each point that has none.

    Raises RunFolderError where `folder` is neither.
    """
    if (folder / METRICS).is_file():
        return [_curve(str(folder), str(folder), folder, accuracy)], []
    if not (folder / POINTS).is_file():
        raise RunFolderError(
            f"{folder} holds neither {METRICS} nor {POINTS}, so it is the folder of neither a run nor a sweep"
        )
    found, left_out = [], []
    sweep = read_points(folder)
    shared = shared_by([point.overrides for point in sweep])
    for point in sweep:
        name = named(point.overrides, shared)
        # What lies in the folder of a refused point is of an earlier attempt.
        if point.status == REFUSED or not (folder / point.name / METRICS).is_file():
            left_out.append(f"left out: {name}: {point.status}, without metrics of its own")
        else:
            arm = named([each for each in point.overrides if not each.startswith(SEED)], shared)
            found.append(_curve(name, arm, folder / point.name, accuracy))
    return found, left_out


def _curve(name: str, arm: str, folder: Path, accuracy: str) -> Curve:
    config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")) if (folder / CONFIG).is_file() else {}
    entropies, scores = points(read_metrics(folder), accuracy)
    return Curve(name, arm, entropies, scores, config.get("model", {}).get("width"))


def lines(curve: Curve) -> list[Line]:
    """Every form on the points of `curve`."""
    return [_line(curve, form) for form in FORMS]


def _line(curve: Curve, form: Form) -> Line:
    try:
        fitted = fit(curve.entropies, curve.scores, form)
    except NoFit as error:
        return Line(form, str(error), str(error))
    try:
        return Line(form, fitted, forecast(curve.entropies, curve.scores, form))
    except NoFit as error:
        return Line(form, fitted, str(error))


def exponential(rows: Sequence[Line]) -> Fit | None:
    """The fit of the paper's form; None where the points do not determine it."""
    return next((row.fit for row in rows if row.form is EXPONENTIAL and isinstance(row.fit, Fit)), None)


@dataclass(frozen=True)
class Scalings:
    """Coefficients of the exponential form against ln(model.width).

    widths, fits  of the runs that have both
    a, b          lines through them
    """

    widths: np.ndarray
    fits: list[Fit]
    a: Scaling
    b: Scaling


def scalings(found: Sequence[tuple[Curve, Sequence[Line]]]) -> Scalings | None:
    """Over all runs; None where they do not differ in width."""
    pairs = [(curve.width, fitted) for curve, rows in found if curve.width and (fitted := exponential(rows))]
    if len({width for width, _ in pairs}) < 2:
        return None
    widths, fits = np.array([width for width, _ in pairs]), [fitted for _, fitted in pairs]
    a, b = (np.array([each.slope.value for each in fits]), np.array([each.intercept.value for each in fits]))
    return Scalings(widths, fits, scaling(widths, -a), scaling(widths, b))
