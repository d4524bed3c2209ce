"""Packed rows give the log-probabilities, entropies and gradients of samples that are run one by one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from launch.config import ASSETS
from learner.planning import PassLimits, plan_passes
from learner.policy import Policy
from learner.rows import PackedRows
from learner.types import TokenBatch

TEMPERATURE = 0.7
# Weights are float64, but transformers rounds norms and rotary angles to float32.
ROUNDING = 2e-5
FOLDER = ASSETS / "laboratory" / "96"
PROMPTS, LENGTHS = np.array([3, 1, 5, 2, 4, 1]), np.array([9, 2, 5, 14, 11, 6])
LAYOUTS = {
    "one row": (np.array([2, 0, 5, 1, 3, 4]),),
    "rows of unequal length": (np.array([3, 1]), np.array([4]), np.array([0, 5, 2])),
    "one sample a row": tuple(np.array([i]) for i in range(6)),
    "one sample a row, alike in length": (np.array([3]),),
}


class Model:
    """What the policy needs of learner.deepspeed_adapter.DeepSpeedModel, in float64; `switches` go to the model."""

    def __init__(self, **switches):
        self.model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float64, attn_implementation="sdpa")
        self.device = torch.device("cpu")
        self.switches = {"use_cache": False, "attention_mask": None} | switches

    def forward(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        switches = self.switches
        if switches["attention_mask"] == "ones":
            switches = switches | {"attention_mask": torch.ones_like(tokens)}
        return self.model(input_ids=tokens, position_ids=positions, **switches).logits


def policy_of(model: Model, row_tokens: int = 30) -> Policy:
    return Policy(model, chunk_tokens=7, limits=PassLimits(60, row_tokens))


def batch_of(tokens: np.ndarray) -> TokenBatch:
    responses = int((LENGTHS - PROMPTS).sum())
    return TokenBatch(
        tokens=tokens,
        lengths=LENGTHS,
        prompt_lengths=PROMPTS,
        groups=np.zeros(6, np.int32),
        sample_keys=np.arange(6, dtype=np.uint64),
        temperature=TEMPERATURE,
        behaviour_logprobs=np.zeros(responses, np.float32),
        mask=np.ones(responses, bool),
        versions=np.zeros(responses, np.int32),
        advantages=None,
        old_logprobs=None,
        old_entropies=None,
        reference_logprobs=None,
    )


BATCH = batch_of(np.random.default_rng(0).integers(2, 640, LENGTHS.sum()).astype(np.int32))
WEIGHTS = torch.from_numpy(np.random.default_rng(1).normal(size=(2, BATCH.mask.size)))


def run(model: Model, rows) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Log-probs and entropies in the batch's order, and the gradients of a weighted sum of both."""
    logprobs, entropies = policy_of(model).forward(BATCH, rows)
    index = BATCH.response_index(np.concatenate(rows))
    model.model.zero_grad()
    (WEIGHTS[:, index] * torch.stack([logprobs, entropies])).sum().backward()
    found = np.full((2, BATCH.mask.size), np.nan)
    found[:, index] = torch.stack([logprobs, entropies]).detach().numpy()
    return *found, {name: p.grad.numpy().copy() for name, p in model.model.named_parameters()}


@pytest.fixture(scope="module")
def one_by_one() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """In the plainest way: a sample at a time, all logits, nothing but `input_ids`."""
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float64, attn_implementation="eager")
    logprobs, entropies = [], []
    for sample in range(6):
        tokens = torch.from_numpy(BATCH.tokens[BATCH.offsets[sample] : BATCH.offsets[sample + 1]].astype(np.int64))
        logits = model(input_ids=tokens[None]).logits[0, PROMPTS[sample] - 1 : -1] / TEMPERATURE
        distribution = torch.distributions.Categorical(logits=logits, validate_args=False)  # one has no response
        logprobs.append(distribution.log_prob(tokens[PROMPTS[sample] :]))
        entropies.append(distribution.entropy())
    (WEIGHTS * torch.stack([torch.cat(logprobs), torch.cat(entropies)])).sum().backward()
    gradients = {name: p.grad.numpy().copy() for name, p in model.named_parameters()}
    return torch.cat(logprobs).detach().numpy(), torch.cat(entropies).detach().numpy(), gradients


@pytest.mark.parametrize("rows", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_of_rows_is_one_by_one(rows, one_by_one):
    here = BATCH.response_index(np.concatenate(rows))
    *scores, gradients = run(Model(), rows)
    for found, wanted in zip(scores, one_by_one[:2], strict=True):
        np.testing.assert_allclose(found[here], wanted[here], atol=ROUNDING)
        assert np.isnan(np.delete(found, here)).all()
    if here.size == BATCH.mask.size:
        for name, wanted in one_by_one[2].items():
            np.testing.assert_allclose(gradients[name], wanted, rtol=0, atol=ROUNDING * np.abs(wanted).max())


@pytest.mark.parametrize("switch", [{"use_cache": True}, {"attention_mask": "ones"}], ids=["cache", "mask"])
def test_with_a_cache_or_a_mask_the_samples_of_a_row_see_each_other(switch, one_by_one):
    # Why the adapter passes neither, and that the test above would notice.
    logprobs, *_ = run(Model(**switch), LAYOUTS["one row"])
    assert np.abs(logprobs - one_by_one[0]).max() > 0.1


def test_a_sample_does_not_depend_on_its_neighbours_in_the_row():
    model, rows, middle = Model(), LAYOUTS["one row"], 5
    own = BATCH.response_index(np.array([middle]))
    other = np.random.default_rng(2).integers(2, 640, BATCH.tokens.size).astype(np.int32)
    inside = slice(BATCH.offsets[middle], BATCH.offsets[middle + 1])
    other[inside] = BATCH.tokens[inside]
    found = []
    for tokens in (BATCH.tokens, other):
        batch = replace(BATCH, tokens=tokens)
        scores = policy_of(model).score(batch, (rows,))
        found.append(scores.logprobs[np.argsort(scores.index)])
    assert np.array_equal(found[0][own], found[1][own])
    assert not np.allclose(found[0], found[1])


@pytest.mark.parametrize("row_tokens", [0, 30])
def test_sequences_are_scored_at_temperature_1_in_their_order(row_tokens):
    model = Model()
    sequences = [BATCH.tokens[BATCH.offsets[i] : BATCH.offsets[i + 1]] for i in range(6)]
    plain = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float64)
    found = policy_of(model, row_tokens).score_sequences(sequences)
    for sequence, got in zip(sequences, found, strict=True):
        tokens = torch.from_numpy(sequence.astype(np.int64))
        logprobs = plain(input_ids=tokens[None]).logits[0].log_softmax(-1).detach()
        np.testing.assert_allclose(got, logprobs[:-1].gather(-1, tokens[1:, None])[:, 0].numpy(), atol=ROUNDING)


@pytest.mark.parametrize("rows", LAYOUTS.values(), ids=LAYOUTS)
def test_distributions_of_some_tokens_are_those_of_the_samples_alone(rows):
    states = np.array([0, 3, 4, 17, 18, BATCH.mask.size - 1])
    index, logits = policy_of(Model()).distributions(BATCH, rows, states)
    inside = BATCH.response_index(np.concatenate(rows))
    assert index.tolist() == [i for i in inside if i in states]
    assert logits.dtype == torch.float64
    assert not logits.requires_grad
    plain = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float64)
    for place, row in zip(index, logits, strict=True):
        sample = int(np.searchsorted(BATCH.response_offsets, place, side="right")) - 1
        end = BATCH.offsets[sample] + PROMPTS[sample] + place - BATCH.response_offsets[sample]
        prefix = torch.from_numpy(BATCH.tokens[BATCH.offsets[sample] : end].astype(np.int64))
        with torch.no_grad():
            wanted = plain(input_ids=prefix[None]).logits[0, -1] / TEMPERATURE
        torch.testing.assert_close(row, wanted, rtol=0, atol=20 * ROUNDING)


def test_a_pass_without_samples_has_no_distributions():
    index, logits = policy_of(Model()).distributions(BATCH, (), np.arange(5))
    assert (index.size, tuple(logits.shape)) == (0, (0, 640))


def test_scores_of_all_passes(one_by_one):
    passes = plan_passes(LENGTHS, np.arange(6), 1, PassLimits(24, 12))[0]
    assert len(passes) > 2
    scores = policy_of(Model()).score(BATCH, (*passes, ()))
    order = np.argsort(scores.index)
    np.testing.assert_array_equal(scores.index[order], np.arange(BATCH.mask.size))
    np.testing.assert_allclose(scores.logprobs[order], one_by_one[0], atol=ROUNDING)
    np.testing.assert_allclose(scores.entropies[order], one_by_one[1], atol=ROUNDING)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.8])
def test_each_batch_is_seen_at_its_own_temperature(temperature):
    """Scores, gradients and distributions by one policy, after a batch at another temperature."""
    model, rows = Model(), LAYOUTS["rows of unequal length"]
    policy, own = policy_of(model), replace(BATCH, temperature=temperature)
    policy.score(BATCH, (rows,))
    plain = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float64, attn_implementation="eager")
    logits = []
    for sample in range(6):
        tokens = torch.from_numpy(BATCH.tokens[BATCH.offsets[sample] : BATCH.offsets[sample + 1]].astype(np.int64))
        logits.append(plain(input_ids=tokens[None]).logits[0, PROMPTS[sample] - 1 : -1] / temperature)
    tempered = torch.cat(logits)
    ends = [slice(BATCH.offsets[i] + PROMPTS[i], BATCH.offsets[i + 1]) for i in range(6)]
    drawn = torch.from_numpy(np.concatenate([BATCH.tokens[end] for end in ends]).astype(np.int64))
    wanted = tempered.log_softmax(-1).gather(-1, drawn[:, None])[:, 0]
    order = np.argsort(BATCH.response_index(np.concatenate(rows)))

    scores = policy.score(own, (rows,), exact=True)
    np.testing.assert_allclose(scores.logprobs[order], wanted.detach().numpy(), atol=ROUNDING)
    probabilities = tempered.softmax(-1)
    entropy = -(probabilities * tempered.log_softmax(-1)).sum(-1)
    np.testing.assert_allclose(scores.entropies[order], entropy.detach().numpy(), atol=ROUNDING)

    _, shown = policy.distributions(own, rows, np.arange(BATCH.mask.size))
    torch.testing.assert_close(shown[order], tempered.detach(), rtol=0, atol=50 * ROUNDING)

    wanted.sum().backward()
    policy.forward(own, rows)[0].sum().backward()
    truth = dict(plain.named_parameters())
    for name, parameter in model.model.named_parameters():
        scale = float(truth[name].grad.abs().max())
        torch.testing.assert_close(parameter.grad, truth[name].grad, rtol=0, atol=ROUNDING * scale)


def test_a_kernel_that_takes_a_single_row_gets_one(one_by_one):
    model = Model()
    model.model.config._attn_implementation = "flash_attention_2"
    policy = policy_of(model)
    model.model.config._attn_implementation = "sdpa"
    shapes = []
    forward = model.forward
    model.forward = lambda *inputs: shapes.append([tuple(x.shape) for x in inputs]) or forward(*inputs)
    rows = LAYOUTS["rows of unequal length"]
    logprobs, _ = policy.forward(BATCH, rows)
    policy.forward(BATCH, ())
    assert shapes == [[(1, 47)] * 2, [(1, 1)] * 2]
    index = BATCH.response_index(np.concatenate(rows))
    np.testing.assert_allclose(logprobs.detach().numpy(), one_by_one[0][index], atol=ROUNDING)


def test_rows_by_hand():
    rows = [[np.array([5, 6, 7]), np.array([8, 9])], [np.array([4, 3])]]
    packed = PackedRows.of(rows, np.array([1, 1, 2]))
    assert packed.tokens.tolist() == [[5, 6, 7, 8, 9], [4, 3, 0, 0, 0]]
    assert packed.positions.tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]]
    assert packed.scored.tolist() == [0, 1, 3]  # the last sample is a prompt and nothing else
    assert packed.targets.tolist() == [6, 7, 9]


def test_no_rows_are_one_token_and_nothing_to_score():
    packed = PackedRows.of([], np.zeros(0, np.int32))
    assert packed.tokens.shape == packed.positions.shape == (1, 1)
    assert packed.scored.size == packed.targets.size == 0
