"""Jobs on a real head of the tests' own: how they end, what they say, and that they leave nothing running."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from launch.points import read_points
from launch.submit import ROOT
from launch.upload import copy_uploaded
from tests.cluster_head import Head, running_head
from tests.launch.test_sweep import APPLICATION

TINY = ["steps=1", "evaluation.samples_per_prompt=1", "evaluation.every=0", "output.display=lines"]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with running_head(cpus=4) as head:
        yield head


def command(head: Head, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "launch.submit", "--address", head.dashboard, *arguments]


def run(head: Head, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in (head.environ | environ).items() if value}
    done = subprocess.run(
        command(head, *arguments), env=environment, cwd=ROOT, capture_output=True, text=True, timeout=400
    )
    assert_nothing_left(head)
    return done


def assert_nothing_left(head: Head) -> None:
    deadline = time.monotonic() + 30
    while (left := head.guests()) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []


def test_a_refused_run_passes_its_sentence_and_its_exit_status_on(head, tmp_path):
    done = run(head, "rollout.top_p=0.5", f"output.folder={tmp_path}")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "rollout.top_p = 0.5 has to be 1.0" in done.stdout
    assert "failed with exit code 2" in done.stderr


@pytest.mark.slow
def test_a_folder_in_the_copy_of_the_working_directory_is_refused(head):
    ray = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", head.dashboard]
    job = [sys.executable, "-m", "launch.train", "output.folder=here"]
    done = subprocess.run(
        [*ray, "--working-dir", str(ROOT), "--", *job], env=head.environ, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 1
    assert "in the copy of the working directory that Ray deletes" in done.stdout + done.stderr


def test_a_wrong_token(head, tmp_path):
    other = tmp_path / "token"
    other.write_text("0" * 64)
    for token in ({"RAY_AUTH_TOKEN_PATH": str(other)}, {"RAY_AUTH_MODE": "disabled"}):
        done = run(head, **token)
        assert done.returncode == 1
        assert "asks for a token" in done.stderr
        assert "RAY_AUTH_TOKEN_PATH" in done.stderr


@pytest.mark.slow
def test_a_cluster_that_is_too_small_fails_in_words_and_keeps_nothing(head, tmp_path):
    done = run(head, *TINY, f"output.folder={tmp_path}", "rollout.engines=9", "cluster.start_timeout_s=4")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "waiting for the cluster: the run needs 11 CPUs: 2 for learner ranks, 9 for engines" in done.stdout
    assert "after 4 s (cluster.start_timeout_s) the run needs 11 CPUs" in done.stdout
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_a_job_trains_on_the_cluster(head, tmp_path):
    done = run(head, *TINY, f"output.folder={tmp_path}", "rollout.engines=1", "learner.ranks=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Cluster of 1 node: 4 cores" in done.stdout
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "finished"
    assert (tmp_path / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_rays_own_command_trains_too(head, tmp_path):
    ray = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", head.dashboard]
    job = [sys.executable, "-m", "launch.train", *TINY, f"output.folder={tmp_path}"]
    done = subprocess.run(
        [*ray, "--working-dir", str(ROOT), "--", *job], env=head.environ, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Cluster of 1 node: 4 cores" in done.stdout
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "finished"
    assert_nothing_left(head)


@contextmanager
def training_job(head: Head, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A job that has begun to start its actors, and its ID."""
    process = subprocess.Popen(
        command(head, *TINY, *arguments),
        env=head.environ,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout)
        job = next(line.split()[1] for line in lines if line.startswith("job run_"))
        assert any("starting the actors" in line for line in lines)
        yield process, job
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_ctrl_c_stops_the_job(head, tmp_path):
    with training_job(head, f"output.folder={tmp_path / 'run'}", "--stop-on-interrupt") as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert_nothing_left(head)


@pytest.mark.slow
def test_a_job_whose_command_is_killed(head, tmp_path):
    with training_job(head, f"output.folder={tmp_path / 'run'}") as (process, job):
        [driver] = [
            each
            for each in head.process.children(recursive=True)
            if each.cmdline()[1:3] == ["-m", "launch.train"] and each.status() != psutil.STATUS_ZOMBIE
        ]
        driver.kill()
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 137
        assert said.endswith(f"job {job} was killed by SIGKILL, by somebody or for lack of memory\n")
    assert_nothing_left(head)


@pytest.mark.slow
def test_a_job_that_somebody_stops(head, tmp_path):
    with training_job(head, f"output.folder={tmp_path / 'run'}") as (process, job):
        ray = [sys.executable, "-m", "ray.scripts.scripts", "job", "stop", "--address", head.dashboard, job]
        subprocess.run(ray, env=head.environ, capture_output=True, check=True, timeout=60)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert said.endswith(f"job {job} was stopped from outside, by ray job stop or its like\n")
    assert_nothing_left(head)


@pytest.mark.slow
def test_a_sweep_is_a_job_per_point_and_a_second_one_repeats_only_what_failed(head, tmp_path):
    code, folder = tmp_path / "code", tmp_path / "sweep"
    copy_uploaded(ROOT, code)
    # Seed 7 is refused, and seed 8 fails until it is mended.
    (code / "launch" / "train.py").write_text(APPLICATION)
    arguments = ["-m", "--working-dir", str(code), f"hydra.sweep.dir={folder}", "seed=8,1,7"]
    first = run(head, *arguments, "--at-once", "2")
    assert first.returncode == 1, first.stdout + first.stderr
    lines = first.stdout.splitlines()
    assert lines[0] == f"sweep of 3 points in {folder}, at most 2 at once"
    assert [line.partition(" as job ")[0] for line in lines[1:3]] == ["seed=8: started", "seed=1: started"]
    assert {"seed=8: failed: an engine died", "seed=1: finished", "seed=7: refused: seed 7 will not do"} < set(lines)
    assert f"table: {folder / 'sweep.csv'}" in lines
    assert "INFO" not in first.stderr
    assert "seed=8: failed: an engine died (ray job logs seed-8_" in first.stderr
    assert {point.name: (point.status, point.error) for point in read_points(folder)} == {
        "seed-8": ("failed", "an engine died"),
        "seed-1": ("finished", None),
        "seed-7": ("refused", "seed 7 will not do"),
    }
    untouched = (folder / "seed-1" / "summary.json").stat().st_mtime_ns

    (code / "mended").touch()
    second = run(head, *arguments[:-1], "seed=8,1")
    assert second.returncode == 0, second.stdout + second.stderr
    assert {"seed=8: finished", "seed=1: finished"} < set(second.stdout.splitlines())
    assert (folder / "attempts" / "seed-8.1").is_dir()
    assert (folder / "seed-1" / "summary.json").stat().st_mtime_ns == untouched
