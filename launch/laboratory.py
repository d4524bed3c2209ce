"""Build the laboratory model: `python -m launch.laboratory`.

Trains a tokenizer and a small Qwen3-shaped model on noisy worked solutions (see laboratory_corpus), measures the model
the way a run samples it, and saves both with their provenance. The default builds the model that is shipped in
launch/assets/laboratory.
"""

import argparse
import hashlib
import json
import math
import os
import platform
import random
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path

import reasoning_gym
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from launch import laboratory_corpus as corpus
from launch.laboratory_measure import measure_all, misses

ASSETS = Path(__file__).parent / "assets" / "laboratory"
WIDTHS = {64: 160, 96: 256, 160: 416}  # hidden size -> MLP size
DEFAULT_WIDTH = 96
LAYERS = 3
HEAD_DIM = 32
CONTEXT = 2048
VOCABULARY = 640
FILL_TASKS = ("simple_equations", "letter_counting", "time_intervals", "count_bits")
END, PAD = "<|endoftext|>", "<|pad|>"
MAX_WEIGHTS_BYTES = 4 * 2**20

STEPS = 2_000
BATCH = 64
BATCHES_PER_POOL = 8
MATRIX_LEARNING_RATE = 0.02  # Muon, for the matrices of the layers
LEARNING_RATE = 4e-3  # AdamW, for the embedding and the norms
WARMUP_STEPS = 100
# A number token weighs more in the loss than a word: wording is learned in no time, arithmetic is not. This shifts no
# distribution as long as a place in the grammar holds either numbers or words.
NUMBER_WEIGHT = 3.0
SLIP_FREE_SHARE = 0.5


def tokenizer_texts() -> list[str]:
    """What the tokenizer is trained on: the corpus, and a little of other tasks' wording to fill the vocabulary."""
    stream = corpus.Corpus(seed=0)
    texts = ["".join(stream.draw()) for _ in range(20_000)]
    for task in FILL_TASKS:
        texts += [row["question"] for row in reasoning_gym.create_dataset(task, seed=corpus.SFT_SEED, size=40)]
    return texts


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which every digit is a token and a word takes the blanks on both of its sides.

    Any text survives encoding and decoding. The answer tags are ordinary added tokens, so they stay in decoded text.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(Regex(r" ?[^\s\d]+ ?|\s"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        (text.replace("<answer>", "\n").replace("</answer>", "\n") for text in texts), trainer
    )
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in ("<answer>", "</answer>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def new_model(width: int, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """A Qwen3-shaped model of the given hidden size, float32, tied embeddings."""
    heads = width // HEAD_DIM
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=WIDTHS[width],
        num_hidden_layers=LAYERS,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=HEAD_DIM,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        initializer_range=width**-0.5 / 2,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def _collate(examples: list[tuple[list[int], list[int]]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded token ids and labels, [examples, longest]; labels are -100 outside responses."""
    longest = max(len(prompt) + len(response) for prompt, response in examples)
    ids = torch.full((len(examples), longest), pad)
    labels = torch.full((len(examples), longest), -100)
    for row, (prompt, response) in enumerate(examples):
        end = len(prompt) + len(response)
        ids[row, :end] = torch.tensor(prompt + response)
        labels[row, len(prompt) : end] = torch.tensor(response)
    return ids, labels


def batches(stream: corpus.Corpus, tokenizer: PreTrainedTokenizerFast, rng: random.Random, steps: int):
    """`steps` batches of (ids, labels); a pool of examples is sorted by length before it is cut, to pad little."""
    slip_free = int(SLIP_FREE_SHARE * steps)
    done = 0
    while done < steps:
        slip = 0.0 if done < slip_free else None
        texts = [stream.draw(slip) for _ in range(BATCH * BATCHES_PER_POOL)]
        prompts = tokenizer([prompt for prompt, _ in texts])["input_ids"]
        responses = tokenizer([solution + tokenizer.eos_token for _, solution in texts])["input_ids"]
        pool = sorted(zip(prompts, responses, strict=True), key=lambda pair: len(pair[0]) + len(pair[1]))
        cuts = [pool[start : start + BATCH] for start in range(0, len(pool), BATCH)][: steps - done]
        rng.shuffle(cuts)
        yield from (_collate(cut, tokenizer.pad_token_id) for cut in cuts)
        done += len(cuts)


def _optimizers(model: Qwen3ForCausalLM) -> list[torch.optim.Optimizer]:
    matrices = [weight for name, weight in model.model.layers.named_parameters() if weight.ndim == 2]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=MATRIX_LEARNING_RATE, weight_decay=0.01),
        torch.optim.AdamW(others, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def supervise(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, steps: int, seed: int) -> None:
    """Train on the corpus for `steps` batches: linear warm-up, cosine decay to a twentieth; prints progress.

    The arithmetic is learned first, from solutions without slips, then the slips.
    """

    def rate(step: int) -> float:
        decay = 0.5 * (1 + math.cos(math.pi * step / steps))
        return min(1.0, (step + 1) / WARMUP_STEPS) * (0.05 + 0.95 * decay)

    optimizers = _optimizers(model)
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, rate) for optimizer in optimizers]
    token_weight = torch.ones(len(tokenizer))
    token_weight[tokenizer.convert_tokens_to_ids(list("0123456789-"))] = NUMBER_WEIGHT
    model.train()
    started, recent = time.monotonic(), []
    for step, (ids, labels) in enumerate(batches(corpus.Corpus(seed), tokenizer, random.Random(seed), steps), start=1):
        # Padding is on the right of a causal model, so it needs no mask.
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        used = targets != -100
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[used]), targets[used], weight=token_weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        if step % 50 == 0 or step == steps:
            elapsed = time.monotonic() - started
            left = elapsed / step * (steps - step)
            print(
                f"step {step}/{steps}  loss {sum(recent) / len(recent):.3f}  {elapsed:.0f} s, {left:.0f} s left",
                flush=True,
            )
            recent = []
    model.eval()


def corpus_parameters() -> dict:
    """Everything in laboratory_corpus that decides what the model is supervised on."""
    names = [name for name in vars(corpus) if name.isupper()]
    return {name: getattr(corpus, name) for name in sorted(names)}


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, provenance: dict, out: Path) -> None:
    """Write the model folder; it appears complete or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (out.with_name(f".{out.name}.{role}.{os.getpid()}") for role in ("new", "old"))
    model.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    weights = fresh / "model.safetensors"
    weights.chmod(0o644)
    provenance |= {"sha256": hashlib.sha256(weights.read_bytes()).hexdigest(), "weights_bytes": weights.stat().st_size}
    (fresh / "PROVENANCE.json").write_text(json.dumps(provenance, indent=2) + "\n")
    if out.exists():
        out.rename(old)
    fresh.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """The model and tokenizer of a folder, ready to measure."""
    model = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, PreTrainedTokenizerFast.from_pretrained(folder)


def build(width: int, seed: int, steps: int) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast, dict]:
    """Train tokenizer and model and measure them; returns both and their provenance."""
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(tokenizer_texts())
    model = new_model(width, tokenizer)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{parameters:,} parameters, {len(tokenizer)} tokens in the vocabulary, {steps} steps of {BATCH} solutions",
        flush=True,
    )
    started = time.monotonic()
    supervise(model, tokenizer, steps, seed)
    seconds = round(time.monotonic() - started)
    print("measuring on held-out prompts", flush=True)
    provenance = {
        "command": f"python -m launch.laboratory --width {width} --seed {seed} --steps {steps}",
        "seed": seed,
        "steps": steps,
        "batch": BATCH,
        "learning_rate": LEARNING_RATE,
        "parameters": parameters,
        "training_s": seconds,
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("torch", "transformers", "tokenizers", "reasoning-gym")},
        "corpus": corpus_parameters(),
        "measured": measure_all(model, tokenizer),
    }
    return model, tokenizer, provenance


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m launch.laboratory", description="Build or measure the laboratory model."
    )
    parser.add_argument("--width", type=int, choices=sorted(WIDTHS), default=DEFAULT_WIDTH, help="hidden size")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="model folder; default launch/assets/laboratory/WIDTH"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the initial weights and of the corpus wording")
    parser.add_argument("--steps", type=int, default=STEPS, help="supervised optimizer steps")
    parser.add_argument("--check", action="store_true", help="measure the folder that exists instead of building it")
    arguments = parser.parse_args()
    out = arguments.out or ASSETS / str(arguments.width)
    # One thread: a model this small gains little from more, and the same machine then builds the same bits.
    torch.set_num_threads(1)
    if arguments.check:
        figures = measure_all(*load(out))
    else:
        model, tokenizer, provenance = build(arguments.width, arguments.seed, arguments.steps)
        figures = provenance["measured"]
    for key, value in figures.items():
        print(f"  {key:28} {value}")
    wrong = misses(figures)
    if not arguments.check:
        # A model that misses its targets must not replace one that meets them.
        folder = out.with_name(out.name + "-missed") if wrong else out
        save(model, tokenizer, provenance, folder)
        print(f"saved to {folder}")
    if wrong:
        sys.exit("The laboratory model misses its targets: " + " ".join(wrong))


if __name__ == "__main__":
    main()
