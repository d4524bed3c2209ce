"""Actors of a run are killed, and the run is the one that lost none; a normal end leaves nothing behind."""

import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.resilience.actors import left_behind, orphans
from tests.resilience.runs import SETTINGS, MarkedRun, checksums, rows, state, summary

KILLED = ("engine", "reward", "verifier", "learner")


@dataclass(frozen=True)
class Outcome:
    """What became of a run, and the processes and the segments of shared memory that it left."""

    folder: Path
    status: int
    said: str
    errors: str
    processes: list[str]
    segments: set[str]


@pytest.fixture(scope="module")
def disturbed() -> Iterator[Outcome]:
    """Six steps in which one actor of each kind is killed."""
    before = orphans()
    with (
        tempfile.TemporaryDirectory(prefix="drills-", dir="/tmp", ignore_cleanup_errors=True) as path,
        MarkedRun(Path(path) / "run", *SETTINGS) as run,
    ):
        for step, kind in enumerate(KILLED, start=1):
            run.send(kind, signal.SIGKILL, after=step)
        status = run.wait()
        left = left_behind(run.mark, 5)
        yield Outcome(run.folder, status, run.said(), run.errors(), left, orphans() - before)


def test_a_run_that_loses_actors_is_the_run_that_lost_none(straight, disturbed):
    assert disturbed.status == 0, disturbed.errors
    assert rows(disturbed.folder) == rows(straight)
    assert checksums(disturbed.folder, 6) == checksums(straight, 6)
    assert state(disturbed.folder, 6)["controls"] == state(straight, 6)["controls"]
    assert summary(disturbed.folder)["status"] == "finished"


def test_each_loss_is_said(disturbed):
    assert "engine 0 died: " in disturbed.said
    assert "engine-0 started anew; requests that were lost are issued once more." in disturbed.said
    assert "LearnerFailed: learner rank 0 died in " in disturbed.said
    assert "The run starts again (1 of checkpoint.restarts = 3)." in disturbed.said
    assert "Goes on after step 3, from " in disturbed.said


def test_an_end_after_losses_leaves_no_process_and_no_shared_memory(disturbed):
    assert disturbed.processes == []
    assert disturbed.segments == set()


def test_a_normal_end_leaves_nothing_behind(ended):
    assert ended.processes == []
    assert ended.segments == set()
    # Ray's folder of sessions, with none in it.
    assert ended.files in ([], ["ray"])
