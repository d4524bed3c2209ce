"""The DeepSpeed ranks make the updates of one plain float64 process in every layout; failures come in words."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from entropy.dynamics import observed_change, predicted_change, sampled_policy_gradient_change
from entropy.states import States
from launch.config import ASSETS, RunConfig, compose
from learner.config import ObjectiveConfig
from learner.finite import WeightsNotFinite
from learner.group import LearnerFailed, LearnerGroup
from learner.planning import minibatches
from learner.types import TokenBatch

TEMPERATURE, HOTTER = 0.6, 1.1
LEARNING_RATE = 3e-4
STEPS = 4
GROUPS, SAMPLES_PER_GROUP = 4, 3


@dataclass(frozen=True)
class Layout:
    """One way to spread the same updates over ranks, passes and rows; no row_tokens: one sample a row."""

    ranks: int
    zero_stage: int
    offload: str = ""
    tokens_per_microbatch: int = 4096
    row_tokens: int = 256
    chunk: int = 4096
    checkpointing: bool = False
    shuffled: bool = False
    model: str = "shipped"


LAYOUTS = {
    "one_rank": Layout(ranks=1, zero_stage=1),
    "zero0": Layout(ranks=2, zero_stage=0, tokens_per_microbatch=60, row_tokens=0, shuffled=True),
    "zero1": Layout(ranks=2, zero_stage=1, chunk=7),
    "zero2": Layout(ranks=2, zero_stage=2, tokens_per_microbatch=60, row_tokens=40, checkpointing=True, shuffled=True),
    "zero3": Layout(ranks=2, zero_stage=3, tokens_per_microbatch=50, row_tokens=50, checkpointing=True, model="wide"),
    "zero2_offload": Layout(ranks=2, zero_stage=2, tokens_per_microbatch=30, row_tokens=0, offload="_offload"),
    "zero3_offload": Layout(
        ranks=2, zero_stage=3, tokens_per_microbatch=60, row_tokens=30, offload="_offload", model="wide"
    ),
}


def settings(layout: Layout, max_grad_norm: float) -> RunConfig:
    # With so large an epsilon AdamW is close to plain gradient descent. At its usual size the first steps are the signs
    # of the gradients, and round-off decides those of the smallest.
    return compose(
        [
            "output.folder=unused",
            "clip=higher",
            "off_policy=updates2",
            f"steps={STEPS}",
            f"learner=zero{layout.zero_stage}{layout.offload}",
            f"learner.ranks={layout.ranks}",
            f"learner.tokens_per_microbatch={layout.tokens_per_microbatch}",
            f"learner.packing={layout.row_tokens > 0}",
            f"learner.row_tokens={layout.row_tokens}",
            f"learner.logprob_chunk_tokens={layout.chunk}",
            f"learner.gradient_checkpointing={layout.checkpointing}",
            f"learner.learning_rate={LEARNING_RATE}",
            "learner.epsilon=0.1",
            "learner.schedule=linear",
            f"learner.max_grad_norm={max_grad_norm}",
            # The probe is to see every trained token.
            "probe.states=1000",
            "probe.responses=100",
        ]
    )


@contextmanager
def started(config: RunConfig, model: Path, dtype: str = "float32") -> Iterator[LearnerGroup]:
    objective = ObjectiveConfig(config.algorithm, config.clip, config.reference, config.correction)
    group = LearnerGroup(
        config.learner,
        objective,
        config.entropy,
        config.probe,
        config.off_policy,
        config.seed,
        config.steps,
        device="cpu",
        threads=1,
    )
    try:
        ray.get(group.begin_start(str(model), dtype, False), timeout=180)
        yield group
    finally:
        group.close()


INJECTED = {
    "advantages": "its advantages are not finite",
    "logprobs": "its log-probabilities are not finite",
    "loss": "its loss is not finite",
    "gradient": "the norm of its gradient is not finite",
}


def spoil(what: str | None) -> Callable[[Any], None]:
    """For a rank: let what an update computes there become NaN; None undoes it."""

    def change(_worker) -> None:
        from learner import update
        from learner.objective import token_losses
        from learner.pass_tokens import PassTokens

        def spoilt(tokens, *arguments):
            losses, tally = token_losses(tokens, *arguments)
            if what == "loss":
                losses = losses * float("nan")
            elif what == "gradient":
                losses = losses + (tokens.logprobs * 0).sqrt()  # worth 0, with an infinite slope
            return losses, tally

        class Spoilt(PassTokens):
            @classmethod
            def of(cls, batch, rows, logprobs, entropies):
                return PassTokens.of(batch, rows, logprobs * float("nan"), entropies)

        update.token_losses = spoilt if what else token_losses
        update.PassTokens = Spoilt if what == "logprobs" else PassTokens

    return change


def snapshot(group: LearnerGroup) -> dict[str, np.ndarray]:
    """Copies of weights and moments."""
    buckets = group.snapshot(1 << 30).wholes()
    return {
        f"{kind} {name}": v.copy() for bucket in buckets for kind, part in bucket.items() for name, v in part.items()
    }


class Reference:
    """The same mathematics in the plainest way: one process, float64, sample by sample, all logits, torch's AdamW."""

    def __init__(self, folder: Path, config: RunConfig):
        self.config = config
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
        learner = config.learner
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=0.0,
            betas=(learner.beta1, learner.beta2),
            eps=learner.epsilon,
            weight_decay=learner.weight_decay,
        )

    def score(self, tokens: np.ndarray, prompt_length: int, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        sequence = torch.from_numpy(tokens.astype(np.int64))
        logits = self.model(input_ids=sequence[None], use_cache=False).logits[0].double() / temperature
        distribution = torch.distributions.Categorical(logits=logits[prompt_length - 1 : -1])
        return distribution.log_prob(sequence[prompt_length:]), distribution.entropy()

    def update(self, batch: TokenBatch, samples: np.ndarray, learning_rate: float) -> float:
        """One AdamW step on the mean over the unmasked tokens of `samples`; the gradient norm before clipping."""
        clip, total, tokens = self.config.clip, torch.zeros((), dtype=torch.float64), 0
        for sample in samples:
            start, response = batch.offsets[sample], batch.response_offsets[sample : sample + 2]
            sequence = batch.tokens[start : start + batch.lengths[sample]]
            logprobs, _ = self.score(sequence, int(batch.prompt_lengths[sample]), batch.temperature)
            response = slice(*response)
            advantages, mask = (torch.from_numpy(values[response]) for values in (batch.advantages, batch.mask))
            old = logprobs.detach() if batch.old_logprobs is None else torch.from_numpy(batch.old_logprobs[response])
            ratio = (logprobs - old.double()).exp()
            surrogate = torch.minimum(ratio * advantages, ratio.clamp(1 - clip.low, 1 + clip.high) * advantages)
            total, tokens = total - surrogate[mask].sum(), tokens + int(mask.sum())
        self.optimizer.zero_grad()
        (total / tokens).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.learner.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        return float(norm)

    def parameters(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in self.model.named_parameters()}


def make_batch(folder: Path) -> TokenBatch:
    """Samples of the model whose ratios spread to both sides of both thresholds, the first group weighing most."""
    rng = np.random.default_rng(0)
    reference = Reference(folder, settings(LAYOUTS["one_rank"], 1.0))
    size = GROUPS * SAMPLES_PER_GROUP
    prompts, responses = rng.integers(1, 6, size), rng.integers(1, 20, size)
    lengths = prompts + responses
    groups = np.repeat(np.arange(GROUPS), SAMPLES_PER_GROUP).astype(np.int32)
    scale = np.array([4.0, 0.5, 1.0, 0.2])[groups] * rng.choice([-1.0, 1.0], size)
    batch = TokenBatch(
        tokens=np.concatenate([sampled(reference, *shape, rng) for shape in zip(prompts, lengths, strict=True)]),
        lengths=lengths.astype(np.int32),
        prompt_lengths=prompts.astype(np.int32),
        groups=groups,
        sample_keys=np.arange(size, dtype=np.uint64),
        temperature=TEMPERATURE,
        behaviour_logprobs=np.zeros(responses.sum(), np.float32),
        mask=rng.random(responses.sum()) < 0.8,
        versions=np.zeros(responses.sum(), np.int32),
        advantages=np.repeat(scale, responses).astype(np.float32),
        old_logprobs=None,
        old_entropies=None,
        reference_logprobs=None,
    )
    logprobs, _ = score_all(reference, batch)
    noise = rng.normal(0.0, 0.3, logprobs.size)
    return replace(batch, old_logprobs=(logprobs + noise).astype(np.float32))


def sampled(reference: Reference, prompt_length: int, length: int, rng: np.random.Generator) -> np.ndarray:
    vocabulary = reference.model.config.vocab_size
    tokens = list(rng.integers(0, vocabulary, prompt_length))
    while len(tokens) < length:
        with torch.no_grad():
            logits = reference.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].double()
        tokens.append(rng.choice(vocabulary, p=(logits / TEMPERATURE).softmax(-1).numpy()))
    return np.array(tokens, np.int32)


def score_all(reference: Reference, batch: TokenBatch) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        pairs = [
            reference.score(batch.tokens[start : start + n], int(prompt), TEMPERATURE)
            for start, n, prompt in zip(batch.offsets[:-1], batch.lengths, batch.prompt_lengths, strict=True)
        ]
    return tuple(torch.cat(parts).numpy() for parts in zip(*pairs, strict=True))


def take(batch: TokenBatch, samples: np.ndarray) -> TokenBatch:
    """The batch of `samples`, in that order."""
    inside = [np.arange(batch.offsets[s], batch.offsets[s + 1]) for s in samples]
    response = np.concatenate([np.arange(batch.response_offsets[s], batch.response_offsets[s + 1]) for s in samples])
    return TokenBatch(
        tokens=batch.tokens[np.concatenate(inside)],
        lengths=batch.lengths[samples],
        prompt_lengths=batch.prompt_lengths[samples],
        groups=batch.groups[samples],
        sample_keys=batch.sample_keys[samples],
        temperature=batch.temperature,
        behaviour_logprobs=batch.behaviour_logprobs[response],
        mask=batch.mask[response],
        versions=batch.versions[response],
        advantages=batch.advantages[response],
        old_logprobs=batch.old_logprobs[response],
        old_entropies=None,
        reference_logprobs=None,
    )


LONELY = np.array([4])  # one sample for two ranks: one of them has nothing to do
UNSCORED = np.array([6, 7, 8])  # a group that is updated once, without old log-probabilities, and was drawn at HOTTER


@dataclass(frozen=True)
class Expected:
    """What the reference says about a model, before and after four updates: two of a batch, `LONELY` and `UNSCORED`."""

    folder: Path
    batch: TokenBatch
    max_grad_norm: float
    logprobs: np.ndarray
    entropies: np.ndarray
    sequences: list[np.ndarray]
    at_temperature_1: list[np.ndarray]
    norms: list[float]
    dynamics: dict[str, float]
    before: dict[str, torch.Tensor]
    after: dict[str, torch.Tensor]


def groups_of_updates(config: RunConfig, batch: TokenBatch) -> list[np.ndarray]:
    """Samples of each update, as the group will deal them; tests/learner/test_planning.py has the rules."""
    return minibatches(batch.groups, config.off_policy.minibatches, 1, (config.seed, 0))


def expect(folder: Path) -> Expected:
    batch = make_batch(folder)
    unclipped = Reference(folder, settings(LAYOUTS["one_rank"], 1e9))
    parts = groups_of_updates(unclipped.config, batch)
    # A bound between the norms of the two updates: one is clipped and the other is not.
    bound = float(np.sqrt(np.prod([unclipped.update(batch, part, learning_rate=0.0) for part in parts])))
    reference = Reference(folder, settings(LAYOUTS["one_rank"], bound))
    before = reference.parameters()
    logprobs, entropies = score_all(reference, batch)
    sequences = [s for s in np.split(batch.tokens, batch.offsets[1:-1]) if s.size > 1][:3]
    with torch.no_grad():
        at_temperature_1 = [reference.score(s, 1, 1.0)[0].numpy() for s in sequences]
    # 4 steps of 2 updates: the linear schedule goes down by an eighth each. A batch of one group is one update.
    rates = [LEARNING_RATE, LEARNING_RATE * 7 / 8]
    norms, seen = [], [distributions(reference, batch)]
    for part, rate in zip(parts, rates, strict=True):
        norms.append(reference.update(batch, part, learning_rate=rate))
        seen.append(distributions(reference, batch))
    norms += [
        reference.update(batch, LONELY, learning_rate=LEARNING_RATE * 6 / 8),
        reference.update(
            replace(batch, old_logprobs=None, temperature=HOTTER), UNSCORED, learning_rate=LEARNING_RATE * 4 / 8
        ),
    ]
    assert min(norms[:2]) < 0.9 * bound
    assert max(norms[:2]) > 1.1 * bound
    return Expected(
        folder,
        batch,
        bound,
        logprobs,
        entropies,
        sequences,
        at_temperature_1,
        norms,
        changes(batch, seen, rates),
        before,
        reference.parameters(),
    )


def distributions(reference: Reference, batch: TokenBatch) -> torch.Tensor:
    """Tempered logits [trained tokens, vocabulary] that each was drawn from."""
    found = []
    for start, length, prompt in zip(batch.offsets[:-1], batch.lengths, batch.prompt_lengths, strict=True):
        sequence = torch.from_numpy(batch.tokens[start : start + length].astype(np.int64))
        with torch.no_grad():
            logits = reference.model(input_ids=sequence[None], use_cache=False).logits[0].double() / TEMPERATURE
        found.append(logits[prompt - 1 : -1])
    return torch.cat(found)[torch.from_numpy(batch.mask)]


def changes(batch: TokenBatch, seen: list[torch.Tensor], rates: list[float]) -> dict[str, float]:
    """What the probe should find of the updates between what was `seen`."""
    places = zip(batch.offsets[:-1], batch.prompt_lengths, batch.lengths, strict=True)
    drawn = np.concatenate([batch.tokens[start + prompt : start + length] for start, prompt, length in places])
    chosen = torch.from_numpy(drawn.astype(np.int64)[batch.mask])
    advantages = torch.from_numpy(batch.advantages[batch.mask]).double()
    looks = [States.of(logits) for logits in seen]
    pairs = list(pairwise(looks))
    observed = torch.cat([observed_change(*pair) for pair in pairs])
    predicted = torch.cat([predicted_change(*pair) for pair in pairs])
    theorem = [sampled_policy_gradient_change(z, chosen, advantages, r) for z, r in zip(looks, rates, strict=False)]
    assert observed.abs().max() > 1e-4
    return {
        "entropy_change_observed": float(observed.mean()),
        "entropy_change_lemma1": float(predicted.mean()),
        "entropy_change_theorem1": float(torch.cat(theorem).mean()),
        "lemma1_agreement": float(torch.corrcoef(torch.stack([observed, predicted]))[0, 1]),
        "theorem1_agreement": float(torch.corrcoef(torch.stack([observed, torch.cat(theorem)]))[0, 1]),
        "probe_states": float(chosen.numel()),
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[str, Expected]:
    """By name of model. In "wide", the larger matrices exceed 100,000 elements, below which ZeRO-3 shards nothing."""
    torch.manual_seed(0)
    wide = tmp_path_factory.mktemp("wide")
    Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=1024,
            hidden_size=128,
            intermediate_size=800,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            tie_word_embeddings=True,
            initializer_range=0.05,
            bos_token_id=None,
            eos_token_id=0,
        )
    ).save_pretrained(wide)
    return {"shipped": expect(ASSETS / "laboratory" / "96"), "wide": expect(wide)}


# Ranks, stages, passes, packing, order and chunks are all among these.
QUICK = ("zero1", "zero3")


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param(layout, id=name, marks=[] if name in QUICK else pytest.mark.slow)
        for name, layout in LAYOUTS.items()
    ],
)
def test_every_layout_is_the_plain_process(layout, expected, ray_session, tmp_path):
    def offloads(worker) -> tuple[bool, bool]:
        engine = worker.model.engine
        return bool(engine.zero_cpu_offload()), bool(engine.zero_offload_param())

    def break_a_weight(worker) -> None:
        """As a bit that flips in memory would."""
        shard = next(shard for shard in worker.model.state._shards.values() if shard.size)
        shard.of(shard.flat)[0] = float("nan")

    truth = expected[layout.model]
    size = truth.batch.lengths.size
    order = np.random.default_rng(1).permutation(size) if layout.shuffled else np.arange(size)
    batch = take(truth.batch, order)
    index = truth.batch.response_index(order)
    config = settings(layout, truth.max_grad_norm)
    with started(config, truth.folder) as group:
        wanted = config.learner.offload_optimizer, config.learner.offload_parameters
        assert ray.get(group.actors[0].__ray_call__.remote(offloads), timeout=60) == wanted
        logprobs, entropies = group.score(batch)
        np.testing.assert_allclose(logprobs, truth.logprobs[index], atol=3e-5)
        np.testing.assert_allclose(entropies, truth.entropies[index], atol=3e-5)
        for got, wanted in zip(group.score_sequences(truth.sequences), truth.at_temperature_1, strict=True):
            np.testing.assert_allclose(got, wanted, atol=3e-5)

        plan = group.plan_updates(batch, step=0)[0]
        assert any(row.size > 1 for share in plan.passes for one in share for row in one) == (layout.row_tokens > 0)
        metrics = group.update(batch, step=0).metrics
        assert metrics["policy/grad_norm"] == pytest.approx(np.mean(truth.norms[:2]), rel=1e-4)
        assert metrics["policy/learning_rate"] == pytest.approx(LEARNING_RATE * 15 / 16)
        for name, value in truth.dynamics.items():
            assert metrics[f"dynamics/{name}"] == pytest.approx(value, rel=2e-3, abs=1e-7), name

        assert 0.5 < metrics["learner/padding_efficiency"] <= 1
        assert metrics["memory/learner_peak_bytes"] > 1e8

        lonely = group.update(take(truth.batch, LONELY), step=1)
        assert lonely.metrics["policy/grad_norm"] == pytest.approx(truth.norms[2], rel=1e-4)
        assert lonely.logprobs is None

        unscored = replace(take(truth.batch, UNSCORED), old_logprobs=None, temperature=HOTTER)
        logprobs, entropies = group.score(unscored)
        updated = group.update(unscored, step=2)
        assert updated.metrics["policy/ratio_min"] == updated.metrics["policy/ratio_max"] == 1.0
        assert updated.metrics["policy/grad_norm"] == pytest.approx(truth.norms[3], rel=1e-4)
        np.testing.assert_array_equal(updated.logprobs, logprobs)
        np.testing.assert_array_equal(updated.entropies, entropies)

        before = snapshot(group)
        for inject, cause in INJECTED.items():
            # On the last rank only, but for the batch, which all of them have.
            ray.get(group.actors[-1].__ray_call__.remote(spoil(inject)), timeout=60)
            wrong = np.full_like(batch.advantages, np.nan) if inject == "advantages" else batch.advantages
            skipped = group.update(replace(batch, advantages=wrong), step=3)
            ray.get(group.actors[-1].__ray_call__.remote(spoil(None)), timeout=60)
            assert skipped.skipped == [(0, cause), (1, cause)]
            assert skipped.applied == 0
            assert skipped.metrics["policy/skipped_updates"] == 2
            assert "policy/loss" not in skipped.metrics
            after = snapshot(group)
            assert after.keys() == before.keys()
            assert all(np.array_equal(after[name], before[name]) for name in before), inject
        group.save(str(tmp_path / "model"))
        # The gradients of what was skipped are gone: the next update is finite, and moves the weights.
        assert group.update(batch, step=3).skipped == []
        assert group.score_sequences(truth.sequences)[0][0] != truth.at_temperature_1[0][0]
        ray.get(group.actors[-1].__ray_call__.remote(break_a_weight), timeout=60)
        with pytest.raises(WeightsNotFinite, match=r"weights or moments of \S+ are not finite after .* step 4"):
            group.update(batch, step=3)

    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert saved.keys() == truth.after.keys()
    for name, value in truth.after.items():
        moved = float((value - truth.before[name]).abs().max())
        error = float((saved[name] - value).abs().max())
        assert moved > 1e-5
        # Float32 rounds each of the three additions by up to half a unit in the last place, 6e-8 of the value.
        assert error < 3 * 6e-8 * float(value.abs().max()) + 2e-4 * moved, name
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, saved[name]), name


@pytest.fixture(scope="module")
def bfloat16_group(expected, ray_session) -> Iterator[LearnerGroup]:
    config = settings(Layout(ranks=2, zero_stage=3), 1.0)
    with started(config, expected["shipped"].folder, "bfloat16") as group:
        yield group


def test_rotary_frequencies_keep_their_digits_in_bfloat16(bfloat16_group, expected):
    def frequencies(worker) -> np.ndarray:
        return worker.model.model.model.rotary_emb.inv_freq.double().numpy()

    model = AutoModelForCausalLM.from_pretrained(expected["shipped"].folder, dtype=torch.float32)
    wanted = model.model.rotary_emb.inv_freq.double().numpy()
    for got in ray.get([actor.__ray_call__.remote(frequencies) for actor in bfloat16_group.actors], timeout=60):
        np.testing.assert_array_equal(got, wanted)


def test_a_hung_rank_and_a_dead_one_fail_in_words(bfloat16_group, expected):
    group, batch = bfloat16_group, expected["shipped"].batch
    pids = ray.get([actor.__ray_call__.remote(lambda _: os.getpid()) for actor in group.actors], timeout=60)
    group._config = replace(group._config, deadline_s=1.5)
    os.kill(pids[1], signal.SIGSTOP)
    try:
        # The deadline is one update's, and two updates' samples are scored.
        with pytest.raises(LearnerFailed, match=r"rank (0, )?1 did not finish score in 3 s.*learner.deadline_s"):
            group.score(batch)
    finally:
        os.kill(pids[1], signal.SIGKILL)
    start = time.monotonic()
    group._config = replace(group._config, deadline_s=60.0)
    with pytest.raises(LearnerFailed, match="learner rank 1 died in update"):
        group.update(batch, step=0)
    assert time.monotonic() - start < 30


@ray.remote(num_cpus=0)
def succeed() -> int:
    return 0


@ray.remote(num_cpus=0)
def fail(words: str) -> None:
    raise ArithmeticError(words)


@ray.remote(num_cpus=0)
def hang() -> None:
    time.sleep(60)


def test_the_stuck_rank_is_blamed_rather_than_the_one_that_complains(bfloat16_group, monkeypatch):
    monkeypatch.setattr("learner.group.GRACE_S", 1.0)
    stuck = hang.remote()
    words = "rank 1 made no progress in update and another failed: .*connection closed"
    with pytest.raises(LearnerFailed, match=f"(?s){words}"):
        bfloat16_group._get("update", [fail.remote("connection closed"), stuck, succeed.remote()])
    ray.cancel(stuck, force=True)


def test_an_error_of_every_rank_is_passed_on(bfloat16_group):
    with pytest.raises(ArithmeticError, match="not finite"):
        bfloat16_group._get("update", [fail.remote("not finite"), fail.remote("not finite")])
