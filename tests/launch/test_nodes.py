"""Actors that do not come up, nodes that are gone, and model folders that are not there, in words."""

import time
from pathlib import Path

import pytest
import ray

from launch.failures import sentence
from launch.nodes import Place, here, lost, model_missing, name_losses, not_up

GONE = Place("e" * 56, "10.0.0.9")


@ray.remote(num_cpus=0)
class Actor:
    pass


class Answer:
    """A call of a `Node` below; what it returns is known."""

    def __init__(self, value):
        self.value = value


class Away:
    """Stands in for an actor on a node with a file system of its own."""

    def __init__(self, place: Place, has_model: bool):
        self.place, self.has_model = place, has_model
        self.__ray_call__ = self

    def remote(self, function, *arguments):
        return Answer(self.has_model if arguments else self.place)


def test_nodes_without_the_model_are_named_with_their_actors(monkeypatch):
    monkeypatch.setattr(ray, "get", lambda calls, timeout: [call.value for call in calls])
    first, second = Place("1" * 56, "10.0.0.1"), Place("2" * 56, "10.0.0.2")
    actors = {"engine-0": Away(first, True), "learner-0": Away(second, False), "learner-1": Away(second, False)}
    assert model_missing("model.path", actors, "/models/some", 5.0) == (
        "model.path=/models/some is not on node 10.0.0.2 (learner-0, learner-1): "
        "copy it there, or give a folder that all nodes share"
    )
    assert model_missing("model.path", {"engine-0": actors["engine-0"]}, "/models/some", 5.0) == ""


def test_a_model_folder_is_looked_for_where_the_actor_is(ray_session, tmp_path):
    actor = Actor.remote()
    assert f"model.path={tmp_path} is not on node {here().address} (engine-0)" in model_missing(
        "model.path", {"engine-0": actor}, str(tmp_path), 60.0
    )
    (Path(tmp_path) / "config.json").touch()
    assert model_missing("model.path", {"engine-0": actor}, str(tmp_path), 60.0) == ""
    ray.kill(actor)


@pytest.fixture
def waiting(ray_session):
    """An actor that never comes up: there is no room for it."""
    actor = Actor.options(num_cpus=1000).remote()
    yield actor
    ray.kill(actor)


def test_an_actor_is_not_waited_for_once_its_node_is_gone(waiting):
    up = Actor.remote()
    ray.get(up.__ray_ready__.remote(), timeout=60)
    start = time.monotonic()
    actors, places = {"engine-0": up, "learner-0": waiting}, {"engine-0": here(), "learner-0": GONE}
    assert not_up(actors, places, 60.0) == "learner-0 did not come up"
    assert time.monotonic() - start < 30
    assert not_up({"engine-0": up}, {"engine-0": GONE}, 60.0) == ""  # it found another place
    ray.kill(up)


def test_an_actor_that_stays_away_has_a_deadline(waiting):
    words = "learner-0 did not come up in 1 s (cluster.start_timeout_s)"
    assert not_up({"learner-0": waiting}, {"learner-0": here()}, 1.0) == words


def test_only_nodes_that_are_gone_are_named(ray_session):
    assert lost({"engine-0": here()}, 20.0) == ""
    places = {"engine-0": here(), "learner-0": GONE, "learner-1": GONE}
    words = "node 10.0.0.9 (Ray's id eeeeeeeeeeee) is gone, and with it learner-0, learner-1"
    assert lost(places, 20.0) == words
    error = TimeoutError("late")
    name_losses(error, places)
    assert sentence(error) == f"TimeoutError: late; {words}"
    stop = KeyboardInterrupt()
    name_losses(stop, places)
    assert not hasattr(stop, "__notes__")
