"""What is asked of a pool's actors, without Ray."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from rollout.calls import EngineCalls
from rollout.pool import RolloutPool
from rollout.types import Sampling


@pytest.fixture
def asked() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def calls(asked) -> EngineCalls:
    """Of a pool of two actors, of which the second one has been replaced once."""

    def actor(engine: int) -> Any:
        return SimpleNamespace(
            call_off=SimpleNamespace(remote=lambda keys: asked.append((engine, keys)) or f"call {len(asked)}")
        )

    pool: Any = RolloutPool.__new__(RolloutPool)
    pool._lock, pool._incarnations, pool.actors = threading.Lock(), [0, 1], [actor(0), actor(1)]
    return EngineCalls(pool, Sampling(1.0, 1.0, 0, 4), stall_s=5.0)


def test_what_is_called_off_is_called_off_in_the_engine_and_its_answer_is_waited_for(calls, asked):
    calls.call_off(1, 1, [(3, 0), (3, 1)])
    calls.call_off(0, 0, [(4, 0)])
    assert asked == [(1, [(3, 0), (3, 1)]), (0, [(4, 0)])]
    assert list(calls._begun) == [("call 1", (1, 1)), ("call 2", (0, 0))]


def test_an_engine_that_has_been_replaced_has_nothing_to_give_up(calls, asked):
    calls.call_off(1, 0, [(3, 0)])
    assert asked == []
    assert not calls._begun
