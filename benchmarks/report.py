"""What the report of a long run costs: `python -m benchmarks.report`.

Writes the metrics of a synthetic run, every name of the registry in each of 10,000 steps, and responses of its last
step. Prints how long the report takes, start-up of Python included, how much of that it computed, and how large it is.
`--save` also writes the figures to benchmarks/results/report.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.step import machine
from launch.metric_registry import PLACE, registry
from launch.run_folder import METRICS, RunFolder
from launch.wording import OUTCOMES

STEPS = 10_000
EVERY = 20  # steps between evaluations
RESPONSES, TOKENS = 256, 400
RESULTS = Path(__file__).parent / "results" / "report.json"


def write_run(folder: RunFolder, steps: int) -> None:
    """A run whose figures wander; entropy falls, and accuracy follows the law with noise."""
    rng = np.random.default_rng(0)
    names = [PLACE.sub("x", metric.name) for metric in registry() if metric.name not in ("step", "weight_version")]
    walks = {name: np.abs(rng.normal(size=steps).cumsum()) / 100 for name in names}
    walks |= {f"reward/{outcome}": rng.integers(0, 200, steps).astype(float) for outcome in OUTCOMES}
    entropy = 0.05 + 0.8 * np.exp(-np.arange(steps) / (steps / 8))
    walks["entropy/token_mean"] = entropy
    walks["reward/accuracy"] = 0.9 - 0.2 * np.exp(entropy) + 0.02 * rng.normal(size=steps)
    with open(folder.path / METRICS, "w", encoding="utf-8") as file:
        for i in range(steps):
            row = {"step": i + 1, "weight_version": i + 1}
            shown = {name: walk[i] for name, walk in walks.items() if i % EVERY == 0 or not name.startswith("eval/")}
            file.write(json.dumps(row | {name: float(value) for name, value in shown.items()}) + "\n")
    folder.write_rollouts(steps, [record(rng, number) for number in range(RESPONSES)])


def record(rng: np.random.Generator, number: int) -> dict:
    right = bool(rng.random() < 0.5)
    return {
        "uid": f"synthetic/{number // 8}",
        "sample": number % 8,
        "source": "synthetic",
        "prompt": "1 + 1 =",
        "response": "2" * TOKENS,
        "token_ids": rng.integers(5, 90, TOKENS),
        "logprobs": -rng.exponential(0.5, TOKENS),
        "entropies": rng.exponential(0.5, TOKENS),
        "finish_reason": "stop",
        "score": float(right),
        "failure": None,
        "answer": "2" if right else str(number % 5),
        "rule": "whole",
        "reward": float(right),
        "advantage": 1.0 if right else -1.0,
        "first_weight_version": 1,
        "weight_version": 1,
    }


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = RunFolder(root)
        write_run(folder, STEPS)
        folder.write_config({"model": {"path": "launch/assets/laboratory/96"}})
        size = folder.metrics_bytes()
        began, before = time.perf_counter(), os.times()
        subprocess.run([sys.executable, "-m", "launch.report", root], check=True, stdout=subprocess.DEVNULL)
        seconds, after = time.perf_counter() - began, os.times()
        cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
        found = {
            "steps": STEPS,
            "metrics_bytes": size,
            "report_s": seconds,
            "report_cpu_s": cpu_s,
            "report_bytes": (folder.path / "report.html").stat().st_size,
        }
    for key, value in (machine() | found).items():
        print(f"{key:<26}{value:,.3f}" if isinstance(value, float) else f"{key:<26}{value}")
    if "--save" in arguments:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({"machine": machine(), "figures": found}, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
