"""Whole runs seen from outside: one that nothing happens to, one that loses actors, one that is killed and taken up."""

import math
import re
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from launch.run_folder import read_metrics
from tests.resilience.actors import left_behind, orphans
from tests.resilience.conftest import SECRETS
from tests.resilience.runs import SETTINGS, MarkedRun, checksums, replay, rows, run, started, state, summary, wait_for

VOCABULARY = 640  # of the laboratory model
KILLED = ("engine", "reward", "verifier")  # the loss of a learner rank takes longest, and is among the drills


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


def test_an_end_after_losses_leaves_no_process_and_no_shared_memory(disturbed):
    assert disturbed.processes == []
    assert disturbed.segments == set()


def test_a_normal_end_leaves_nothing_behind(ended):
    assert ended.processes == []
    assert ended.segments == set()
    # Ray's folder of sessions, with none in it.
    assert ended.files in ([], ["ray"])


def test_a_run_killed_after_three_steps_and_taken_up_is_the_run_that_was_not(straight, tmp_path):
    folder = tmp_path / "run"
    process = started(f"output.folder={folder}", *SETTINGS)
    wait_for(folder / "checkpoints" / "step_000003", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "summary.json").exists()
    assert not (folder / "checkpoints" / "step_000006").exists()
    # What a death in the middle of a write, and of a line, would leave.
    (folder / "checkpoints" / "step_000006.partial").mkdir()
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "weight_ver')
    done = run(f"resume={folder}")
    assert done.returncode == 0, done.stderr
    assert f"Goes on after step 3, from {folder}/checkpoints/step_000003" in done.stdout

    assert rows(folder) == rows(straight)
    assert [row["step"] for row in read_metrics(folder)] == list(range(7))
    assert checksums(folder, 6) == checksums(straight, 6)
    for part in ("controls", "prompts", "optimizer", "weight_version"):
        assert state(folder, 6)[part] == state(straight, 6)[part]
    assert state(folder, 6)["controls"] != state(folder, 3)["controls"]
    # Entropy is above the target of the rule, so its weight grows by 0.05 a step from 0.
    weights = [row["positive_advantage/weight"] for row in rows(folder)]
    assert weights == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2, 0.25])
    for step in range(1, 7):
        one, other = (
            pyarrow.parquet.read_table(f / "rollouts" / f"step_{step:06d}.parquet") for f in (folder, straight)
        )
        assert one.equals(other)
    assert (summary(folder)["status"], summary(folder)["steps"]) == ("finished", 6)
    assert summary(folder)["started"] == state(folder, 3)["started"]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step_000003", "step_000006"]

    again = run(f"resume={folder}")
    assert again.returncode == 2
    assert "has made its 6 steps" in again.stderr


def test_the_temperature_moves_and_engines_and_learner_agree_about_it_at_every_step(straight):
    found = rows(straight)
    temperatures = [row["rollout/temperature"] for row in found]
    # The first batch gives the target, the second moves what the third is drawn at.
    assert temperatures[:2] == [1.0, 1.0]
    assert np.abs(np.diff(temperatures[1:])).min() > 1e-4
    scale = math.log(VOCABULARY) + math.log(math.log(VOCABULARY))
    for before, after in zip(found[1:-1], temperatures[2:], strict=True):
        temperature, error = before["rollout/temperature"], before["temperature/target"] / before["entropy/token_mean"]
        assert after == pytest.approx(temperature * (1 + temperature * math.log(error) / scale), rel=1e-6)
    assert max(row["mismatch/logprob_abs_mean"] for row in found) < 2e-5
    assert max(row["sync/canary_abs_mean"] for row in found) < 1e-4


def test_a_step_is_trained_on_again_alone_bit_for_bit(straight):
    done = replay(straight, 6)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"From {straight}/checkpoints/step_000003, steps 4 to 6" in done.stdout
    assert re.search(r"\n(\d+) figures of step 6: \1 equal, 0 within round-off, 0 beyond\.\n", done.stdout)
    assert done.stdout.endswith("Weights and moments are those of the checkpoint of step 6, bit for bit.\n")

    lacking = replay(straight, 3)
    assert lacking.returncode == 2
    assert lacking.stderr.startswith(
        f"step 3 is reached from the model that the run began with over the batches of steps 1 to 3, and {straight} "
        "lacks 1, 2, 3: output.save_batches=all keeps every batch"
    )


def test_no_secret_is_written_or_printed(ended):
    files = [path for path in ended.folder.rglob("*") if path.is_file()]
    names = {path.relative_to(ended.folder).parts[0] for path in files}
    assert names >= {
        "config.yaml",
        "metrics.jsonl",
        "summary.json",
        "report.html",
        "logs",
        "checkpoints",
        "tensorboard",
    }
    assert "VERDICT_TOKEN" in (ended.folder / "config.yaml").read_text()
    for name, secret in SECRETS.items():
        assert secret not in ended.said + ended.errors, name
        assert not [path for path in files if secret.encode() in path.read_bytes()], name


def test_http_is_served_to_this_machine_only(ended):
    assert len({name for name, _, _ in ended.sockets}) > 3
    assert any(http for _, _, http in ended.sockets)
    assert [(name, address) for name, address, http in ended.sockets if http and address != "127.0.0.1"] == []
    ray = [(name, address) for name, address, _ in ended.sockets if name in ("raylet", "gcs_server")]
    assert {address for _, address in ray} == {"127.0.0.1"}
