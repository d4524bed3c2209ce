"""New weights in packed layers, against vLLM's own packing, product and record of what it dropped."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import linear
from vllm.model_executor.layers.linear import UnquantizedLinearMethod
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod
from vllm.model_executor.model_loader.reload import record_metadata_for_reloading

from rollout.packed_layers import PackedLayers, can_load

INPUTS = 64


class Layer(torch.nn.Module):
    """Its weight arrives in halves, named by `which`, as a merged projection's does."""

    def __init__(self, outputs: int, method: object):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(outputs, INPUTS), requires_grad=False)
        self.weight.weight_loader = self.load
        self.quant_method, self.tp_size = method, 1

    def load(self, weight: torch.Tensor, loaded: torch.Tensor, which: int) -> None:
        rows = len(weight) // 2
        weight.data[which * rows : (which + 1) * rows].copy_(loaded)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.quant_method.apply(self, x, None)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = Layer(96, UnquantizedLinearMethod())
        self.second = Layer(160, UnquantizedLinearMethod())
        self.lm_head = Layer(128, UnquantizedEmbeddingMethod())
        record_metadata_for_reloading(self)
        for layer in self.children():
            layer.quant_method.process_weights_after_loading(layer)


def halves(model: Model) -> dict[str, list[torch.Tensor]]:
    return {"first": list(torch.randn(2, 48, INPUTS)), "second": list(torch.randn(2, 80, INPUTS))}


def send(model: Model, weights: dict[str, list[torch.Tensor]], order: str) -> None:
    for entry in order.split():
        layer = getattr(model, {"f": "first", "s": "second"}[entry[0]])
        which = int(entry[1])
        layer.weight.weight_loader(layer.weight, weights["first" if entry[0] == "f" else "second"][which], which)


def check(model: Model, weights: dict[str, list[torch.Tensor]]) -> None:
    x = torch.randn(5, INPUTS)
    for name, (upper, lower) in weights.items():
        torch.testing.assert_close(getattr(model, name)(x), linear(x, torch.cat([upper, lower])))


def test_what_vllm_leaves_of_a_packed_layer():
    model = Model()
    for layer in (model.first, model.second):
        assert layer.weight.numel() == 0
        assert callable(layer.cpu_linear)
    assert model.lm_head.weight.shape == (128, INPUTS)


@pytest.mark.parametrize("order", ["f0 f1 s0 s1", "s1 f0 s0 f1", "f1 s0 s1 f0"])
def test_in_any_order_each_layer_computes_with_what_was_sent_last(order):
    model = Model()
    packed = PackedLayers(model)
    for _ in range(3):
        weights = halves(model)
        packed.open()
        send(model, weights, order)
        packed.close()
        check(model, weights)
        assert model.first.weight.numel() == model.second.weight.numel() == 0


def test_layers_that_are_open_at_once_share_no_memory_and_it_is_kept():
    model = Model()
    packed = PackedLayers(model)
    places = []
    for _ in range(4):
        weights = halves(model)
        packed.open()
        send(model, weights, "s0 f0")
        places.append({model.first.weight.data_ptr(), model.second.weight.data_ptr()})
        send(model, weights, "s1 f1")
        packed.close()
        check(model, weights)
    assert len(places[0]) == 2
    # By then each has grown to the larger layer.
    assert places[2] == places[3]


def test_memory_does_not_grow_with_layers_that_come_one_after_another():
    model = Model()
    packed = PackedLayers(model)
    places = []
    for _ in range(2):
        weights = halves(model)
        packed.open()
        for layer, order in ((model.second, "s0 s1"), (model.first, "f0 f1")):
            send(model, weights, order[:2])
            places.append(layer.weight.data_ptr())
            send(model, weights, order[3:])
        packed.close()
    assert len(set(places)) == 1


def test_the_head_is_packed_anew_from_its_own_weight():
    model = Model()
    packed = PackedLayers(model)
    packed.open()
    send(model, halves(model), "f0 f1 s0 s1")
    new = torch.randn(128, INPUTS)
    model.lm_head.weight.data.copy_(new)
    packed.close()
    x = torch.randn(5, INPUTS)
    torch.testing.assert_close(model.lm_head(x), linear(x, new))


@pytest.mark.parametrize(("order", "named"), [("f0 f1", "second"), ("f0 f1 s1", "second"), ("", "first, second")])
def test_a_layer_that_lacks_weights_is_named(order, named):
    model = Model()
    packed = PackedLayers(model)
    packed.open()
    send(model, halves(model), order)
    with pytest.raises(RuntimeError, match=f"weights for {named} were not sent, or not all of them"):
        packed.close()


def test_after_an_update_that_was_broken_off_the_next_one_begins_anew():
    model = Model()
    packed = PackedLayers(model)
    packed.open()
    send(model, halves(model), "f0 f1 s0")
    weights = halves(model)
    packed.open()
    send(model, weights, "s0 s1 f0 f1")
    packed.close()
    check(model, weights)


def test_where_more_is_made_of_weights_vllm_loads_them_itself():
    assert can_load(Model())
    quantized = Model()
    quantized.first.quant_method = SimpleNamespace()
    sharded = Model()
    sharded.second.tp_size = 2
    absorbing = Model()
    absorbing.attention = torch.nn.Module()
    absorbing.attention.process_weights_after_loading = lambda dtype: None
    headless = Model()
    del headless.lm_head
    assert [can_load(model) for model in (quantized, sharded, absorbing, headless)] == [False] * 4
