"""The adapters with their real packages: what was logged is read back with the package's own reader."""

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.config import RunConfig, compose
from launch.trackers import TRACKERS, flat

ROOT = Path(__file__).resolve().parents[2]
# A memory size beyond 32 bits, and one that float32 can hold.
ROWS = [
    {"step": 0, "eval/heldout/avg_at_k": 0.25},
    {"step": 1, "policy/loss": -0.125, "memory/total_bytes": 4_500_000_256},
    {"step": 2, "policy/loss": 0.5},
]
EXPECTED = {
    "step": [(0, 0.0), (1, 1.0), (2, 2.0)],
    "eval/heldout/avg_at_k": [(0, 0.25)],
    "policy/loss": [(1, -0.125), (2, 0.5)],
    "memory/total_bytes": [(1, 4_500_000_256.0)],
}
# A process that is killed right after its last row, without closing anything.
KILLED = """
import os, signal, sys, time
from launch.trackers import TRACKERS, WANDB_FLUSH_S
from tests.launch.test_trackers import ROWS, config_of
kind, folder = sys.argv[1:]
tracker = TRACKERS[kind](config_of(folder, kind))
for row in ROWS:
    tracker.log(row["step"], row)
if kind == "wandb":
    time.sleep(5 * WANDB_FLUSH_S)
os.kill(os.getpid(), signal.SIGKILL)
"""


def config_of(folder, kind: str) -> RunConfig:
    return compose([f"output.folder={folder}", f"logger={kind}", "logger.project=sums", "clip.high=null", "name=it"])


def needs(kind: str) -> None:
    for package in {"mlflow": ("mlflow", "sqlalchemy", "alembic")}.get(kind, (kind,)):
        pytest.importorskip(package, reason=f"{package} is not installed; it comes with the extra `loggers`")


def tensorboard_events(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard")).Reload()


def tensorboard_figures(folder: Path) -> dict:
    events = tensorboard_events(folder)
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def wandb_records(folder: Path) -> Iterator:
    """The records of the run's .wandb file: seven bytes, then LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    [path] = folder.glob("wandb/offline-run-*/*.wandb")
    data, at, part, block = path.read_bytes(), 7, b"", 32768
    while at + 7 <= len(data):
        if block - at % block < 7:
            at += block - at % block
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield Record.FromString(part)
            part = b""


def wandb_figures(folder: Path) -> dict:
    figures: dict = {}
    for record in wandb_records(folder):
        if record.WhichOneof("record_type") == "history":
            row = {item.key or item.nested_key[0]: float(item.value_json) for item in record.history.item}
            for name in row.keys() - {"_step", "_timestamp", "_runtime"}:
                figures.setdefault(name, []).append((row["_step"], row[name]))
    return figures


def mlflow_run(folder: Path):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow' / 'mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("sums").experiment_id])
    return client, run


def mlflow_figures(folder: Path) -> dict:
    client, run = mlflow_run(folder)
    return {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


FIGURES = {"tensorboard": tensorboard_figures, "wandb": wandb_figures, "mlflow": mlflow_figures}


def logged(folder: Path, kind: str, error: str | None) -> None:
    needs(kind)
    folder.mkdir(exist_ok=True)
    tracker = TRACKERS[kind](config_of(folder, kind))
    for row in ROWS:
        tracker.log(row["step"], row)
    tracker.close(error)
    if kind == "wandb":
        # W&B answers before its process has written the last records.
        deadline = time.monotonic() + 20
        while not any(record.WhichOneof("record_type") == "exit" for record in wandb_records(folder)):
            assert time.monotonic() < deadline, "the file of W&B never ended"
            time.sleep(0.05)


@pytest.mark.parametrize("kind", TRACKERS)
def test_figures_come_back_under_their_names_and_steps(kind, tmp_path):
    logged(tmp_path / "run", kind, None)
    assert FIGURES[kind](tmp_path / "run") == EXPECTED
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("kind", TRACKERS)
def test_a_killed_run_keeps_what_it_logged(kind, tmp_path):
    needs(kind)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "WANDB_API_KEY": "0123456789" * 4}
    command = [sys.executable, "-c", KILLED, kind, str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert FIGURES[kind](tmp_path) == EXPECTED
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert not any(b"0123456789" * 4 in path.read_bytes() for path in kept)


def test_tensorboard_has_the_settings(tmp_path):
    logged(tmp_path, "tensorboard", None)
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = tensorboard_events(tmp_path)
    plugin = events.PluginTagToContent("hparams")
    parameters = HParamsPluginData.FromString(plugin["_hparams_/session_start_info"]).session_start_info.hparams
    assert parameters["clip.low"].number_value == 0.2
    assert parameters["name"].string_value == "it"
    assert parameters["logger.kinds"].string_value == '["tensorboard"]'
    assert "clip.high" not in parameters
    assert "_hparams_/session_end_info" in plugin
    [text] = events.Tensors("config/text_summary")
    assert b"    clip:\n      low: 0.2\n      high: null\n" in text.tensor_proto.string_val[0]


def test_tensorboard_is_told_of_a_failure(tmp_path):
    logged(tmp_path, "tensorboard", "Engine 0 died.")
    events = tensorboard_events(tmp_path)
    assert "_hparams_/session_end_info" not in events.PluginTagToContent("hparams")
    assert events.Tensors("error/text_summary")[0].tensor_proto.string_val == [b"Engine 0 died."]


@pytest.mark.parametrize(("error", "status"), [(None, 0), ("Engine 0 died.", 1)])
def test_wandb_has_the_settings_and_the_outcome(error, status, tmp_path):
    logged(tmp_path / "r", "wandb", error)
    records = list(wandb_records(tmp_path / "r"))
    [run] = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    settings = {item.key: item.value_json for item in run.config.update}
    assert (run.project, run.display_name, settings["name"], settings["clip"]) == (
        "sums", "r", '"it"', '{"low":0.2,"high":null}',
    )  # fmt: skip
    assert [r.exit.exit_code for r in records if r.WhichOneof("record_type") == "exit"] == [status]
    told = {item.key: item.value_json for r in records for item in r.summary.update}
    assert told.get("error") == (None if error is None else '"Engine 0 died."')


@pytest.mark.parametrize(("error", "status"), [(None, "FINISHED"), ("Engine 0 died.", "FAILED")])
def test_mlflow_has_the_settings_and_the_outcome(error, status, tmp_path):
    logged(tmp_path / "r", "mlflow", error)
    _, run = mlflow_run(tmp_path / "r")
    assert (run.info.status, run.info.run_name, run.data.tags.get("error")) == (status, "r", error)
    assert run.info.artifact_uri.startswith((tmp_path / "r" / "mlflow").as_uri())
    parameters = run.data.params
    assert (parameters["clip.low"], parameters["clip.high"], parameters["name"]) == ("0.2", "null", "it")
    assert parameters["logger.kinds"] == '["mlflow"]'


def test_settings_have_the_names_of_the_command_line():
    assert list(flat({"clip": {"low": 0.2, "high": None}, "seed": 1})) == [
        ("clip.low", 0.2), ("clip.high", None), ("seed", 1),
    ]  # fmt: skip
