"""The command without a GPU, its table and JSON; the checks themselves run on a CPU where they can."""

import json
import sys
from contextlib import nullcontext

import pytest
import torch

from benchmarks import gpu_smoke
from benchmarks.gpu_smoke import CHECKS, Check, Outcome, main, run_all

# A check that does what its name says.
CHILD = (
    "import sys, time\n"
    "name = sys.argv[1]\n"
    "print('fine')\n"
    "time.sleep(60 if name == 'hang' else 0)\n"
    "sys.exit('no memory') if name == 'crash' else None\n"
)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_machine_without_cuda_says_so(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "smoke.json")]) == 2
    assert capsys.readouterr().err == "There is no CUDA device on this machine, so there is nothing to check.\n"
    assert not list(tmp_path.iterdir())


def test_one_check_does_not_take_the_others_with_it():
    checks = [Check("good", 1), Check("crash", 1), Check("hang", 1), Check("two", 2), Check("also good", 1)]
    found = run_all(checks, gpus=1, command=[sys.executable, "-c", CHILD], deadline_s=3)
    assert [(outcome.name, outcome.status, outcome.why) for outcome in found] == [
        ("good", "pass", "fine"),
        ("crash", "fail", "no memory"),
        ("hang", "fail", "not done in 3 s"),
        ("two", "skip", "needs 2 GPUs, and there are 1"),
        ("also good", "pass", "fine"),
    ]


@pytest.mark.parametrize(("status", "expected"), [("pass", 0), ("skip", 0), ("fail", 1)])
def test_the_table_is_written_and_the_exit_status_is_of_the_worst(status, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU")
    asked = []

    def run(checks, gpus, command, deadline_s):
        asked.append((checks, gpus))
        return [Outcome("engine", "pass", 1.0, ""), Outcome("train", status, 2.0, "why")]

    monkeypatch.setattr(gpu_smoke, "run_all", run)
    assert main(["--out", str(tmp_path / "smoke.json")]) == expected
    assert asked == [(CHECKS, 1)]
    written = json.loads((tmp_path / "smoke.json").read_text())
    assert written["machine"]["gpus"] == ["a GPU"]
    assert written["checks"][1] == {"name": "train", "status": status, "seconds": 2.0, "why": "why"}
    assert f"train       {status}" in capsys.readouterr().out


def test_every_transport_is_checked():
    from launch.limits import CHOICES

    transports = {check.name.removeprefix("sync ") for check in CHECKS if check.name.startswith("sync ")}
    assert transports == set(CHOICES["rollout.weight_transfer"]) - {"auto"}


def test_every_level_of_sleep_is_checked():
    from launch.limits import CHOICES

    levels = {int(check.name.removeprefix("sleep ")) for check in CHECKS if check.name.startswith("sleep ")}
    assert levels == set(CHOICES["rollout.sleep_level"])


@pytest.mark.parametrize("name", [check.name for check in CHECKS])
def test_a_check_runs_by_its_name_with_settings_that_a_run_can_have(name, monkeypatch):
    from launch.validate import check

    ran = []
    monkeypatch.setattr(gpu_smoke, "ray_session", lambda config: nullcontext())
    monkeypatch.setattr(gpu_smoke, "check_engine", lambda *what: ran.append(what))
    monkeypatch.setattr(gpu_smoke, "check_sync", lambda *what: ran.append(what))
    monkeypatch.setattr(gpu_smoke, "check_sleep", lambda *what: ran.append(what))

    def train(config):
        assert check(config) == []
        ran.append((config.rollout.colocated,))
        return {"status": "finished"}

    monkeypatch.setattr("launch.train.train", train)
    gpu_smoke.run_one(name, str(gpu_smoke.LABORATORY), "cuda")
    model = str(gpu_smoke.LABORATORY)
    kind, _, which = name.partition(" ")
    wanted = {
        "engine": (model, "cuda"),
        "sync": (model, "cuda", which),
        "sleep": (model, "cuda", int(which) if kind == "sleep" else 0),
        "train": (False,),
        "colocated": (True,),
    }
    assert ran == [wanted[kind]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "check",
    [
        lambda model: gpu_smoke.check_engine(model, "cpu"),
        lambda model: gpu_smoke.check_sync(model, "cpu", "host"),
        lambda model: gpu_smoke.check_sleep(model, "cpu", 2),
    ],
)
def test_the_checks_pass_on_a_cpu(ray_session, check):
    check(str(gpu_smoke.LABORATORY))
