"""TRL's side of benchmarks/learner.py: `python -m benchmarks.learner_trl WORKLOAD`, in .venv-parity.

Makes one training step for each line it reads and answers with its seconds, loss and entropy, one JSON a line. Counted
are forward, backward and optimiser; making and scoring the rollouts is left out.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}

import torch
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.frozen_rollouts import given_reward, prompts, rollout_func


class Timed(GRPOTrainer):
    """Measures what a training step spends on its rollouts, and keeps its loss."""

    rollouts_s = 0.0
    rollouts_cpu_s = 0.0
    loss = 0.0

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        began, began_cpu = time.perf_counter(), time.process_time()
        inputs = super()._prepare_inputs(generation_batch)
        self.rollouts_s, self.rollouts_cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        return inputs

    def _compute_loss(self, model: Any, inputs: Any) -> torch.Tensor:
        loss = super()._compute_loss(model, inputs)
        self.loss = loss.item()
        return loss


class OnRequest(TrainerCallback):
    """Waits for a line before each step and answers after it."""

    def __init__(self, answers: Any):
        self.answers = answers
        self.trainer: Any = None
        self.began = self.began_cpu = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not sys.stdin.readline():
            control.should_training_stop = True
        self.began, self.began_cpu = time.perf_counter(), time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        seconds = time.perf_counter() - self.began - self.trainer.rollouts_s
        cpu_s = time.process_time() - self.began_cpu - self.trainer.rollouts_cpu_s
        entropy = self.trainer._metrics["train"]["entropy"][-1]
        answer = {"seconds": seconds, "cpu_s": cpu_s, "loss": self.trainer.loss, "entropy": entropy}
        print(json.dumps(answer), file=self.answers, flush=True)


def main(workload: Path) -> None:
    given = json.loads((workload / "workload.json").read_text())
    rollouts, samples = given["rollouts"], len(given["rollouts"])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the trainer prints to stdout, which is for answers alone
    request = OnRequest(answers)
    with tempfile.TemporaryDirectory() as folder:
        settings = GRPOConfig(
            folder,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            shuffle_dataset=False,
            optim="adamw_torch",
            learning_rate=given["learning_rate"],
            lr_scheduler_type="constant",
            max_grad_norm=1.0,
            max_steps=1_000_000,
            per_device_train_batch_size=samples,
            num_generations=given["samples_per_prompt"],
            max_completion_length=max(len(one["completion"]) for one in rollouts),
            temperature=1.0,
            beta=0.0,
            loss_type="dapo",
        )
        trainer = Timed(
            given["model"],
            given_reward,
            args=settings,
            train_dataset=prompts(rollouts),
            processing_class=AutoTokenizer.from_pretrained(given["tokenizer"]),
            rollout_func=rollout_func(rollouts),
            callbacks=[request],
        )
        request.trainer = trainer
        trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
