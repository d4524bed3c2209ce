"""A run that is killed and taken up again is the run that was not, on the whole graph."""

import json
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import safetensors.numpy

from launch.run_folder import read_metrics
from tests.resilience.runs import (
    LIMIT_S,
    ROOT,
    SETTINGS,
    checksums,
    environ,
    replay_command,
    rows,
    run,
    started,
    state,
    wait_for,
)


def replay(folder: Path, step: int, *overrides: str) -> subprocess.CompletedProcess:
    command = replay_command(folder, step, *overrides)
    return subprocess.run(command, cwd=ROOT, env=environ(), capture_output=True, text=True, timeout=LIMIT_S)


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
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("finished", 6)
    assert summary["started"] == state(folder, 3)["started"]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step_000003", "step_000006"]

    again = run(f"resume={folder}")
    assert again.returncode == 2
    assert "has made its 6 steps" in again.stderr


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


@pytest.mark.slow
def test_a_step_is_trained_on_again_in_another_layout_up_to_round_off(straight):
    layout = ("learner=zero3", "learner.ranks=1", "learner.tokens_per_microbatch=300", "learner.packing=false")
    done = replay(straight, 6, *layout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "learner.ranks is 1, and was 2" in done.stdout
    assert " 0 beyond.\n" in done.stdout
    assert "bit for bit" not in done.stdout


@pytest.mark.slow
def test_another_update_is_not_the_same(straight):
    done = replay(straight, 6, "learner.learning_rate=1e-3")
    assert done.returncode == 1
    assert "policy/learning_rate" in done.stdout.splitlines()[-2]


@pytest.mark.slow
def test_in_another_layout_the_run_goes_on_with_the_same_weights_and_stays_close(straight, tmp_path):
    folder = tmp_path / "run"
    subprocess.run(["cp", "-r", straight, folder], check=True)
    subprocess.run(["rm", "-r", folder / "checkpoints" / "step_000006", folder / "summary.json"], check=True)
    done = run(f"resume={folder}", "learner=zero2", "learner.ranks=1", "rollout.engines=2")
    assert done.returncode == 0, done.stderr
    assert "learner.ranks is 1, and was 2" in done.stdout
    assert "learner.zero_stage is 2, and was 1" in done.stdout
    got, wanted = rows(folder), rows(straight)
    assert got[:3] == wanted[:3]
    # The same policy draws the same responses; only the update that follows is summed in another order.
    for name in ("reward/mean", "length/mean"):
        assert got[3].get(name) == wanted[3].get(name)
    for name in ("entropy/token_mean", "policy/grad_norm"):
        assert got[3][name] == pytest.approx(wanted[3][name], rel=1e-4)
    weights = [
        safetensors.numpy.load_file(f / "checkpoints" / "step_000006" / "weights-00001.safetensors")
        for f in (folder, straight)
    ]
    moved = [np.abs(one - weights[1][name]).max() for name, one in weights[0].items()]
    # Six updates of at most the learning rate, 5e-4, lie between; signs of the smallest gradients are round-off.
    assert max(moved) < 6 * 5e-4


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(straight, tmp_path):
    folder = tmp_path / "run"
    subprocess.run(["cp", "-r", straight, folder], check=True)
    (folder / "summary.json").unlink()
    weights = folder / "checkpoints" / "step_000006" / "weights-00001.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    done = run(f"output.folder={folder}", *SETTINGS)
    assert done.returncode == 0, done.stderr
    assert (
        "The checkpoint of step 6 is damaged: weights-00001.safetensors is not what was written. The checkpoint before "
        "it is used." in done.stdout
    )
    assert checksums(folder, 6) == checksums(straight, 6)
    assert (folder / "checkpoints" / "step_000006.damaged").is_dir()


@pytest.mark.slow
def test_sigterm_lets_the_step_end_and_be_saved(tmp_path):
    folder = tmp_path / "run"
    process = started(f"output.folder={folder}", *SETTINGS, "steps=1000", "checkpoint.every=500")
    assert process.stdout is not None
    assert any(line.startswith("step 2/") for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    [saved] = (folder / "checkpoints").iterdir()
    last = int(read_metrics(folder)[-1]["step"])
    assert saved.name == f"step_{last:06d}"
    assert errors == (
        f"stopped by SIGTERM after {last} of 1000 steps: {folder}\nresume={folder} goes on after step {last}\n"
    )
    assert json.loads((folder / "summary.json").read_text())["status"] == "stopped"


@pytest.mark.slow
def test_a_run_whose_time_is_up_saves_and_can_be_started_again(tmp_path):
    folder = tmp_path / "run"
    # The rule of prog_adv_guided is laid out over the steps, which change here.
    settings = [each for each in SETTINGS if not each.startswith("entropy=")]
    done = run(f"output.folder={folder}", *settings, "checkpoint.must_save_by_s=1")
    assert done.returncode == 75
    assert done.stderr == (
        f"stopped before checkpoint.must_save_by_s = 1 after 1 of 6 steps: {folder}\n"
        f"resume={folder} goes on after step 1\n"
    )
    assert json.loads((folder / "summary.json").read_text())["status"] == "stopped"
    again = run(f"resume={folder}", "checkpoint.must_save_by_s=null", "steps=2", "checkpoint.huggingface=true")
    assert again.returncode == 0, again.stderr
    model = folder / "checkpoints" / "step_000002" / "huggingface"
    saved = safetensors.numpy.load_file(model / "model.safetensors")
    master = safetensors.numpy.load_file(model.parent / "weights-00001.safetensors")
    assert saved.keys() == master.keys()
    for name, value in master.items():
        np.testing.assert_array_equal(saved[name], value)
