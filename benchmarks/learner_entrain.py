"""Our side of benchmarks/learner.py: `python -m benchmarks.learner_entrain WORKLOAD`, with DS_ACCELERATOR=cpu.

One DeepSpeed rank with the settings a run has unless it is told otherwise. Makes one update for each line it reads and
answers with its seconds, loss and entropy, one JSON a line. Counted are planning, forward, backward and optimiser.
"""

import json
import os
import socket
import sys
import time
from pathlib import Path

import numpy as np

from launch.config import compose
from learner.advantages import group_advantages
from learner.config import ObjectiveConfig
from learner.planning import PassLimits, plan_passes
from learner.types import TokenBatch, UpdatePlan
from learner.worker import LearnerWorker


def main(workload: Path) -> None:
    given = json.loads((workload / "workload.json").read_text())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # DeepSpeed prints to stdout, which is for answers alone
    config = compose(given["overrides"])
    rollouts = given["rollouts"]
    groups = np.array([one["group"] for one in rollouts], np.int32)
    rewards = np.array([one["reward"] for one in rollouts])
    prompt_lengths = np.array([len(one["prompt"]) for one in rollouts], np.int32)
    lengths = prompt_lengths + np.array([len(one["completion"]) for one in rollouts], np.int32)
    responses = int((lengths - prompt_lengths).sum())
    batch = TokenBatch(
        tokens=np.concatenate([one["prompt"] + one["completion"] for one in rollouts]).astype(np.int32),
        lengths=lengths,
        prompt_lengths=prompt_lengths,
        groups=groups,
        sample_keys=np.arange(groups.size, dtype=np.uint64),
        temperature=1.0,
        behaviour_logprobs=np.zeros(responses, np.float32),
        mask=np.ones(responses, bool),
        versions=np.zeros(responses, np.int32),
        advantages=np.repeat(group_advantages(rewards, groups, config.algorithm)[0], lengths - prompt_lengths),
        old_logprobs=None,
        old_entropies=None,
        reference_logprobs=None,
    )
    worker = LearnerWorker(0, 1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        master = probe.getsockname()
    objective = ObjectiveConfig(config.algorithm, config.clip, config.reference, config.correction)
    worker.start(
        config.learner,
        objective,
        config.entropy,
        config.probe,
        1,
        given["model"],
        "float32",
        False,
        0,
        "cpu",
        master,
        False,
    )
    limits = PassLimits.of(config.learner)
    samples = np.arange(lengths.size)
    while sys.stdin.readline():
        began, began_cpu = time.perf_counter(), time.process_time()
        passes = plan_passes(lengths, samples, 1, limits)
        tally, _ = worker.update(batch, [UpdatePlan(passes, samples, config.learner.learning_rate, 0)], 0)
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        found = tally.values()
        computed = sum(len(rows) * max(int(lengths[row].sum()) for row in rows) for rows in passes[0])
        answer = {
            "seconds": seconds,
            "cpu_s": cpu_s,
            "loss": found["policy/loss"],
            "entropy": found["entropy/update_mean"],
            "passes": len(passes[0]),
            "padding_efficiency": int(lengths.sum()) / computed,
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
