"""What checkpoints cost: `python -m benchmarks.checkpoint [overrides]`.

Runs the job of `python -m launch.train` for `steps` steps (40 unless given), once without checkpoints and once with one
every ten, then goes on with the second for a step. Each is a process of its own. Prints

share_of_wall        time that training waited for checkpoints, over the time of the steps; the writing beside it counts
                     only as far as it slows the steps down, which step_s with and without show
resume_over_cold     from the start of the process to the first step's rollout: taken up again, over a new run

The machine stands beside the figures; `--save` also writes them to benchmarks/results/checkpoint.json.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.step import machine
from launch.run_folder import read_metrics

EVERY = 10
WARM_UP = 3
RESULTS = Path(__file__).parent / "results" / "checkpoint.json"
LIMIT_S = 1800


def run(*overrides: str) -> float:
    """Run `launch.train`; when it was started, in seconds since the epoch."""
    began = time.time()
    command = [sys.executable, "-m", "launch.train", "output.display=lines", "evaluation.every=0", *overrides]
    subprocess.run(command, check=True, timeout=LIMIT_S, env=os.environ, stdout=subprocess.DEVNULL)
    return began


def first_rollout(folder: Path, step: int) -> float:
    return (folder / "rollouts" / f"step_{step:06d}.parquet").stat().st_mtime


def figures(
    without: list[dict[str, float]], with_them: list[dict[str, float]], cold_s: float, resumed_s: float
) -> dict[str, float]:
    """From the metrics of a run without checkpoints and of one with them; times in s.

    A checkpoint is copied after its step, so the wait is in the next step's time for saving.
    """

    def timed(rows: list[dict[str, float]]) -> list[dict[str, float]]:
        return [row for row in rows if row["step"] > WARM_UP and not row["time/evaluate_s"]]

    usual_s = statistics.median(row["time/save_s"] for row in timed(with_them) if row["step"] % EVERY != 1)
    waits = [row["time/save_s"] - usual_s for row in timed(with_them) if row["step"] % EVERY == 1]
    return {
        "wait_per_checkpoint_s": statistics.median(waits),
        "share_of_wall": sum(waits) / sum(row["time/step_s"] for row in timed(with_them)),
        "step_s_without": statistics.median(row["time/step_s"] for row in timed(without)),
        "step_s_with": statistics.median(row["time/step_s"] for row in timed(with_them)),
        "cold_start_s": cold_s,
        "resume_s": resumed_s,
        "resume_over_cold": resumed_s / cold_s,
    }


def main(arguments: list[str]) -> None:
    overrides = [argument for argument in arguments if argument != "--save"]
    steps = next((int(a.removeprefix("steps=")) for a in overrides if a.startswith("steps=")), 4 * EVERY)
    overrides = [argument for argument in overrides if not argument.startswith("steps=")]
    with tempfile.TemporaryDirectory() as place:
        plain, saving = Path(place, "plain"), Path(place, "saving")
        cold_s = -run(f"output.folder={plain}", "checkpoint.every=0", f"steps={steps}", *overrides)
        cold_s += first_rollout(plain, 1)
        run(f"output.folder={saving}", f"checkpoint.every={EVERY}", f"steps={steps}", *overrides)
        rows = read_metrics(saving)
        resumed_s = -run(f"resume={saving}", f"steps={steps + 1}")
        resumed_s += first_rollout(saving, steps + 1)
        found = figures(read_metrics(plain), rows, cold_s, resumed_s)
    for key, value in (machine() | found).items():
        print(f"{key:<26}{value:,.4f}" if isinstance(value, float) else f"{key:<26}{value}")
    if "--save" in arguments:
        content = {"machine": machine(), "overrides": [*overrides, f"steps={steps}"], "figures": found}
        RESULTS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
