"""What is trained is saved before a run ends for want of a rollout, with fakes around the run's own method."""

from types import SimpleNamespace
from typing import Any

import pytest

from launch import run as module
from launch.config import compose
from launch.run import Run
from learner.group import LearnerFailed
from rollout.failures import NoProgress, NoSignal, RolloutFailed


class Saver:
    def __init__(self, error: Exception | None = None):
        self.error, self.said = error, list[Any]()

    def finish(self, limit_s: float) -> None:
        self.said.append("finish")

    def begin(self, step, state, rollouts, value) -> None:
        if self.error:
            raise self.error
        self.said.append((step, state, rollouts, value))


def run_that_ends(error: Exception, monkeypatch, saver: Saver, *overrides: str, saved=(3,), step: int = 5) -> Run:
    def next_(phases, temperature):
        raise error

    run: Any = object.__new__(Run)
    run._config = compose(["output.folder=unused", *overrides])
    run._checkpoints, run.phases, run.folder = saver, None, SimpleNamespace(path=module.Path("unused"))
    run.graph = SimpleNamespace(learner=SimpleNamespace(next_temperature=lambda: None))
    run._rollouts = SimpleNamespace(next=next_, state=lambda: ({"rollout": "waiting"}, {"tokens": "kept"}))
    monkeypatch.setattr(Run, "_state", lambda _, step: {"step": step})
    monkeypatch.setattr(Run, "_best_by", lambda _, step: 0.5)
    monkeypatch.setattr(module, "read_metrics", lambda _: [{"step": 0}, {"step": step}])
    monkeypatch.setattr(module, "steps_in", lambda _: list(saved))
    return run


@pytest.mark.parametrize("error", [NoProgress("no batch"), RolloutFailed("engine 0 died")], ids=["late", "lost"])
def test_the_last_step_is_saved_and_the_run_ends_in_its_own_words(error, monkeypatch):
    saver = Saver()
    with pytest.raises(type(error)) as raised:
        run_that_ends(error, monkeypatch, saver).rollout()
    assert raised.value is error
    assert saver.said == ["finish", (5, {"step": 5, "rollout": "waiting"}, {"tokens": "kept"}, 0.5)]


@pytest.mark.parametrize(
    ("error", "overrides", "saved", "step"),
    [
        (NoProgress("no batch"), (), (3, 5), 5),
        (NoProgress("no batch"), (), (), 0),
        (NoProgress("no batch"), ("checkpoint.every=0",), (), 5),
    ],
    ids=["saved already", "nothing trained", "no checkpoints"],
)
def test_what_needs_no_checkpoint_gets_none(error, overrides, saved, step, monkeypatch):
    saver = Saver()
    with pytest.raises(NoProgress):
        run_that_ends(error, monkeypatch, saver, *overrides, saved=saved, step=step).rollout()
    assert saver.said == ["finish"]


def test_prompts_that_give_no_signal_end_the_run_as_before(monkeypatch):
    saver = Saver()
    with pytest.raises(NoSignal):
        run_that_ends(NoSignal("all right"), monkeypatch, saver).rollout()
    assert saver.said == []


def test_a_learner_that_is_lost_too_does_not_hide_what_came_first(monkeypatch):
    with pytest.raises(RolloutFailed, match="engine 0 died") as raised:
        run_that_ends(RolloutFailed("engine 0 died"), monkeypatch, Saver(LearnerFailed("rank 1 died"))).rollout()
    assert raised.value.__notes__ == ["step 5 could not be saved: LearnerFailed: rank 1 died"]
