"""Prompt entropy with a learner whose entropies are known, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from launch import run as run_module
from launch.phases import Phases
from launch.prompt_entropy import prompt_batch, prompt_entropy
from launch.run import Run
from rollout.types import Prompt
from tests.composed import compose
from tests.learner.test_policy import TEMPERATURE, Model, policy_of

# Two prompts in a row of one pass, two in another.
LAYOUT = ((np.array([3, 0]), np.array([1, 2])),)


def prompt(uid: str, tokens: list[int]) -> Prompt:
    return Prompt(uid, "", np.array(tokens, np.int32), "source", "verifier", "1", {}, uid)


IN = [prompt("a/0", [9, 1, 2]), prompt("a/1", [9, 6]), prompt("a/2", [9])]
OUT = [prompt("b/0", [9, 8, 8, 8, 4])]


def score(batch):
    """A token's entropy is a tenth of its id, and everything else is not to be looked at."""
    index = np.concatenate([np.arange(a + 1, b) for a, b in zip(batch.offsets, batch.offsets[1:], strict=False)])
    entropies = (batch.tokens[index] / 10).astype(np.float32)
    return np.full_like(entropies, np.nan), entropies


def test_means_over_the_tokens_of_each_set_after_the_first_of_each_prompt():
    row = prompt_entropy(score, {"in": IN, "out": OUT}, {}, TEMPERATURE)
    assert row == {
        "eval/in/prompt_entropy": pytest.approx((0.1 + 0.2 + 0.6) / 3),
        "eval/in/prompt_entropy_ratio": 1.0,
        "eval/out/prompt_entropy": pytest.approx((0.8 * 3 + 0.4) / 4),
        "eval/out/prompt_entropy_ratio": 1.0,
    }


def test_later_evaluations_are_held_against_the_first():
    first = {"step": 0, "eval/in/prompt_entropy": 0.6, "eval/in/avg_at_k": 0.5}
    row = prompt_entropy(score, {"in": IN, "out": OUT}, first, TEMPERATURE)
    assert row["eval/in/prompt_entropy_ratio"] == pytest.approx(0.3 / 0.6)
    # A set that the first row has not measured begins here.
    assert row["eval/out/prompt_entropy_ratio"] == 1.0


def test_prompts_of_one_token_are_left_out():
    assert prompt_entropy(score, {"in": IN[2:]}, {}, TEMPERATURE) == {}
    assert prompt_entropy(score, {}, {}, TEMPERATURE) == {}


def test_nothing_of_the_batch_is_trained_on():
    batch = prompt_batch(IN[:2], TEMPERATURE)
    assert (batch.lengths.tolist(), batch.prompt_lengths.tolist()) == ([3, 2], [1, 1])
    assert not batch.mask.any()
    assert len(set(batch.sample_keys.tolist())) == 2


def test_a_run_scores_its_prompts_at_the_configured_temperature_whatever_a_control_says(monkeypatch):
    seen = []

    def learner_score(batch):
        seen.append(batch.temperature)
        return score(batch)

    run = Run.__new__(Run)
    run._config = compose(["rollout.temperature=0.8"])
    run._prepared = SimpleNamespace(evaluation={"in": IN})
    run.folder, run.phases = None, Phases()
    learner = SimpleNamespace(score=learner_score, next_temperature=lambda: 1.3)
    run.graph = SimpleNamespace(rollout=None, reward=None, learner=learner)
    run._rollouts = SimpleNamespace(next=lambda phases, temperature: temperature)
    monkeypatch.setattr(run_module, "evaluate", lambda *_: {})
    monkeypatch.setattr(run_module, "read_metrics", lambda folder: [])
    monkeypatch.setattr(run_module, "is_joined", lambda config: True)
    assert run.evaluate()["eval/in/prompt_entropy"] > 0
    assert seen == [0.8]
    assert run.rollout() == 1.3


def test_the_learners_policy_gives_what_a_plain_forward_pass_gives():
    # A policy puts its own head into a model.
    model, plain = Model(), Model()
    prompts = [prompt(f"a/{n}", np.random.default_rng(n).integers(2, 640, 3 + 4 * n).tolist()) for n in range(4)]

    def by_policy(batch):
        found = policy_of(model).score(batch, LAYOUT)
        entropies = np.empty(batch.mask.size, np.float32)
        entropies[found.index] = found.entropies
        return entropies, entropies

    row = prompt_entropy(by_policy, {"in": prompts[:2], "out": prompts[2:]}, {}, TEMPERATURE)
    for name, part in (("in", prompts[:2]), ("out", prompts[2:])):
        each = []
        for one in part:
            with torch.no_grad():
                logits = plain.model(torch.from_numpy(one.token_ids.astype(np.int64))[None], use_cache=False).logits[0]
            each.append(torch.distributions.Categorical(logits=logits[:-1] / TEMPERATURE).entropy())
        assert row[f"eval/{name}/prompt_entropy"] == pytest.approx(float(torch.cat(each).mean()), abs=1e-4)
