"""The table that closes a sweep: `python -m launch.sweep FOLDER` prints it again and writes sweep.csv.

A sweep itself is `python -m launch.train --multirun ...`.
"""

import argparse
import csv
import io
import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from launch.config import ConfigError
from launch.points import FAILED, FINISHED, REFUSED, Point, locked, points_file, read_points
from launch.run_folder import METRICS, SUMMARY, read_metrics

TABLE = "sweep.csv"
SEED = "seed="
HELD_OUT = "heldout"
ENTROPY = "entropy/token_mean"


@dataclass(frozen=True)
class Figures:
    """What a run came to; None where it was not measured.

    base, final    avg@k on the held-out set before the first step and after the last
    entropy_first  mean token entropy of the first step, entropy_last of the last
    seconds        wall time, start-up included
    """

    base: float | None = None
    final: float | None = None
    entropy_first: float | None = None
    entropy_last: float | None = None
    steps: float | None = None
    seconds: float | None = None


NAMES = tuple(field.name for field in fields(Figures))
DIGITS = {"steps": 0, "seconds": 0}


@dataclass(frozen=True)
class Result:
    """A point and its figures."""

    point: Point
    figures: Figures


@dataclass(frozen=True)
class Arm:
    """Points that differ in the seed alone.

    overrides  those of the points, without the seed
    mean       over the finished points
    spread     their sample standard deviation; None with fewer than two
    """

    overrides: tuple[str, ...]
    points: int
    finished: int
    mean: Figures
    spread: Figures


def figures(rows: Sequence[dict[str, float]], summary: dict[str, Any] | None) -> Figures:
    """The figures of a run from its metric rows, oldest first, and the content of summary.json if there is one."""
    entropies = [row[ENTROPY] for row in rows if ENTROPY in row]
    first, last = (entropies[0], entropies[-1]) if entropies else (None, None)
    if summary is None:
        return Figures(None, None, first, last, rows[-1]["step"] if rows else 0, None)
    sets = summary["eval"]
    held_out = sets.get(HELD_OUT) or next(iter(sets.values()), {"avg_at_k": {"base": None, "final": None}})
    accuracy = held_out["avg_at_k"]
    return Figures(accuracy["base"], accuracy["final"], first, last, summary["steps"], summary["seconds"])


def results(folder: Path) -> list[Result]:
    """All points of the sweep in `folder`. Raises ConfigError where it holds none."""
    return [Result(point, _figures_of(folder / point.name, point.status)) for point in read_points(folder)]


def arms(found: Sequence[Result]) -> list[Arm]:
    """The points grouped by everything but their seed, in the order in which the groups begin."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in found:
        overrides = tuple(o for o in result.point.overrides if not o.startswith(SEED))
        groups.setdefault(overrides, []).append(result)
    return [_arm(overrides, group) for overrides, group in groups.items()]


def text(found: Sequence[Result]) -> str:
    """The table to read: every point, means and spreads over seeds, and a sentence for each point that is not done."""
    shared = shared_by([result.point.overrides for result in found])
    rows = [["point", "status", *NAMES]]
    for result in found:
        cells = [_cell(name, getattr(result.figures, name)) for name in NAMES]
        rows.append([named(result.point.overrides, shared), result.point.status, *cells])
    blocks = [_columns(rows)]
    groups = arms(found)
    if any(arm.points > 1 for arm in groups):
        rows = [["mean over seeds", FINISHED, *NAMES]]
        for arm in groups:
            cells = [_cell(name, getattr(arm.mean, name), getattr(arm.spread, name)) for name in NAMES]
            rows.append([named(arm.overrides, shared), f"{arm.finished} of {arm.points}", *cells])
        blocks.append(_columns(rows))
    if shared:
        blocks.append(f"in every point: {' '.join(sorted(shared))}")
    if undone := [result.point for result in found if result.point.status != FINISHED]:
        blocks.append("\n".join(f"{p.status}: {named(p.overrides, shared)}: {_first_line(p.error)}" for p in undone))
    return "\n\n".join(blocks)


def shared_by(points: Sequence[Sequence[str]]) -> set[str]:
    """The overrides that all points have; none where there is one point alone, which would be without a name."""
    return set.intersection(*map(set, points)) if len(points) > 1 else set()


def named(overrides: Sequence[str], shared: set[str]) -> str:
    """What a point is called among points that have the overrides `shared`."""
    return " ".join(override for override in overrides if override not in shared) or "defaults"


def to_csv(found: Sequence[Result]) -> str:
    """The same as CSV: a row per point (`row` is point), then one per group of seeds (`row` is mean) with spreads."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    spreads = [f"{name}_spread" for name in NAMES]
    writer.writerow(["row", "overrides", "seed", "status", "points", "finished", *NAMES, *spreads, "error", "folder"])
    for result in found:
        point = result.point
        seed = next((o.removeprefix(SEED) for o in point.overrides if o.startswith(SEED)), "")
        overrides = " ".join(o for o in point.overrides if not o.startswith(SEED))
        done = int(point.status == FINISHED)
        blank = [""] * len(NAMES)
        error = _first_line(point.error) if point.error else ""
        writer.writerow(
            ["point", overrides, seed, point.status, 1, done, *astuple(result.figures), *blank, error, point.name]
        )
    for arm in arms(found):
        overrides = " ".join(arm.overrides)
        writer.writerow(
            ["mean", overrides, "", "", arm.points, arm.finished, *astuple(arm.mean), *astuple(arm.spread), "", ""]
        )
    return out.getvalue()


def close(folder: Path) -> list[Result]:
    """Print the table of the sweep in `folder`, write it as CSV and return what is in it.

    Raises ConfigError where there is no sweep.
    """
    points_file(folder)
    path = folder / TABLE
    # Points that other processes run may be moved meanwhile, and tables written.
    with locked(folder):
        found = results(folder)
        path.write_text(to_csv(found), encoding="utf-8")
    print(f"\n{text(found)}\n\ntable: {path}")
    return found


def exit_status(points: Iterable[Point]) -> int:
    """0 where all points finished, 2 where settings were refused and nothing else went wrong, 1 otherwise."""
    undone = {point.status for point in points} - {FINISHED}
    return 0 if not undone else 2 if undone == {REFUSED} else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m launch.sweep", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of a sweep, as given in hydra.sweep.dir")
    try:
        close(parser.parse_args().folder)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _figures_of(folder: Path, status: str) -> Figures:
    # What lies in the folder of a point that was refused is of an earlier attempt.
    if status == REFUSED or not (folder / METRICS).is_file():
        return Figures()
    summary = folder / SUMMARY
    known = json.loads(summary.read_text()) if summary.is_file() and status in (FINISHED, FAILED) else None
    return figures(read_metrics(folder), known)


def _arm(overrides: tuple[str, ...], group: Sequence[Result]) -> Arm:
    done = [result.figures for result in group if result.point.status == FINISHED]
    mean, spread = {}, {}
    for name in NAMES:
        values = [value for one in done if (value := getattr(one, name)) is not None]
        mean[name] = statistics.fmean(values) if values else None
        spread[name] = statistics.stdev(values) if len(values) > 1 else None
    return Arm(overrides, len(group), len(done), Figures(**mean), Figures(**spread))


def _cell(name: str, value: float | None, spread: float | None = None) -> str:
    digits = DIGITS.get(name, 3)
    if value is None:
        return "-"
    return f"{value:.{digits}f}" + (f" ±{spread:.{digits}f}" if spread is not None else "")


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        words = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*words, *numbers]))
    return "\n".join(lines)


def _first_line(error: str | None) -> str:
    return error.strip().splitlines()[0] if error and error.strip() else "it was interrupted"


if __name__ == "__main__":
    sys.exit(main())
