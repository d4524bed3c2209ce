"""Engines that die or hang are replaced, with actors that are real and hold no model."""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
from ray import cloudpickle

from rollout import pool as pool_module
from rollout.failures import RolloutFailed
from rollout.pool import RolloutPool
from rollout.types import FinishReason, Prompt, Response, Sampling, VersionSpan
from tests.composed import compose

SAMPLING = Sampling(1.0, 1.0, 0, 4)
PROMPTS = [Prompt(f"p/{i}", "", np.array([i], np.int32), "p", "none", None, {}, "") for i in range(4)]


class Engine:
    """Answers with the seed of the request; does what the file `<index>` in the folder of `start` says, once."""

    def __init__(self, index):
        self.index, self.steps = index, 0

    def start(self, adapter, settings):
        self.folder = Path(settings["model_path"])

    def generate(self, requests, *_):
        order = self.folder / str(self.index)
        with open(self.folder / "log", "a") as log:
            log.write(f"{self.index} {os.getpid()} {[request.seed for request in requests]}\n")
        what = order.read_text() if order.exists() else ""
        if what != "die always":
            order.unlink(missing_ok=True)
        if what.startswith("die"):
            os._exit(1)
        if what == "hang":
            time.sleep(60)
        for _ in range(30 if what == "be slow" else 0):
            time.sleep(0.25)
            self.steps += 1
        one, span = np.zeros(1, np.float32), (VersionSpan(0, 0),)
        tokens = [np.array([request.seed % 1000], np.int32) for request in requests]
        return [
            Response(r.uid, r.sample, t, one, "", FinishReason.STOP, span, self.index)
            for r, t in zip(requests, tokens, strict=True)
        ]

    def progress(self):
        return self.steps

    def shutdown(self):
        pass


@pytest.fixture
def pool(ray_session, tmp_path, monkeypatch):
    # Ray's workers cannot import this module.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(pool_module, "EngineActor", Engine)
    monkeypatch.setattr(pool_module, "BACK_OFF_S", 0.01)
    config = replace(compose(["output.folder=unused"]).rollout, engines=2, stall_s=5.0, restarts=1, deadline_s=30.0)
    made = RolloutPool(config, "cpu", threads=1)
    # The folder travels as the model's.
    ray.get(made.begin_start(str(tmp_path), "float32", 64, False), timeout=120)
    yield made
    made.close()
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def drawn(pool: RolloutPool) -> list[int]:
    groups = pool.generate(PROMPTS, 2, SAMPLING, seed=3, step=1)
    assert [[(r.uid, r.sample) for r in group] for group in groups] == [[(p.uid, 0), (p.uid, 1)] for p in PROMPTS]
    return [int(response.token_ids[0]) for group in groups for response in group]


def calls(folder: Path) -> list[str]:
    """Index and seeds of each call."""
    return [line.split(" ", 2)[0] + " " + line.split(" ", 2)[2] for line in (folder / "log").read_text().splitlines()]


@pytest.mark.parametrize(("what", "words"), [("die", "engine 1 died: "), ("hang", "engine 1 hung: it drew no token")])
def test_the_requests_of_a_lost_engine_are_issued_once_more_as_they_were(pool, tmp_path, what, words):
    undisturbed = drawn(pool)
    (tmp_path / "log").unlink()
    (tmp_path / "1").write_text(what)
    said: list[object] = []
    pool.attend(lambda lost: said.append(dict(lost)), lambda: said.append((tmp_path / "log").read_text().count("\n")))
    assert drawn(pool) == undisturbed
    [lost, calls_before_the_weights] = said
    assert list(lost) == [1]
    assert words in lost[1]
    assert "logs/engine-1.log" in lost[1]
    assert calls_before_the_weights == 2
    of_the_lost = [call for call in calls(tmp_path) if call.startswith("1 ")]
    assert len(of_the_lost) == 2
    assert of_the_lost[0] == of_the_lost[1]
    assert len(calls(tmp_path)) == 3


def test_an_engine_that_is_slow_and_gets_further_is_left_alone(pool, tmp_path):
    (tmp_path / "0").write_text("be slow")
    pool.attend(lambda lost: pytest.fail(str(lost)), lambda: None)
    drawn(pool)


def test_the_budget_is_for_losses_without_a_whole_rollout_between(pool, tmp_path):
    for _ in range(2):
        (tmp_path / "0").write_text("die")
        drawn(pool)
    (tmp_path / "0").write_text("die always")
    with pytest.raises(RolloutFailed, match=r"engine 0 died: .* rollout.restarts = 1 allows no further one"):
        drawn(pool)
    assert sum(call.startswith("0 ") for call in calls(tmp_path)) == 2 * 2 + 2


def test_what_is_lost_is_found_by_asking(pool):
    drawn(pool)
    assert pool.lost() == {}
    ray.kill(pool.actors[0])
    # Ray kills in its own time; until then the engine answers.
    deadline = time.monotonic() + 30
    while not pool.lost() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(pool.lost()) == [0]
