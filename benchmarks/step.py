"""What a training step costs: `python -m benchmarks.step [overrides]`.

Runs the job of `python -m launch.train` for `steps` steps (30 unless given), leaves the first three out as warm-up, and
prints medians: tokens/s generated and trained, each phase's share of the step's wall time, start-up and memory. The
machine stands beside the figures; `--save` also writes them to benchmarks/results/step.json.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

import psutil

from launch.config import compose
from launch.phases import PHASES
from launch.run_folder import read_metrics
from launch.train import train

WARM_UP = 3
RESULTS = Path(__file__).parent / "results" / "step.json"


def figures(rows: list[dict[str, float]], started_s: float) -> dict[str, float]:
    """Medians over the steps after the warm-up; times in s, memory in bytes."""
    steps = [row for row in rows if row["step"] > WARM_UP and not row["time/evaluate_s"]]
    timed = ("time/step_s", "speed/generated_tokens_per_s", "speed/trained_tokens_per_s")
    median = {key: statistics.median(row[key] for row in steps) for key in timed}
    wall = sum(row["time/step_s"] for row in steps)
    return {
        "steps": len(steps),
        "step_s": median["time/step_s"],
        "step_s_p90": statistics.quantiles([row["time/step_s"] for row in steps], n=10)[-1],
        "generated_tokens_per_s": median["speed/generated_tokens_per_s"],
        "trained_tokens_per_s": median["speed/trained_tokens_per_s"],
        "start_to_first_step_s": started_s,
        "memory_bytes": max(row["memory/total_bytes"] for row in rows if "memory/total_bytes" in row),
        **{f"share_{name}": sum(row[f"time/{name}_s"] for row in steps) / wall for name in (*PHASES, "other")},
    }


def machine() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    memory = psutil.virtual_memory().total / 2**30
    return {"cpu": f"{os.cpu_count()} x {model}", "memory": f"{memory:.0f} GiB", "platform": platform.platform()}


def main(arguments: list[str]) -> None:
    overrides = [a for a in arguments if a != "--save"]
    if not any(a.startswith("steps=") for a in overrides):
        overrides.append("steps=30")
    with tempfile.TemporaryDirectory() as folder:
        began = psutil.Process().create_time()
        fixed = ["evaluation.every=0", "output.display=lines"]
        train(compose([f"output.folder={folder}", *fixed, *overrides]))
        rows = read_metrics(folder)
        first_rollout = (Path(folder) / "rollouts" / "step_000001.parquet").stat().st_mtime
    found = figures(rows, first_rollout - began)
    for key, value in (machine() | found).items():
        print(f"{key:<26}{value:,.3f}" if isinstance(value, float) else f"{key:<26}{value}")
    if "--save" in arguments:
        RESULTS.parent.mkdir(exist_ok=True)
        content = {"machine": machine(), "overrides": overrides, "figures": found}
        RESULTS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
