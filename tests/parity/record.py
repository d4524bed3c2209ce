"""What TRL's GRPOTrainer makes of a frozen rollout batch: `make parity` runs this in an environment of its own.

Every case starts from the same small random model and gets the same prompts, completions and rewards through TRL's own
hooks, and makes three updates of plain gradient descent on them. Written to tests/parity/vectors: the model at the
start, each case's weights afterwards, and record.json: rollouts, advantages, losses, entropies, gradient norms, shares
of clipped tokens, and where all this came from.
"""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import random
import string
import tempfile
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "OMP_NUM_THREADS": "1"}

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.frozen_rollouts import given_reward, prompts, rollout_func
from tests.parity.cases import (
    CASES,
    GROUPS,
    MAX_RESPONSE_TOKENS,
    MODEL,
    RECORD,
    SAMPLES_PER_GROUP,
    TEMPERATURE,
    UPDATES,
    VECTORS,
    Case,
)

SYMBOLS = ["<pad>", "<eos>", "<unk>", *string.digits, *string.ascii_lowercase, *" +-*/=.,?!\n()"]
PAD, EOS = 0, 1
PACKAGES = ("trl", "torch", "transformers", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({symbol: i for i, symbol in enumerate(SYMBOLS)}, unk_token="<unk>"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def small_model() -> Qwen2ForCausalLM:
    """With weights large enough that the distribution of a token is far from uniform."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(SYMBOLS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.25,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return Qwen2ForCausalLM(config).float()


def make_rollouts() -> list[dict[str, Any]]:
    """Samples of the model in groups, of ragged lengths, some cut before an end token; rewards of several sizes."""
    model, rng = Qwen2ForCausalLM.from_pretrained(MODEL), random.Random(0)
    torch.manual_seed(0)
    rollouts = []
    for group in range(GROUPS):
        prompt = [rng.randrange(3, len(SYMBOLS)) for _ in range(2 + 2 * group)]
        for _ in range(SAMPLES_PER_GROUP):
            completion, wanted = [], rng.randrange(1, MAX_RESPONSE_TOKENS + 1)
            while len(completion) < wanted:
                with torch.no_grad():
                    logits = model(torch.tensor([prompt + completion])).logits[0, -1] / TEMPERATURE
                logits[:3] = -torch.inf
                completion.append(int(torch.multinomial(logits.softmax(-1), 1)))
            if wanted < MAX_RESPONSE_TOKENS:
                completion[-1] = EOS
            reward = round(rng.random(), 3) * 10.0 ** (group - 2)
            rollouts.append({"group": group, "prompt": prompt, "completion": completion, "reward": reward})
    if len({tuple(one["completion"]) for one in rollouts}) < len(rollouts):
        raise RuntimeError("completions must be distinct: their tokens tell which sample an advantage belongs to")
    return rollouts


class Recorder(GRPOTrainer):
    """Keeps what TRL does not log: the exact losses, advantages and ratios."""

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self.passes: list[float] = []
        self.advantages: dict[tuple[int, ...], float] = {}

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        loss = super()._compute_loss(model, inputs)
        self.passes.append(loss.item())
        for tokens, mask, advantage in zip(
            inputs["completion_ids"], inputs["completion_mask"], inputs["advantages"], strict=True
        ):
            self.advantages[tuple(tokens[mask.bool()].tolist())] = advantage.item()
        return loss


class GradientNorms(TrainerCallback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
        self.values.append(torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).item())


def train(case: Case, rollouts: list[dict[str, Any]], folder: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """TRL's weights after the updates, and what it reported of each."""
    size = GROUPS * SAMPLES_PER_GROUP
    settings = GRPOConfig(
        folder,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=1,
        seed=0,
        shuffle_dataset=False,
        optim="sgd",
        learning_rate=case.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=0.0,
        max_steps=UPDATES,
        num_iterations=UPDATES,
        per_device_train_batch_size=size // case.microbatches,
        gradient_accumulation_steps=case.microbatches,
        num_generations=SAMPLES_PER_GROUP,
        max_completion_length=MAX_RESPONSE_TOKENS,
        temperature=TEMPERATURE,
        **{"beta": 0.0} | case.trl,
    )
    norms = GradientNorms()
    trainer = Recorder(
        str(MODEL),
        given_reward,
        args=settings,
        train_dataset=prompts(rollouts),
        processing_class=tokenizer(),
        rollout_func=rollout_func(rollouts),
        callbacks=[norms],
    )
    with contextlib.redirect_stdout(None):
        trainer.train()
    logs = trainer.state.log_history[:UPDATES]
    found = {
        "losses": [sum(trainer.passes[i * case.microbatches : (i + 1) * case.microbatches]) for i in range(UPDATES)],
        "entropies": [log["entropy"] for log in logs],
        "gradient_norms": norms.values,
        "clipped": {
            key.removesuffix("_mean"): [log[key] for log in logs]
            for key in ("clip_ratio/low_mean", "clip_ratio/high_mean", "cispo_clip_ratio")
            if key in logs[0]
        },
        "advantages": [trainer.advantages[tuple(one["completion"])] for one in rollouts],
    }
    weights = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    return weights, found


def check_clipped(name: str, found: dict[str, Any]) -> None:
    """Only ratios beyond both bounds tell a clipped objective from an unclipped one."""
    for kind, shares in found["clipped"].items():
        if shares[0] != 0.0 or min(shares[1:]) <= 0.0:
            raise RuntimeError(f"{name}: {kind} is {shares}; it has to be 0 at first and above 0 in later updates")


def main() -> None:
    VECTORS.mkdir(exist_ok=True)
    small_model().save_pretrained(MODEL)
    rollouts = make_rollouts()
    results = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            weights, results[name] = train(case, rollouts, folder)
        check_clipped(name, results[name])
        save_file(weights, VECTORS / f"{name}.safetensors")
        print(name, {key: value for key, value in results[name].items() if key != "advantages"})
    record = {
        "provenance": {
            "command": "make parity",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        },
        "rollouts": rollouts,
        "results": results,
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
