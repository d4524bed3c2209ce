"""Which call to an engine that shares its GPU may follow which; vLLM itself is not asked."""

import pytest

from rollout.actor import EngineActor
from rollout.failures import EngineFailed, NoRoom
from rollout.memory import CACHE, DROPPED, KEPT_IN_HOST_MEMORY, WEIGHTS, GpuMemory, Held, WrongOrder
from rollout.types import Sampling

SAMPLING = Sampling(1.0, 1.0, 0, 4)


class Engine:
    """Notes what it is asked, in words."""

    def __init__(self):
        self.said: list[str] = []
        self.error: Exception | None = None
        self.awake_with_cache = True

    def __getattr__(self, method):
        return lambda *arguments: self.said.append(method)

    def sleep(self, level, timeout_s):
        self.said.append(f"sleep {level}")

    def wake_up(self, tag, timeout_s):
        if self.error:
            raise self.error
        self.said.append(f"wake {tag}")
        return tag == CACHE and self.awake_with_cache


@pytest.fixture
def actor() -> EngineActor:
    actor = EngineActor(3)
    actor._engine = Engine()
    return actor


def transfer(actor: EngineActor) -> None:
    actor.start_weight_update(1.0)
    actor.update_weights({}, 1.0)
    actor.finish_weight_update(1, 1.0)


@pytest.mark.parametrize("level", [KEPT_IN_HOST_MEMORY, DROPPED])
def test_an_engine_sleeps_takes_weights_and_draws_again(actor, level):
    for _ in range(2):
        actor.sleep(level, 1.0)
        actor.wake_weights(1.0)
        transfer(actor)
        actor.wake_cache(1.0)
        actor.score([], 1.0)
    cycle = [f"sleep {level}", "wake weights", "start_weight_update", "update_weights", "finish_weight_update"]
    assert actor._engine.said == [*cycle, "wake kv_cache", "score"] * 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda actor: actor.generate([], SAMPLING, 1.0),
        lambda actor: actor.submit({}, SAMPLING),
        lambda actor: actor.score([], 1.0),
        lambda actor: actor.sleep(1, 1.0),
    ],
)
def test_nothing_is_asked_of_vllm_that_it_would_never_answer(actor, ask):
    actor.sleep(1, 1.0)
    with pytest.raises(WrongOrder, match="an engine that sleeps was asked to"):
        ask(actor)
    actor.wake_weights(1.0)
    with pytest.raises(WrongOrder, match="an engine that has weights and no key-value cache was asked to"):
        ask(actor)
    assert actor._engine.said == ["sleep 1", "wake weights"]


def test_weights_are_not_written_where_there_is_no_memory_for_them(actor):
    actor.sleep(1, 1.0)
    with pytest.raises(WrongOrder, match="an engine that sleeps was asked to take weights"):
        actor.start_weight_update(1.0)


def test_dropped_weights_have_to_arrive_before_the_engine_draws(actor):
    actor.sleep(DROPPED, 1.0)
    actor.wake_weights(1.0)
    with pytest.raises(WrongOrder, match="has room for weights and none in it was asked to draw again"):
        actor.wake_cache(1.0)
    transfer(actor)
    actor.wake_cache(1.0)


def test_kept_weights_are_there_without_a_transfer(actor):
    actor.sleep(KEPT_IN_HOST_MEMORY, 1.0)
    actor.wake_weights(1.0)
    actor.wake_cache(1.0)
    actor.score([], 1.0)


def test_the_order_of_waking_up_is_weights_first(actor):
    with pytest.raises(WrongOrder, match="an engine that is awake was asked to take back its weights"):
        actor.wake_weights(1.0)
    actor.sleep(1, 1.0)
    with pytest.raises(WrongOrder, match="an engine that sleeps was asked to draw again"):
        actor.wake_cache(1.0)


def test_a_transfer_to_an_engine_that_is_awake_leaves_it_awake():
    memory = GpuMemory()
    memory.weights_arrived()
    assert memory.held is Held.EVERYTHING


def test_a_gpu_that_is_full_is_told_with_the_settings_to_change(actor):
    actor.sleep(1, 1.0)
    actor._engine.error = RuntimeError("CUDA Error: out of memory\nat cumem_allocator.cpp:62")
    with pytest.raises(NoRoom) as told:
        actor.wake_weights(1.0)
    assert str(told.value) == (
        "engine 3 could not take back its weights (CUDA Error: out of memory), because the learner rank holds too much "
        "of their GPU: lower rollout.gpu_memory_utilization, or give learner.zero_stage=2 and "
        "learner.offload_while_drawing=true."
    )
    actor._engine.error = EngineFailed("the engine process stopped")
    with pytest.raises(EngineFailed, match="stopped"):
        actor.wake_weights(1.0)


def test_an_engine_that_vllm_does_not_call_awake_is_not(actor):
    actor.sleep(1, 1.0)
    actor.wake_weights(1.0)
    actor._engine.awake_with_cache = False
    with pytest.raises(EngineFailed, match="vLLM sleeps on although weights and key-value cache are back"):
        actor.wake_cache(1.0)


def test_the_tags_are_those_of_the_two_stages():
    assert (WEIGHTS, CACHE) == ("weights", "kv_cache")
