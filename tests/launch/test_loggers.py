"""Trackers are refused in words before a run, and cannot end one; what they do is played by stand-ins."""

import importlib.machinery
import io
import itertools
import json
import sys
import threading
import time
import types
from dataclasses import replace

import pytest
from rich.console import Console

from launch import loggers, run
from launch.config import ConfigError, RunConfig, compose
from launch.display import LineDisplay, LiveDisplay, make_display
from launch.failures import sentence
from launch.loggers import Loggers, problems
from launch.phases import Phases
from launch.report import outcome_sentences
from launch.run import Run
from launch.run_folder import read_metrics
from launch.validate import check


@pytest.fixture
def install(monkeypatch):
    """Have a package installed, as far as an import can tell, or not."""

    def installed(name: str, there: bool = True) -> None:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, origin="stand-in")
        monkeypatch.setitem(sys.modules, name, module if there else None)

    return installed


def logger(*kinds: str, **settings):
    return replace(compose([]).logger, kinds=list(kinds), **settings)


@pytest.mark.parametrize("kind", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_refused_with_how_to_install_it(kind, install):
    for name in ("tensorboard", "wandb", "mlflow", "sqlalchemy"):
        install(name)
    package = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "sqlalchemy"}[kind]
    install("alembic")
    config = compose([f"logger={kind}"])
    assert check(config) == []
    install(package, there=False)
    refusal = f"logger.kinds: {kind} needs {package}, not installed here: pip install {package}, or logger=jsonl."
    assert check(config) == [refusal]
    assert check(config, training=False) == []


def test_all_that_is_missing_is_named_by_its_name_for_pip(install):
    for name in ("mlflow", "sqlalchemy", "alembic"):
        install(name, there=False)
    assert list(problems(logger("mlflow"))) == [
        "logger.kinds: mlflow needs mlflow-skinny and sqlalchemy and alembic, not installed here: "
        "pip install mlflow-skinny sqlalchemy alembic, or logger=jsonl."
    ]
    [sentence] = problems(logger("mlflow", mlflow_uri="https://tracking.example"))
    assert "sqlalchemy" not in sentence


def test_a_folder_of_the_name_is_not_the_package(tmp_path, monkeypatch):
    """W&B leaves a folder `wandb`, and a folder where Python looks for modules can be imported."""
    (tmp_path / "wandb_left_behind").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(loggers.PACKAGES, "wandb", {"wandb_left_behind": "wandb"})
    assert len(list(problems(logger("wandb")))) == 1


def test_unknown_and_repeated_names_are_refused(install):
    install("wandb")
    assert list(problems(logger("wandb", "jsonl", "wandb"))) == [
        "logger.kinds names wandb more than once.",
        "logger.kinds: jsonl is not one of tensorboard, wandb, mlflow; metrics.jsonl is written in any case.",
    ]
    assert check(compose(["logger.wandb_mode=shared", "logger.timeout_s=0"])) == [
        "logger.wandb_mode = shared is not one of offline, online.",
        "logger.timeout_s = 0.0 has to be above 0.",
    ]


def test_online_needs_a_key_and_no_setting_may_hold_one(install, monkeypatch):
    for name in ("wandb", "mlflow", "sqlalchemy", "alembic"):
        install(name)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert list(problems(logger("wandb"))) == []
    assert list(problems(logger("wandb", wandb_mode="online"))) == [
        "logger.wandb_mode = online needs WANDB_API_KEY in the environment; set it, or logger.wandb_mode=offline."
    ]
    monkeypatch.setenv("WANDB_API_KEY", "key")
    assert list(problems(logger("wandb", wandb_mode="online"))) == []
    [sentence] = problems(logger("mlflow", mlflow_uri="https://me:hunter2@tracking.example"))
    assert "MLFLOW_TRACKING_PASSWORD" in sentence
    assert "hunter2" not in sentence


class StandIn:
    """Keeps what it is given. Fails, or hangs, in the methods it is told to."""

    def __init__(self, config: RunConfig):
        self.place, self.rows, self.ended, self.failing = "nowhere", [], [], {}

    def log(self, step, row):
        self._act("log")
        self.rows.append((step, row))

    def close(self, error):
        self._act("close")
        self.ended.append(error)

    def _act(self, method):
        if failing := self.failing.get(method):
            failing()


def fail(error: BaseException):
    def failing():
        raise error

    return failing


@pytest.fixture
def trackers(monkeypatch):
    """Stand-ins for two trackers, by name, once they are opened."""
    made = {}

    def maker(kind):
        def make(config):
            made[kind] = StandIn(config)
            return made[kind]

        return make

    for kind in ("tensorboard", "wandb"):
        monkeypatch.setitem(loggers.TRACKERS, kind, maker(kind))
    return made


def config_of(tmp_path, *overrides: str) -> RunConfig:
    kinds = "logger.kinds=[tensorboard,wandb]"
    return compose([f"output.folder={tmp_path / 'run'}", "output.display=lines", kinds, *overrides])


@pytest.fixture
def shown(monkeypatch):
    """The console of a run."""
    console = Console(file=io.StringIO(), width=100)
    monkeypatch.setattr(run, "make_display", lambda kind, steps: make_display(kind, steps, console))
    return console.file


def started(config: RunConfig) -> Run:
    """A run without actors."""
    new = Run(config, None)
    new.phases = Phases(clock=itertools.count().__next__)
    return new


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError(28, "No space left"), "OSError: [Errno 28] No space left"), (SystemExit(3), "SystemExit: 3")],
    ids=["disk", "exit"],
)
def test_a_tracker_that_raises_is_switched_off_and_the_run_goes_on(error, words, tmp_path, trackers, shown):
    run = started(config_of(tmp_path))
    run.record(0, {"eval/heldout/k": 4})
    trackers["wandb"].failing["log"] = fail(error)
    for step in (1, 2):
        for phase in ("generate", "update"):
            with run.phases(phase):
                pass
        run.record(step, {"tokens/generated": 1, "tokens/trained": 1})
    run._end(None)
    said = f"wandb is off from step 1 on: {words}. metrics.jsonl has everything."
    assert shown.getvalue().count(said) == 1
    assert (run.folder.logs / "driver.log").read_text().count(f"{type(error).__name__}:") == 1
    summary = json.loads((run.folder.path / "summary.json").read_text())
    assert (summary["status"], summary["loggers"]) == ("finished", {"tensorboard": None, "wandb": said})
    assert said in outcome_sentences(read_metrics(run.folder), summary)
    assert [row["step"] for row in read_metrics(run.folder)] == [0, 1, 2]
    assert trackers["tensorboard"].rows == [(row["step"], row) for row in read_metrics(run.folder)]
    assert [step for step, _ in trackers["wandb"].rows] == [0]
    assert (trackers["tensorboard"].ended, trackers["wandb"].ended) == ([None], [])


def test_a_tracker_that_does_not_answer_is_left_behind(tmp_path, trackers, shown):
    release = threading.Event()
    run = started(config_of(tmp_path, "logger.timeout_s=0.2"))
    trackers["tensorboard"].failing["log"] = lambda: release.wait(60)
    began = time.monotonic()
    run.record(0, {"eval/heldout/k": 4})
    assert time.monotonic() - began < 10
    run._end(None)
    release.set()
    assert (
        "tensorboard is off from step 0 on: TimeoutError: no answer within logger.timeout_s = 0.2." in shown.getvalue()
    )
    assert trackers["wandb"].rows[0][0] == 0


def test_trackers_hear_why_a_run_failed_and_a_failing_close_is_told(tmp_path, trackers, shown):
    run = started(config_of(tmp_path))
    trackers["wandb"].failing["close"] = fail(ConnectionError("gone"))
    error = TimeoutError("engine 0")
    failure = run._failure(error)
    assert str(failure).startswith(sentence(error))
    assert trackers["tensorboard"].ended == [sentence(error)]
    assert "wandb was not closed properly: ConnectionError: gone." in shown.getvalue()
    log = (run.folder.logs / "driver.log").read_text()
    assert "TimeoutError: engine 0" in log
    assert "ConnectionError: gone" in log


def test_a_tracker_that_cannot_be_opened_refuses_the_run(tmp_path, trackers, shown, monkeypatch):
    def make(config):
        raise RuntimeError("no such experiment\nand more")

    monkeypatch.setitem(loggers.TRACKERS, "wandb", make)
    refusal = "logger.kinds: wandb could not be started: RuntimeError: no such experiment; mend that, or logger=jsonl."
    with pytest.raises(ConfigError) as caught:
        Run(config_of(tmp_path), None)
    assert str(caught.value) == refusal
    assert trackers["tensorboard"].ended == [refusal]


@pytest.mark.parametrize("value", [float("nan"), None])
def test_what_metrics_jsonl_refuses_reaches_no_tracker(value, tmp_path, trackers, shown):
    run = started(config_of(tmp_path))
    with pytest.raises((ValueError, TypeError), match="policy/loss"):
        run.record(0, {"policy/loss": value})
    assert trackers["wandb"].rows == []


def test_no_thread_is_left_after_the_run(tmp_path, trackers):
    before = set(threading.enumerate())
    opened = Loggers(config_of(tmp_path), lambda sentence, error: None)
    threads = set(threading.enumerate()) - before
    assert {thread.name for thread in threads} == {"logger-tensorboard", "logger-wandb"}
    opened.close(None)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("kind", [LineDisplay, LiveDisplay])
def test_a_notice_is_shown_whole(kind):
    out = Console(file=io.StringIO(), width=100)
    with kind(2, out) as display:
        display.notice("wandb is off [for good].")
    assert "wandb is off [for good].\n" in out.file.getvalue()
