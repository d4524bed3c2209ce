"""Short laboratory runs as processes of their own, and what they leave to compare."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from launch.run_folder import RunFolderError, read_metrics
from tests.resilience.actors import MARK, actors, left_behind, wait_until

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "output.display=lines",
    "cluster.kind=local",
    "rollout.engines=1",
    "rollout.prompts_per_step=8",
    "off_policy=updates2",
    "learner.ranks=2",
    "entropy=[prog_adv_guided,adaptive_bonus,clip_cov,temperature]",
    "clip=open",
    "data.evaluation.heldout.rows=8",
    "data.evaluation.out_of_domain.rows=8",
    "evaluation.samples_per_prompt=1",
    "output.save_model=false",
    "steps=6",
    "checkpoint.every=3",
    "checkpoint.keep_last=2",
)
LIMIT_S = 400


def environ(mark: str | None = None, temporary: Path | None = None) -> dict[str, str]:
    """`temporary` is the folder for its temporary files."""
    marked = {} if mark is None else {MARK: mark}
    if temporary is not None:
        kernels = os.environ.get("TORCHINDUCTOR_CACHE_DIR") or default_cache_dir()
        marked |= {"TMPDIR": str(temporary), "TORCHINDUCTOR_CACHE_DIR": kernels}
    # A Ray that this process is connected to is none of theirs.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # Ray gives way to everything else on the machine, and would hardly move on a busy one.
    eager = {"RAY_worker_niceness": "0"}
    return inherited | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | eager | marked


def command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "launch.train", *overrides]


def not_finite_command(folder: Path) -> list[str]:
    """Of a run whose advantages become NaN."""
    return [sys.executable, "-m", "tests.resilience.not_finite_run", str(folder)]


def replay_command(folder: Path, step: int, *overrides: str) -> list[str]:
    return [sys.executable, "-m", "launch.replay", str(folder), f"step={step}", *overrides]


def replay(folder: Path, step: int, *overrides: str) -> subprocess.CompletedProcess:
    command = replay_command(folder, step, *overrides)
    return subprocess.run(command, cwd=ROOT, env=environ(), capture_output=True, text=True, timeout=LIMIT_S)


def run(*overrides: str, limit_s: float = LIMIT_S) -> subprocess.CompletedProcess:
    return subprocess.run(command(*overrides), cwd=ROOT, env=environ(), capture_output=True, text=True, timeout=limit_s)


def started(*overrides: str) -> subprocess.Popen:
    return subprocess.Popen(
        command(*overrides), cwd=ROOT, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


class MarkedRun:
    """A run whose processes can be found. A context manager: whatever is left of it is killed.

    folder   of the run; `said.txt` and `errors.txt` beside it have what it prints
    started  the command, where it is another one than `launch.train` with `overrides`
    temporary, variables  folder for its temporary files, and what its environment has besides
    """

    def __init__(
        self,
        folder: Path,
        *overrides: str,
        started: list[str] | None = None,
        temporary: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ):
        self.folder, self.mark = folder, f"{folder}-{os.getpid()}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._said, self._errors = folder.with_name("said.txt"), folder.with_name("errors.txt")
        with open(self._said, "w") as said, open(self._errors, "w") as errors:
            self.process = subprocess.Popen(
                started or command(f"output.folder={folder}", *overrides),
                cwd=ROOT,
                env=environ(self.mark, temporary) | dict(variables or {}),
                stdout=said,
                stderr=errors,
            )

    def steps(self) -> list[int]:
        """Steps in metrics.jsonl."""
        with contextlib.suppress(RunFolderError):
            return [int(row["step"]) for row in read_metrics(self.folder)]
        return []

    def wait_for_step(self, step: int, limit_s: float = LIMIT_S) -> None:
        wait_until(
            lambda: self.process.poll() is not None or (self.steps() or [-1])[-1] >= step, limit_s, f"step {step}"
        )
        assert self.process.poll() is None or (self.steps() or [-1])[-1] >= step, self.errors()

    def wait_to_say(self, words: str, limit_s: float = LIMIT_S) -> None:
        wait_until(lambda: self.process.poll() is not None or words in self.said(), limit_s, words)
        assert words in self.said(), self.errors()

    def send(self, kind: str, number: signal.Signals, after: int, index: int = 0) -> psutil.Process:
        """Send a signal to an actor once step `after` has been made; the process."""
        self.wait_for_step(after)
        # The driver stands still meanwhile, so that it is in the step after this one that the actor is lost.
        self.process.send_signal(signal.SIGSTOP)
        try:
            wait_until(lambda: len(actors(self.mark)[kind]) > index, LIMIT_S, f"a {kind} process")
            process = actors(self.mark)[kind][index]
            process.send_signal(number)
        finally:
            self.process.send_signal(signal.SIGCONT)
        return process

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """The exit status."""
        return self.process.wait(limit_s)

    def said(self) -> str:
        return self._said.read_text()

    def errors(self) -> str:
        return self._errors.read_text()

    def __enter__(self) -> "MarkedRun":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        left_behind(self.mark, 0)


def wait_for(there: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not there.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def without_measurements(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if not name.startswith(("time/", "speed/", "memory/"))}


def rows(folder: Path) -> list[dict[str, float]]:
    return [without_measurements(row) for row in read_metrics(folder) if row["step"]]


def checksums(folder: Path, step: int) -> dict[str, str]:
    manifest = json.loads((folder / "checkpoints" / f"step_{step:06d}" / "manifest.json").read_text())
    return {name: entry["sha256"] for name, entry in manifest["files"].items() if name.endswith(".safetensors")}


def state(folder: Path, step: int) -> dict:
    return json.loads((folder / "checkpoints" / f"step_{step:06d}" / "state.json").read_text())


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())
