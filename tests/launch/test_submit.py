"""Jobs: what can be refused before anything is sent to a cluster, and what is said about jobs that ended."""

import sys
from pathlib import Path

import pytest

from launch import submit
from launch.job_client import Shown, SubmitError, dashboard_url, exit_status
from launch.submit import ROOT, Options, entry_point, parse
from launch.upload import too_large, uploaded
from tests.cluster_head import free_ports


def options(*overrides: str) -> Options:
    return Options("http://127.0.0.1:1", None, "/opt/python", False, 1, True, False, overrides)


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


def test_a_folder_in_hydras_grammar_reaches_the_run():
    import shlex

    from launch.config import compose

    words = shlex.split(entry_point(options("output.folder=my run, 2's"), Path("/here"), "now"))
    assert compose(words[3:]).output.folder == "/here/my run, 2's"


def test_options_and_overrides_in_any_order(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:8265")
    found = parse(["clip=higher", "--stop-on-interrupt", "seed=1", "--python", "/opt/python"])
    assert found == Options(
        "http://10.0.0.1:8265", ROOT, "/opt/python", False, 1, True, True, ("clip=higher", "seed=1")
    )
    assert parse(["--address", "https://ray.example"]).address == "https://ray.example"
    assert parse([]).python == sys.executable


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-m", "--no-wait", "seed=0,1"], "--no-wait cannot be had with --multirun"),
        (["-m", "--at-once", "0"], "--at-once=0 has to be at least 1"),
        (["--at-once", "2"], "--at-once is of a sweep: add --multirun"),
    ],
)
def test_options_that_make_no_sense_together(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as refused:
        parse(arguments)
    assert refused.value.code == 2
    assert sentence in capsys.readouterr().err


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
    assert ROOT / "launch" / "train.py" in uploaded(ROOT)


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
