"""What surrounds the steps of a run: its folder, its display, Ray, the actors, and how it ends."""

import time
import traceback
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from launch.cluster import divide, groups, is_joined, places, ray_session
from launch.cluster import sentences as cluster_sentences
from launch.config import ConfigError, RunConfig
from launch.display import make_display
from launch.entry import RunFailed
from launch.evaluate import evaluate
from launch.failures import FAILURES, sentence
from launch.graph import Graph
from launch.memory import job_bytes
from launch.phases import Phases
from launch.placement import cluster_nodes
from launch.prepare import Prepared, verifiers
from launch.report import write_report
from launch.run_folder import RunFolder, RunFolderError, read_metrics, summarize, versions
from launch.validate import implied, sentences


class Run:
    """A started run. A context manager: entering starts the actors, leaving ends them and writes summary and report.

    On the way out a failure that is in `FAILURES` becomes a RunFailed; any other is a mistake of ours and passes as is.
    """

    graph: Graph
    phases: Phases
    summary: dict[str, Any]

    def __init__(self, config: RunConfig, prepared: Prepared):
        self._config, self._prepared = config, prepared
        self.folder = _new_folder(config)
        self._config_hash = self.folder.write_config(config)
        self._started, self._clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        self._display = make_display(config.output.display, config.steps)

    def __enter__(self) -> Self:
        with ExitStack() as actors:
            try:
                self._start(actors)
            except BaseException as error:
                actors.close()
                if failure := self._failure(error):
                    raise failure from error
                raise
            self._actors = actors.pop_all()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            self._actors.close()
        except FAILURES as closing:
            # What went wrong first is what the run says.
            error = error or closing
        if error is None:
            with self._display:
                self._end(None)
                self._display.finished(self.summary, write_report(self.folder))
        elif failure := self._failure(error):
            raise failure from error

    def evaluate(self) -> dict[str, float]:
        """Accuracy on the evaluation sets, and on one machine the memory the job holds after them."""
        graph, config = self.graph, self._config
        with self.phases("evaluate"):
            row = evaluate(
                graph.rollout,
                graph.reward,
                self._prepared.evaluation,
                config.evaluation,
                config.rollout.max_new_tokens,
                config.seed,
                config.reward.max_failure_share,
            )
            # The actors of a cluster are no children of this process, so there is nothing to add up.
            return row if is_joined(config) else row | {"memory/total_bytes": job_bytes()}

    def evaluation_due(self, step: int) -> bool:
        """Every so many steps, and after the last."""
        every = self._config.evaluation.every
        return step == self._config.steps or (every > 0 and step % every == 0)

    def save_model(self) -> None:
        self.graph.save(Path(self.folder) / "model")

    def record(self, step: int, row: dict[str, float]) -> None:
        """Close the step: add its times and speeds, append the row to the metrics, show it."""
        times = self.phases.row()
        row = {"step": step, "weight_version": step} | row | times
        if step:
            row["speed/generated_tokens_per_s"] = row["tokens/generated"] / times["time/generate_s"]
        self.folder.append_metrics(row)
        self._display.step(row)

    def _start(self, actors: ExitStack) -> None:
        config, prepared = self._config, self._prepared
        self._display.waiting("starting Ray")
        actors.enter_context(ray_session(config))
        nodes = cluster_nodes()
        shares = divide(config, nodes, is_joined(config))
        decided = cluster_sentences(config, shares, nodes)
        self._display.started([*sentences(implied(config)), prepared.sentence(), *decided])
        wanted = groups(config, shares.device)
        held = actors.enter_context(places(shares, wanted, config.cluster.start_timeout_s, self._display.waiting))
        self.graph = actors.enter_context(
            Graph(config, shares, held, verifiers(config), prepared.canary, self.folder.logs)
        )
        self.graph.start(self._display.waiting)
        self._display.waiting("evaluating the base model")
        self.phases = Phases()

    def _failure(self, error: BaseException) -> RunFailed | None:
        """Write down what happened; the sentences for whoever started the run, None where it is a mistake of ours."""
        (self.folder.logs / "driver.log").write_text("".join(traceback.format_exception(error)))
        with self._display:
            self._end(sentence(error))
            write_report(self.folder)
        return RunFailed(f"{sentence(error)}\nlogs: {self.folder.logs}") if isinstance(error, FAILURES) else None

    def _end(self, error: str | None) -> None:
        self.summary = summarize(
            read_metrics(self.folder),
            config_hash=self._config_hash,
            versions=versions(),
            started=self._started,
            seconds=time.monotonic() - self._clock,
            error=error,
        )
        self.folder.write_summary(self.summary)


def _new_folder(config: RunConfig) -> RunFolder:
    try:
        folder = RunFolder(config.output.folder)
    except RunFolderError as error:
        raise ConfigError(str(error)) from error
    if read_metrics(folder):
        raise ConfigError(f"output.folder={config.output.folder} already holds a run; give another folder.")
    return folder
