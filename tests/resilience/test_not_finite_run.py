"""A run that meets NaN, and what a run shows to others: one real run, watched from outside."""

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from launch.replay import main as replay
from launch.run_folder import read_metrics
from tests.resilience.runs import not_finite_command

ROOT = Path(__file__).parents[2]
LIMIT_S = 550
SECRETS = {
    "WANDB_API_KEY": "planted0wandb" + "a1" * 14,
    "HF_TOKEN": "hf_planted0hub" + "b2" * 12,
    "VERDICT_TOKEN": "planted0verdict" + "c3" * 12,
    "MLFLOW_TRACKING_PASSWORD": "planted0mlflow" + "d4" * 12,
    "RAY_AUTH_TOKEN": "e5" * 32,
}


@dataclass(frozen=True)
class Watched:
    """The run when it has ended, and the sockets that its processes listened on after its first step.

    sockets  name of the process, address, and whether HTTP is spoken there
    """

    folder: Path
    status: int
    stdout: str
    stderr: str
    sockets: list[tuple[str, str, bool]]


def environ() -> dict[str, str]:
    here = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return here | SECRETS | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token"}


def speaks_http(address: str, port: int) -> bool:
    """Whether an HTTP server answers; gRPC and stores of torch do not speak its first version."""
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            connection.settimeout(5)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return connection.recv(5).startswith(b"HTTP/")
    except OSError:
        return False


def listening(pid: int) -> list[tuple[str, str, bool]]:
    found = []
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        try:
            name, connections = process.name(), process.net_connections(kind="inet")
        except psutil.NoSuchProcess:
            continue
        for each in connections:
            if each.status == psutil.CONN_LISTEN:
                address = each.laddr.ip.removeprefix("::ffff:")
                reachable = "127.0.0.1" if address in ("0.0.0.0", "::") else address
                found.append((name, address, speaks_http(reachable, each.laddr.port)))
    return found


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with tempfile.TemporaryDirectory(prefix="nan-", dir="/tmp", ignore_cleanup_errors=True) as path:
        folder = Path(path) / "run"
        command = [*not_finite_command(folder), "logger=tensorboard", "reward.remote.token_variable=VERDICT_TOKEN"]
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("step 1/"):
                    break
            sockets = listening(process.pid) if process.poll() is None else []
            stdout, stderr = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
            process.communicate()
        yield Watched(folder, process.returncode, "".join(lines) + stdout, stderr, sockets)


def test_nan_is_skipped_within_the_budget_and_then_ends_the_run(watched):
    assert watched.status == 1, watched.stderr
    rows = {row["step"]: row for row in read_metrics(watched.folder)}
    assert list(rows) == [0, 1, 2, 3]
    assert [rows[step]["policy/skipped_updates"] for step in (1, 2, 3)] == [0, 1, 0]
    assert rows[3]["policy/skipped_in_a_row"] == 0
    assert "was skipped: its advantages are not finite; weights and moments are as they were." in watched.stdout
    assert "covariance/mean" in rows[1]
    assert "covariance/mean" not in rows[2]
    said = (
        "TooManySkipped: 2 updates in a row were skipped, and learner.max_skipped_updates = 1; step 4: update 1 of 2 "
        "was skipped: its advantages are not finite; update 2 of 2 was skipped: its advantages are not finite; "
        f"python -m launch.replay {watched.folder} step=4 trains on its batch again"
    )
    summary = json.loads((watched.folder / "summary.json").read_text())
    assert (summary["status"], summary["error"]) == ("failed", said)
    assert said in watched.stderr
    assert f"resume={watched.folder} goes on after step 3" in watched.stderr
    assert [path.name for path in (watched.folder / "batches").iterdir()] == ["step_000004.safetensors"]


def test_the_batch_that_ended_the_run_shows_the_same_when_it_is_trained_on_again(watched, ray_session, capsys):
    assert replay([str(watched.folder), "step=4"]) == 1
    printed = capsys.readouterr().out
    assert f"From {watched.folder}/checkpoints/step_000003, steps 4 to 4" in printed
    assert "step 4: update 1 of 2 was skipped: its advantages are not finite; update 2 of 2" in printed
    assert "metrics.jsonl has no step 4: the run ended in it." in printed


def test_no_secret_is_written_or_printed(watched):
    files = [path for path in watched.folder.rglob("*") if path.is_file()]
    names = {path.relative_to(watched.folder).parts[0] for path in files}
    assert names >= {
        "config.yaml",
        "metrics.jsonl",
        "summary.json",
        "report.html",
        "logs",
        "checkpoints",
        "tensorboard",
    }
    assert "VERDICT_TOKEN" in (watched.folder / "config.yaml").read_text()
    for name, secret in SECRETS.items():
        assert secret not in watched.stdout + watched.stderr, name
        assert not [path for path in files if secret.encode() in path.read_bytes()], name


def test_http_is_served_to_this_machine_only(watched):
    assert len({name for name, _, _ in watched.sockets}) > 3
    assert any(http for _, _, http in watched.sockets)
    assert [(name, address) for name, address, http in watched.sockets if http and address != "127.0.0.1"] == []
    ray = [(name, address) for name, address, _ in watched.sockets if name in ("raylet", "gcs_server")]
    assert {address for _, address in ray} == {"127.0.0.1"}
