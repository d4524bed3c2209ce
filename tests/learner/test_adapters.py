"""A model with adapters: the policy it starts as, what is trained, and the weights it amounts to."""

import copy

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from learner.adapters import add_adapters, merged_parameters

RANK, ALPHA = 3, 5.0
TOKENS = torch.arange(12)[None]


@pytest.fixture
def plain() -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 4, "vocab_size": 20}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "attention_bias": True, "tie_word_embeddings": True}
    return Qwen3ForCausalLM(Qwen3Config(**shape, **heads)).double().eval()


@pytest.fixture
def adapted(plain) -> Qwen3ForCausalLM:
    model = copy.deepcopy(plain)
    add_adapters(model, RANK, ALPHA, seed=7)
    return model


def logits(model) -> torch.Tensor:
    return model(input_ids=TOKENS, use_cache=False).logits


def draw_b(model) -> None:
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def test_the_policy_is_what_it_was(plain, adapted):
    assert torch.equal(logits(plain), logits(adapted))


def test_only_the_adapters_are_trained(plain, adapted):
    draw_b(adapted)
    logits(adapted).square().sum().backward()
    trained = {name for name, parameter in adapted.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, _ in adapted.named_parameters() if ".lora_" in name}
    # Seven linear layers in each of two blocks, an A and a B each; none beside the LM head.
    assert len(trained) == 2 * 7 * 2


def test_merged_weights_are_the_policy(plain, adapted):
    draw_b(adapted)
    merged = {each.name: each.value() for each in merged_parameters(adapted)}
    assert list(merged) == [name for name, _ in plain.named_parameters()]
    before = logits(plain)
    plain.load_state_dict(merged, strict=False)
    assert (logits(plain) - before).abs().max() > 0.1
    torch.testing.assert_close(logits(plain), logits(adapted), rtol=0, atol=1e-12)


def test_a_merged_weight_by_hand(adapted):
    draw_b(adapted)
    layer = adapted.model.layers[1].self_attn.q_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    (found,) = (e for e in merged_parameters(adapted) if e.name == "model.layers.1.self_attn.q_proj.weight")
    assert a.shape == (RANK, 16)
    torch.testing.assert_close(found.value(), layer.base_layer.weight + ALPHA / RANK * b @ a, rtol=0, atol=1e-12)


def test_bfloat16_rounds_once(adapted):
    draw_b(adapted)
    low = adapted.bfloat16()
    for each in merged_parameters(low):
        if len(each.parts) == 3:
            weight, a, b = (part.detach().float() for part in each.parts)
            assert torch.equal(each.value(), (weight + each.scale * (b @ a)).bfloat16())


def test_the_seed_decides_the_adapters(plain):
    first, same, other = (copy.deepcopy(plain) for _ in range(3))
    for model, seed in ((first, 1), (same, 1), (other, 2)):
        add_adapters(model, RANK, ALPHA, seed)
    name = "model.layers.0.mlp.up_proj.lora_A.default.weight"
    first, same, other = (model.get_parameter(name) for model in (first, same, other))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_adding_adapters_leaves_the_random_state_alone(plain):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    add_adapters(plain, RANK, ALPHA, seed=7)
    assert torch.equal(torch.rand(2), expected)
