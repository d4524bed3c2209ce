"""What DeepSpeed is asked for beyond the layout: optimizer, gradient norm, adapters, the sum of gradients in bfloat16.

Two ranks are started once; each test builds another model in them.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import ray
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from launch.config import ASSETS, compose
from learner.config import LearnerConfig, ObjectiveConfig, ProbeConfig
from learner.group import LearnerGroup
from learner.planning import PassLimits, plan_passes
from learner.types import TokenBatch, UpdatePlan

MODEL = ASSETS / "laboratory" / "96"
TOKENS = np.random.default_rng(0).integers(0, 100, (8, 24))
RATE = 0.01


@pytest.fixture(scope="module")
def config() -> LearnerConfig:
    return compose(["output.folder=unused", "learner.ranks=2", "off_policy=updates1"]).learner


@pytest.fixture(scope="module")
def group(config, ray_session) -> Iterator[LearnerGroup]:
    run = compose(["output.folder=unused", "learner.ranks=2", "off_policy=updates1"])
    objective = ObjectiveConfig(run.algorithm, run.clip, run.reference, run.correction)
    group = LearnerGroup(
        run.learner, objective, run.entropy, run.probe, run.off_policy, seed=0, total_steps=1, device="cpu", threads=1
    )
    try:
        ray.get(group.begin_start(str(MODEL), "float32", False), timeout=180)
        yield group
    finally:
        group.close()


def everywhere(group: LearnerGroup, function: Callable, *arguments: Any) -> list[Any]:
    calls = [actor.__ray_call__.remote(function, *arguments) for actor in group.actors]
    return ray.get(calls, timeout=120)


def rebuild(group: LearnerGroup, config: LearnerConfig, dtype: str = "float32") -> None:
    """Another model on the ranks, which are joined already."""

    def build(worker, config, dtype) -> None:
        from learner.deepspeed_adapter import DeepSpeedModel

        worker.model.engine.destroy()
        worker.model = DeepSpeedModel(config, str(MODEL), dtype, False, seed=5)

    everywhere(group, build, config, dtype)


def train(group: LearnerGroup, updates: int, tokens: np.ndarray = TOKENS) -> list[float]:
    """Updates on the mean cross-entropy of `tokens`, one row a pass, every other row a rank's; gradient norms."""

    def run(worker, tokens, updates, rate) -> list[float]:
        import torch

        norms, rows = [], tokens[worker.rank :: worker.ranks]
        for _ in range(updates):
            for number, row in enumerate(rows):
                worker.model.boundary(number == len(rows) - 1)
                ids = torch.from_numpy(row[None])
                logits = worker.model.engine(input_ids=ids, use_cache=False).logits[0, :-1].float()
                loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
                worker.model.backward(loss / (tokens.shape[0] * (tokens.shape[1] - 1)))
            norms.append(worker.model.step(rate))
        return norms

    return everywhere(group, run, tokens, updates, RATE)[0]


def parameters(group: LearnerGroup) -> dict[str, torch.Tensor]:
    def whole(worker) -> dict[str, Any]:
        buckets = worker.model.full_parameters(1 << 20)
        return {spec.name: tensor.clone() for bucket in buckets for spec, tensor in bucket}

    return everywhere(group, whole)[0]


def one_process(updates: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Plain SGD in float64."""
    model, norms = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float64), []
    ids = torch.from_numpy(TOKENS)
    for _ in range(updates):
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        model.zero_grad()
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])))
        with torch.no_grad():
            for p in model.parameters():
                p -= RATE * p.grad
    return {name: p.detach() for name, p in model.named_parameters()}, norms


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_plain_sgd_without_a_bound_on_the_norm(group, config, stage):
    rebuild(group, replace(config, optimizer="sgd", max_grad_norm=None, zero_stage=stage))
    norms = train(group, updates=3)
    expected, expected_norms = one_process(updates=3)
    # The bound that is the default would have scaled these gradients.
    assert min(expected_norms) > 1.5 * 1.0
    assert norms == pytest.approx(expected_norms, rel=1e-5)
    for name, value in parameters(group).items():
        assert float((value - expected[name]).abs().max()) < 5e-7, name


@pytest.mark.parametrize("stage", [1, 3])
def test_adapters_through_deepspeed(group, config, stage, tmp_path):
    def scores(worker) -> torch.Tensor:
        with torch.no_grad():
            return worker.model.engine(input_ids=torch.from_numpy(TOKENS), use_cache=False).logits

    def sizes(worker) -> int:
        return sum(p.numel() for group in worker.model.engine.optimizer.param_groups for p in group["params"])

    def save(worker, folder) -> None:
        from learner.export import save_model

        save_model(worker.model, folder, write=worker.rank == 0)

    rebuild(group, replace(config, lora_rank=4, lora_alpha=8.0, zero_stage=stage, learning_rate=RATE))
    before = parameters(group)
    shipped = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    for name, value in shipped.named_parameters():
        assert torch.equal(before[name], value), name
    train(group, updates=2)
    after = parameters(group)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.endswith("_proj.weight")}
    everywhere(group, save, str(tmp_path / "model"))
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert all(torch.equal(saved[name], after[name]) for name in after)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with torch.no_grad():
        wanted = merged(input_ids=torch.from_numpy(TOKENS), use_cache=False).logits
    for logits in everywhere(group, scores):
        torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("stage", "lora"), [(0, None), (1, 4), (2, None), (3, None), (3, 4)])
def test_the_probe_changes_no_bit_of_the_weights(group, config, stage, lora):
    """At every stage, with adapters, with fewer responses than ranks, over several updates of one optimiser."""

    def trained_weights(worker, batch, plans, probe) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Weights, and the figures of this rank, after the updates of a batch."""
        from learner.planning import PassLimits
        from learner.policy import Policy
        from learner.probe import Probe

        limits = PassLimits(256, 64)
        worker.policy = Policy(worker.model, 64, limits)
        worker._probe = Probe(probe, 0, limits) if probe else None
        tally, *_ = worker.update(batch, plans, 0)
        buckets = worker.model.full_parameters(1 << 20)
        return {spec.name: tensor.numpy().copy() for bucket in buckets for spec, tensor in bucket}, tally.values()

    batch = replace(probed_batch(), old_logprobs=np.full(8 * 16, -4.0, np.float32))
    plans = [
        UpdatePlan(plan_passes(batch.lengths, samples, 2, PassLimits(256, 64)), samples, RATE, number)
        for number, samples in enumerate((np.arange(4), np.arange(4, 8), np.arange(8)))
    ]
    settings = replace(config, zero_stage=stage, lora_rank=lora, lora_alpha=lora and 8.0)
    found = []
    for probe in (None, ProbeConfig(10, 1), ProbeConfig(100, 8)):
        rebuild(group, settings)
        found.append(everywhere(group, trained_weights, batch, plans, probe))
    without, *probed = found
    shipped = load_file(MODEL / "model.safetensors")
    assert any(not np.array_equal(value, shipped[name].numpy()) for name, value in without[0][0].items())
    for ranks in probed:
        for (weights, figures), (expected, _) in zip(ranks, without, strict=True):
            assert all(np.array_equal(weights[name], expected[name]) for name in expected)
            assert "speed/probe_seconds" in figures
    assert sum(figures.get("dynamics/entropy_change_observed", 0) != 0 for _, figures in probed[0]) == 1


def probed_batch() -> TokenBatch:
    """Eight samples of 24 tokens, 8 of them the prompt's."""
    return TokenBatch(
        tokens=TOKENS.reshape(-1).astype(np.int32),
        lengths=np.full(8, 24, np.int32),
        prompt_lengths=np.full(8, 8, np.int32),
        groups=np.zeros(8, np.int32),
        sample_keys=np.arange(8, dtype=np.uint64),
        temperature=1.0,
        behaviour_logprobs=np.zeros(8 * 16, np.float32),
        mask=np.ones(8 * 16, bool),
        versions=np.zeros(8 * 16, np.int32),
        advantages=np.repeat(np.linspace(-1, 1, 8), 16).astype(np.float32),
        old_logprobs=None,
        old_entropies=None,
        reference_logprobs=None,
    )


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_bfloat16_gradients_are_summed_in_float32(group, config, stage):
    """One large pass and many small ones: in bfloat16 each small gradient is below half a unit of the sum."""

    def norm(worker, sizes) -> float:
        for number, size in enumerate(sizes):
            worker.model.boundary(number == len(sizes) - 1)
            logits = worker.model.engine(input_ids=torch.from_numpy(TOKENS[:1]), use_cache=False).logits.float()
            worker.model.backward(logits.logsumexp(-1).sum() * size)
        return worker.model.step(0.0)

    rebuild(group, replace(config, optimizer="sgd", max_grad_norm=None, zero_stage=stage), "bfloat16")
    whole = everywhere(group, norm, [1.0])[0]
    small = everywhere(group, norm, [1.0] + [1 / 1024] * 64)[0]
    assert small / whole == pytest.approx(1 + 64 / 1024, rel=2e-3)
