"""Where metrics go besides metrics.jsonl: adapters for TensorBoard, Weights & Biases and MLflow.

Each imports its package when it is made, so that a run needs only what it has chosen. What an adapter is given never
holds a secret: keys and passwords are taken from the environment, by the packages themselves.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, cast

import yaml

from launch.config import RunConfig

# Limit of MLflow's stores on the parameters of one call.
MLFLOW_PARAMETERS = 100
# W&B has no call that flushes; its process writes what it holds this often.
WANDB_FLUSH_S = 0.2


class Tracker(Protocol):
    """Gets the settings of a run when it is made, then its rows. All of it may raise whatever the package raises.

    place  where to look, for a person
    """

    place: str

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Take the finite figures of one step and see them on disk, or sent (W&B's own process: a moment later)."""

    def close(self, error: str | None) -> None:
        """End the run: finished, or failed with the sentence `error`."""


class TensorBoard:
    """Event files in `tensorboard/` of the run folder. TensorBoard keeps scalars as float32."""

    def __init__(self, config: RunConfig):
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        settings = asdict(config)
        self.place = str(Path(config.output.folder) / "tensorboard")
        self._writer = cast(Any, SummaryWriter(self.place))
        # SummaryWriter.add_hparams would make a second run beside this one.
        experiment, started, self._finished = hparams(
            {name: json.dumps(value) if isinstance(value, list) else value for name, value in flat(settings)}, {}
        )
        self._writer.file_writer.add_summary(experiment)
        self._writer.file_writer.add_summary(started)
        lines = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).splitlines()
        # Four spaces make a block of code in the Markdown that TensorBoard shows texts in.
        self._writer.add_text("config", "\n".join(f"    {line}" for line in lines))
        self._writer.flush()

    def log(self, step: int, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, error: str | None) -> None:
        if error is None:
            self._writer.file_writer.add_summary(self._finished)
        else:
            self._writer.add_text("error", error)
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, in `wandb/` of the run folder and, online, at its server."""

    def __init__(self, config: RunConfig):
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        folder, limit_s = Path(config.output.folder), config.logger.timeout_s
        self._run = wandb.init(
            project=config.logger.project,
            name=folder.name,
            dir=str(folder),
            mode=config.logger.wandb_mode,  # type: ignore[arg-type]
            config=asdict(config),
            # The points of a sweep share this process.
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                # The display of the run owns the console, and config.yaml and summary.json say what code ran.
                console="off",
                disable_git=True,
                disable_code=True,
                init_timeout=limit_s,
                finish_timeout=limit_s,
                finish_timeout_raises=True,
                x_transaction_log_flush_interval=WANDB_FLUSH_S,
            ),
        )
        offline = f"{self._run.settings.sync_dir} (offline; `wandb sync` uploads it)"
        self.place = offline if config.logger.wandb_mode == "offline" else str(self._run.url)

    def log(self, step: int, row: Mapping[str, float]) -> None:
        # With a step given, W&B would otherwise hold the row back until the next one comes.
        self._run.log(dict(row), step=step, commit=True)

    def close(self, error: str | None) -> None:
        if error is not None:
            self._run.summary["error"] = error
        self._run.finish(exit_code=0 if error is None else 1)


class MLflow:
    """A run of MLflow, in `mlflow/mlflow.db` of the run folder or where `logger.mlflow_uri` says."""

    def __init__(self, config: RunConfig):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._metric = Metric
        own = Path(config.output.folder) / "mlflow"
        self.place = config.logger.mlflow_uri or f"sqlite:///{own / 'mlflow.db'}"
        if config.logger.mlflow_uri is None:
            own.mkdir(exist_ok=True)
        self._client = MlflowClient(self.place)
        project = config.logger.project
        known = self._client.get_experiment_by_name(project)
        artifacts = (own / "artifacts").as_uri() if config.logger.mlflow_uri is None else None
        experiment = known.experiment_id if known else self._client.create_experiment(project, artifacts)
        self._run = self._client.create_run(experiment, run_name=Path(config.output.folder).name).info.run_id
        parameters = [
            Param(name, value if isinstance(value, str) else json.dumps(value)) for name, value in flat(asdict(config))
        ]
        for start in range(0, len(parameters), MLFLOW_PARAMETERS):
            self._client.log_batch(self._run, params=parameters[start : start + MLFLOW_PARAMETERS], synchronous=True)

    def log(self, step: int, row: Mapping[str, float]) -> None:
        now_ms = int(time.time() * 1000)
        metrics = [self._metric(name, value, now_ms, step) for name, value in row.items()]
        self._client.log_batch(self._run, metrics, synchronous=True)

    def close(self, error: str | None) -> None:
        if error is not None:
            self._client.set_tag(self._run, "error", error)
        self._client.set_terminated(self._run, "FINISHED" if error is None else "FAILED")


TRACKERS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting under the name the command line takes: ("clip.low", 0.2)."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
