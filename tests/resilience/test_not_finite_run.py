"""A run that meets NaN."""

import subprocess
from pathlib import Path

import pytest

from launch.replay import main as replay
from launch.run_folder import read_metrics
from tests.resilience.runs import LIMIT_S, ROOT, environ, not_finite_command, summary

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    folder = tmp_path_factory.mktemp("nan") / "run"
    command = not_finite_command(folder)
    return folder, subprocess.run(command, cwd=ROOT, env=environ(), capture_output=True, text=True, timeout=LIMIT_S)


def test_nan_is_skipped_within_the_budget_and_then_ends_the_run(ran):
    folder, done = ran
    assert done.returncode == 1, done.stderr
    rows = {row["step"]: row for row in read_metrics(folder)}
    assert list(rows) == [0, 1, 2, 3]
    assert [rows[step]["policy/skipped_updates"] for step in (1, 2, 3)] == [0, 1, 0]
    assert rows[3]["policy/skipped_in_a_row"] == 0
    assert "was skipped: its advantages are not finite; weights and moments are as they were." in done.stdout
    assert "covariance/mean" in rows[1]
    assert "covariance/mean" not in rows[2]
    said = (
        "TooManySkipped: 2 updates in a row were skipped, and learner.max_skipped_updates = 1; step 4: update 1 of 2 "
        "was skipped: its advantages are not finite; update 2 of 2 was skipped: its advantages are not finite; "
        f"python -m launch.replay {folder} step=4 trains on its batch again"
    )
    assert (summary(folder)["status"], summary(folder)["error"]) == ("failed", said)
    assert said in done.stderr
    assert f"resume={folder} goes on after step 3" in done.stderr
    assert [path.name for path in (folder / "batches").iterdir()] == ["step_000004.safetensors"]


def test_the_batch_that_ended_the_run_shows_the_same_when_it_is_trained_on_again(ran, ray_session, capsys):
    folder, _ = ran
    assert replay([str(folder), "step=4"]) == 1
    printed = capsys.readouterr().out
    assert f"From {folder}/checkpoints/step_000003, steps 4 to 4" in printed
    assert "step 4: update 1 of 2 was skipped: its advantages are not finite; update 2 of 2" in printed
    assert "metrics.jsonl has no step 4: the run ended in it." in printed
