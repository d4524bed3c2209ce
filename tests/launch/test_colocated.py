"""Engines and learner that take turns: their order in a run, with fakes, and a run with real ones on CPU."""

import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray

from launch.config import compose
from launch.graph import Graph
from launch.phases import Phases
from launch.rollouts import Rollout
from launch.run import Run
from launch.run_folder import read_metrics
from launch.train import train
from reward.types import Verdict
from rollout.collector import COLLECT_S, Collector
from rollout.failures import RolloutFailed
from rollout.groups import Judged
from rollout.stream import GroupStream
from tests.rollout.fake_engines import FakeEngines, prompt

STEPS = 3


class Engines(FakeEngines):
    """Says when it is given requests, and when it is asked for answers."""

    def __init__(self, said: list[str]):
        super().__init__(2)
        self._log = said
        self.asked = 0

    def submit(self, engine, incarnation, requests):
        if self._log[-1:] != ["draw"]:
            self._log.append("draw")
        super().submit(engine, incarnation, requests)

    def collect(self, busy, wait_s, watched):
        self.asked += 1
        return super().collect(busy, wait_s, watched)


class Pool:
    """A RolloutPool that says what it is told."""

    transport = "ipc"
    actors = (None, None)

    def __init__(self, said: list[str]):
        self._log = said
        self.dies_in: str | None = None

    def _told(self, what):
        self._log.append(what)
        if self.dies_in == what:
            raise RolloutFailed("engine 1 died")

    def sleep(self):
        self._told("sleep")

    def wake_weights(self):
        self._told("wake weights")

    def wake_cache(self):
        self._told("wake cache")

    def score(self, sequences):
        self._told("canary")
        return [[np.zeros(1)], [np.zeros(1)]]

    def lost(self):
        return {1: "engine 1 died"} if self.dies_in else {}

    def replace(self, lost):
        self._log.append(f"replace {sorted(lost)}")
        self.dies_in = None


class Learner:
    def __init__(self, said: list[str], engines: Engines):
        self._log, self._engines = said, engines

    def __getattr__(self, method):
        return lambda *arguments: self._log.append(f"learner {method}")

    def next_temperature(self):
        return None

    def send_weights(self, version, timeout_s):
        self._log.append(f"send {version}")
        self._engines.update(version)
        return 8

    def score_sequences(self, sequences):
        return [np.zeros(1)]


def made(*overrides: str) -> tuple[Run, list[str], Engines]:
    """A run whose loop is real, with what it was told, and its fakes: two groups of two responses a step."""
    config = compose(["output.folder=unused", f"steps={STEPS}", *overrides])
    said: list[str] = []
    engines = Engines(said)
    uids = iter(f"p/{number}" for number in range(99))
    stream = GroupStream(2, 0, STEPS, True, True, 10, 1, lambda: [next(uids), next(uids)])

    def judge(prompts, groups):
        return [Judged(Verdict(1.0, None, "", "", "", 0.0), None, 1, 2) for _ in groups]

    collector = Collector(engines, stream, prompt, 2, 0, judge, False, 0, 60.0)
    graph = object.__new__(Graph)
    graph._config, graph._canary, graph._version = config, [], 0
    graph.rollout, graph.learner = Pool(said), Learner(said, engines)
    run = object.__new__(Run)
    run._config, run.graph, run.phases = config, graph, Phases()

    def following(phases, temperature):
        batch = None
        while batch is None:
            collector.wait_drawn()
            batch = collector.wait_judged()
        return Rollout([], [], [], {}, 1.0, {"groups/admitted": batch.admitted})

    run._rollouts = SimpleNamespace(
        next=following,
        settle=lambda: (said.append("settle"), collector.settle()),
        weights_change=collector.weights_change,
        close=collector.close,
    )
    collector.start()
    return run, said, engines


@contextmanager
def running(*overrides: str):
    run, said, engines = made(*overrides)
    try:
        yield run, said, engines
    finally:
        run._rollouts.close()


SHARED = ("rollout.colocated=true", "rollout.engines=2")
TRAINED = ["draw", "settle", "sleep", "learner take_back", "train"]
AWAKE = ["learner give_way", "wake cache", "canary"]


def step(run: Run, said: list[str], number: int) -> dict[str, float]:
    rollout = run.rollout()
    said.append("train")
    return rollout.metrics | run.sync(number)


def test_every_step_draws_sleeps_trains_wakes_weights_sends_wakes_the_cache_and_proves():
    with running(*SHARED) as (run, said, _):
        for number in range(1, STEPS + 1):
            row = step(run, said, number)
            assert said == [*TRAINED, "settle", "learner give_way", "wake weights", f"send {number}", *AWAKE]
            assert {"speed/sleep_seconds", "speed/wake_seconds", "speed/sync_seconds"} <= row.keys()
            said.clear()


def test_engines_that_sleep_are_not_asked_how_they_are_and_are_not_given_anything():
    with running(*SHARED) as (run, said, engines):
        run.rollout()
        asked = engines.asked
        time.sleep(2 * COLLECT_S)
        assert engines.asked == asked
        assert said == TRAINED[:-1]


def test_a_run_that_shares_nothing_is_told_nothing_of_it():
    with running() as (run, said, _):
        row = step(run, said, 1)
        assert said == ["draw", "train", "settle", "send 1", "canary"]
        assert not {"speed/sleep_seconds", "speed/wake_seconds"} & row.keys()


@pytest.mark.parametrize("where", ["wake weights", "wake cache"])
def test_an_engine_that_is_lost_while_it_sleeps_has_all_replaced_and_the_transfer_begun_anew(where):
    with running(*SHARED) as (run, said, _):
        run.rollout()
        said.clear()
        run.graph.rollout.dies_in = where
        run.sync(1)
        first = ["settle", "learner give_way", "wake weights"] + ["send 1", "learner give_way", "wake cache"] * (
            where == "wake cache"
        )
        again = ["replace [0, 1]", "learner connect_engines", "learner give_way", "wake weights", "send 1", *AWAKE]
        assert said == first + again


@pytest.mark.parametrize("shared", [True, False])
def test_engines_load_alone_and_sleep_while_the_ranks_load(shared, monkeypatch):
    said: list[str] = []
    graph = object.__new__(Graph)
    graph._config = compose(["output.folder=unused", f"rollout.colocated={shared}", "rollout.engines=1"])
    graph._canary, graph._version, graph._logs, graph._nodes, graph._actor_logs = [], 0, Path(), {}, []
    graph.rollout, graph.learner, graph.reference = Pool(said), Learner(said, Engines([])), None
    graph.rollout.actors, graph.learner.actors = ["engine"], ["rank"]
    graph.reward = SimpleNamespace(actors=[], wait_ready=lambda: None)
    graph.rollout.begin_start = lambda *arguments: said.append("engines load") or ["engine's call"]
    graph.learner.begin_start = lambda *arguments: said.append("ranks load") or ["rank's call"]
    monkeypatch.setattr("launch.graph.not_up", lambda *arguments: "")
    monkeypatch.setattr("launch.graph.model_missing", lambda *arguments: "")
    monkeypatch.setattr("launch.graph.log_to_files", lambda *arguments: SimpleNamespace(places={}))
    monkeypatch.setattr("launch.graph.wait_started", lambda calls, *arguments: said.append(f"{', '.join(calls)} ready"))
    graph.start(lambda line: None)
    if shared:
        woken = ["learner give_way", "wake weights", "send 0", *AWAKE]
        begun = ["engines load", "engine-0 ready", "sleep", "ranks load", "engine-0, learner-0 ready"]
        assert said == [*begun, "learner connect_engines", *woken]
    else:
        ready = ["engines load", "ranks load", "engine-0, learner-0 ready", "learner connect_engines"]
        assert said == [*ready, "send 0", "canary"]


SMALL = (
    "output.display=lines",
    "rollout.engines=2",
    # Other tests may keep the machine busy meanwhile.
    "rollout.start_timeout_s=600",
    "learner.start_timeout_s=600",
    "rollout.prompts_per_step=8",
    "rollout.samples_per_prompt=4",
    "off_policy=updates2",
    "learner=zero2",
    "steps=3",
    "data.evaluation.heldout.rows=8",
    "data.evaluation.out_of_domain.rows=8",
    "evaluation.samples_per_prompt=1",
    "evaluation.every=2",
    "output.save_model=false",
    "checkpoint.every=1",
)
TIMINGS = ("time/", "speed/", "memory/")


@pytest.mark.slow
def test_a_run_whose_engines_sleep_and_die_in_their_sleep_is_the_run_that_shares_nothing(
    tmp_path, ray_session, monkeypatch
):
    """With real engines and ranks. On CPU vLLM's engines sleep but for their memory, and DeepSpeed's state moves."""
    monkeypatch.setattr("launch.cluster.refuse_without_gpus", lambda config, device: None)
    monkeypatch.setattr("launch.validate.colocated_problems", lambda config: [])
    sleeps, make_room = [], Graph.make_room_to_train

    def and_die(graph):
        row = make_room(graph)
        sleeps.append(row)
        if len(sleeps) == 2:
            ray.kill(graph.rollout.actors[0])
        return row

    monkeypatch.setattr(Graph, "make_room_to_train", and_die)

    def run(folder: Path, *overrides: str) -> list[dict[str, float]]:
        train(compose([f"output.folder={folder}", *SMALL, *overrides]))
        return [{k: v for k, v in row.items() if not k.startswith(TIMINGS)} for row in read_metrics(folder)]

    shared = ("rollout.colocated=true", "rollout.sleep_level=2", "learner.offload_while_drawing=true")
    rows = run(tmp_path / "shared", *shared)
    assert len(sleeps) == 3
    assert len(rows) == 4
    assert rows == run(tmp_path / "apart")
    assert len(sleeps) == 3
    for name in ("weights", "exp_avg"):
        files = [sorted((tmp_path / f / "checkpoints/step_000003").glob(f"*{name}*")) for f in ("shared", "apart")]
        assert files[0]
        assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]
