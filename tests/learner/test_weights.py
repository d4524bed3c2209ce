"""Sending weights where an engine is lost on the way."""

from types import SimpleNamespace

import numpy as np
import pytest
import ray
import torch

from learner.buckets import ParameterSpec
from learner.weights import EngineClient, HostSender


class Model:
    """Buckets of one parameter each, whose elements are its number."""

    def __init__(self, *sizes: int):
        self.sizes, self.gathered = sizes or (2, 2, 2), 0

    def specs(self):
        return [ParameterSpec(f"w{i}", (size,), "float32", 4 * size) for i, size in enumerate(self.sizes)]

    def full_parameters(self, _bucket_bytes):
        for number, spec in enumerate(self.specs()):
            self.gathered += 1
            yield [(spec, torch.full(spec.shape, float(number)))]


class Client:
    """Loses its engines in the wait for bucket `at`."""

    def __init__(self, at: int | None = None):
        self.at, self.version = at, 0
        self.loading, self.loaded, self.opened, self.closed = [], [], [], []

    def init_weight_transfer_engine(self, _info):
        pass

    def begin_bucket(self, bucket, data, opens, closes):
        assert not self.loading, "the bucket before has not been loaded"
        self.loading = [(bucket["names"], data)]
        self.opened.append(opens)
        self.closed.append(closes)
        return self.loading

    def finish_bucket(self, calls):
        assert calls == self.loading
        if calls and len(self.loaded) == self.at:
            raise ConnectionError("the engine is gone")
        self.loaded += self.loading
        self.loading = []


@pytest.fixture(autouse=True)
def store(monkeypatch):
    """Like the object store, which copies what is put into it."""
    monkeypatch.setattr("learner.weights.ray.put", lambda arrays: [array.copy() for array in arrays])


@pytest.mark.parametrize("at", [0, 1, 2])
def test_all_is_gathered_for_the_other_ranks_before_the_loss_is_raised(at):
    model, client = Model(), Client(at)
    with pytest.raises(ConnectionError, match="the engine is gone"):
        HostSender(model, client, 8).send(4)
    assert model.gathered == 3
    assert len(client.opened) == min(at + 1, 3)


def test_the_first_bucket_opens_the_update_and_the_last_one_closes_it():
    client = Client()
    assert HostSender(Model(), client, 8).send(4) == 3 * 8
    assert [data[0].view(np.float32).tolist() for _, data in client.loaded] == [[0, 0], [1, 1], [2, 2]]
    assert (client.opened, client.closed) == ([True, False, False], [False, False, True])
    assert client.version == 4
    alone = Client()
    assert HostSender(Model(5), alone, 8).send(1) == 20
    assert (alone.opened, alone.closed) == ([True], [True])


def test_an_update_that_lacks_bytes_stays_open_and_is_told():
    model, client = Model(), Client()
    model.full_parameters = lambda size: list(Model.full_parameters(model, size))[:-1]
    with pytest.raises(RuntimeError, match="16 of 24 bytes"):
        HostSender(model, client, 8).send(4)
    assert not any(client.closed)


def test_the_ranks_that_send_nothing_gather_with_the_others():
    model = Model()
    assert HostSender(model, None, 8).send(4) == 0
    assert model.gathered == 3


def test_a_bucket_is_gathered_while_the_engines_load_the_one_before(monkeypatch):
    model, client = Model(), Client()
    gathered_at_end_of = []
    finish = client.finish_bucket

    def finish_bucket(calls):
        gathered_at_end_of.append(model.gathered)
        finish(calls)

    monkeypatch.setattr(client, "finish_bucket", finish_bucket)
    HostSender(model, client, 8).send(1)
    assert gathered_at_end_of == [1, 2, 3, 3]


@pytest.mark.parametrize("full", [ray.exceptions.ObjectStoreFullError("full"), ray.exceptions.OutOfDiskError("full")])
@pytest.mark.parametrize("at", [0, 1])
def test_a_full_object_store_is_told_with_what_to_change_once_all_is_gathered(at, full, monkeypatch):
    puts = []

    def put(arrays):
        puts.append(arrays)
        if len(puts) > at:
            raise full
        return arrays

    monkeypatch.setattr("learner.weights.ray.put", put)
    model, client = Model(), Client()
    with pytest.raises(MemoryError, match=r"no room for a bucket of 8 bytes; lower rollout.bucket_bytes"):
        HostSender(model, client, 8).send(4)
    assert model.gathered == 3
    assert (len(puts), len(client.opened), any(client.closed)) == (at + 1, at, False)


class Calls:
    """Ray for calls that are named by how they end: late, done or broken."""

    def get(self, calls, timeout):
        for call in calls if isinstance(calls, list) else [calls]:
            if call == "broken":
                raise ray.exceptions.RaySystemError("the engine took no command")
            if call == "late":
                raise ray.exceptions.GetTimeoutError("late")

    def wait(self, calls, num_returns, timeout):
        assert (num_returns, timeout) == (len(calls), 0)
        done = [call for call in calls if call != "late"]
        return done, [call for call in calls if call == "late"]


@pytest.mark.parametrize(
    ("ends", "error", "words"),
    [
        (["done", "late"], TimeoutError, "engine 1 did not return from load_bucket in 9 s; see logs/engine-1.log, or"),
        (
            ["late", "late"],
            TimeoutError,
            "engines 0, 1 did not return from .* see logs/engine-0.log, logs/engine-1.log",
        ),
        (["done", "broken"], ConnectionError, "engine 1 failed in load_bucket: .*took no command.* logs/engine-1.log"),
        (["broken", "late"], ConnectionError, "engine 0 failed in load_bucket: .*took no command.* logs/engine-0.log"),
    ],
)
def test_the_engine_that_does_not_load_is_named(ends, error, words, monkeypatch):
    fake = Calls()
    monkeypatch.setattr("learner.weights.ray.get", fake.get)
    monkeypatch.setattr("learner.weights.ray.wait", fake.wait)
    engines = [SimpleNamespace(load_bucket=SimpleNamespace(remote=lambda *_, end=end: end)) for end in ends]
    client = EngineClient(engines, 1, 9.0)
    calls = client.begin_bucket({}, None, opens=True, closes=False)
    with pytest.raises(error, match=words):
        client.finish_bucket(calls)
