"""`python -m tests.resilience.drills`: what befalls runs, done to the real graph on CPU, and what came of it.

Every drill is a short laboratory run as a process of its own. What is expected is asserted; the table of what happened
goes into docs/drills.md. `--only WORD` runs those whose name has the word, and writes nothing.
"""

import argparse
import contextlib
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.resilience import asynchronous
from tests.resilience.actors import left_behind, orphans, wait_until
from tests.resilience.page import write_part
from tests.resilience.runs import (
    ROOT,
    SETTINGS,
    MarkedRun,
    checksums,
    environ,
    not_finite_command,
    replay_command,
    rows,
    run,
    summary,
)

LIMIT_S = 900.0
# What "at once" comes to: of a step abandoned, the actors ended, summary and report written.
AT_ONCE_S = 60.0


@dataclass(frozen=True)
class Row:
    """One line of the table.

    happened  in words
    seconds   from what was done until the run had made another step, or had ended
    lost      what is missing afterwards
    """

    done: str
    happened: str
    seconds: float
    lost: str


class Skipped(Exception):
    """This machine does not let the drill be made. The message says why."""


@dataclass(frozen=True)
class Bench:
    """Where drills are made.

    straight  folder of the run that nothing happens to
    """

    folder: Path
    straight: Path

    def same(self, folder: Path) -> str:
        """Asserts that the run in `folder` is the straight one, bit for bit; in words."""
        assert rows(folder) == rows(self.straight), "other metrics than the straight run"
        assert checksums(folder, 6) == checksums(self.straight, 6), "other weights than the straight run"
        return "nothing: metrics and weights are those of the undisturbed run, bit for bit"


Drill = Callable[[Bench], list[Row]]
DRILLS: dict[str, Drill] = {}


def drill(name: str) -> Callable[[Drill], Drill]:
    """Enter a drill into the table under `name`. It takes a `Bench`, does its harm, asserts, and returns its rows."""

    def enter(function: Drill) -> Drill:
        DRILLS[name] = function
        return function

    return enter


@contextlib.contextmanager
def marked(folder: Path, *overrides: str, started: list[str] | None = None) -> Iterator[MarkedRun]:
    """A run that must leave no process and no shared memory behind."""
    before = orphans()
    with MarkedRun(folder, *SETTINGS, *overrides, started=started) as process:
        yield process
        left = left_behind(process.mark, 15)
        assert left == [], left
        assert orphans() <= before, orphans() - before


def until_step(process: MarkedRun, step: int) -> float:
    began = time.monotonic()
    process.wait_for_step(step, LIMIT_S)
    return time.monotonic() - began


def until_end(process: MarkedRun) -> float:
    began = time.monotonic()
    process.wait(LIMIT_S)
    return time.monotonic() - began


@drill("losses")
def losses(bench: Bench) -> list[Row]:
    """One run loses an actor of every kind."""
    again = "replaced, its requests issued once more with the same seeds"
    planned = (
        ("engine", signal.SIGKILL, f"engine 0 died: {again}", "engine 0 died: "),
        ("reward", signal.SIGKILL, "replaced, its requests issued once more", ""),
        ("verifier", signal.SIGKILL, "replaced, its request judged once more", ""),
        ("learner", signal.SIGKILL, "all actors started anew, the run went on after step 3", "died in "),
        ("engine", signal.SIGSTOP, f"found by rollout.stall_s=20, killed and {again}", "engine 0 hung: "),
    )
    names = {"reward": "reward worker", "verifier": "verifier child", "learner": "learner rank"}
    found = []
    with marked(bench.folder, "rollout.stall_s=20") as process:
        for step, (kind, number, happened, words) in enumerate(planned, start=1):
            process.send(kind, number, after=step)
            seconds = until_step(process, step + 1)
            assert words in process.said(), process.said()
            how = "kill -9" if number is signal.SIGKILL else "SIGSTOP (it hangs)"
            found.append((f"{how} of {_article(names.get(kind, kind))}", happened, seconds))
        assert process.wait(LIMIT_S) == 0, process.errors()
    assert process.said().count("Goes on after step 3") == 1
    lost = bench.same(bench.folder)
    return [Row(done, happened, seconds, lost) for done, happened, seconds in found]


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


@drill("asynchronous losses")
def asynchronous_losses(bench: Bench) -> list[Row]:
    """One run in asynchronous mode loses an engine twice while both draw and the learner trains."""
    with marked(bench.folder, *asynchronous.SETTINGS) as process:
        process.send("engine", signal.SIGKILL, after=1)
        killed_s = until_step(process, 2)
        assert asynchronous.DIED.search(process.said()), process.said()
        process.send("engine", signal.SIGSTOP, after=3)
        hung_s = until_step(process, 4)
        assert asynchronous.HUNG.search(process.said()), process.said()
        assert process.wait(LIMIT_S) == 0, process.errors()
    lost = asynchronous.nothing_lost_or_doubled(bench.folder, 6)
    again = "its requests issued once more with the same seeds"
    return [
        Row("kill -9 of an engine, asynchronous mode", f"replaced, {again}; the other went on", killed_s, lost),
        Row(
            "SIGSTOP of an engine, asynchronous mode",
            f"found by rollout.stall_s=15 or, where weights were due, by rollout.sync_timeout_s=20; killed and {again}",
            hung_s,
            lost,
        ),
    ]


@drill("stops")
def stops(bench: Bench) -> list[Row]:
    """One run is stopped three times and taken up three times."""
    with marked(bench.folder) as process:
        wait_until((bench.folder / "checkpoints" / "step_000003").exists, LIMIT_S, "the checkpoint of step 3")
        hung = process.send("engine", signal.SIGSTOP, after=3)
        process.process.send_signal(signal.SIGTERM)
        time.sleep(2)
        process.process.send_signal(signal.SIGTERM)
        second_s = until_end(process)
        assert process.wait() == 128 + signal.SIGTERM
        assert second_s < AT_ONCE_S
        assert summary(bench.folder)["status"] == "stopped"
        assert not hung.is_running()
    with marked(bench.folder) as process:
        process.wait_to_say("Goes on after step 3", LIMIT_S)
        process.send("driver", signal.SIGKILL, after=4)
        killed_s = until_end(process)
    began = time.monotonic()
    with marked(bench.folder) as process:
        process.wait_to_say("Goes on after step 3", LIMIT_S)
        process.wait_for_step(4)
        resumed_s = time.monotonic() - began
        process.process.send_signal(signal.SIGTERM)
        first_s = until_end(process)
        assert process.wait() == 128 + signal.SIGTERM
        last = process.steps()[-1]
        assert f"goes on after step {last}" in process.errors()
    if last < 6:
        assert run(f"resume={bench.folder}", limit_s=LIMIT_S).returncode == 0
    lost = bench.same(bench.folder)
    again = "; started again it went on after step"
    return [
        Row(
            "kill -9 of the driver",
            f"the actors ended{again} 3, and {resumed_s:.0f} s after that start step 4 was made",
            killed_s,
            lost,
        ),
        Row("SIGTERM", f"the step ended and was saved, status 143{again} {last}", first_s, lost),
        Row("a second signal, engine hanging", f"the step was abandoned, status 143{again} 3", second_s, lost),
    ]


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A disk of a few megabytes at `folder`."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        raise Skipped(f"no file system can be mounted here ({done.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@drill("full disk, checkpoints")
def full_disk_of_checkpoints(bench: Bench) -> list[Row]:
    with small_disk(bench.folder / "checkpoints", 1), marked(bench.folder) as process:
        process.wait_for_step(3)
        seconds = until_step(process, 4)
        assert process.wait(LIMIT_S) == 0, process.errors()
    assert "The checkpoint of step 3 was not saved (No space left on device); none is on disk." in process.said()
    assert rows(bench.folder) == rows(bench.straight)
    return [Row("no room for a checkpoint", "said, and trained on", seconds, "the checkpoint; no step")]


@drill("full disk, run folder")
def full_disk_of_the_run(bench: Bench) -> list[Row]:
    with small_disk(bench.folder, 64):
        with marked(bench.folder) as process:
            wait_until((bench.folder / "checkpoints" / "step_000003").exists, LIMIT_S, "the checkpoint of step 3")
            process.process.send_signal(signal.SIGSTOP)
            filler = bench.folder / "filler"
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 12))
            process.process.send_signal(signal.SIGCONT)
            seconds = until_end(process)
            assert process.wait() == 1, process.errors()
            assert f"output.folder={bench.folder} cannot be written any more" in process.errors()
            assert f"resume={bench.folder} goes on after step 3" in process.errors()
        filler.unlink()
        done = run(f"resume={bench.folder}", limit_s=LIMIT_S)
        assert done.returncode == 0, done.stderr
        lost = bench.same(bench.folder)
    return [
        Row(
            "no room in the run folder",
            "ended in a sentence, status 1; with room again it went on after step 3",
            seconds,
            lost,
        )
    ]


@drill("read-only run folder")
def read_only(bench: Bench) -> list[Row]:
    with small_disk(bench.folder, 1):
        subprocess.run(["mount", "-o", "remount,ro", str(bench.folder)], check=True)
        began = time.monotonic()
        done = run(f"output.folder={bench.folder}", *SETTINGS, limit_s=LIMIT_S)
        seconds = time.monotonic() - began
    assert done.returncode == 2
    assert f"output.folder={bench.folder} cannot be written (Read-only file system)" in done.stderr
    assert "Traceback" not in done.stderr
    return [Row("a read-only run folder", "refused in a sentence before any actor, status 2", seconds, "nothing")]


@drill("out of memory in a verifier")
def hungry_verifier(bench: Bench) -> list[Row]:
    import pyarrow.parquet

    from tests.resilience.hungry import is_hungry

    hungry = ("data.train.verifier=tests.resilience.hungry:judge", "reward.memory_mb=64", "steps=2")
    began = time.monotonic()
    with marked(bench.folder, *hungry, "reward.max_failure_share=0.5") as process:
        assert process.wait(LIMIT_S) == 0, process.errors()
    seconds = time.monotonic() - began
    failed = 0
    for file in sorted((bench.folder / "rollouts").iterdir()):
        for record in pyarrow.parquet.read_table(file).to_pylist():
            assert record["failure"] == ("memory" if is_hungry(record["response"]) else None)
            failed += record["failure"] is not None
    assert failed == sum(row["reward/failed"] for row in rows(bench.folder)) > 0
    lost = f"the {failed} verdicts, counted as failures and left out of their groups"
    return [
        Row(
            "a verifier takes all memory",
            "its child ended, the others' verdicts stood; two steps made (start included)",
            seconds,
            lost,
        )
    ]


@drill("not finite")
def not_finite(bench: Bench) -> list[Row]:
    """NaN in one of the two updates of step 2, and in both of step 4."""
    with marked(bench.folder, started=not_finite_command(bench.folder)) as process:
        process.wait_for_step(1, LIMIT_S)
        skipped_s = until_step(process, 2)
        process.wait_for_step(3, LIMIT_S)
        ended_s = until_end(process)
        assert process.wait() == 1
        assert "step 2: update 2 of 2 was skipped" in process.said(), process.said()
        assert "TooManySkipped: 2 updates in a row" in process.errors(), process.errors()
    assert [row["policy/skipped_updates"] for row in rows(bench.folder)] == [0, 1, 0]
    [kept] = (bench.folder / "batches").iterdir()
    replayed = subprocess.run(replay_command(bench.folder, 4), cwd=ROOT, env=environ(), capture_output=True, text=True)
    assert replayed.returncode == 1
    assert "update 1 of 2 was skipped: its advantages are not finite; update 2 of 2" in replayed.stdout
    again = f"{kept.name} is kept, and replay shows the same; resume= goes on after step 3"
    return [
        Row("NaN in an update", "skipped, weights and moments as they were, and trained on", skipped_s, "the update"),
        Row("NaN in more updates than allowed", f"ended in a sentence, status 1; {again}", ended_s, "the step"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="")
    only = parser.parse_args().only
    table = [("what was done", "what happened", "seconds until it went on or had ended", "what was lost")]
    with tempfile.TemporaryDirectory(prefix="drills-", dir="/tmp", ignore_cleanup_errors=True) as path:
        straight = Path(path) / "straight"
        done = run(f"output.folder={straight}", *SETTINGS, limit_s=LIMIT_S)
        assert done.returncode == 0, done.stderr
        for number, (name, function) in enumerate(DRILLS.items()):
            if only not in name:
                continue
            print(f"drill: {name}", flush=True)
            try:
                found = function(Bench(Path(path) / str(number) / "run", straight))
            except Skipped as reason:
                found = [Row(name, f"skipped: {reason}", 0.0, "")]
            for row in found:
                print(f"  {row}", flush=True)
                table.append((row.done, row.happened, f"{row.seconds:.1f}", row.lost))
    if not only:
        write_part("drills", "python -m tests.resilience.drills", table)


if __name__ == "__main__":
    main()
