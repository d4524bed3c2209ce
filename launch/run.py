"""What surrounds the steps of a run: its folder, its display, Ray, the actors, and how it ends."""

import time
import traceback
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from launch import stopping
from launch.alarms import EntropyAlarms
from launch.cluster import divide, groups, is_joined, places, ray_session
from launch.cluster import sentences as cluster_sentences
from launch.config import ConfigError, RunConfig
from launch.display import make_display
from launch.entry import RunFailed
from launch.evaluate import evaluate
from launch.failures import FAILURES, sentence
from launch.graph import Graph
from launch.loggers import Loggers
from launch.memory import job_bytes
from launch.phases import Phases
from launch.placement import cluster_nodes
from launch.prepare import Prepared, sandbox_sentences, verifiers
from launch.report import write_report
from launch.run_folder import RunFolder, RunFolderError, read_metrics, summarize, versions
from launch.stopping import RunStopped
from launch.validate import implied, sentences


class Run:
    """A started run. A context manager: entering starts the actors, leaving ends them and writes summary and report.

    On the way out a failure that is in `FAILURES` becomes a RunFailed, and being told to end a RunStopped; any other is
    a mistake of ours and passes as is.
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
        self._loggers = Loggers(config, self._degraded)
        self._alarms = EntropyAlarms(config.alarms, read_metrics(self.folder))

    def __enter__(self) -> Self:
        try:
            with ExitStack() as actors:
                self._start(actors)
                self._actors = actors.pop_all()
        except BaseException as error:
            if failure := self._failure(error):
                raise failure from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            # Who stops a run may not wait for its actors to end: a cluster's job is killed after three seconds.
            self._summarise(stopping.sentence(), stopped=True)
        try:
            self._actors.__exit__(kind, error, trace)
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
        """Close the step: add its times and speeds, append the row to the metrics, show and log it."""
        times = self.phases.row()
        row = {"step": step, "weight_version": step} | row | times
        if step:
            row["speed/generated_tokens_per_s"] = row["tokens/generated"] / times["time/generate_s"]
        flags, begun = self._alarms.watch(row)
        row = self.folder.append_metrics(row | flags)
        self._display.step(row)
        for alarm in begun:
            self.folder.append_alarm({"step": step, "kind": alarm.kind, "sentence": alarm.sentence})
            self._display.notice(f"alarm at step {step}: {alarm.sentence}")
        self._loggers.log(step, row)

    def _start(self, actors: ExitStack) -> None:
        config, prepared = self._config, self._prepared
        self._display.waiting("starting Ray")
        actors.enter_context(ray_session(config))
        nodes = cluster_nodes()
        shares = divide(config, nodes, is_joined(config))
        decided = cluster_sentences(config, shares, nodes)
        decided += [*sandbox_sentences(config), *self._loggers.sentences()]
        self._display.started([*sentences(implied(config)), prepared.sentence(), *decided])
        wanted = groups(config, shares.device)
        held = actors.enter_context(places(shares, wanted, config.cluster.start_timeout_s, self._display.waiting))
        self.graph = actors.enter_context(
            Graph(config, shares, held, verifiers(config), prepared.canary, self.folder.logs)
        )
        self.graph.start(self._display.waiting)
        self._display.waiting("evaluating the base model")
        self.phases = Phases()

    def _failure(self, error: BaseException) -> RunFailed | RunStopped | None:
        """Write down what happened; the sentences for whoever started the run, None where it is a mistake of ours."""
        stopped = isinstance(error, KeyboardInterrupt)
        said = stopping.sentence() if stopped else sentence(error)
        self._write_down(error)
        with self._display:
            self._end(said, stopped)
            write_report(self.folder)
        if stopped:
            return RunStopped(f"{said} after {self.summary['steps']} of {self._config.steps} steps: {self.folder.path}")
        return RunFailed(f"{said}\nlogs: {self.folder.logs}") if isinstance(error, FAILURES) else None

    def _degraded(self, sentence: str, error: BaseException) -> None:
        """A tracker has been switched off."""
        self._display.notice(sentence)
        # A full disk may be what stopped the tracker, and it is for metrics.jsonl to say whether the run can go on.
        with suppress(OSError):
            self._write_down(error)

    def _write_down(self, error: BaseException) -> None:
        with open(self.folder.logs / "driver.log", "a", encoding="utf-8") as file:
            file.writelines(traceback.format_exception(error))

    def _end(self, error: str | None, stopped: bool = False) -> None:
        self._loggers.close(error)
        self._summarise(error, stopped)

    def _summarise(self, error: str | None, stopped: bool) -> None:
        self.summary = summarize(
            read_metrics(self.folder),
            config_hash=self._config_hash,
            versions=versions(),
            started=self._started,
            seconds=time.monotonic() - self._clock,
            error=error,
            loggers=self._loggers.failures,
            stopped=stopped,
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
