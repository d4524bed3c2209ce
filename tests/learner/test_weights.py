"""Sending weights where an engine is lost on the way."""

import numpy as np
import pytest
import torch

from learner.buckets import ParameterSpec
from learner.weights import HostSender


class Model:
    gathered = 0

    def full_parameters(self, _bucket_bytes):
        for number in range(3):
            self.gathered += 1
            yield [(ParameterSpec("w", (2,), "float32", 8), torch.full((2,), float(number)))]


class Client:
    """Loses its engines in the call `at`."""

    def __init__(self, at: str):
        self.at, self.version, self.calls = at, 0, []
        self.loading, self.loaded = [], []

    def _call(self, name):
        self.calls.append(name)
        if name == self.at:
            raise ConnectionError("the engine is gone")

    def init_weight_transfer_engine(self, _info):
        pass

    def start_weight_update(self):
        self._call("start")

    def begin_update(self, info):
        assert not self.loading, "the bucket before has not been loaded"
        self.loading = [np.array(info["bucket"])]
        return self.loading

    def finish_update(self, calls):
        assert calls == self.loading
        if calls:
            self._call("bucket")
            self.loaded += self.loading
        self.loading = []

    def finish_weight_update(self):
        self._call("finish")


@pytest.mark.parametrize("at", ["start", "bucket"])
def test_all_is_gathered_for_the_other_ranks_before_the_loss_is_raised(at, monkeypatch):
    monkeypatch.setattr("learner.weights.ray.put", np.copy)
    model, client = Model(), Client(at)
    with pytest.raises(ConnectionError, match="the engine is gone"):
        HostSender(model, client, 8).send(4)
    assert model.gathered == 3
    assert client.calls == {"start": ["start"], "bucket": ["start", "bucket"]}[at]


def test_without_a_loss_all_buckets_are_sent_and_the_session_is_closed(monkeypatch):
    # Like the object store, which copies what is put into it.
    monkeypatch.setattr("learner.weights.ray.put", np.copy)
    client = Client("")
    assert HostSender(Model(), client, 8).send(4) == 3 * 8
    assert [bucket.view(np.float32).tolist() for bucket in client.loaded] == [[0, 0], [1, 1], [2, 2]]
    assert (client.calls, client.version) == (["start", "bucket", "bucket", "bucket", "finish"], 4)


def test_a_bucket_is_gathered_while_the_engines_load_the_one_before(monkeypatch):
    monkeypatch.setattr("learner.weights.ray.put", np.copy)
    model, client = Model(), Client("")
    gathered_at_end_of = []
    finish = client.finish_update

    def finish_update(calls):
        gathered_at_end_of.append(model.gathered)
        finish(calls)

    monkeypatch.setattr(client, "finish_update", finish_update)
    HostSender(model, client, 8).send(1)
    assert gathered_at_end_of == [1, 2, 3, 3]


def test_buckets_of_other_sizes_share_no_bytes(monkeypatch):
    monkeypatch.setattr("learner.weights.ray.put", np.copy)
    sizes = (2, 5, 1)

    class Ragged:
        def full_parameters(self, _bucket_bytes):
            for size in sizes:
                yield [
                    (ParameterSpec(f"w{i}", (size,), "float32", 4 * size), torch.full((size,), i)) for i in (7.0, 8.0)
                ]

    client = Client("")
    HostSender(Ragged(), client, 8).send(1)
    assert [bucket.view(np.float32).tolist() for bucket in client.loaded] == [[7.0] * n + [8.0] * n for n in sizes]
