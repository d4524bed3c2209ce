"""The trackers a run has chosen: refused before it starts, or at its side while it trains, never able to end it."""

import importlib.util
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from launch.config import ConfigError, LoggerConfig, RunConfig
from launch.trackers import TRACKERS, Tracker

WANDB_KEY = "WANDB_API_KEY"
# What each tracker imports, and what pip calls it.
PACKAGES = {
    "tensorboard": {"tensorboard": "tensorboard"},
    "wandb": {"wandb": "wandb"},
    "mlflow": {"mlflow": "mlflow-skinny"},
}
# What MLflow imports when it keeps runs in a database and not at a server.
MLFLOW_DATABASE = {"sqlalchemy": "sqlalchemy", "alembic": "alembic"}


def problems(logger: LoggerConfig) -> Iterator[str]:
    """All reasons why a run cannot have these loggers, a sentence each. Imports and starts nothing."""
    for kind in dict.fromkeys(logger.kinds):
        if kind not in TRACKERS:
            options = ", ".join(TRACKERS)
            yield f"logger.kinds: {kind} is not one of {options}; metrics.jsonl is written in any case."
            continue
        if logger.kinds.count(kind) > 1:
            yield f"logger.kinds names {kind} more than once."
        if missing := [package for name, package in _packages(kind, logger).items() if not _is_installed(name)]:
            yield (
                f"logger.kinds: {kind} needs {' and '.join(missing)}, not installed here: "
                f"pip install {' '.join(missing)}, or logger=jsonl."
            )
    if logger.kinds and not logger.project:
        yield "logger.project is empty; give the project or experiment that the run is filed under."
    if "wandb" in logger.kinds and logger.wandb_mode == "online" and not os.environ.get(WANDB_KEY):
        yield f"logger.wandb_mode = online needs {WANDB_KEY} in the environment; set it, or logger.wandb_mode=offline."
    if "mlflow" in logger.kinds and "@" in urlsplit(logger.mlflow_uri or "").netloc:
        # Settings are written to disk and given to every tracker. The URI is not repeated here for the same reason.
        yield (
            "logger.mlflow_uri holds a user or password; a tracking server takes them from MLFLOW_TRACKING_USERNAME "
            "and MLFLOW_TRACKING_PASSWORD in the environment."
        )


class Loggers:
    """The trackers of `logger.kinds`, opened, each called on a thread of its own.

    A tracker that raises, or takes longer than `logger.timeout_s`, is reported once through `report` (a sentence, and
    the exception) and switched off. Raises ConfigError where one cannot be opened.

    failures  for each tracker None, or the sentence that says why it lacks figures
    """

    def __init__(self, config: RunConfig, report: Callable[[str, BaseException], None]):
        self.failures: dict[str, str | None] = dict.fromkeys(config.logger.kinds)
        self._report, self._timeout_s = report, config.logger.timeout_s
        self._open: dict[str, tuple[Tracker, _Thread]] = {}
        for kind in config.logger.kinds:
            thread = _Thread(f"logger-{kind}")
            opened: Future[Tracker] = thread.begin(partial(TRACKERS[kind], config))
            if error := self._error(opened):
                refusal = f"logger.kinds: {kind} could not be started: {_words(error)}; mend that, or logger=jsonl."
                thread.end()
                self.close(refusal)
                raise ConfigError(refusal) from error
            self._open[kind] = (opened.result(), thread)

    def sentences(self) -> list[str]:
        """Where each tracker keeps the run."""
        return [f"Metrics also go to {kind}: {tracker.place}" for kind, (tracker, _) in self._open.items()]

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Give the figures of one step to every tracker that is still on."""
        for kind, (tracker, thread) in list(self._open.items()):
            if error := self._error(thread.begin(partial(tracker.log, step, row))):
                self._switch_off(kind, error, f"is off from step {step} on")

    def close(self, error: str | None) -> None:
        """End every tracker that is still on; `error` is the sentence of a run that failed."""
        for kind, (tracker, thread) in list(self._open.items()):
            if failure := self._error(thread.begin(partial(tracker.close, error))):
                self._switch_off(kind, failure, "was not closed properly")
            else:
                thread.end()
        self._open.clear()

    def _switch_off(self, kind: str, error: BaseException, what: str) -> None:
        _, thread = self._open.pop(kind)
        thread.end()
        sentence = f"{kind} {what}: {_words(error)}. metrics.jsonl has everything."
        self.failures[kind] = sentence
        self._report(sentence, error)

    def _error(self, call: Future) -> BaseException | None:
        try:
            return call.exception(self._timeout_s)
        except TimeoutError:
            return TimeoutError(f"no answer within logger.timeout_s = {self._timeout_s}")


class _Thread:
    """Runs calls in order. A daemon, so that one which never returns does not keep the process alive."""

    def __init__(self, name: str):
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future] | None] = SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def begin(self, function: Callable[[], Any]) -> Future:
        answer: Future = Future()
        self._calls.put((function, answer))
        return answer

    def end(self) -> None:
        """Let the thread end after the calls it has been given."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            function, answer = call
            try:
                answer.set_result(function())
            except BaseException as error:  # noqa: BLE001  whatever a tracker does, SystemExit too, is an answer
                answer.set_exception(error)


def _packages(kind: str, logger: LoggerConfig) -> dict[str, str]:
    at_server = (logger.mlflow_uri or "").startswith(("http://", "https://"))
    return PACKAGES[kind] | (MLFLOW_DATABASE if kind == "mlflow" and not at_server else {})


def _is_installed(name: str) -> bool:
    found = importlib.util.find_spec(name)
    # A folder of that name beside the run, as trackers leave behind, is a package without an origin.
    return found is not None and found.origin is not None


def _words(error: BaseException) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first.rstrip('.')}" if first else type(error).__name__
