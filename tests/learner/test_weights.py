"""Sending weights where an engine is lost on the way."""

import pytest
import torch

from learner.buckets import ParameterSpec
from learner.weights import HostSender


class Model:
    gathered = 0

    def full_parameters(self, _bucket_bytes):
        for _ in range(3):
            self.gathered += 1
            yield [(ParameterSpec("w", (2,), "float32", 8), torch.zeros(2))]


class Client:
    """Loses its engines in the call `at`."""

    def __init__(self, at: str):
        self.at, self.version, self.calls = at, 0, []

    def _call(self, name):
        self.calls.append(name)
        if name == self.at:
            raise ConnectionError("the engine is gone")

    def init_weight_transfer_engine(self, _info):
        pass

    def start_weight_update(self):
        self._call("start")

    def update_weights(self, _info):
        self._call("bucket")

    def finish_weight_update(self):
        self._call("finish")


@pytest.mark.parametrize("at", ["start", "bucket"])
def test_all_is_gathered_for_the_other_ranks_before_the_loss_is_raised(at, monkeypatch):
    monkeypatch.setattr("learner.weights.ray.put", lambda data: data)
    model, client = Model(), Client(at)
    with pytest.raises(ConnectionError, match="the engine is gone"):
        HostSender(model, client, 8).send(4)
    assert model.gathered == 3
    assert client.calls == {"start": ["start"], "bucket": ["start", "bucket"]}[at]


def test_without_a_loss_all_buckets_are_sent_and_the_session_is_closed(monkeypatch):
    monkeypatch.setattr("learner.weights.ray.put", lambda data: data)
    client = Client("")
    assert HostSender(Model(), client, 8).send(4) == 3 * 8
    assert (client.calls, client.version) == (["start", "bucket", "bucket", "bucket", "finish"], 4)
