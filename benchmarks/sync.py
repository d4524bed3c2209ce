"""What a transfer of weights through host memory costs: `python -m benchmarks.sync [--save] [bucket_bytes=N]`.

For models of 1 MB to 1 GB in float32: the sender of a learner that holds whole parameters, Ray's object store, and a
real vLLM engine that steps in its actor, which loads and packs the weights. In turns with each sync the same bytes are
copied from one array to a new one, the plain copy. The goal is at most 30 ms + 4 plain copies. Medians over the turns,
after one of warm-up; the load of the machine stands beside them, because a sync has two processes take turns where a
copy has one. `--save` also writes them to benchmarks/results/sync.json.
"""

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import ray
import torch

from benchmarks.step import machine
from launch.cluster import ray_session
from launch.config import ASSETS, compose
from learner.buckets import ParameterSpec, plan_buckets
from learner.weights import EngineClient, HostSender
from rollout.pool import RolloutPool

RESULTS = Path(__file__).parent / "results" / "sync.json"
TOKENIZER = ASSETS / "laboratory" / "96"
# Hidden size and layers of a model of about so many megabytes; 8 attention heads, feed-forward 4 times as wide.
SHAPES = {1: (64, 4), 16: (512, 1), 128: (1024, 2), 1024: (2048, 4)}
BUCKET_BYTES = 64 * 2**20
WARM_UP, TURNS = 1, 9
GOAL_S, GOAL_COPIES = 0.030, 4
TIMEOUT_S = 300.0


class WholeModel:
    """What a sender asks of a learner's model, for parameters that lie whole in memory."""

    def __init__(self, parameters: dict[str, torch.Tensor]):
        self._parameters = list(parameters.items())

    def specs(self) -> list[ParameterSpec]:
        return [
            ParameterSpec(name, tuple(value.shape), str(value.dtype).removeprefix("torch."), value.nbytes)
            for name, value in self._parameters
        ]

    def full_parameters(self, bucket_bytes: int) -> Iterator[list[tuple[ParameterSpec, torch.Tensor]]]:
        specs = self.specs()
        for bucket in plan_buckets(specs, bucket_bytes):
            yield [(specs[i], self._parameters[i][1]) for i in bucket]


def write_model(folder: Path, hidden: int, layers: int) -> dict[str, torch.Tensor]:
    """A random model in the laboratory's form at `folder`, and its parameters."""
    from transformers import AutoConfig, Qwen3ForCausalLM

    config = AutoConfig.from_pretrained(TOKENIZER)
    config.update(
        {
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "layer_types": ["full_attention"] * layers,
            "intermediate_size": 4 * hidden,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "head_dim": hidden // 8,
        }
    )
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    for file in TOKENIZER.glob("tokenizer*"):
        shutil.copy(file, folder)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def measured(megabytes: int, bucket_bytes: int) -> dict[str, float]:
    """Figures of a model of about `megabytes`; times in s."""
    with tempfile.TemporaryDirectory() as place:
        parameters = write_model(Path(place), *SHAPES[megabytes])
        config = compose(["output.folder=unused", "rollout.engines=1", "rollout.kv_cache_blocks=16"])
        pool = RolloutPool(config.rollout, "cpu", threads=1)
        try:
            ray.get(pool.begin_start(place, "float32", 256, False), timeout=TIMEOUT_S)
            model = WholeModel(parameters)
            sender = HostSender(model, EngineClient(pool.actors, 1, TIMEOUT_S), bucket_bytes)
            size = sum(spec.size_bytes for spec in model.specs())
            bytes_ = np.zeros(size, np.uint8)
            syncs, copies = [], []
            for turn in range(WARM_UP + TURNS):
                began = time.perf_counter()
                sent = sender.send(turn)
                synced = time.perf_counter()
                bytes_.copy()
                copied = time.perf_counter()
                assert sent == size
                if turn >= WARM_UP:
                    syncs.append(synced - began)
                    copies.append(copied - synced)
        finally:
            pool.close()
    return figures(size, syncs, copies)


def figures(size: int, syncs: list[float], copies: list[float]) -> dict[str, float]:
    """Medians of times in s, and the share of the goal that a sync takes; at most 1 meets it."""
    sync_s, copy_s = statistics.median(syncs), statistics.median(copies)
    goal_s = GOAL_S + GOAL_COPIES * copy_s
    return {
        "bytes": size,
        "sync_s": round(sync_s, 5),
        "copy_s": round(copy_s, 5),
        "sync_over_copy": round(sync_s / copy_s, 2),
        "bytes_per_s": round(size / sync_s),
        "goal_s": round(goal_s, 5),
        "share_of_goal": round(sync_s / goal_s, 3),
    }


def main(arguments: list[str]) -> None:
    named = dict(argument.split("=") for argument in arguments if "=" in argument)
    bucket_bytes = int(named.get("bucket_bytes", BUCKET_BYTES))
    sizes = [int(size) for size in named["megabytes"].split(",")] if "megabytes" in named else list(SHAPES)
    stamp = machine() | {"load before": f"{os.getloadavg()[0]:.1f}"}
    for key, value in stamp.items():
        print(f"{key:<12}{value}")
    print(
        f"{'bytes':>14}{'sync ms':>10}{'copy ms':>10}{'ratio':>8}{'GB/s':>8}{'goal ms':>10}{'of goal':>9}", flush=True
    )
    found = {}
    with ray_session(compose(["output.folder=unused"])):
        for megabytes in sizes:
            row = found[f"{megabytes} MB"] = measured(megabytes, bucket_bytes)
            print(
                f"{row['bytes']:>14,}{1e3 * row['sync_s']:>10.1f}{1e3 * row['copy_s']:>10.2f}"
                f"{row['sync_over_copy']:>8.1f}{row['bytes_per_s'] / 1e9:>8.2f}{1e3 * row['goal_s']:>10.1f}"
                f"{row['share_of_goal']:>9.2f}",
                flush=True,
            )
    if "--save" in arguments:
        content = {
            "machine": stamp | {"load after": f"{os.getloadavg()[0]:.1f}"},
            "turns": TURNS,
            "bucket_bytes": bucket_bytes,
            "figures": found,
        }
        RESULTS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
