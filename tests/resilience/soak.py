"""`python -m tests.resilience.soak`: a long run in which actors of every kind are killed at random.

It is asserted that every step is trained once, that the memory of no kind of actor grows, and that no process is left;
the table goes into docs/drills.md. A killed driver is started again, as a job scheduler would do it.
"""

import argparse
import contextlib
import random
import signal
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from launch.run_folder import read_metrics
from tests.resilience.actors import KINDS, actors, left_behind, orphans
from tests.resilience.page import write_part
from tests.resilience.runs import SETTINGS, MarkedRun, summary

EVERY = 10  # steps between checkpoints
EACH = 2  # kills of every kind at least
SAMPLE_S = 1.0
# A process loads and compiles what it needs, and its caches and its allocator fill, in its first steps. A driver that
# starts all actors anew is counted as a new process, and what it holds more than before is said apart.
WARM_UP_STEPS = 45
# Samples of either side that what a driver holds more is taken from.
BESIDE = 20
FLAT_MB = 10.0  # MiB per 100 steps
LIMIT_S = 900.0
# Others may be busy on this machine while actors start.
PATIENT = tuple(f"{part}.start_timeout_s=600" for part in ("cluster", "rollout", "learner"))
LINGER_S = 60.0  # that processes of a driver that has ended may still be there
MOST_STARTS = 12


@dataclass(frozen=True)
class Kill:
    """Actor `index` of `kind` is killed `delay_s` after step `after` has been made."""

    after: int
    kind: str
    index: int
    delay_s: float


def planned(steps: int, kills: int, seed: int) -> list[Kill]:
    """Kills of random kinds at random steps of the first half, at least `EACH` of every kind.

    In the second half every process lives on, long enough to tell growth from the ups and downs of its memory.
    """
    draw = random.Random(seed)
    kinds = [*KINDS] * EACH
    kinds += draw.choices(KINDS, k=kills - len(kinds))
    draw.shuffle(kinds)
    # A driver killed before the first checkpoint would have nothing to go on from.
    moments = sorted(draw.sample(range(EVERY + 2, steps // 2), len(kinds)))
    return [
        Kill(step, kind, draw.randrange(2) if kind == "learner" else 0, draw.uniform(0, 1))
        for step, kind in zip(moments, kinds, strict=True)
    ]


@dataclass
class Memory:
    """Anonymous memory of every process over the steps of the run, read in a thread of its own.

    seen  of each kind, process and number of the start of all actors, (step, MiB)
    """

    folder: Path
    mark: str
    seen: dict[tuple[str, int, int], list[tuple[int, float]]] = field(default_factory=lambda: defaultdict(list))
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        start, ranks = 0, set[int]()
        while not self.over.wait(SAMPLE_S):
            with contextlib.suppress(Exception):  # a folder without rows yet
                step = int(read_metrics(self.folder)[-1]["step"])
                there = actors(self.mark)
                if found_ranks := {process.pid for process in there["learner"]}:
                    # A rank that is lost is never replaced alone.
                    start += found_ranks.isdisjoint(ranks)
                    ranks = found_ranks
                for kind, found in there.items():
                    for process in found:
                        with contextlib.suppress(OSError):
                            self.seen[kind, process.pid, start].append((step, _anonymous_mb(process.pid)))

    def processes(self, kind: str) -> int:
        return len({pid for each, pid, _ in self.seen if each == kind})

    def slope(self, kind: str) -> float:
        """MiB per 100 steps; see `slope`."""
        return slope(points for (each, _, _), points in self.seen.items() if each == kind)

    def most(self, kind: str) -> float:
        """The most that one process of `kind` held, in MiB."""
        return max(size for (each, _, _), points in self.seen.items() if each == kind for _, size in points)

    def kept(self) -> list[float]:
        """MiB that a driver holds more after each start of all actors anew than before."""
        lives = [(pid, points) for (kind, pid, _), points in self.seen.items() if kind == "driver"]
        sizes = [kept(old, new) for (before, old), (pid, new) in pairwise(lives) if before == pid]
        return [size for size in sizes if size is not None]


def _anonymous_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:"))


def slope(processes: Iterable[list[tuple[int, float]]]) -> float:
    """Growth in MiB per 100 steps by least squares, with a level of its own for each process, after its warm-up.

    processes  of each, (step, MiB); at its last step a process ends, or starts others anew, and that is left out
    """
    steps, sizes = [], []
    for points in processes:
        first, last = points[0][0] + WARM_UP_STEPS, points[-1][0]
        settled = np.array([point for point in points if first <= point[0] < last], float)
        if len(settled) > 1:
            steps.append(settled[:, 0] - settled[:, 0].mean())
            sizes.append(settled[:, 1] - settled[:, 1].mean())
    if not steps:
        return 0.0
    x, y = np.concatenate(steps), np.concatenate(sizes)
    return float(100 * (x @ y) / (x @ x)) if (x @ x) else 0.0


def kept(before: list[tuple[int, float]], after: list[tuple[int, float]]) -> float | None:
    """MiB that a process holds more after a start of all actors anew, of (step, MiB) up to it and from it on.

    Steps in which actors ended or started are left out; None where there are no others.
    """
    old = [size for step, size in before if step < before[-1][0]][-BESIDE:]
    new = [size for step, size in after if step > after[0][0]][:BESIDE]
    return float(np.median(new) - np.median(old)) if old and new else None


class Scheduler:
    """Starts the driver again when it has ended before its time, as a cluster's scheduler does with a failed job."""

    def __init__(self, folder: Path, settings: tuple[str, ...]):
        self._folder, self._settings = folder, settings
        self.starts = 1
        self.run = MarkedRun(folder, *settings)

    def start_again(self) -> None:
        """Once the driver has ended; nothing may be left of it."""
        self.run.process.wait(LIMIT_S)
        assert left_behind(self.run.mark, LINGER_S) == []
        assert self.starts <= MOST_STARTS, self.run.errors()
        reached = (self.run.steps() or [0])[-1]
        print(f"step {reached}: started again after: {self.run.errors().strip()[-200:]}", flush=True)
        self.run, self.starts = MarkedRun(self._folder, *self._settings), self.starts + 1

    def wait_for_step(self, step: int) -> None:
        self._wait(lambda run: run.wait_for_step(step, LIMIT_S))

    def wait_to_go_on(self) -> None:
        """Until the run has taken up a checkpoint."""
        self._wait(lambda run: run.wait_to_say("Goes on after step", LIMIT_S))

    def _wait(self, until: Callable[[MarkedRun], None]) -> None:
        while True:
            try:
                until(self.run)
                return
            except AssertionError:
                if not self.run.process.poll():
                    raise
                self.start_again()


def soak(folder: Path, steps: int, kills: int, seed: int) -> tuple[list[tuple[str, ...]], str]:
    """The table, and a sentence about the whole."""
    settings = (*SETTINGS, *PATIENT, f"steps={steps}", f"checkpoint.every={EVERY}", "evaluation.every=0")
    plan, done, began = planned(steps, kills, seed), defaultdict[str, int](int), time.monotonic()
    before, scheduler = orphans(), Scheduler(folder, settings)
    memory = Memory(folder, scheduler.run.mark)
    threading.Thread(target=memory.watch, daemon=True).start()
    try:
        for kill in plan:
            scheduler.wait_for_step(kill.after)
            time.sleep(kill.delay_s)
            process = scheduler.run.send(kill.kind, signal.SIGKILL, kill.after, kill.index)
            reached = scheduler.run.steps()[-1]
            done[kill.kind] += 1
            print(f"step {reached}: killed {kill.kind} {process.pid}", flush=True)
            if kill.kind == "driver":
                scheduler.start_again()
                scheduler.wait_to_go_on()
            scheduler.wait_for_step(reached + 1)
        scheduler.wait_for_step(steps)
        assert scheduler.run.wait(LIMIT_S) == 0, scheduler.run.errors()
        memory.over.set()
        seconds = time.monotonic() - began
        left = left_behind(scheduler.run.mark, LINGER_S)
    finally:
        memory.over.set()
        scheduler.run.__exit__()
    starts = scheduler.starts
    table = [("actor", "kills", "processes seen", "anonymous memory at most, MiB", "growth, MiB per 100 steps")]
    for kind in KINDS:
        counted = str(done[kind]), str(memory.processes(kind))
        table.append((kind, *counted, f"{memory.most(kind):.0f}", f"{memory.slope(kind):+.2f}"))
    more = ", ".join(f"{size:+.0f}" for size in memory.kept())
    sentence = (
        f"{steps} steps with {len(plan)} kills in {seconds / 60:.1f} minutes, {starts} starts of the driver. Steps 1 "
        f"to {steps} stand in metrics.jsonl once each; no process, no segment of shared memory is left."
    )
    if more:
        sentence += f" After each start of all actors anew the driver held {more} MiB more than before."
    print(*table, sentence, sep="\n", flush=True)
    assert left == []
    assert [row["step"] for row in read_metrics(folder)] == list(range(steps + 1))
    assert len(list((folder / "rollouts").iterdir())) == steps
    assert summary(folder)["status"] == "finished"
    assert orphans() <= before
    return table, sentence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--kills", type=int, default=13)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-", dir="/tmp", ignore_cleanup_errors=True) as path:
        table, sentence = soak(Path(path) / "run", given.steps, given.kills, given.seed)
    command = f"python -m tests.resilience.soak --steps {given.steps} --kills {given.kills} --seed {given.seed}"
    write_part("soak", command, table, sentence)
    grown = [row for row in table[1:] if float(row[-1]) > FLAT_MB]
    assert not grown, f"these grow by more than {FLAT_MB:g} MiB per 100 steps: {grown}"


if __name__ == "__main__":
    main()
