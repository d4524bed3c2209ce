"""Runs that are taken up, replayed and stopped in more ways than the short tests have."""

import json
import signal
import subprocess

import numpy as np
import pytest
import safetensors.numpy

from launch.run_folder import read_metrics
from tests.resilience.runs import SETTINGS, MarkedRun, checksums, replay, rows, run, started

pytestmark = pytest.mark.slow


def test_a_step_is_trained_on_again_in_another_layout_up_to_round_off(straight):
    layout = ("learner=zero3", "learner.ranks=1", "learner.tokens_per_microbatch=300", "learner.packing=false")
    done = replay(straight, 6, *layout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "learner.ranks is 1, and was 2" in done.stdout
    assert " 0 beyond.\n" in done.stdout
    assert "bit for bit" not in done.stdout


def test_another_update_is_not_the_same(straight):
    done = replay(straight, 6, "learner.learning_rate=1e-3")
    assert done.returncode == 1
    assert "policy/learning_rate" in done.stdout.splitlines()[-2]


def test_a_run_goes_on_from_deepspeeds_own_checkpoint_where_it_may_unpickle(straight, tmp_path):
    folder = tmp_path / "run"
    first = run(f"output.folder={folder}", *SETTINGS, "checkpoint.form=deepspeed")
    assert first.returncode == 0, first.stderr
    saved = folder / "checkpoints" / "step_000006"
    assert {path.name for path in saved.iterdir()} == {"deepspeed", "manifest.json", "random.safetensors", "state.json"}
    assert rows(folder) == rows(straight)
    subprocess.run(["rm", "-r", saved, folder / "summary.json"], check=True)

    refused = run(f"resume={folder}")
    assert refused.returncode == 2
    assert "holds pickles, which can run any code when they are read" in refused.stderr
    refused = run(f"resume={folder}", "resume_unpickle=true", "learner.ranks=1")
    assert refused.returncode == 2
    assert "learner.ranks was 2 in the run and is 1." in refused.stderr
    done = run(f"resume={folder}", "resume_unpickle=true")
    assert done.returncode == 0, done.stderr
    assert rows(folder) == rows(straight)
    lone = replay(folder, 6)
    assert lone.returncode == 2
    assert "which is in DeepSpeed's own form" in lone.stderr


def test_a_run_that_may_replace_no_engine_saves_what_is_trained_and_goes_on_as_the_run_that_lost_none(
    straight, tmp_path
):
    folder = tmp_path / "run"
    with MarkedRun(folder, *SETTINGS, "rollout.restarts=0") as broken:
        broken.send("engine", signal.SIGKILL, 4)
        assert broken.wait() == 1
        assert "rollout.restarts = 0 allows no further one" in broken.errors()
        assert f"goes on after step {broken.steps()[-1]}" in broken.errors()
        assert broken.steps()[-1] in (4, 5)
    done = run(f"resume={folder}", "rollout.restarts=3")
    assert done.returncode == 0, done.stderr
    assert rows(folder) == rows(straight)
    assert checksums(folder, 6) == checksums(straight, 6)


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
