"""Our updates of every recorded case, in one DeepSpeed rank of its own: `python -m tests.parity.updates FOLDER`.

Needs DS_ACCELERATOR=cpu. Leaves the weights of each case as FOLDER/<case>.safetensors and the metrics of each of its
updates as FOLDER/<case>.json.
"""

import json
import socket
import sys
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from launch.config import RunConfig, compose
from learner.advantages import group_advantages
from learner.config import AlgorithmConfig, ObjectiveConfig
from learner.planning import PassLimits, plan_passes
from learner.types import TokenBatch, UpdatePlan
from learner.worker import LearnerWorker
from tests.parity.cases import CASES, MODEL, RECORD, TEMPERATURE, UPDATES, Case

SETTINGS = (
    "output.folder=unused",
    "algorithm.std_epsilon=1e-4",
    "learner=zero0",
    "learner.ranks=1",
    "learner.optimizer=sgd",
    "learner.max_grad_norm=null",
    # Several passes of several packed rows: neither may show in the result.
    "learner.tokens_per_microbatch=96",
    "learner.row_tokens=32",
    "learner.logprob_chunk_tokens=7",
)


def settings(case: Case) -> RunConfig:
    return compose([*SETTINGS, f"learner.learning_rate={case.learning_rate}", *case.entrain])


def recorded_advantages(config: AlgorithmConfig) -> np.ndarray:
    """float32 [samples], ours, of the recorded rewards."""
    rollouts = json.loads(RECORD.read_text())["rollouts"]
    rewards = np.array([one["reward"] for one in rollouts])
    groups = np.array([one["group"] for one in rollouts])
    return group_advantages(rewards, groups, config)[0]


def recorded_batch(config: AlgorithmConfig) -> TokenBatch:
    """The recorded rollouts with our advantages, not scored yet."""
    rollouts = json.loads(RECORD.read_text())["rollouts"]
    lengths = np.array([len(one["completion"]) for one in rollouts], np.int32)
    prompt_lengths = np.array([len(one["prompt"]) for one in rollouts], np.int32)
    return TokenBatch(
        tokens=np.concatenate([one["prompt"] + one["completion"] for one in rollouts]).astype(np.int32),
        lengths=prompt_lengths + lengths,
        prompt_lengths=prompt_lengths,
        groups=np.array([one["group"] for one in rollouts], np.int32),
        sample_keys=np.arange(len(rollouts), dtype=np.uint64),
        temperature=TEMPERATURE,
        behaviour_logprobs=np.zeros(lengths.sum(), np.float32),
        mask=np.ones(lengths.sum(), bool),
        versions=np.zeros(lengths.sum(), np.int32),
        advantages=np.repeat(recorded_advantages(config), lengths).astype(np.float32),
        old_logprobs=None,
        old_entropies=None,
        reference_logprobs=None,
    )


def scored(worker: LearnerWorker, config: RunConfig, batch: TokenBatch, plan: UpdatePlan) -> TokenBatch:
    """The batch with the log-probabilities of the starting weights, which are the old and the reference policy's."""
    found = worker.score(batch, plan.passes)
    logprobs, entropies = np.empty((2, batch.mask.size), np.float32)
    logprobs[found.index], entropies[found.index] = found.logprobs, found.entropies
    reference = logprobs if config.reference.place == "loss" else None
    return TokenBatch(
        **vars(batch) | {"old_logprobs": logprobs, "old_entropies": entropies, "reference_logprobs": reference}
    )


def main(folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        master = probe.getsockname()
    worker = LearnerWorker(0, 1)
    for name, case in CASES.items():
        config = settings(case)
        batch = recorded_batch(config.algorithm)
        objective = ObjectiveConfig(config.algorithm, config.clip, config.reference, config.correction)
        worker.start(
            config.learner,
            objective,
            config.entropy,
            config.probe,
            UPDATES,
            str(MODEL),
            "float32",
            False,
            0,
            "cpu",
            master,
            False,
        )
        samples = np.arange(batch.lengths.size)
        limits = PassLimits.of(config.learner)
        plan = UpdatePlan(plan_passes(batch.lengths, samples, 1, limits), samples, case.learning_rate, 0)
        batch = scored(worker, config, batch, plan)
        metrics = [worker.update(batch, [plan], number)[0].values() for number in range(UPDATES)]
        weights = {
            spec.name: tensor.clone()
            for bucket in worker.model.full_parameters(bucket_bytes=1 << 20)
            for spec, tensor in bucket
        }
        save_file(weights, folder / f"{name}.safetensors")
        (folder / f"{name}.json").write_text(json.dumps(metrics))
        worker.model.engine.destroy()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
