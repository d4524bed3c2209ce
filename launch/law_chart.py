"""The drawing of `python -m launch.law`: points, fitted curves, and coefficients against model width."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from entropy.law import EARLY, Fit, Forecast
from launch.charts import GREY, ORANGE, PALETTE, PURPLE, SLATE, STYLE
from launch.law_curves import Curve, Line, Scalings, exponential

Found = Sequence[tuple[Curve, Sequence[Line]]]


def draw(found: Found, by_width: Scalings | None, accuracy: str, path: Path) -> None:
    """Write the picture to `path`, in the format that its ending names.

    One run is drawn with all forms and its early points marked, several with the exponential one each, in a colour for
    each arm. A second panel shows a and b of the runs where `by_width` is not None. Raises OSError where `path` cannot
    be written.
    """
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "law"}):
        figure = Figure(figsize=(10.5 if by_width else 6.0, 4.5), layout="constrained")
        panels = figure.subplots(1, 2 if by_width else 1, squeeze=False)[0]
        _one(panels[0], *found[0]) if len(found) == 1 else _several(panels[0], found)
        panels[0].set_xlabel("mean token entropy H (nats)")
        panels[0].set_ylabel("accuracy R (share correct)")
        panels[0].set_title(accuracy, fontsize=7)
        panels[0].legend(fontsize=7)
        if by_width:
            _coefficients(panels[1], by_width)
        temporary = path.with_name(f"{path.stem}.tmp{path.suffix}")
        figure.savefig(
            temporary, facecolor="white", dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None
        )
        os.replace(temporary, path)


def _one(axes: Axes, curve: Curve, rows: Sequence[Line]) -> None:
    made = next((row.forecast for row in rows if isinstance(row.forecast, Forecast)), None)
    early = made.fit.points if made else 0
    axes.scatter(curve.entropies[early:], curve.scores[early:], s=14, color=GREY, label=f"{curve.name}")
    if made:
        label = f"first {EARLY:.0%}"
        axes.scatter(curve.entropies[:early], curve.scores[:early], s=14, color="none", edgecolor=GREY, label=label)
    for row, colour in zip(rows, (ORANGE, SLATE, PURPLE), strict=True):
        if isinstance(row.fit, Fit):
            _fitted(axes, curve, row.fit, colour, label=row.form.text)


def _several(axes: Axes, found: Found) -> None:
    arms = dict.fromkeys(curve.arm for curve, _ in found)
    colours = dict(zip(arms, itertools.cycle(PALETTE), strict=False))
    for curve, rows in found:
        if fitted := exponential(rows):
            # One entry in the legend for all seeds of an arm; matplotlib leaves out what begins with "_".
            label = f"_{curve.arm}" if curve.arm in axes.get_legend_handles_labels()[1] else curve.arm
            axes.scatter(curve.entropies, curve.scores, s=8, color=colours[curve.arm], alpha=0.5, label=label)
            _fitted(axes, curve, fitted, colours[curve.arm])


def _fitted(axes: Axes, curve: Curve, fitted: Fit, colour: str, **style) -> None:
    grid = np.linspace(curve.entropies.min(), curve.entropies.max(), 200)
    axes.plot(grid, fitted.predict(grid), color=colour, linewidth=1.5, **style)


def _coefficients(axes: Axes, by_width: Scalings) -> None:
    widths = by_width.widths
    grid = np.geomspace(widths.min(), widths.max(), 100)
    slopes, intercepts = [each.slope for each in by_width.fits], [each.intercept for each in by_width.fits]
    for name, sign, intervals, line, colour in (
        ("a", -1, slopes, by_width.a, ORANGE),
        ("b", 1, intercepts, by_width.b, SLATE),
    ):
        values = [sign * each.value for each in intervals]
        errors = [each.high - each.value for each in intervals]
        axes.errorbar(widths, values, yerr=errors, fmt="o", color=colour, markersize=4, label=name)
        axes.plot(grid, line.slope * np.log(grid) + line.intercept, color=colour, linewidth=1.5)
    axes.set_xscale("log")
    axes.set_xticks(np.unique(widths), [str(width) for width in np.unique(widths)])
    axes.minorticks_off()
    axes.set_xlabel("model.width")
    axes.set_ylabel("coefficient")
    axes.legend()
