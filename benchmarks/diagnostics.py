"""What the default diagnostics cost of a step: `python -m benchmarks.diagnostics [overrides]`.

Runs the job of `python -m launch.train` for `steps` steps (30 unless given), leaves the first three out as warm-up, and
clocks in every step what it computes only to say how it went: each function of metrics that `launch.train` calls, the
alarms, and the probe of the learner by its own clock. Printed are medians of their share of the same step's time, so a
machine that is busy for a while slows both. `--save` also writes them to benchmarks/results/diagnostics.json.
"""

import functools
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.step import WARM_UP, machine
from launch import train as loop
from launch.alarms import Alarms
from launch.config import compose
from launch.run_folder import read_metrics
from launch.wording import Row

RESULTS = Path(__file__).parent / "results" / "diagnostics.json"
FUNCTIONS = (
    "sample_metrics",
    "verdict_metrics",
    "term_metrics",
    "response_metrics",
    "token_metrics",
    "entropy_metrics",
    "covariance_metrics",
)
PROBE = "speed/probe_seconds"


@contextmanager
def clocked() -> Iterator[dict[str, list[float]]]:
    """Seconds of each call of each diagnostic while the block runs, in order; of alarms also those of row 0."""
    seconds: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as patches:
        for name in FUNCTIONS:
            patches.enter_context(patch.object(loop, name, _clocked(getattr(loop, name), seconds[name])))
        patches.enter_context(patch.object(Alarms, "watch", _clocked(Alarms.watch, seconds["alarms"])))
        yield seconds


def _clocked(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - began)

    return call


def figures(rows: Sequence[Row], seconds: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Median, first and third quartile of each diagnostic's share of its step, and of their sum; without the warm-up.

    rows     of a run, row 0 first, a step each
    seconds  of `clocked`
    """
    steps = [row for row in rows if row["step"]]
    spent = {name: list(values)[-len(steps) :] for name, values in seconds.items()}
    spent["probe"] = [row.get(PROBE, 0.0) for row in steps]
    shares = {
        name: [value / row["time/step_s"] for value, row in zip(values, steps, strict=True)][WARM_UP:]
        for name, values in spent.items()
    }
    shares["all"] = [sum(step) for step in zip(*shares.values(), strict=True)]
    return {name: _quartiles(values) for name, values in shares.items()}


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {"share_of_step": round(middle, 5), "first_quartile": round(low, 5), "third_quartile": round(high, 5)}


def main(arguments: list[str]) -> None:
    overrides = [each for each in arguments if each != "--save"]
    if not any(each.startswith("steps=") for each in overrides):
        overrides.append("steps=30")
    with tempfile.TemporaryDirectory() as folder, clocked() as seconds:
        loop.train(compose([f"output.folder={folder}", "evaluation.every=0", "output.display=lines", *overrides]))
        rows = read_metrics(folder)
    # The last step is also evaluated and saved whole.
    found = figures(rows[:-1], {name: values[:-1] for name, values in seconds.items()})
    step_s = statistics.median(row["time/step_s"] for row in rows[WARM_UP + 1 : -1])
    for key, value in (machine() | {"step_s": f"{step_s:.3f}"}).items():
        print(f"{key:<24}{value}")
    for name, of in found.items():
        low, middle, high = (f"{of[key]:.2%}" for key in ("first_quartile", "share_of_step", "third_quartile"))
        print(f"{name:<24}{middle:>8} of the step, quartiles {low} to {high}")
    if "--save" in arguments:
        content = {"machine": machine(), "overrides": overrides, "step_s": round(step_s, 4), "figures": found}
        RESULTS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
