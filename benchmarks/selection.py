"""What choosing tokens costs: `python -m benchmarks.selection [--save]`.

Plans updates of 0.25 to 2 million tokens on one core as Clip-Cov and KL-Cov do (scores, global quota, random keys, the
choice), and prints medians in ms of one core's time and the peak of the memory allocated meanwhile, in bytes per token.
The machine stands beside the figures; `--save` also writes them to benchmarks/results/selection.json, with medians of
wall time, which are longer where the machine has other work.
"""

import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.step import machine
from entropy.covariance import covariance_tail, token_covariance
from entropy.keyed import sample_key
from entropy.selection import Quota, draw, largest
from entropy.tokens import UpdateTokens

TOKENS = (250_000, 500_000, 1_000_000, 2_000_000)
RATE, LOW, HIGH = 0.002, 1.0, 5.0
RESPONSE_TOKENS = 1000
REPEATS = 11
RESULTS = Path(__file__).parent / "results" / "selection.json"


def update(tokens: int) -> UpdateTokens:
    """Responses of `RESPONSE_TOKENS` tokens, eight to a prompt, with log-probs of the spread of a language model's."""
    rng = np.random.default_rng(0)
    samples = tokens // RESPONSE_TOKENS
    logprobs = -rng.exponential(0.65, tokens)
    return UpdateTokens(
        sample_keys=np.array([sample_key(str(i // 8), i % 8) for i in range(samples)], np.uint64),
        lengths=np.full(samples, RESPONSE_TOKENS),
        positions=np.tile(np.arange(RESPONSE_TOKENS), samples),
        logprobs=logprobs,
        old_logprobs=logprobs,
        entropies=-logprobs,
        discriminators=None,
        advantages=np.repeat(rng.normal(size=samples), RESPONSE_TOKENS),
        clipped=rng.random(tokens) < 0.01,
        update=0,
    )


def clip_cov(tokens: UpdateTokens) -> np.ndarray:
    """A random share of the tokens in the band."""
    scores = token_covariance(tokens)
    candidates = (scores > LOW) & (scores < HIGH) & ~tokens.clipped
    return draw(candidates, Quota(RATE).take(tokens.size), tokens.keys(0, 1))


def kl_cov(tokens: UpdateTokens) -> np.ndarray:
    """The share of the tokens with the largest covariance."""
    everyone = np.ones(tokens.size, bool)
    return largest(token_covariance(tokens), everyone, Quota(RATE).take(tokens.size), tokens.keys(0, 2))


def random_tokens(tokens: UpdateTokens) -> np.ndarray:
    """As many tokens, drawn from all."""
    return draw(np.ones(tokens.size, bool), Quota(RATE).take(tokens.size), tokens.keys(0, 3))


def table_1(tokens: UpdateTokens) -> object:
    """What is logged about the tail of the covariance."""
    return covariance_tail(token_covariance(tokens), LOW, HIGH)


PLANS: dict[str, Callable[[UpdateTokens], object]] = {
    "clip_cov": clip_cov,
    "kl_cov": kl_cov,
    "random": random_tokens,
    "covariance_tail": table_1,
}


def medians_ms(plan: Callable[[UpdateTokens], object], tokens: UpdateTokens) -> dict[str, float]:
    """Of the process's time on its core, and of the clock on the wall."""
    core, wall = [], []
    for _ in range(REPEATS):
        began = time.process_time(), time.perf_counter()
        plan(tokens)
        core.append(time.process_time() - began[0])
        wall.append(time.perf_counter() - began[1])
    return {"core_ms": 1000 * statistics.median(core), "wall_ms": 1000 * statistics.median(wall)}


def peak_bytes_per_token(plan: Callable[[UpdateTokens], object], tokens: UpdateTokens) -> float:
    tracemalloc.start()
    plan(tokens)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / tokens.size


def main(arguments: list[str]) -> None:
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in PLANS}
    for size in TOKENS:
        tokens = update(size)
        for name, plan in PLANS.items():
            cost = medians_ms(plan, tokens) | {"bytes_per_token": peak_bytes_per_token(plan, tokens)}
            found[name][str(size)] = {key: round(value, 2) for key, value in cost.items()}
    for key, value in machine().items():
        print(f"{key:<16}{value}")
    print(f"\n{'tokens':<16}" + "".join(f"{size:>16,}" for size in TOKENS))
    for name, costs in found.items():
        print(
            f"{name:<16}"
            + "".join(f"{each['core_ms']:>8.1f} ms {each['bytes_per_token']:>3.0f} B" for each in costs.values())
        )
    if "--save" in arguments:
        content = {"machine": machine(), "rate": RATE, "repeats": REPEATS, "figures": found}
        RESULTS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
