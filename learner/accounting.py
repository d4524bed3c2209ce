"""What the updates of a batch computed, in tokens and floating-point operations, and how fast. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from learner.metrics import Tally
from learner.planning import computed_tokens, pass_cost
from learner.types import TokenBatch, UpdatePlan

# Decoders whose layers are attention and a gated MLP and nothing else, by the `model_type` of their configuration.
DENSE_DECODERS = ("llama", "mistral", "qwen2", "qwen3")

# FLOP/s of dense matrix products by the makers' data sheets (no sparsity; float32 without TF32, as torch computes it).
# A device is the first whose words are all in its name.
PEAK_FLOPS: Sequence[tuple[tuple[str, ...], Mapping[str, float]]] = (
    (("A100",), {"bfloat16": 312e12, "float32": 19.5e12}),
    (("H100", "PCIe"), {"bfloat16": 756e12, "float32": 51e12}),
    (("H100", "HBM3"), {"bfloat16": 989e12, "float32": 67e12}),
    (("H200",), {"bfloat16": 989e12, "float32": 67e12}),
    (("B200",), {"bfloat16": 2250e12}),
    (("L40S",), {"bfloat16": 362e12, "float32": 91.6e12}),
    (("L4",), {"bfloat16": 121e12, "float32": 30.3e12}),
)


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a dense decoder that its matrix products depend on.

    layer_weights    of the linear layers of all decoder layers
    head_weights     of the LM head
    attention_width  heads times the size of a head, summed over the layers
    """

    layer_weights: int
    head_weights: int
    attention_width: int

    @classmethod
    def of(cls, config: Any) -> Self | None:
        """From a Hugging Face configuration; None where the formulas do not hold for the architecture."""
        if config.model_type not in DENSE_DECODERS:
            return None
        hidden, heads = config.hidden_size, config.num_attention_heads
        head_size = getattr(config, "head_dim", None) or hidden // heads
        attention = 2 * hidden * head_size * (heads + config.num_key_value_heads)
        return cls(
            layer_weights=config.num_hidden_layers * (attention + 3 * hidden * config.intermediate_size),
            head_weights=config.vocab_size * hidden,
            attention_width=config.num_hidden_layers * heads * head_size,
        )


@dataclass(frozen=True)
class RankProfile:
    """What a rank says about itself once it has started; None where it is not known.

    peak_flops  per second, of its device
    frozen      adapters are trained and the weights are not
    """

    shape: ModelShape | None
    peak_flops: float | None
    frozen: bool


def training_flops(shape: ModelShape, lengths: np.ndarray, scored: int, frozen: bool) -> float:
    """FLOPs that forward and backward of one update need, once for all ranks.

        6 · N · T  +  6 · A · Σ length²  +  6 · V · H · scored

    for N weights of the layers, T tokens, A = layers x heads x head size, V x H weights of the head: two for each
    multiply-add, and twice the forward pass again for the gradients of inputs and weights. It is Chowdhery et al. 2022
    (PaLM), appendix B, with half of its attention term, 12 · A · length a token, because a causal mask needs half the
    products; and the head counts only where a token is scored. Recomputed activations, padding and the products that a
    dense mask throws away are not needed, so they do not count. With `frozen` weights no gradients of these are
    computed: the first and last term have 4 instead of 6. The adapters themselves are left out.

    lengths  int [n] of the samples; scored  tokens that the head predicts
    """
    squares = float((lengths.astype(np.float64) ** 2).sum())
    linear = shape.layer_weights * float(lengths.sum()) + shape.head_weights * float(scored)
    return (4 if frozen else 6) * linear + 6 * shape.attention_width * squares


def peak_flops(device: str, dtype: str) -> float | None:
    """FLOP/s of the device that torch calls by this name, None where it is not in the table."""
    words = set(device.replace("-", " ").split())
    return next((peaks.get(dtype) for names, peaks in PEAK_FLOPS if words.issuperset(names)), None)


def plan_metrics(lengths: np.ndarray, plans: Sequence[UpdatePlan]) -> dict[str, float]:
    """How well the updates are laid out; sums over all updates, divided once.

    learner/padding_efficiency     tokens of samples over tokens computed
    learner/rank_imbalance_tokens  tokens of the fullest rank less those of the emptiest, over the mean
    learner/rank_imbalance_cost    the same of what the planner expects its passes to cost, padding included
    learner/passes                 forward and backward passes of a rank per update
    """
    tally = Tally()
    for plan in plans:
        real = [sum(int(lengths[row].sum()) for one in share for row in one) for share in plan.passes]
        computed = [computed_tokens(lengths, one) for share in plan.passes for one in share]
        costs = [sum(pass_cost(lengths, one) for one in share) for share in plan.passes]
        tally.mean("learner/padding_efficiency", sum(real), sum(computed))
        tally.mean("learner/rank_imbalance_tokens", max(real) - min(real), np.mean(real))
        tally.mean("learner/rank_imbalance_cost", max(costs) - min(costs), np.mean(costs))
        tally.mean("learner/passes", len(plan.passes[0]), 1)
    return tally.values()


def speed_metrics(
    batch: TokenBatch, plans: Sequence[UpdatePlan], profile: RankProfile, ranks: int, seconds: float
) -> dict[str, float]:
    """What the updates of a batch came to per second. A figure that cannot be known is left out.

    speed/trained_tokens_per_s  response tokens that took part in the loss, once for each update that used them
    speed/model_tflops_per_s    of all ranks together
    speed/mfu                   the share of what their devices could do (model FLOPs utilisation)
    """
    tokens = sum(int(batch.mask[batch.response_index(plan.samples)].sum()) for plan in plans)
    row = {"speed/trained_tokens_per_s": tokens / seconds}
    if profile.shape is None:
        return row
    flops = sum(
        training_flops(
            profile.shape, batch.lengths[plan.samples], batch.response_lengths[plan.samples].sum(), profile.frozen
        )
        for plan in plans
    )
    row["speed/model_tflops_per_s"] = flops / seconds / 1e12
    if profile.peak_flops is not None:
        row["speed/mfu"] = flops / (seconds * ranks * profile.peak_flops)
    return row
