"""The law between entropy and accuracy, from the metrics of runs: `python -m launch.law RUN...`.

Prints R = -a e^H + b of Cui et al. 2025 (arXiv 2505.22617) beside its rivals, forecasts from the first points, and the
coefficients against model width where the runs differ in it; draws them as law.svg.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from entropy.law import CONFIDENCE, EARLY, EXPONENTIAL, Fit, Forecast, Interval
from launch.law_curves import Curve, Line, curves, lines, scalings
from launch.run_folder import RunFolderError

PICTURE = "law.svg"
PICTURES = (".svg", ".png", ".pdf")
ACCURACIES = {
    "train": "training accuracy of each step (reward/accuracy), H the entropy of the same step's responses",
    "heldout": "held-out accuracy (avg@k), H the entropy of the next step's responses, drawn by the same weights",
}


def text(found: Sequence[tuple[Curve, Sequence[Line]]], accuracy: str) -> str:
    """The tables to read: a block for each run, then the coefficients against width."""
    blocks = [f"R is {ACCURACIES[accuracy]}.\nIntervals are at {CONFIDENCE:.0%} under independent errors."]
    blocks += [_block(curve, rows) for curve, rows in found]
    if by_width := scalings(found):
        widths = ", ".join(str(width) for width in sorted(set(by_width.widths.tolist())))
        heading = f"coefficients of {EXPONENTIAL.text} over {by_width.widths.size} runs of model.width {widths}"
        sentences = [
            f"{name} = {each.slope:.3f} ln(width) {each.intercept:+.3f}, R² {each.r_squared:.3f}"
            for name, each in (("a", by_width.a), ("b", by_width.b))
        ]
        blocks.append("\n".join([heading, *sentences]))
    return "\n\n".join(blocks)


def _block(curve: Curve, rows: Sequence[Line]) -> str:
    table = [["form", "a or d", "b or c", "ceiling at H = 0", "RMSE", "R²", "forecast RMSE", "final error"]]
    sentences = []
    for row in rows:
        if isinstance(row.fit, str):
            sentences.append(f"not fitted: {row.fit}")
            continue
        slope, intercept, ceiling = row.fit.slope, row.fit.intercept, row.fit.ceiling
        a = Interval(-slope.value, -slope.high, -slope.low)
        r_squared = "-" if math.isnan(row.fit.r_squared) else f"{row.fit.r_squared:.3f}"
        cells = [row.form.text, _cell(a), _cell(intercept), _cell(ceiling), f"{row.fit.rmse:.4f}", r_squared]
        if isinstance(row.forecast, str):
            sentences.append(f"not forecast: {row.forecast}")
            table.append([*cells, "-", "-"])
        else:
            table.append([*cells, f"{row.forecast.rmse:.4f}", f"{row.forecast.final_error:+.4f}"])
    made = next((row.forecast for row in rows if isinstance(row.forecast, Forecast)), None)
    if made:
        first = f"fitted to the first {made.fit.points} points ({EARLY:.0%}, at least 3)"
        sentences.append(f"forecast: {first}, {made.predicted} predicted; final error is predicted minus measured")
    return "\n".join([f"{curve.name}: {curve.scores.size} points", *_columns(table), *dict.fromkeys(sentences)])


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    if len(table) == 1:
        return []
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in table
    ]


def _cell(interval: Interval | None) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]" if interval else "none"


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m launch.law", description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run or of a sweep")
    parser.add_argument(
        "--accuracy",
        choices=tuple(ACCURACIES),
        default="train",
        help="train: of every step's own responses, many points (the default); heldout: of the evaluations, few",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help=f"the drawing, {', '.join(PICTURES)}; without it {PICTURE} in RUN, or here where there are several",
    )
    asked = parser.parse_args(arguments)
    asked.output = asked.output or (asked.runs[0] / PICTURE if len(asked.runs) == 1 else Path(PICTURE))
    if asked.output.suffix not in PICTURES:
        parser.error(f"--output={asked.output} ends in none of {', '.join(PICTURES)}")
    return asked


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, draw the picture, return the exit status: 2 where there is nothing to fit."""
    # matplotlib takes a second to import, and --help needs none of it.
    from launch.law_chart import draw

    asked = _arguments(arguments)
    found: list[tuple[Curve, Sequence[Line]]] = []
    try:
        for folder in asked.runs:
            of_folder, left_out = curves(folder, asked.accuracy)
            found += [(curve, lines(curve)) for curve in of_folder]
            for sentence in left_out:
                print(sentence, file=sys.stderr)
    except RunFolderError as error:
        print(error, file=sys.stderr)
        return 2
    if not any(isinstance(line.fit, Fit) for _, rows in found for line in rows):
        print("\n".join(_nothing(curve, rows[0], asked.accuracy) for curve, rows in found), file=sys.stderr)
        return 2
    print(text(found, asked.accuracy))
    try:
        draw(found, scalings(found), ACCURACIES[asked.accuracy], asked.output)
    except OSError as error:
        print(f"--output={asked.output} cannot be written ({error.strerror}).", file=sys.stderr)
        return 2
    print(f"\ndrawing: {asked.output}")
    return 0


def _nothing(curve: Curve, line: Line, accuracy: str) -> str:
    more = "; evaluation.every sets how many there are, and --accuracy train has one a step" * (accuracy == "heldout")
    return f"{curve.name}: {line.fit}{more}."


if __name__ == "__main__":
    sys.exit(main())
