"""FLOPs against a count by hand and against torch's own; tokens are counted once, however many ranks there are."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen3MoeConfig

from launch.config import ASSETS
from learner.accounting import ModelShape, RankProfile, peak_flops, plan_metrics, speed_metrics, training_flops
from learner.planning import ATTENTION_TOKENS, PassLimits, plan_passes
from learner.types import TokenBatch, UpdatePlan

# Torch's products of matrices and of stacks of them: linear layers, and attention.
OPERATIONS = ((torch.ops.aten.mm, torch.ops.aten.addmm), (torch.ops.aten.bmm, torch.ops.aten.baddbmm))
# 2 layers: q and o 8 x 8, k and v 8 x 4 (2 heads of 4, one for keys), three times 8 x 16; head 8 x 10.
SMALL = ModelShape(layer_weights=2 * (64 + 64 + 32 + 32 + 384), head_weights=80, attention_width=16)


def batch_of(lengths: np.ndarray, prompts: np.ndarray, mask: np.ndarray | None = None) -> TokenBatch:
    responses = int((lengths - prompts).sum())
    return TokenBatch(
        tokens=np.zeros(lengths.sum(), np.int32),
        lengths=lengths,
        prompt_lengths=prompts,
        groups=np.zeros(lengths.size, np.int32),
        sample_keys=np.arange(lengths.size, dtype=np.uint64),
        temperature=1.0,
        behaviour_logprobs=np.zeros(responses, np.float32),
        mask=np.ones(responses, bool) if mask is None else mask,
        versions=np.zeros(responses, np.int32),
        advantages=None,
        old_logprobs=None,
        old_entropies=None,
        reference_logprobs=None,
    )


def plans_of(lengths: np.ndarray, ranks: int, updates: int = 1, limits: PassLimits | None = None) -> list[UpdatePlan]:
    samples = np.arange(lengths.size)
    passes = plan_passes(lengths, samples, ranks, limits or PassLimits(64, 32))
    return [UpdatePlan(passes, samples, 1e-3, 0)] * updates


def test_the_shape_of_a_model():
    config = LlamaConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=10,
    )
    assert ModelShape.of(config) == SMALL


def test_the_shape_counts_the_linear_layers_of_the_model():
    model = AutoModelForCausalLM.from_pretrained(ASSETS / "laboratory" / "96")
    linear = [m.weight.numel() for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
    shape = ModelShape.of(model.config)
    assert shape.layer_weights == sum(linear)
    assert shape.head_weights == model.lm_head.weight.numel()


@pytest.mark.parametrize("config", [GPT2Config(), Qwen3MoeConfig()], ids=["gpt2", "experts"])
def test_other_architectures_have_no_figure(config):
    assert ModelShape.of(config) is None
    batch, profile = batch_of(np.array([4]), np.array([1])), RankProfile(None, 1e12, frozen=False)
    row = speed_metrics(batch, plans_of(batch.lengths, 1), profile, 1, 2.0)
    assert row == {"speed/trained_tokens_per_s": 1.5}


def test_flops_by_hand():
    # 6 x 1,152 x 7 tokens + 6 x 16 x (9 + 16) + 6 x 80 x 5 scored
    assert training_flops(SMALL, np.array([3, 4]), 5, frozen=False) == 48_384 + 2_400 + 2_400
    # Of frozen weights only the gradients of their inputs: 4 instead of 6, but for attention.
    assert training_flops(SMALL, np.array([3, 4]), 5, frozen=True) == 32_256 + 2_400 + 1_600


def test_flops_of_long_samples_do_not_overflow():
    billions = ModelShape(6_525_288_448, 545_259_520, 28 * 3_584)
    lengths = np.full(1_000, 50_000, np.int32)
    wanted = 6 * (6_525_288_448 * 5e7 + 545_259_520 * 3e7 + 28 * 3_584 * 1_000 * 2.5e9)
    assert training_flops(billions, lengths, 30_000_000, frozen=False) == pytest.approx(wanted, rel=1e-12)


def test_flops_are_those_that_torch_counts():
    model = AutoModelForCausalLM.from_pretrained(ASSETS / "laboratory" / "96", attn_implementation="eager")
    shape, length = ModelShape.of(model.config), 30
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.arange(length)[None], use_cache=False)
    counts = counter.get_flop_counts()["Global"]
    linear, attention = (sum(counts.get(op, 0) for op in ops) for ops in OPERATIONS)
    assert linear + attention == counter.get_total_flops()
    # Torch multiplies the half that the mask hides as well.
    wanted = 3 * (linear + attention / 2)
    assert training_flops(shape, np.array([length]), length, frozen=False) == wanted


def test_backward_takes_twice_the_flops_of_forward():
    model = AutoModelForCausalLM.from_pretrained(ASSETS / "laboratory" / "96", attn_implementation="eager")
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=torch.arange(30)[None], use_cache=False).logits
        forward = counter.get_total_flops()
        logits.sum().backward()
    assert counter.get_total_flops() == pytest.approx(3 * forward, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "dtype", "flops"),
    [
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312e12),
        ("NVIDIA A100 80GB PCIe", "float32", 19.5e12),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989e12),
        ("NVIDIA H100 PCIe", "bfloat16", 756e12),
        ("NVIDIA H100 NVL", "bfloat16", None),
        ("NVIDIA L40S", "bfloat16", 362e12),
        ("NVIDIA L4", "bfloat16", 121e12),
        ("NVIDIA B200", "float32", None),
        ("cpu", "float32", None),
    ],
)
def test_peak_of_a_device(name, dtype, flops):
    assert peak_flops(name, dtype) == flops


def test_utilisation_by_hand():
    batch = batch_of(np.array([3, 4]), np.array([1, 1]))
    profile = RankProfile(SMALL, peak_flops=1e6, frozen=False)
    row = speed_metrics(batch, plans_of(batch.lengths, 2), profile, ranks=2, seconds=0.5)
    assert row["speed/trained_tokens_per_s"] == 10.0
    assert row["speed/model_tflops_per_s"] == pytest.approx(53_184 / 0.5 / 1e12)
    assert row["speed/mfu"] == pytest.approx(53_184 / 0.5 / 2e6)


def test_without_a_known_peak_there_is_no_utilisation():
    batch = batch_of(np.array([3, 4]), np.array([1, 1]))
    row = speed_metrics(batch, plans_of(batch.lengths, 1), RankProfile(SMALL, None, frozen=False), 1, 0.5)
    assert row.keys() == {"speed/trained_tokens_per_s", "speed/model_tflops_per_s"}


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_tokens_and_flops_do_not_grow_with_ranks(ranks):
    lengths = np.random.default_rng(0).integers(5, 30, 40)
    mask = np.random.default_rng(1).random(int((lengths - 2).sum())) < 0.8
    batch = batch_of(lengths, np.full(40, 2), mask)
    plans = plans_of(lengths, ranks, updates=3)
    row = speed_metrics(batch, plans, RankProfile(SMALL, None, frozen=False), ranks, seconds=2.0)
    assert row["speed/trained_tokens_per_s"] == mask.sum() * 3 / 2.0
    once = training_flops(SMALL, lengths, int((lengths - 2).sum()), frozen=False)
    assert row["speed/model_tflops_per_s"] == pytest.approx(3 * once / 2.0 / 1e12)


def test_layout_by_hand():
    # Rank 0: a pass of rows 9 and 7 (18 computed); rank 1: a pass of rows 8 and 2 + 3 (16 computed).
    lengths = np.array([9, 7, 8, 2, 3])
    passes = (((np.array([0]), np.array([1])),), ((np.array([2]), np.array([3, 4])),))
    row = plan_metrics(lengths, [UpdatePlan(passes, np.arange(5), 1e-3, 0)])
    assert row["learner/padding_efficiency"] == 29 / 34
    assert row["learner/rank_imbalance_tokens"] == (16 - 13) / 14.5
    costs = 18 * (ATTENTION_TOKENS + 9), 16 * (ATTENTION_TOKENS + 8)
    assert row["learner/rank_imbalance_cost"] == (costs[0] - costs[1]) / (sum(costs) / 2)
    assert row["learner/passes"] == 1


def test_a_rank_without_samples_is_imbalance():
    row = plan_metrics(np.array([9]), plans_of(np.array([9]), 2))
    assert row["learner/padding_efficiency"] == 0.9  # the empty pass runs on a token
    assert row["learner/rank_imbalance_tokens"] == 2.0


def test_no_updates_have_no_figures():
    assert plan_metrics(np.array([9]), []) == {}
