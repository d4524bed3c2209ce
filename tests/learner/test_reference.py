"""The reference policy through its actors, and its term in a real update, against one plain float64 process."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from transformers import AutoModelForCausalLM

from launch.config import ASSETS, compose
from learner.config import ObjectiveConfig
from learner.group import LearnerGroup
from learner.reference import FrozenModel, ReferenceFailed, ReferenceGroup
from learner.types import TokenBatch

START = ASSETS / "laboratory" / "96"
TEMPERATURE = 0.7
COEF = 2.0
CONFIG = compose(
    [
        "output.folder=unused",
        "learner=zero0",
        "learner.ranks=1",
        "off_policy=updates1",
        "reference=loss",
        f"reference.coef={COEF}",
        "learner.max_grad_norm=1e9",
        "learner.deadline_s=60",
    ]
)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """The start with all weights moved a little, so that the two policies differ."""
    folder = tmp_path_factory.mktemp("reference")
    model = AutoModelForCausalLM.from_pretrained(START, dtype=torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def batch() -> TokenBatch:
    rng = np.random.default_rng(0)
    prompts, responses = np.array([2, 5, 3]), np.array([4, 9, 6])
    count = int(responses.sum())
    return TokenBatch(
        tokens=rng.integers(3, 40, (prompts + responses).sum()).astype(np.int32),
        lengths=(prompts + responses).astype(np.int32),
        prompt_lengths=prompts.astype(np.int32),
        groups=np.zeros(3, np.int32),
        sample_keys=np.arange(3, dtype=np.uint64),
        temperature=TEMPERATURE,
        behaviour_logprobs=np.zeros(count, np.float32),
        mask=np.ones(count, bool),
        versions=np.zeros(count, np.int32),
        advantages=np.repeat([0.6, -0.4, -0.2], responses).astype(np.float32),
        old_logprobs=None,
        old_entropies=None,
        reference_logprobs=None,
    )


def plain_logprobs(folder: Path, batch: TokenBatch) -> tuple[torch.nn.Module, torch.Tensor]:
    """Sample by sample, from all logits, in float64."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    parts = []
    for start, length, prompt in zip(batch.offsets[:-1], batch.lengths, batch.prompt_lengths, strict=True):
        sequence = torch.from_numpy(batch.tokens[start : start + length].astype(np.int64))
        logits = model(input_ids=sequence[None], use_cache=False).logits[0, prompt - 1 : -1] / batch.temperature
        parts.append(logits.log_softmax(-1).gather(-1, sequence[prompt:, None])[:, 0])
    return model, torch.cat(parts)


@pytest.fixture(scope="module")
def reference(elsewhere, ray_session) -> Iterator[ReferenceGroup]:
    """Two actors, on one of whom one more sample lands."""
    group = ReferenceGroup(CONFIG.learner, 2, CONFIG.off_policy.minibatches, "cpu", threads=1)
    ray.get(group.begin_start(str(elsewhere), "float32", False, False), timeout=180)
    yield group
    group.close()


def test_its_scores_are_those_of_a_plain_process_and_enter_the_gradient(reference, batch, elsewhere):
    """Gradient norm of mean(-A r + coef · k3), r = 1, over all tokens."""
    found = reference.score(batch)
    model, logprobs = plain_logprobs(START, batch)
    with torch.no_grad():
        _, expected = plain_logprobs(elsewhere, batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=3e-5)
    hotter = replace(batch, temperature=1.3)
    with torch.no_grad():
        np.testing.assert_allclose(reference.score(hotter), plain_logprobs(elsewhere, hotter)[1].numpy(), atol=3e-5)

    log_ratio = expected - logprobs
    k3 = log_ratio.exp() - 1 - log_ratio
    (k3.mean() * COEF - (logprobs * torch.from_numpy(batch.advantages)).mean()).backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    assert k3.mean() > 0.01

    objective = ObjectiveConfig(CONFIG.algorithm, CONFIG.clip, CONFIG.reference, CONFIG.correction)
    learner = LearnerGroup(
        CONFIG.learner,
        objective,
        CONFIG.entropy,
        CONFIG.probe,
        CONFIG.off_policy,
        0,
        total_steps=1,
        device="cpu",
        threads=1,
    )
    try:
        ray.get(learner.begin_start(str(START), "float32", False), timeout=180)
        metrics = learner.update(replace(batch, reference_logprobs=found), step=0).metrics
    finally:
        learner.close()
    assert metrics["policy/kl_reference"] == pytest.approx(float(k3.mean().detach()), rel=1e-4)
    assert metrics["policy/grad_norm"] == pytest.approx(float(norm), rel=1e-4)


def test_the_model_rests_in_host_memory_and_takes_no_gradient():
    model = FrozenModel(str(START), "float32", "sdpa", False, torch.device("meta"), offload=True)
    assert not model.model.training
    assert {(p.device.type, p.requires_grad) for p in model.model.parameters()} == {("cpu", False)}


def test_an_actor_that_hangs_or_dies_is_named(reference, batch, monkeypatch):
    pids = ray.get([actor.__ray_call__.remote(lambda _: os.getpid()) for actor in reference.actors], timeout=60)
    monkeypatch.setattr(reference, "_config", replace(CONFIG.learner, deadline_s=1.5))
    os.kill(pids[1], signal.SIGSTOP)
    try:
        words = (
            r"reference actor 1 did not finish scoring in 1.5 s; see logs/reference-1.log, or raise learner.deadline_s"
        )
        with pytest.raises(ReferenceFailed, match=words):
            reference.score(batch)
    finally:
        os.kill(pids[1], signal.SIGKILL)
    monkeypatch.setattr(reference, "_config", CONFIG.learner)
    with pytest.raises(ReferenceFailed, match=r"reference actor 1 died while it scored; see logs/reference-1.log"):
        reference.score(batch)
