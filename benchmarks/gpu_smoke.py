"""What works on this machine's GPUs: `python -m benchmarks.gpu_smoke [--out FILE] [model=FOLDER]`.

Each check is a process of its own with a deadline, so one that hangs or crashes does not take the others with it:

engine            a vLLM engine draws responses; their log-probabilities against transformers' on the same GPU
sync host, ipc    new weights from a learner on the engine's GPU, proved by the canary
sync nccl         the same from another GPU: NCCL takes no two processes on one
sleep 1, 2        an engine leaves the GPU at this level, wakes up in two stages, and scores with the weights between
train             two laboratory steps of `python -m launch.train`, on a GPU for the engine and one for the learner
colocated         two such steps with engine and learner on one GPU, in turns (rollout.colocated)

Prints a table of pass, fail and skip (with what is lacking) and writes it as JSON. The exit status is 0 where nothing
failed, 1 where something did, and 2 without CUDA.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from benchmarks.step import machine
from benchmarks.sync import WholeModel
from launch.canary import CanaryResult, prove
from launch.cluster import ray_session
from launch.config import ASSETS, compose
from learner.weights import EngineClient, open_sender
from rollout.pool import RolloutPool
from rollout.types import Prompt, Sampling

LABORATORY = ASSETS / "laboratory" / "96"
DEADLINE_S = 900.0
NO_CUDA = "There is no CUDA device on this machine, so there is nothing to check."
DTYPES = {"cpu": "float32", "cuda": "bfloat16"}
# Mean |difference| of log-probability between engine and learner: conf/rollout/cpu.yaml and gpu.yaml.
BOUNDS = {"cpu": 1e-4, "cuda": 0.05}
CONTEXT, BUCKET_BYTES, TIMEOUT_S = 256, 2**20, 300.0


@dataclass(frozen=True)
class Check:
    """One line of the table; `gpus` is what it needs."""

    name: str
    gpus: int


@dataclass(frozen=True)
class Outcome:
    """status is pass, fail or skip; `why` says what is lacking or the last line of what went wrong."""

    name: str
    status: str
    seconds: float
    why: str


CHECKS = (
    Check("engine", 1),
    Check("sync host", 1),
    Check("sync ipc", 1),
    Check("sync nccl", 2),
    Check("sleep 1", 1),
    Check("sleep 2", 1),
    Check("train", 2),
    Check("colocated", 1),
)


class Learner:
    """What a learner is to the engines: parameters on its device, a sender, scores. An actor."""

    def __init__(self, model: str, device: str):
        from transformers import AutoModelForCausalLM

        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, DTYPES[device])).to(device)

    def change(self) -> None:
        """Weights that the engine cannot have from its folder."""
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in self._model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))

    def send(self, transport: str, engines: list[Any]) -> int:
        parameters = {name: parameter.detach() for name, parameter in self._model.named_parameters()}
        client = EngineClient(engines, 1, TIMEOUT_S)
        return open_sender(transport, WholeModel(parameters), client, 0, BUCKET_BYTES).send(1)

    def free_bytes(self) -> int:
        """Of the GPU, whoever has the rest."""
        return torch.cuda.mem_get_info()[0]

    def score(self, sequences: list[np.ndarray], temperature: float) -> list[np.ndarray]:
        """Log-probabilities of the tokens of each sequence after its first."""
        found = []
        for sequence in sequences:
            tokens = torch.from_numpy(sequence).long().to(self._model.device)
            with torch.no_grad():
                logprobs = (self._model(tokens[None]).logits[0, :-1].float() / temperature).log_softmax(-1)
            found.append(logprobs.gather(-1, tokens[1:, None])[:, 0].cpu().numpy())
        return found


def prompts() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(10, 200, size).astype(np.int32) for size in (5, 40, 90)]


def started(model: str, device: str, transport: str, share: float, *more: str) -> tuple[RolloutPool, Any]:
    """An engine, with the settings `more`, and a learner, each on `share` of a GPU."""
    overrides = ["output.folder=unused", "rollout.engines=1", f"rollout.weight_transfer={transport}", *more]
    gpus = {"num_cpus": 0, "num_gpus": share} if device == "cuda" else {"num_cpus": 0}
    pool = RolloutPool(compose(overrides).rollout, device, threads=1, places=[gpus])
    learner = ray.remote(Learner).options(**gpus).remote(model, device)  # type: ignore[attr-defined]
    ray.get(pool.begin_start(model, DTYPES[device], CONTEXT, False), timeout=TIMEOUT_S)
    return pool, learner


def check_engine(model: str, device: str) -> None:
    """Raise where the engine's log-probabilities are not the model's."""
    pool, learner = started(model, device, "host", 0.5)
    tasks = [Prompt(f"p/{i}", "", ids, "p", "none", None, {}, "") for i, ids in enumerate(prompts())]
    temperature = 0.7
    groups = pool.generate(tasks, 2, Sampling(temperature, 1.0, 0, 24), seed=0, step=0)
    drawn = [(task, response) for task, group in zip(tasks, groups, strict=True) for response in group]
    whole = [np.concatenate([task.token_ids, response.token_ids]) for task, response in drawn]
    scores = ray.get(learner.score.remote(whole, temperature), timeout=TIMEOUT_S)
    ours = [score[len(task.token_ids) - 1 :] for score, (task, _) in zip(scores, drawn, strict=True)]
    print(prove(ours, [[response.logprobs for _, response in drawn]], BOUNDS[device], version=0))
    pool.close()


def check_sync(model: str, device: str, transport: str) -> None:
    """Raise where the engine does not score with the weights that were sent."""
    pool, learner = started(model, device, transport, 1.0 if transport == "nccl" else 0.5)
    ray.get(learner.change.remote(), timeout=TIMEOUT_S)
    sent = ray.get(learner.send.remote(transport, pool.actors), timeout=TIMEOUT_S)
    print(f"{sent} bytes", proof(pool, learner, device))
    pool.close()


def check_sleep(model: str, device: str, level: int) -> None:
    """Raise where an engine keeps its memory while it sleeps, or does not score with what was sent when it woke up."""
    settings = ("rollout.colocated=true", f"rollout.sleep_level={level}")
    pool, learner = started(model, device, "auto", 0.5, *settings)
    free = [ray.get(learner.free_bytes.remote(), timeout=TIMEOUT_S)] if device == "cuda" else []
    pool.sleep()
    if free:
        free.append(ray.get(learner.free_bytes.remote(), timeout=TIMEOUT_S))
        assert free[0] < free[1], f"{free[0]} bytes were free while the engine was awake, {free[1]} while it slept"
    ray.get(learner.change.remote(), timeout=TIMEOUT_S)
    pool.wake_weights()
    ray.get(learner.send.remote(pool.transport, pool.actors), timeout=TIMEOUT_S)
    pool.wake_cache()
    print(f"free bytes awake, asleep: {free};", proof(pool, learner, device))
    pool.close()


def proof(pool: RolloutPool, learner: Any, device: str) -> CanaryResult:
    """That the engine scores with the weights of version 1 as the learner does."""
    assert pool.weight_versions() == [1]
    scores = ray.get(learner.score.remote(prompts(), 1.0), timeout=TIMEOUT_S)
    return prove(scores, pool.score(prompts()), BOUNDS[device], version=1)


def check_train(model: str, *more: str) -> None:
    """Raise where two steps with the settings `more` do not end well."""
    from launch.train import train

    with tempfile.TemporaryDirectory() as folder:
        overrides = ["cluster.device=cuda", "rollout.engines=1", "learner.ranks=1", "model.dtype=bfloat16"]
        overrides += [f"rollout.canary_bound={BOUNDS['cuda']}", "steps=2", "evaluation.samples_per_prompt=1"]
        overrides += [f"model.path={model}", f"output.folder={folder}", "output.display=lines", "logger=jsonl", *more]
        summary = train(compose(overrides))
    assert summary["status"] == "finished", summary["error"]


def run_one(name: str, model: str, device: str) -> None:
    """The check `name` in this process."""
    if name == "train":
        check_train(model)
        return
    if name == "colocated":
        shared = ["rollout.colocated=true", "rollout.sleep_level=2", "learner=zero2"]
        check_train(model, *shared, "learner.offload_while_drawing=true")
        return
    with ray_session(compose(["output.folder=unused", f"cluster.device={device}"])):
        if name == "engine":
            check_engine(model, device)
        elif name.startswith("sleep "):
            check_sleep(model, device, int(name.removeprefix("sleep ")))
        else:
            check_sync(model, device, name.removeprefix("sync "))


def run_all(checks: Sequence[Check], gpus: int, command: Sequence[str], deadline_s: float) -> list[Outcome]:
    """Each check by `command` and its name, in a process group of its own; those that need more GPUs are skipped."""
    found = []
    for check in checks:
        if check.gpus > gpus:
            found.append(Outcome(check.name, "skip", 0.0, f"needs {check.gpus} GPUs, and there are {gpus}"))
            continue
        began = time.monotonic()
        try:
            done = subprocess.run([*command, check.name], capture_output=True, text=True, timeout=deadline_s)
            lines = (done.stderr if done.returncode else done.stdout).strip().splitlines() or ["no output"]
            status, why = ("fail" if done.returncode else "pass"), lines[-1]
        except subprocess.TimeoutExpired:
            status, why = "fail", f"not done in {deadline_s:g} s"
        found.append(Outcome(check.name, status, round(time.monotonic() - began, 1), why))
        print(_line(found[-1]), flush=True)
    return found


def _line(outcome: Outcome) -> str:
    return f"{outcome.name:<12}{outcome.status:<6}{outcome.seconds:>8.1f} s  {outcome.why}"


def table(found: Sequence[Outcome]) -> str:
    return "\n".join(_line(outcome) for outcome in found)


def main(arguments: list[str]) -> int:
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    model = named.get("model", str(LABORATORY))
    if "--check" in arguments:
        run_one(arguments[arguments.index("--check") + 1], model, named.get("device", "cuda"))
        return 0
    if not torch.cuda.is_available():
        print(NO_CUDA, file=sys.stderr)
        return 2
    path = Path(arguments[arguments.index("--out") + 1]) if "--out" in arguments else Path("gpu_smoke.json")
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    command = [sys.executable, "-m", "benchmarks.gpu_smoke", f"model={model}", "--check"]
    found = run_all(CHECKS, len(gpus), command, DEADLINE_S)
    print(table(found))
    content = {"machine": machine() | {"gpus": gpus}, "checks": [asdict(outcome) for outcome in found]}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")
    return int(any(outcome.status == "fail" for outcome in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
