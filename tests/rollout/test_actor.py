"""What an engine's actor answers, without Ray and without vLLM."""

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from transformers import AutoTokenizer

from rollout import actor as actor_file
from rollout.actor import EngineActor
from rollout.types import FinishReason, GenerationRequest, Sampling, VersionSpan

MODEL = Path(__file__).parents[2] / "launch/assets/laboratory/96"
SAMPLING = Sampling(1.0, 1.0, 0, 4)
REQUESTS = {(0, sample): GenerationRequest("a", sample, np.array([1], np.int32), sample) for sample in range(3)}
END = SimpleNamespace(
    token_ids=np.array([5], np.int32),
    logprobs=np.array([-1.0], np.float32),
    finish_reason=FinishReason.STOP,
    versions=(VersionSpan(0, 0),),
)


class Engine:
    """Has requests ended by the test."""

    def submit(self, work, sampling):
        self.ends = [ended for _, ended in work]


@pytest.fixture
def actor() -> EngineActor:
    actor = EngineActor(0)
    actor._engine = Engine()
    actor._tokenizer = AutoTokenizer.from_pretrained(MODEL)
    actor.submit(REQUESTS, SAMPLING)
    return actor


def keys(actor: EngineActor) -> list[tuple[int, int]]:
    return [key for key, _ in actor.collect(max_wait_s=20)]


def test_responses_that_end_together_are_collected_together(actor, monkeypatch):
    monkeypatch.setattr(actor_file, "GATHER_S", 20.0)
    actor._engine.ends[1](END)
    others = threading.Timer(0.2, lambda: [actor._engine.ends[i](END) for i in (0, 2)])
    others.start()
    assert keys(actor) == [(0, 1), (0, 0), (0, 2)]
    others.join()


def test_a_response_does_not_wait_for_one_that_takes_long(actor):
    actor._engine.ends[1](END)
    assert keys(actor) == [(0, 1)]
    assert actor.collect(max_wait_s=0.01) == []


def test_what_went_wrong_is_raised(actor):
    actor._engine.ends[2](ValueError("no such prompt"))
    with pytest.raises(ValueError, match="no such prompt"):
        actor.collect(max_wait_s=20)
