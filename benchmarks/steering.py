"""What looking costs an update: `python -m benchmarks.steering [--save]`.

Two learner ranks make the 4 updates of a default laboratory step (256 responses of usual lengths, random tokens) in
turns: plain, with Clip-Cov of scope `update`, whose every update but the first begins with a forward pass over its
tokens, and with the probe. A turn makes the three one after another, so that a busy machine slows all; printed are
medians over the turns of the extra time as a share of the plain updates of the same turn. `--save` also writes them to
benchmarks/results/steering.json.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import ray

from benchmarks.step import machine
from launch.cluster import ray_session
from launch.config import ASSETS, compose
from learner.config import ObjectiveConfig
from learner.group import LearnerGroup
from learner.types import TokenBatch

MODEL = ASSETS / "laboratory" / "96"
RESULTS = Path(__file__).parent / "results" / "steering.json"
WARM_UP, TURNS = 2, 31
RESPONSES, PROMPT, RESPONSE = 256, 16, 24
COMMON = ["output.folder=unused", "learner.ranks=2", "off_policy=updates4", "clip=open", "learner.learning_rate=1e-7"]
ARMS = {
    "plain": ["probe.states=0"],
    "clip_cov, scope update": ["probe.states=0", "entropy=clip_cov", "entropy.clip_cov.scope=update"],
    "probe": [],
}


def batch() -> TokenBatch:
    """Random tokens, old log-probabilities and advantages; the time does not depend on them."""
    rng = np.random.default_rng(0)
    size = RESPONSES * RESPONSE
    return TokenBatch(
        tokens=rng.integers(0, 640, RESPONSES * (PROMPT + RESPONSE)).astype(np.int32),
        lengths=np.full(RESPONSES, PROMPT + RESPONSE, np.int32),
        prompt_lengths=np.full(RESPONSES, PROMPT, np.int32),
        groups=np.repeat(np.arange(RESPONSES // 8), 8).astype(np.int32),
        sample_keys=np.arange(RESPONSES, dtype=np.uint64),
        temperature=1.0,
        behaviour_logprobs=np.full(size, -6.0, np.float32),
        mask=np.ones(size, bool),
        versions=np.zeros(size, np.int32),
        advantages=np.repeat(rng.normal(size=RESPONSES), RESPONSE).astype(np.float32),
        old_logprobs=np.full(size, -6.0, np.float32),
        old_entropies=np.full(size, 6.0, np.float32),
        reference_logprobs=None,
    )


def started(overrides: list[str]) -> LearnerGroup:
    config = compose([*COMMON, *overrides])
    objective = ObjectiveConfig(config.algorithm, config.clip, config.reference, config.correction)
    group = LearnerGroup(
        config.learner,
        objective,
        config.entropy,
        config.probe,
        config.off_policy,
        seed=0,
        total_steps=WARM_UP + TURNS,
        device="cpu",
        threads=1,
    )
    ray.get(group.begin_start(str(MODEL), "float32", False), timeout=config.learner.start_timeout_s)
    return group


def main(arguments: list[str]) -> None:
    given, seconds = batch(), {name: list[float]() for name in ARMS}
    with ray_session(compose(COMMON)):
        groups = {name: started(overrides) for name, overrides in ARMS.items()}
        for turn in range(WARM_UP + TURNS):
            for name, group in groups.items():
                began = time.perf_counter()
                group.update(given, turn)
                if turn >= WARM_UP:
                    seconds[name].append(time.perf_counter() - began)
        for group in groups.values():
            group.close()
    plain = seconds["plain"]
    figures = {"plain": {"seconds": round(statistics.median(plain), 4)}}
    for name in [name for name in ARMS if name != "plain"]:
        extra = sorted(with_it / without - 1 for with_it, without in zip(seconds[name], plain, strict=True))
        low, _, high = statistics.quantiles(extra, n=4)
        figures[name] = {
            "extra_share_of_update": round(statistics.median(extra), 3),
            "first_quartile": round(low, 3),
            "third_quartile": round(high, 3),
        }
    for key, value in machine().items():
        print(f"{key:<24}{value}")
    for name, found in figures.items():
        print(f"{name:<24}" + ", ".join(f"{key} {value:g}" for key, value in found.items()))
    if "--save" in arguments:
        content = {"machine": machine(), "turns": TURNS, "figures": figures}
        RESULTS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
