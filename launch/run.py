"""What surrounds the steps of a run: its folder, its display, Ray, the actors, and how it ends."""

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from launch import stopping
from launch.alarms import Alarms
from launch.batch_file import remove_batches
from launch.checkpoint_folder import CHECKPOINTS, clear_leftovers, steps_in
from launch.checkpoints import Checkpoints
from launch.cluster import divide, groups, is_joined, places, ray_session
from launch.cluster import sentences as cluster_sentences
from launch.config import ConfigError, RunConfig
from launch.display import make_display
from launch.entry import RunFailed
from launch.evaluate import evaluate, train_gaps
from launch.failures import FAILURES, sentence
from launch.graph import Graph
from launch.loggers import Loggers
from launch.memory import job_bytes
from launch.phases import Phases, learner_idle_share
from launch.placement import cluster_nodes
from launch.prepare import Prepared, sandbox_sentences, verifiers
from launch.prompt_entropy import prompt_entropy
from launch.report import write_report
from launch.resume import Resumption, resumption, take_up_prompts
from launch.rollouts import Rollout, Rollouts
from launch.run_folder import RunFolder, RunFolderError, read_metrics, summarize, versions
from launch.sharing import by_actor
from launch.stopping import RunStopped
from launch.time_left import TimeLeft, process_start
from launch.updates import Updates, measured
from launch.validate import implied, sentences
from launch.validate_rollout import rollout_advice
from learner.group import Updated
from learner.types import TokenBatch
from rollout.config import SYNCHRONOUS
from rollout.failures import NoProgress, RolloutFailed

# Exit status of a run whose time is up: EX_TEMPFAIL of sysexits.h, to be started again.
TIME_IS_UP = 75


class Run:
    """A started run. A context manager: entering starts the actors, leaving ends them and writes summary and report.

    On the way out a failure that is in `FAILURES` becomes a RunFailed, and being told to end a RunStopped; any other is
    a mistake of ours and passes as is.
    """

    first_step: int
    graph: Graph
    phases: Phases
    summary: dict[str, Any]

    def __init__(self, config: RunConfig, prepared: Prepared):
        self._config, self._prepared = config, prepared
        self._clock = time.monotonic()
        with ExitStack() as held:
            self.folder = _folder(config)
            held.enter_context(_held(self.folder))
            self._taken_up = resumption(config)
            self._same_prompts = True
            state = self._take_up(self._taken_up) if self._taken_up else {}
            self.first_step = state.get("step", 0) + 1
            self._started = state.get("started") or datetime.now(UTC).isoformat(timespec="seconds")
            self._seconds_before = state.get("seconds", 0.0)
            self._config_hash = self.folder.write_config(config)
            self._display = make_display(config.output.display, config.steps)
            self._loggers = Loggers(config, self._degraded)
            self._alarms = Alarms(config.alarms, read_metrics(self.folder))
            self._held = held.pop_all()
        self._checkpoints: Checkpoints | None = None
        self._patience = ExitStack()
        self._summary_lock = threading.Lock()

    def __enter__(self) -> Self:
        try:
            with ExitStack() as actors:
                self._start(actors)
                self._actors = actors.pop_all()
        except BaseException as error:
            if failure := self._failure(error):
                raise failure from error
            raise
        finally:
            if not hasattr(self, "_actors"):
                self._held.close()
        self._patience.enter_context(stopping.patient(self._grace_s(), self._told))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._held:
            if isinstance(error, KeyboardInterrupt):
                # Who stops a run may not wait for its actors to end: a cluster's job is killed after three seconds.
                self._summarise(_why_stopped(error), stopped=True)
            error = self._end_saving(error)
            try:
                self._actors.__exit__(type(error) if error else None, error, trace)
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
        """Accuracy and prompt entropy on the evaluation sets, and on one machine the memory the job then holds."""
        graph, config = self.graph, self._config
        with self.phases("evaluate"):
            row = evaluate(
                graph.rollout,
                graph.reward,
                self._prepared.evaluation,
                config.evaluation,
                config.seed,
                config.reward.max_failure_share,
            )
            first = next(iter(read_metrics(self.folder)), {})
            # As configured, whatever a control has made of it meanwhile.
            temperature = config.rollout.temperature
            row |= prompt_entropy(graph.learner.score, self._prepared.evaluation, first, temperature)
            # The actors of a cluster are no children of this process, so there is nothing to add up.
            return row if is_joined(config) else row | {"memory/total_bytes": job_bytes()}

    def rollout(self) -> Rollout:
        """The rollout of the next step: in synchronous mode drawn and judged now, else as far as it is not there."""
        temperature = self.graph.learner.next_temperature()
        try:
            rollout = self._rollouts.next(self.phases, temperature)
        except (NoProgress, RolloutFailed) as error:
            self._save_what_is_trained(error)
            raise
        if not self._config.rollout.colocated:
            return rollout
        with self.phases("generate"):
            self._rollouts.settle()
        with self.phases("sync"):
            return replace(rollout, metrics=rollout.metrics | self.graph.make_room_to_train())

    def sync(self, step: int) -> dict[str, float]:
        """Bring the weights that `step` has made to the engines; the metrics of the transfer."""
        with self.phases("generate"):
            self._rollouts.settle()
        with self.phases("sync"), self._rollouts.weights_change(step):
            return self.graph.sync(step)

    def update(self, step: int, batch: TokenBatch, rewards: np.ndarray) -> Updated:
        """All updates of the batch of `step`; `rewards` of its samples."""
        return self._updates(step, batch, rewards)

    def evaluation_due(self, step: int) -> bool:
        """Every so many steps, and after the last."""
        every = self._config.evaluation.every
        return step == self._config.steps or (every > 0 and step % every == 0)

    def save_model(self) -> None:
        self.graph.save(Path(self.folder) / "model")

    def record(self, step: int, row: dict[str, float]) -> None:
        """Close the step: add its times and speeds, append the row to the metrics, show and log it."""
        times = self.phases.row()
        row = {"step": step, "weight_version": step} | measured(row) | times
        if step:
            row |= learner_idle_share(times)
            # Where the learner trains meanwhile, what it waits for engines is not the time they take.
            seconds = times["time/generate_s" if self._config.rollout.mode == SYNCHRONOUS else "time/step_s"]
            row["speed/generated_tokens_per_s"] = row["tokens/generated"] / seconds
        row |= train_gaps(row)
        flags, begun = self._alarms.watch(row)
        row = self.folder.append_metrics(row | flags)
        self._display.step(row)
        for alarm in begun:
            self.folder.append_alarm({"step": step, "kind": alarm.kind, "sentence": alarm.sentence})
            self._display.notice(f"alarm at step {step}: {alarm.sentence}")
        self._loggers.log(step, row)

    def checkpoint(self, step: int) -> None:
        """End the step: save where it is due, and stop where the run has been told to or its time is up."""
        config, saver = self._config.checkpoint, self._checkpoints
        assert saver is not None
        saver.look_after()
        last = step == self._config.steps
        time_is_up = self._time_left.too_short(saver.longest_s) and not last
        stops = stopping.told() or time_is_up
        if config.every and (step % config.every == 0 or last or stops):
            with self.phases("save"):
                state, rollouts = self._rollouts.state()
                saver.begin(step, self._state(step) | state, rollouts, self._best_by(step))
        if stopping.told() and not last:
            raise KeyboardInterrupt
        if time_is_up:
            raise RunStopped(f"stopped before checkpoint.must_save_by_s = {config.must_save_by_s:g}", TIME_IS_UP)

    def _save_what_is_trained(self, error: BaseException) -> None:
        """Before the run ends with `error` for want of a rollout: the step before it, where it is not saved yet."""
        saver, step = self._checkpoints, int(read_metrics(self.folder)[-1]["step"])
        assert saver is not None
        saver.finish(self._config.checkpoint.write_deadline_s)
        if not self._config.checkpoint.every or step in (0, *steps_in(self.folder.path / CHECKPOINTS)):
            return
        try:
            state, rollouts = self._rollouts.state()
            saver.begin(step, self._state(step) | state, rollouts, self._best_by(step))
        except FAILURES as unsaved:
            error.add_note(f"step {step} could not be saved: {sentence(unsaved)}")

    def _state(self, step: int) -> dict[str, Any]:
        """What a checkpoint holds besides the learner's state. Everything random is a keyed hash of what is here."""
        rows = read_metrics(self.folder)
        return {
            "step": step,
            "weight_version": step,
            "seed": self._config.seed,
            "metrics": {"rows": len(rows), "bytes": self.folder.metrics_bytes()},
            "started": self._started,
            "seconds": self._seconds(),
            "config": asdict(self._config),
            "config_hash": self._config_hash,
            "versions": versions(),
        }

    def _best_by(self, step: int) -> float | None:
        """The metric that checkpoints are compared by, of `step`."""
        metric, rows = self._config.checkpoint.metric, read_metrics(self.folder)
        if metric is None:
            return None
        if not any(metric in row for row in rows):
            raise RunFolderError(f"checkpoint.metric = {metric} is not among the metrics up to step {step}.")
        return rows[-1].get(metric)

    def _take_up(self, taken_up: Resumption) -> dict[str, Any]:
        """Bring the folder and the prompts back to where the checkpoint has them; its state."""
        checkpoint = taken_up.checkpoint
        others = take_up_prompts(self._prepared.train, checkpoint, self._config.resume_force)
        self._same_prompts = not others
        taken_up.lines.extend(others)
        self.folder.rewind(checkpoint.step)
        remove_batches(self.folder.path, checkpoint.step + 1, None)
        clear_leftovers(self.folder.path / CHECKPOINTS, checkpoint.step)
        return checkpoint.state

    def _start(self, actors: ExitStack) -> None:
        config, prepared = self._config, self._prepared
        self._display.waiting("starting Ray")
        actors.enter_context(ray_session(config))
        nodes = cluster_nodes()
        shares = divide(config, nodes, is_joined(config))
        decided = cluster_sentences(config, shares, nodes)
        decided += [*sandbox_sentences(config), *self._loggers.sentences()]
        lines = [*sentences(implied(config)), *rollout_advice(config), prepared.sentence(), *decided]
        self._display.started([*lines, *(self._taken_up.lines if self._taken_up else [])])
        wanted = groups(config, shares.device)
        held = actors.enter_context(places(shares, wanted, config.cluster.start_timeout_s, self._display.waiting))
        self.graph = actors.enter_context(
            Graph(
                config, shares, by_actor(config, held), verifiers(config), prepared.canary, self.folder.logs, self._note
            )
        )
        self.graph.start(self._display.waiting, self._taken_up.checkpoint if self._taken_up else None)
        taken = self._taken_up.checkpoint if self._taken_up else None
        self._rollouts = actors.enter_context(
            Rollouts(config, self.graph.rollout, self.graph.reward, prepared.train, taken, self._same_prompts)
        )
        rows, checkpoint = read_metrics(self.folder), config.checkpoint
        values = {int(row["step"]): row.get(checkpoint.metric or "") for row in rows}
        self._checkpoints = Checkpoints(
            self.folder.path, checkpoint, self.graph.learner, self.graph.save, values, self._degraded
        )
        self._updates = Updates(
            config, self.folder.path, self.graph.learner, rows, self._display.notice, self._degraded
        )
        if self._taken_up:
            self._display.goes_on(rows)
        else:
            self._display.waiting("evaluating the base model")
        self.phases = Phases()
        self._time_left = TimeLeft(checkpoint.must_save_by_s, process_start())

    def _grace_s(self) -> float:
        return self._config.checkpoint.grace_s if self._config.checkpoint.every else 0.0

    def _told(self) -> None:
        """The first signal has come; the step goes on. In a thread of its own."""
        self._summarise(stopping.sentence(), stopped=True)
        self._display.notice(
            f"S{stopping.sentence()[1:]}: the step has {self._grace_s():g} s to end and be saved "
            "(checkpoint.grace_s); a second signal ends the run at once."
        )

    def _end_saving(self, error: BaseException | None) -> BaseException | None:
        """Wait for the last checkpoint, as long as there is time; what the run ends with."""
        left_s = stopping.left_s()
        if left_s is None:
            left_s = 0.0 if type(error) is KeyboardInterrupt else self._config.checkpoint.write_deadline_s
        try:
            with self._patience:
                if self._checkpoints:
                    self._checkpoints.finish(left_s)
        except KeyboardInterrupt as interrupt:
            error = error or interrupt
        return error

    def _failure(self, error: BaseException) -> RunFailed | RunStopped | None:
        """Write down what happened; the sentences for whoever started the run, None where it is a mistake of ours."""
        stopped = isinstance(error, KeyboardInterrupt)
        said = _why_stopped(error) if stopped else sentence(error)
        with self._display:
            with suppress(OSError):
                self._write_down(error)
            try:
                self._end(said, stopped)
                write_report(self.folder)
            except OSError as unwritten:
                # A full disk ends runs; what it said on the way out is then all there is.
                self._display.notice(f"summary and report could not be written ({unwritten.strerror})")
        saved = steps_in(self.folder.path / CHECKPOINTS)
        kept = f"\nresume={self.folder.path} goes on after step {saved[-1]}" if saved else ""
        if stopped:
            came = f"{said} after {self.summary['steps']} of {self._config.steps} steps: {self.folder.path}"
            status = error.status if isinstance(error, RunStopped) else stopping.exit_status()
            return RunStopped(f"{came}{kept}", status)
        return RunFailed(f"{said}\nlogs: {self.folder.logs}{kept}") if isinstance(error, FAILURES) else None

    def _note(self, sentence: str) -> None:
        """Something has happened to the run that it goes on from."""
        self._display.notice(sentence)
        with open(self.folder.logs / "driver.log", "a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {sentence}\n")

    def _degraded(self, sentence: str, error: BaseException) -> None:
        """A tracker has been switched off, or a checkpoint was not saved."""
        self._display.notice(sentence)
        # A full disk may be the reason, and it is for metrics.jsonl to say whether the run can go on.
        with suppress(OSError):
            self._write_down(error)

    def _write_down(self, error: BaseException) -> None:
        with open(self.folder.logs / "driver.log", "a", encoding="utf-8") as file:
            file.writelines(traceback.format_exception(error))

    def _end(self, error: str | None, stopped: bool = False) -> None:
        self._loggers.close(error)
        self._summarise(error, stopped)

    def _summarise(self, error: str | None, stopped: bool) -> None:
        summary = summarize(
            read_metrics(self.folder),
            config_hash=self._config_hash,
            versions=versions(),
            started=self._started,
            seconds=self._seconds(),
            error=error,
            loggers=self._loggers.failures,
            stopped=stopped,
        )
        with self._summary_lock:
            self.summary = summary
            self.folder.write_summary(summary)

    def _seconds(self) -> float:
        """How long the run has been running, all its processes together."""
        return self._seconds_before + time.monotonic() - self._clock


def _why_stopped(error: BaseException) -> str:
    return str(error) or stopping.sentence()


def _folder(config: RunConfig) -> RunFolder:
    try:
        return RunFolder(config.output.folder)
    except RunFolderError as error:
        raise ConfigError(str(error)) from error


@contextmanager
def _held(folder: RunFolder) -> Iterator[None]:
    held = ExitStack()
    try:
        held.enter_context(folder.held())
    except RunFolderError as error:
        raise ConfigError(str(error)) from error
    with held:
        yield
