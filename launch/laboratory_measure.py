"""What a laboratory model measures, sampled the way a run samples it, and the bands it has to meet."""

import reasoning_gym
import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from launch import laboratory_corpus as corpus

MAX_NEW_TOKENS = 48

# What the built model has to measure, inclusive.
BANDS = {
    "accuracy": (0.25, 0.45),
    "entropy": (0.6, 1.2),
    "response_tokens_mean": (18, 30),
    "response_tokens_max": (1, MAX_NEW_TOKENS - 1),
    "careful_greedy_accuracy": (0.85, 1.0),
    "probe_accuracy": (0.2, 0.8),
}


@torch.inference_mode()
def sample(
    model: Qwen3ForCausalLM, prompts: list[list[int]], generator: torch.Generator | None
) -> list[tuple[list[int], list[float]]]:
    """Sample a response to each prompt at temperature 1; without a generator, take the likeliest tokens.

    Prompts must be equally long. Returns, per prompt, the response tokens (with the end token, at most MAX_NEW_TOKENS)
    and the exact entropy in nats of each distribution they were drawn from.
    """
    end = model.config.eos_token_id
    ids, cache = torch.tensor(prompts), None
    tokens, entropies = [], []
    alive = torch.ones(len(prompts), dtype=torch.bool)
    for _ in range(MAX_NEW_TOKENS):
        output = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        logprobs = output.logits[:, -1].log_softmax(-1)
        entropies.append(-(logprobs.exp() * logprobs).sum(-1))
        ids = (
            torch.multinomial(logprobs.exp(), 1, generator=generator)
            if generator
            else logprobs.argmax(-1, keepdim=True)
        )
        tokens.append(ids[:, 0])
        alive &= ids[:, 0] != end
        if not alive.any():
            break
    responses = []
    for row, entropy in zip(torch.stack(tokens, 1).tolist(), torch.stack(entropies, 1).tolist(), strict=True):
        length = row.index(end) + 1 if end in row else len(row)
        responses.append((row[:length], entropy[:length]))
    return responses


def measure(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[dict],
    samples: int,
    seed: int | None,
    opening: str = "",
) -> dict:
    """Sample and score.

    Args:
        prompts: reasoning-gym rows.
        samples: responses per prompt.
        seed: seed of the sampling; None takes the likeliest tokens.
        opening: beginning of the response that is given, not sampled; not counted in lengths and entropy.

    Returns:
        accuracy (share of responses with score 1), entropy (mean over response tokens, nats, the end token included),
        response_tokens_mean, response_tokens_max, prompt_tokens_mean, distinct (different responses to a prompt as a
        share of all), responses (count).
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    tasks = {row["metadata"]["source_dataset"] for row in prompts}
    score = {task: reasoning_gym.get_score_answer_fn(task) for task in tasks}
    texts = [corpus.PROMPT_TEMPLATE.format(prompt=row["question"]) + opening for row in prompts]
    encoded = tokenizer(texts)["input_ids"]
    by_length: dict[int, list[int]] = {}
    for index, ids in enumerate(encoded):
        by_length.setdefault(len(ids), []).extend([index] * samples)
    right, entropies, lengths, different = 0, [], [], set()
    for indices in by_length.values():
        for start in range(0, len(indices), 512):
            chunk = indices[start : start + 512]
            responses = sample(model, [encoded[index] for index in chunk], generator)
            for index, (tokens, entropy) in zip(chunk, responses, strict=True):
                row = prompts[index]
                text = str(tokenizer.decode(tokens, skip_special_tokens=True))
                right += score[row["metadata"]["source_dataset"]](corpus.extract_answer(text), row) == 1
                entropies += entropy
                lengths.append(len(tokens))
                different.add((index, text))
    return {
        "accuracy": right / len(lengths),
        "entropy": sum(entropies) / len(entropies),
        "response_tokens_mean": sum(lengths) / len(lengths),
        "response_tokens_max": max(lengths),
        "prompt_tokens_mean": sum(map(len, encoded)) / len(encoded),
        "distinct": len(different) / len(lengths),
        "responses": len(lengths),
    }


def measure_all(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: int = 512, samples: int = 4
) -> dict:
    """The figures of the provenance: held-out chain_sum, the same behind the careful opener, the out-of-domain task."""
    held_out = corpus.chain_sum_rows(corpus.HELD_OUT_SEED, prompts), corpus.probe_rows(corpus.HELD_OUT_SEED, prompts)
    rows, probe = ([data[index] for index in range(prompts)] for data in held_out)
    figures = measure(model, tokenizer, rows, samples, seed=0)
    opening = next(iter(corpus.CAREFUL_OPENERS))
    figures["careful_accuracy"] = measure(model, tokenizer, rows, samples, 1, opening)["accuracy"]
    figures["careful_greedy_accuracy"] = measure(model, tokenizer, rows, 1, None, opening)["accuracy"]
    outside = measure(model, tokenizer, probe, samples, seed=2)
    figures |= {f"probe_{key}": value for key, value in outside.items()}
    return {key: round(value, 4) for key, value in figures.items()}


def misses(figures: dict) -> list[str]:
    """What is wrong with the measured figures, in sentences."""
    return [
        f"{key} is {figures[key]}, outside {low} to {high}."
        for key, (low, high) in BANDS.items()
        if not low <= figures[key] <= high
    ]
