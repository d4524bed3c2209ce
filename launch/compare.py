"""What sets two runs apart: `python -m launch.compare RUN_A RUN_B`.

Prints the settings that differ, and of every metric that both have the means over the same last steps, with an interval
of their difference step by step.
"""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from launch.run_folder import CONFIG, RunFolderError, read_metrics
from launch.trackers import flat

RESAMPLES = 2_000
LEVEL = 0.95
FEWEST = 8  # paired steps that an interval is given for
# Differ between any two runs, or by the machine's mood.
NOT_COMPARED = ("step", "weight_version", "time/", "speed/", "memory/")
# The name of a run and where it is.
NOT_SETTINGS = ("name", "output.folder", "resume")


@dataclass(frozen=True)
class Difference:
    """Of one metric, B against A: means over `steps` steps that both have, and the interval of the mean difference.

    low and high are None where there are too few steps; both 0 where the runs are equal at every step.
    """

    metric: str
    steps: int
    a: float
    b: float
    low: float | None
    high: float | None

    @property
    def is_clear(self) -> bool:
        """The interval leaves out 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def settings_apart(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, value in A, value in B) of each setting that differs; a setting that one does not have is None there."""
    ours, theirs = dict(flat(a)), dict(flat(b))
    keys = [key for key in dict.fromkeys([*ours, *theirs]) if key not in NOT_SETTINGS]
    return [(key, ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)]


def differences(
    a: Sequence[Mapping[str, float]], b: Sequence[Mapping[str, float]], last: float, seed: int = 0
) -> list[Difference]:
    """B against A in each metric, in A's order, over the last share `last` of the steps that both have."""
    ours, theirs = ({int(row["step"]): row for row in rows} for rows in (a, b))
    found = []
    for metric in dict.fromkeys(key for row in a for key in row if not key.startswith(NOT_COMPARED)):
        steps = [step for step in sorted(ours) if metric in ours[step] and metric in theirs.get(step, {})]
        steps = steps[len(steps) - math.ceil(len(steps) * last) :]
        if not steps:
            continue
        x, y = (np.array([rows[step][metric] for step in steps], float) for rows in (ours, theirs))
        low, high = _interval(y - x, seed) if len(steps) >= FEWEST else (None, None)
        found.append(Difference(metric, len(steps), float(x.mean()), float(y.mean()), low, high))
    return found


def _interval(values: np.ndarray, seed: int) -> tuple[float, float]:
    """Percentile interval of the mean of successive values, by the circular block bootstrap (Politis and Romano 1992).

    Neighbouring steps are alike, so blocks of about n^(1/2) of them are drawn rather than single ones.
    """
    length = math.ceil(math.sqrt(values.size))
    blocks = math.ceil(values.size / length)
    starts = np.random.default_rng(seed).integers(values.size, size=(RESAMPLES, blocks, 1))
    drawn = (starts + np.arange(length)).reshape(RESAMPLES, -1)[:, : values.size] % values.size
    low, high = np.quantile(values[drawn].mean(axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def text(names: Sequence[str], settings: Sequence[tuple[str, Any, Any]], found: Sequence[Difference]) -> str:
    """What is printed: settings, then metrics, a star where the interval leaves out 0."""
    table = [["setting", "A", "B"], *[[key, str(a), str(b)] for key, a, b in settings]]
    blocks = [f"A  {names[0]}\nB  {names[1]}", _columns(table) if settings else "All settings are the same."]
    rows = [["metric", "steps", "A", "B", "B - A", f"{LEVEL:.0%} interval", ""]]
    for each in found:
        between = "-" if each.low is None else f"{each.low:+.4g} to {each.high:+.4g}"
        figures = [f"{each.a:.4g}", f"{each.b:.4g}", f"{each.b - each.a:+.4g}", between, "*" if each.is_clear else ""]
        rows.append([each.metric, str(each.steps), *figures])
    if found:
        blocks.append(_columns(rows))
        blocks.append(
            "Means over the same steps of both runs. The interval is that of the steps of these two runs, by a block\n"
            "bootstrap; what another seed would change it does not know. * leaves out 0."
        )
    else:
        blocks.append("The runs have no metric of the same step.")
    return "\n\n".join(blocks)


def _columns(table: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in table
    )


def _settings(folder: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFolderError(f"{folder / CONFIG} cannot be read ({error.strerror})") from error


def _share(given: str) -> float:
    value = float(given)
    if not 0 < value <= 1:
        raise ValueError
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison, return the exit status: 2 where a folder is no run's."""
    parser = argparse.ArgumentParser(prog="python -m launch.compare", description=__doc__.split("\n\n")[0])
    parser.add_argument("a", type=Path, metavar="RUN_A", help="folder of a run")
    parser.add_argument("b", type=Path, metavar="RUN_B", help="folder of the run that is set against it")
    parser.add_argument("--last", type=_share, default=1 / 3, help="share of the steps that count, the last (a third)")
    asked = parser.parse_args(arguments)
    try:
        settings = settings_apart(_settings(asked.a), _settings(asked.b))
        found = differences(read_metrics(asked.a), read_metrics(asked.b), asked.last)
    except RunFolderError as error:
        print(error, file=sys.stderr)
        return 2
    print(text([str(asked.a), str(asked.b)], settings, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
