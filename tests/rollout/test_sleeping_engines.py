"""Engines that sleep and are lost meanwhile, with actors that are real and hold no model."""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from ray import cloudpickle

from rollout import pool as pool_module
from rollout.failures import NoRoom, RolloutFailed
from rollout.pool import RolloutPool
from tests.composed import compose


class Engine:
    """Writes into the folder of `start` what it is asked; does what the file `<index> <method>` there says, once."""

    def __init__(self, index):
        self.index = index

    def start(self, adapter, settings):
        self.folder = Path(settings["model_path"])
        self._asked("start")

    def sleep(self, level, timeout_s):
        self._asked("sleep", f" {level}")

    def wake_weights(self, timeout_s):
        self._asked("wake_weights")

    def wake_cache(self, timeout_s):
        self._asked("wake_cache")

    def progress(self):
        return 0

    def shutdown(self):
        pass

    def _asked(self, method, more=""):
        with open(self.folder / "log", "a") as log:
            log.write(f"{self.index} {method}{more}\n")
        order = self.folder / f"{self.index} {method}"
        what = order.read_text() if order.exists() else ""
        order.unlink(missing_ok=True)
        if what == "die":
            os._exit(1)
        if what == "hang":
            time.sleep(60)
        if what == "full":
            raise NoRoom("no room")


@pytest.fixture
def pool(ray_session, tmp_path, monkeypatch):
    # Ray's workers cannot import this module.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(pool_module, "EngineActor", Engine)
    monkeypatch.setattr(pool_module, "BACK_OFF_S", 0.01)
    monkeypatch.setattr(pool_module, "MARGIN_S", 0.0)
    config = compose(["output.folder=unused", "rollout.colocated=true", "rollout.sleep_level=2"]).rollout
    made = RolloutPool(replace(config, engines=2, restarts=1, sync_timeout_s=5.0, stall_s=5.0), "cpu", threads=1)
    ray.get(made.begin_start(str(tmp_path), "float32", 64, False), timeout=120)
    (tmp_path / "log").unlink()
    yield made
    made.close()
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def asked(folder: Path) -> list[str]:
    lines = (folder / "log").read_text().splitlines()
    (folder / "log").unlink()
    return sorted(lines)


def test_all_sleep_and_wake_up_once(pool, tmp_path):
    pool.sleep()
    pool.sleep()
    assert asked(tmp_path) == ["0 sleep 2", "1 sleep 2"]
    assert pool.lost() == {}, "an engine that sleeps answers"
    pool.wake_weights()
    assert asked(tmp_path) == ["0 wake_weights", "1 wake_weights"]
    pool.wake_cache()
    assert asked(tmp_path) == ["0 wake_cache", "1 wake_cache"]
    pool.wake_weights()
    pool.wake_cache()
    assert not (tmp_path / "log").exists(), "engines that are awake are not woken up"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("die", "engine 1 died: "),
        pytest.param("hang", "engine 1 did not go to sleep in 5 s; see", marks=pytest.mark.slow),
    ],
)
def test_an_engine_that_is_lost_on_its_way_to_sleep_is_replaced_and_its_successor_sleeps(pool, tmp_path, what, words):
    said: list = []
    pool.attend(lambda lost: said.append(dict(lost)), lambda: None, lambda: said.append("connect"))
    (tmp_path / "1 sleep").write_text(what)
    pool.sleep()
    assert asked(tmp_path) == ["0 sleep 2", "1 sleep 2", "1 sleep 2", "1 start"]
    [lost, connect] = said
    assert list(lost) == [1]
    assert lost[1].startswith(words)
    assert connect == "connect"
    pool.wake_weights()
    assert asked(tmp_path) == ["0 wake_weights", "1 wake_weights"]


def test_one_that_is_lost_while_it_sleeps_is_named_and_its_successor_is_awake(pool, tmp_path):
    pool.sleep()
    (tmp_path / "0 wake_weights").write_text("die")
    with pytest.raises(RolloutFailed, match=r"engine 0 died: .* See logs/engine-0.log"):
        pool.wake_weights()
    pool.replace({0: "engine 0 died", 1: "with it"})
    (tmp_path / "log").unlink()
    pool.wake_weights()
    pool.wake_cache()
    assert not (tmp_path / "log").exists()
    pool.sleep()
    assert asked(tmp_path) == ["0 sleep 2", "1 sleep 2"]


@pytest.mark.slow
def test_one_that_does_not_wake_up_is_named_after_the_deadline(pool, tmp_path):
    pool.sleep()
    (tmp_path / "1 wake_weights").write_text("hang")
    with pytest.raises(RolloutFailed, match=r"engine 1 did not take back the memory of its weights in 5 s; see"):
        pool.wake_weights()


def test_a_full_gpu_is_no_loss(pool, tmp_path):
    pool.sleep()
    pool.wake_weights()
    (tmp_path / "0 wake_cache").write_text("full")
    with pytest.raises(NoRoom):
        pool.wake_cache()


def test_only_engines_that_meet_in_a_group_are_all_replaced(pool, tmp_path):
    for transport, replaced in (("ipc", ["1 start"]), ("nccl", ["0 start", "1 start"])):
        pool.transport = transport
        pool.replace({1: "engine 1 died"})
        pool.whole_rollout()
        assert asked(tmp_path) == replaced
