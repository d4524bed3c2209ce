"""What an update costs here and in TRL's GRPOTrainer: `python -m benchmarks.learner [--save] [WORKLOAD ...]`.

Both train the same weights on the same tokens, rewards and objective (DAPO's token mean), one update a step over the
whole batch, AdamW, float32, each in a process of its own with one thread, generation left out. Steps alternate, so that
a busy machine slows both. Prints medians of response tokens trained per second, and the ratio of neighbouring steps in
wall time and in CPU time (which other programs disturb less); `--save` also writes them to
benchmarks/results/learner.json.

    laboratory   the shipped model (hidden 96, 640 tokens) and 256 of its own responses, those of a default step
    hidden_512   a random Qwen3 of hidden 512, 4 layers, 32,768 tokens, and 16 responses of 32 to 512, few of them long

TRL needs the environment that `make parity` sets up; without it only our side is measured.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.step import machine

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "learner.json"
TRL_PYTHON = ROOT / ".venv-parity" / "bin" / "python"
LABORATORY = ROOT / "launch" / "assets" / "laboratory" / "96"
LEARNING_RATE = 1e-6
END_S = 10.0  # of a process that was killed
SETTINGS = [
    "output.folder=unused",
    "algorithm.std_epsilon=1e-4",
    "learner.ranks=1",
    # Its passes are not part of an update.
    "probe.states=0",
    f"learner.learning_rate={LEARNING_RATE}",
    "learner.max_grad_norm=1.0",
    # TRL's of the same name in torch.
    "learner.epsilon=1e-8",
    "learner.beta2=0.999",
]


@dataclass(frozen=True)
class Plan:
    """How often a workload is measured."""

    warm_up: int
    repeats: int


PLANS = {"laboratory": Plan(warm_up=2, repeats=15), "hidden_512": Plan(warm_up=1, repeats=5)}


def laboratory(folder: Path) -> dict[str, Any]:
    """Prompts of the default job and what the shipped model answers."""
    import torch
    from transformers import AutoModelForCausalLM

    from launch.config import compose
    from launch.prepare import prepare

    config = compose(["output.folder=unused"])
    prompts = [np.asarray(prompt.token_ids).tolist() for prompt in prepare(config).train.next()]
    model = AutoModelForCausalLM.from_pretrained(LABORATORY, dtype=torch.float32)
    end, pad = model.config.eos_token_id, model.config.pad_token_id
    per_prompt = config.rollout.samples_per_prompt
    torch.manual_seed(0)
    rng, rollouts = np.random.default_rng(0), []
    for group, prompt in enumerate(prompts):
        batch = torch.tensor([prompt] * per_prompt)
        drawn = model.generate(
            batch,
            attention_mask=torch.ones_like(batch),
            do_sample=True,
            top_k=0,
            max_new_tokens=config.rollout.max_new_tokens,
            eos_token_id=end,
            pad_token_id=pad,
        )[:, len(prompt) :]
        for row in drawn.tolist():
            completion = row[: row.index(end) + 1] if end in row else row
            rollouts.append({"group": group, "prompt": prompt, "completion": completion, "reward": rng.random()})
    return {"model": str(LABORATORY), "samples_per_prompt": per_prompt, "rollouts": rollouts}


def hidden_512(folder: Path) -> dict[str, Any]:
    """A random model and random tokens; lengths are even quantiles of a log-normal distribution around 110."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=32_768,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    Qwen3ForCausalLM(config).float().save_pretrained(folder / "model")
    rng, rollouts = np.random.default_rng(0), []
    normal = statistics.NormalDist(np.log(110), 0.75)
    lengths = iter(rng.permutation([np.clip(np.exp(normal.inv_cdf((i + 0.5) / 16)), 32, 512) for i in range(16)]))
    for group in range(4):
        prompt = rng.integers(2, config.vocab_size, rng.integers(16, 48)).tolist()
        for _ in range(4):
            completion = [*rng.integers(2, config.vocab_size, int(next(lengths)) - 1).tolist(), 0]
            rollouts.append({"group": group, "prompt": prompt, "completion": completion, "reward": rng.random()})
    return {"model": str(folder / "model"), "samples_per_prompt": 4, "rollouts": rollouts}


WORKLOADS = {"laboratory": laboratory, "hidden_512": hidden_512}


class Side:
    """A process that makes one update for each line it is sent."""

    def __init__(self, python: str, module: str, folder: Path, name: str):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu"}
        self._log = (folder / f"{name}.log").open("w+")
        self._process = subprocess.Popen(
            [python, "-m", module, str(folder)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def step(self) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            self._log.seek(0)
            raise RuntimeError(f"{self._process.args} ended: {self._log.read()[-3000:]}")
        return json.loads(answer)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(END_S)
        self._log.close()


def measure(sides: dict[str, Side], plan: Plan) -> dict[str, list[dict[str, float]]]:
    """Answers of every step after the warm-up; the sides take turns."""
    steps: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for _ in range(plan.warm_up + plan.repeats):
        for name, side in sides.items():
            steps[name].append(side.step())
    first = [answers[0] for answers in steps.values()]
    for name in ("loss", "entropy"):
        if max(one[name] for one in first) - min(one[name] for one in first) > 1e-4:
            raise RuntimeError(f"the two sides do not compute the same {name}: {first}")
    return {name: answers[plan.warm_up :] for name, answers in steps.items()}


def figures(steps: dict[str, list[dict[str, float]]], response_tokens: int) -> dict[str, float]:
    """Medians over the steps; the ratio is that of each of our steps and TRL's next to it."""
    found = {}
    for name, answers in steps.items():
        seconds = [one["seconds"] for one in answers]
        found[f"{name}_step_s"] = statistics.median(seconds)
        found[f"{name}_step_cpu_s"] = statistics.median(one["cpu_s"] for one in answers)
        found[f"{name}_trained_tokens_per_s"] = statistics.median(response_tokens / one for one in seconds)
    if "trl" in steps:
        ratios = _ratios(steps, "seconds")
        found |= {"ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}
        found["ratio_cpu"] = statistics.median(_ratios(steps, "cpu_s"))
    return found | {key: steps["entrain"][0][key] for key in ("passes", "padding_efficiency")}


def _ratios(steps: dict[str, list[dict[str, float]]], clock: str) -> list[float]:
    return [trl[clock] / ours[clock] for ours, trl in zip(steps["entrain"], steps["trl"], strict=True)]


def shape(rollouts: list[dict[str, Any]]) -> dict[str, float]:
    """Sizes of a workload; `padded_efficiency` is the share of real tokens where TRL pads prompts and responses."""
    prompts = np.array([len(one["prompt"]) for one in rollouts])
    responses = np.array([len(one["completion"]) for one in rollouts])
    return {
        "samples": len(rollouts),
        "tokens": int((prompts + responses).sum()),
        "response_tokens": int(responses.sum()),
        "longest_response": int(responses.max()),
        "padded_efficiency": float((prompts + responses).sum() / (len(rollouts) * (prompts.max() + responses.max()))),
    }


def run(name: str, with_trl: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        workload = WORKLOADS[name](folder)
        workload |= {"learning_rate": LEARNING_RATE, "overrides": SETTINGS, "tokenizer": str(LABORATORY)}
        (folder / "workload.json").write_text(json.dumps(workload))
        sides = {}
        try:
            sides["entrain"] = Side(sys.executable, "benchmarks.learner_entrain", folder, "entrain")
            if with_trl:
                sides["trl"] = Side(str(TRL_PYTHON), "benchmarks.learner_trl", folder, "trl")
            sizes = shape(workload["rollouts"])
            return sizes | figures(measure(sides, PLANS[name]), sizes["response_tokens"])
        finally:
            for side in sides.values():
                side.close()


def main(arguments: list[str]) -> None:
    names = [one for one in arguments if one != "--save"] or list(WORKLOADS)
    with_trl = TRL_PYTHON.exists()
    if not with_trl:
        print("TRL is not measured: `make parity` sets up the environment it needs")
    found = {name: run(name, with_trl) for name in names}
    for name, values in {"machine": machine(), **found}.items():
        print(name)
        for key, value in values.items():
            print(f"  {key:<32}{value:,.3f}" if isinstance(value, float) else f"  {key:<32}{value}")
    if "--save" in arguments:
        RESULTS.write_text(
            json.dumps({"machine": machine(), "settings": SETTINGS, "workloads": found}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
