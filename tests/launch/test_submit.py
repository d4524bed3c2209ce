"""Jobs: what can be refused here is refused here, and the rest on a real head of the tests' own."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch import submit
from launch.submit import ROOT, Options, Shown, SubmitError, dashboard_url, entry_point, exit_status, parse, too_large
from tests.cluster_head import Head, free_ports, running_head

TINY = ["steps=1", "evaluation.samples_per_prompt=1", "evaluation.every=0", "output.display=lines"]


def options(*overrides: str, multirun: bool = False) -> Options:
    return Options("http://127.0.0.1:1", None, "/opt/python", multirun, True, False, overrides)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((), "output.folder=/here/runs/now"),
        (("output.folder=runs/mine",), "output.folder=/here/runs/mine"),
        (("output.folder=/data/mine",), "output.folder=/data/mine"),
        (("output.folder=my run, 2",), r"""'output.folder='"'"'/here/my run, 2'"'"''"""),
    ],
)
def test_the_output_folder_is_absolute(given, wanted):
    command = entry_point(options("clip=higher", *given), Path("/here"), "now")
    assert command == f"/opt/python -m launch.train clip=higher {wanted}"


def test_a_sweep_has_one_absolute_folder_for_all_points():
    command = entry_point(options("seed=0,1", multirun=True), Path("/here"), "now")
    assert command == "/opt/python -m launch.train --multirun seed=0,1 hydra.sweep.dir=/here/multirun/now"


def test_a_folder_in_hydras_grammar_reaches_the_run():
    import shlex

    from launch.config import compose

    words = shlex.split(entry_point(options("output.folder=my run, 2's"), Path("/here"), "now"))
    assert compose(words[3:]).output.folder == "/here/my run, 2's"


def test_options_and_overrides_in_any_order(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:8265")
    found = parse(["clip=higher", "--stop-on-interrupt", "seed=1", "--python", "/opt/python"])
    assert found == Options("http://10.0.0.1:8265", ROOT, "/opt/python", False, True, True, ("clip=higher", "seed=1"))
    assert parse(["--address", "https://ray.example"]).address == "https://ray.example"
    assert parse([]).python == sys.executable


@pytest.mark.parametrize("address", ["auto", "ray://10.0.0.1:10001", "http://"])
def test_an_address_that_is_no_dashboards(address):
    with pytest.raises(SubmitError, match=r"is not the address of a dashboard.*--address"):
        dashboard_url(address)


@pytest.mark.parametrize(
    ("status", "code", "wanted"),
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 2, 2),
        ("FAILED", 3, 3),
        ("FAILED", -9, 137),
        ("FAILED", None, 1),
        ("STOPPED", None, 1),
    ],
)
def test_exit_status_is_that_of_the_job(status, code, wanted):
    assert exit_status(status, code) == wanted


def test_output_is_printed_once_however_often_the_connection_is_lost():
    class Client:
        def __init__(self, *chunks: str):
            self._chunks = chunks

        async def tail_job_logs(self, job):
            for chunk in self._chunks:
                yield chunk

    import asyncio

    written: list[str] = []
    shown = Shown(written.append)
    asyncio.run(shown.tail(Client("one\n", "tw"), "job"))
    asyncio.run(shown.tail(Client("on", "e\ntwo\nthr"), "job"))
    shown.all("one\ntwo\nthree\n")
    assert "".join(written) == "one\ntwo\nthree\n"


@pytest.fixture
def checkout(tmp_path) -> Path:
    (tmp_path / "launch").mkdir()
    (tmp_path / "launch" / "train.py").write_text("pass\n")
    (tmp_path / "data").mkdir()
    return tmp_path


def sparse(path: Path, mib: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(mib << 20)


def test_huge_files_are_named_before_the_upload(checkout):
    sparse(checkout / "data" / "weights.bin", 90)
    assert too_large(checkout) == ""
    sparse(checkout / "data" / "rows.jsonl", 40)
    found = too_large(checkout)
    assert "holds 130 MiB, and Ray takes 100" in found
    assert "largest files: data/weights.bin (90 MiB), data/rows.jsonl (40 MiB), launch/train.py" in found


@pytest.mark.parametrize("folder", ["runs/a", "multirun/a", ".git", ".venv/lib", "ignored"])
def test_what_does_not_travel_does_not_count(checkout, folder):
    (checkout / ".gitignore").write_text("ignored/\n")
    sparse(checkout / folder / "big", 200)
    assert too_large(checkout) == ""


def test_this_repository_can_be_uploaded():
    assert too_large(ROOT) == ""
    assert ROOT / "launch" / "train.py" in submit.uploaded(ROOT)


def test_a_misspelt_setting_is_refused_before_the_cluster_is_asked(capsys):
    assert submit.main(["--address", "127.0.0.1:1", "rollout.engnes=2"]) == 2
    assert "rollout.engnes" in capsys.readouterr().err


def test_nobody_at_the_address(capsys):
    [port] = free_ports(1)
    assert submit.main(["--address", f"127.0.0.1:{port}"]) == 1
    assert "no Ray dashboard answers at" in capsys.readouterr().err


def test_a_working_directory_that_is_not_there(capsys, tmp_path):
    assert submit.main(["--address", "127.0.0.1:1", "--working-dir", str(tmp_path / "no")]) == 1
    assert capsys.readouterr().err.startswith("--working-dir: there is no folder")


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


def test_a_cluster_that_is_too_small_fails_in_words_and_keeps_nothing(head, tmp_path):
    done = run(head, *TINY, f"output.folder={tmp_path}", "rollout.engines=9", "cluster.start_timeout_s=4")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "waiting for the cluster: the run needs 11 CPUs: 2 for learner ranks, 9 for engines" in done.stdout
    assert "after 4 s (cluster.start_timeout_s) the run needs 11 CPUs" in done.stdout
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "failed"


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


def test_ctrl_c_stops_the_job(head, tmp_path):
    arguments = [*TINY, f"output.folder={tmp_path / 'run'}", "--stop-on-interrupt"]
    process = subprocess.Popen(command(head, *arguments), env=head.environ, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "starting the actors" in line:
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
    assert_nothing_left(head)
