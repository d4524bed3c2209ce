"""A transfer of weights that is broken off, with a learner and engines that only note what is asked of them."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from launch.graph import Graph

BROKEN = ray.exceptions.RayTaskError("send_weights", "", ConnectionError("weight sync: engine 1 failed in load_bucket"))
WITH_IT = "the transfer of weights was broken off with it"


class Parts:
    """Learner and engines of a graph: transfer after transfer goes as `ends` says, and engines are lost as `lost`."""

    def __init__(self, ends: list[BaseException | None], lost: list[dict[int, str]]):
        self.ends, self.losses, self.said = ends, lost, list[Any]()
        self.actors = [None, None]

    def send_weights(self, version: int, _timeout_s: float) -> int:
        self.said.append(("send", version))
        if error := self.ends.pop(0):
            raise error
        return 64

    def lost(self) -> dict[int, str]:
        return self.losses.pop(0)

    def replace(self, lost: dict[int, str]) -> None:
        self.said.append(("replace", lost))


def synced(parts: Parts, monkeypatch) -> dict[str, float]:
    graph: Any = Graph.__new__(Graph)
    graph.learner = graph.rollout = parts
    graph._config = SimpleNamespace(rollout=SimpleNamespace(sync_timeout_s=9.0, colocated=False))
    monkeypatch.setattr(Graph, "_connect", lambda _: parts.said.append("connect"))
    monkeypatch.setattr(Graph, "_prove", lambda _: parts.said.append("prove") or SimpleNamespace(mean_abs=0.0))
    return graph.sync(5)


def test_all_engines_are_replaced_and_get_the_same_version_and_only_the_whole_transfer_is_proved(monkeypatch):
    """Those that live may have got a part of the weights."""
    parts = Parts([BROKEN, TimeoutError("late"), None], [{1: "engine 1 died."}, {0: "engine 0 hung."}])
    assert synced(parts, monkeypatch)["sync/bytes"] == 64
    again = ["connect", ("send", 5)]
    assert parts.said == [
        ("send", 5),
        ("replace", {0: WITH_IT, 1: "engine 1 died."}),
        *again,
        ("replace", {0: "engine 0 hung.", 1: WITH_IT}),
        *again,
        "prove",
    ]


@pytest.mark.parametrize(
    "error",
    [BROKEN, ray.exceptions.RayTaskError("send_weights", "", MemoryError("no room")), TimeoutError("late")],
    ids=["broken", "full", "late"],
)
def test_where_no_engine_is_lost_the_transfer_ends_the_run_with_its_own_words(error, monkeypatch):
    parts = Parts([error], [{}])
    with pytest.raises(type(error)) as raised:
        synced(parts, monkeypatch)
    assert raised.value is error
    assert parts.said == [("send", 5)]
