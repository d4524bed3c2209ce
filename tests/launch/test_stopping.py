"""A run that is told to end, and one that is killed: what it says and what it leaves."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = ("output.display=lines", "rollout.engines=1", "learner.ranks=1", "cluster.kind=local")


def started(folder: Path) -> tuple[subprocess.Popen, list[psutil.Process]]:
    """A run on a Ray of its own that has begun to load, and all processes that it started."""
    command = [sys.executable, "-m", "launch.train", f"output.folder={folder}/run", *SETTINGS]
    environ = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert any("loading laboratory" in line for line in process.stdout)
    return process, psutil.Process(process.pid).children(recursive=True)


def left(processes: list[psutil.Process], limit_s: float) -> list[str]:
    """Command lines of those that are alive after `limit_s` at most."""
    deadline = time.monotonic() + limit_s
    while True:
        alive = [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
        if not alive or time.monotonic() > deadline:
            return [" ".join(each.cmdline()) for each in alive]
        time.sleep(0.1)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, because Ray puts sockets under it, and a socket's path is at most 107 characters long."""
    with tempfile.TemporaryDirectory(prefix="stop-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


@pytest.fixture
def segments():
    before = set(os.listdir("/dev/shm"))
    return lambda: {name for name in set(os.listdir("/dev/shm")) - before if name.startswith(("psm_", "plasma"))}


def test_sigterm_ends_a_run_in_words_and_leaves_nothing(folder, segments):
    process, family = started(folder)
    assert any("raylet" in " ".join(each.cmdline()) for each in family)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert errors == f"stopped by SIGTERM after 0 of 60 steps: {folder}/run\n"
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert (summary["status"], summary["error"]) == ("stopped", "stopped by SIGTERM")
    assert left(family, limit_s=0) == []
    assert segments() == set()
    assert list(folder.glob("entrain-*")) == []


@pytest.mark.slow
def test_a_killed_run_leaves_no_process(folder, segments):
    process, family = started(folder)
    process.kill()
    process.wait()
    # Ray's agents by themselves would stay for a minute.
    assert left(family, limit_s=20) == []
    assert segments() == set()
    assert list(folder.glob("entrain-*")) == []


SWEEP = """
import os, signal, time
from launch.entry import hydra_entry

def main(config):
    print("point", config.seed, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)

hydra_entry(main)
"""


def test_a_signal_ends_a_whole_sweep(tmp_path):
    command = [sys.executable, "-c", SWEEP, "-m", "seed=1,2", "hydra.sweep.dir=here"]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 128 + signal.SIGTERM
    assert [line for line in done.stdout.splitlines() if line.startswith("point")] == ["point 1"]
    assert done.stderr == "stopped by SIGTERM\n"
    [point] = json.loads((tmp_path / "here" / "points.json").read_text())
    assert (point["overrides"], point["status"]) == (["seed=1"], "unfinished")


PATIENT = """
import os, signal, sys, time
from launch import stopping

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def told():
    say("told")

with stopping.heeding():
    try:
        with stopping.patient(float(sys.argv[1]), told):
            os.kill(os.getpid(), signal.SIGTERM)
            say("goes on", stopping.told(), stopping.left_s() > 0)
            if sys.argv[2] == "ends":
                time.sleep(0.3)
            elif sys.argv[2] == "again":
                time.sleep(0.3)
                os.kill(os.getpid(), signal.SIGINT)
                say("not reached")
            else:
                time.sleep(20)
                say("not reached")
    except KeyboardInterrupt:
        say("interrupted", stopping.left_s())
    os.kill(os.getpid(), signal.SIGINT)
    say(stopping.sentence(), stopping.exit_status())
"""


@pytest.mark.parametrize(
    ("grace_s", "what", "lines"),
    [
        (20, "ends", ["goes on True True", "told", "stopped by SIGTERM 143"]),
        (20, "again", ["goes on True True", "told", "interrupted 0.0", "stopped by SIGTERM 143"]),
        (0.3, "waits", ["goes on True True", "told", "interrupted 0.0", "stopped by SIGTERM 143"]),
        (0, "ends", ["interrupted None", "stopped by SIGTERM 143"]),
    ],
)
def test_the_first_signal_leaves_a_grace_and_the_second_none(grace_s, what, lines):
    command = [sys.executable, "-c", PATIENT, str(grace_s), what]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=15, check=True
    )
    assert sorted(done.stdout.splitlines()) == sorted(lines)
