"""The processes of a run on this machine, seen from outside, and what it leaves behind."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

# In the environment of every process that comes of a run, wherever it ends up in the tree.
MARK = "ENTRAIN_DRILL"
TITLES = {"engine": "ray::EngineActor", "learner": "ray::LearnerWorker", "reward": "ray::RewardWorker"}
KINDS = (*TITLES, "verifier", "driver")
SHARED_MEMORY = Path("/dev/shm")
POLL_S = 0.05


def processes(mark: str) -> Iterator[psutil.Process]:
    """All processes whose environment has the mark, zombies left out."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def actors(mark: str) -> dict[str, list[psutil.Process]]:
    """The processes of each kind of actor, the oldest first."""
    found: dict[str, list[psutil.Process]] = {kind: [] for kind in KINDS}
    for process in sorted(processes(mark), key=lambda each: each.pid):
        try:
            if kind := _kind(process):
                found[kind].append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def _kind(process: psutil.Process) -> str | None:
    words = process.cmdline()
    title = " ".join(words)
    for kind, beginning in TITLES.items():
        if title.startswith(beginning):
            return kind
    if "launch.train" in words:
        return "driver"
    parent = process.parent()
    if "reward.fork_server" in words and parent and "reward.fork_server" in parent.cmdline():
        return "verifier"
    return None


def wait_until(holds: Callable[[], object], limit_s: float, what: str) -> None:
    """Raises AssertionError where `holds` does not come true in time."""
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {limit_s:g} s")
        time.sleep(POLL_S)


def left_behind(mark: str, limit_s: float) -> list[str]:
    """The command lines of processes that are still there after `limit_s`; they are ended."""
    deadline = time.monotonic() + limit_s
    while (left := list(processes(mark))) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    titles = []
    for process in left:
        try:
            titles.append(" ".join(process.cmdline())[:120])
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return titles


def orphans() -> set[str]:
    """Names of segments of shared memory that no process has any more. Others work on this machine too."""
    there = {path.name for path in SHARED_MEMORY.iterdir() if path.is_file()}
    for process in psutil.process_iter():
        with contextlib.suppress(OSError):
            for line in (Path("/proc") / str(process.pid) / "maps").read_text().splitlines():
                if SHARED_MEMORY.as_posix() in line:
                    there.discard(line.split(f"{SHARED_MEMORY}/", 1)[1])
            for descriptor in (Path("/proc") / str(process.pid) / "fd").iterdir():
                there.discard(os.readlink(descriptor).removeprefix(f"{SHARED_MEMORY}/"))
    return there
