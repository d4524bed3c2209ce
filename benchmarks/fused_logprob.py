"""What the fused LM head costs: `python -m benchmarks.fused_logprob [--device cuda] [--quick] [--turns N] [--save]`.

Times the four matrix products that no exact method avoids (logits twice, two gradients), the fused function with and
without a gradient of the entropy, the plain path (all logits, log_softmax, autograd), and TRL's and Liger Kernel's
functions where they are installed. They run turn about in one process; a ratio is the median over the turns, each
divided by its own turn's products. On CPU the clock is the CPU time of one thread, which other programs disturb little.

Extra memory is what one forward and backward pass adds at its highest to what was there before, less the two gradients,
which every path returns; each path is measured in a process of its own (on CPU from Linux's resident high-water mark).
Errors are against float64 on the first tokens. `--save` also writes benchmarks/results/fused_logprob.json.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import torch

from benchmarks.step import machine
from launch.config import compose
from learner.fused_head import linear_logprob_entropy

WIDTH = 1024
WORKLOADS = ((2048, 151_936), (8192, 32_000))  # tokens, vocabulary
QUICK = ((512, 8192),)
TEMPERATURE = 1.0
CHECKED_TOKENS = 16
GIB = 2**30
RESULTS = Path(__file__).parent / "results" / "fused_logprob.json"


@cache
def default_chunk_tokens() -> int:
    return compose([]).learner.logprob_chunk_tokens


def fused(hidden, weight, targets, entropy_weight):
    logprobs, entropies, _ = linear_logprob_entropy(hidden, weight, targets, TEMPERATURE, default_chunk_tokens())
    return logprobs.sum() + entropy_weight * entropies.sum()


def plain(hidden, weight, targets, entropy_weight):
    logp = ((hidden @ weight.T).to(torch.promote_types(hidden.dtype, torch.float32)) / TEMPERATURE).log_softmax(-1)
    logprobs = logp.gather(-1, targets[:, None]).squeeze(-1)
    with torch.set_grad_enabled(entropy_weight > 0):
        entropies = -(logp.exp() * logp).sum(-1)
    return logprobs.sum() + entropy_weight * entropies.sum()


def trl(hidden, weight, targets, entropy_weight):
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE as CHUNK

    given = hidden, weight, None, targets, TEMPERATURE, CHUNK, None, 1.0, ("entropy",)
    logprobs, entropies, *_ = ChunkedLogProbFunction.apply(*given)
    return logprobs.sum() + entropy_weight * entropies.sum() if entropy_weight else logprobs.sum()


def liger(hidden, weight, targets, _entropy_weight):
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    return -LigerFusedLinearCrossEntropyLoss(reduction="sum")(weight, hidden / TEMPERATURE, targets)


# Name: the function, the weight of the entropy in its loss, the library it comes from. Liger's makes no entropy.
PATHS = {
    "fused": (fused, 0.01, None),
    "fused, no entropy gradient": (fused, 0.0, None),
    "plain": (plain, 0.01, None),
    "plain, no entropy gradient": (plain, 0.0, None),
    "TRL": (trl, 0.01, "trl"),
    "TRL, no entropy gradient": (trl, 0.0, "trl"),
    "Liger, no entropy": (liger, 0.0, "liger_kernel"),
}


def versions() -> dict[str, str]:
    """Of the other libraries; empty for one that is not installed."""
    found = {}
    for module in ("trl", "liger_kernel"):
        try:
            found[module] = importlib.metadata.version(module)
        except importlib.metadata.PackageNotFoundError:
            found[module] = ""
    return found


def inputs(tokens, vocabulary, dtype, device):
    """Hidden states, a weight that gives logits of standard deviation 2, targets."""
    rng = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, WIDTH, generator=rng).to(device, dtype).requires_grad_()
    weight = (torch.randn(vocabulary, WIDTH, generator=rng) * 2 / WIDTH**0.5).to(device, dtype).requires_grad_()
    return hidden, weight, torch.randint(vocabulary, (tokens,), generator=rng).to(device)


def forward_backward(name, given) -> None:
    function, entropy_weight, _ = PATHS[name]
    torch.autograd.grad(function(*given, entropy_weight), given[:2])


def products(hidden, weight, logits, grad_hidden, grad_weight) -> None:
    torch.mm(hidden, weight.T, out=logits)
    torch.mm(hidden, weight.T, out=logits)
    torch.mm(logits, weight, out=grad_hidden)
    torch.mm(logits.T, hidden, out=grad_weight)


def seconds(device: str, call, *arguments) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    if device == "cuda":
        torch.cuda.synchronize()
    began = clock()
    call(*arguments)
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def timings(names, tokens, vocabulary, dtype, device, turns) -> dict[str, list[float]]:
    given = inputs(tokens, vocabulary, dtype, device)
    hidden, weight = (x.detach() for x in given[:2])
    buffers = hidden.new_empty(tokens, vocabulary), torch.empty_like(hidden), torch.empty_like(weight)
    found: dict[str, list[float]] = {name: [] for name in ("products", *names)}
    small = inputs(8, 64, dtype, device)
    for name in names:
        forward_backward(name, small)
    products(hidden, weight, *buffers)
    for _ in range(turns):
        found["products"].append(seconds(device, products, hidden, weight, *buffers))
        for name in names:
            found[name].append(seconds(device, forward_backward, name, given))
    return found


def status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def extra_bytes(name, tokens, vocabulary, dtype, device) -> int:
    """Of this very process, so it has to be a fresh one."""
    given = inputs(tokens, vocabulary, dtype, device)
    forward_backward(name, inputs(256, 256, dtype, device))  # buffers of the libraries are theirs, not the path's
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        before = status_bytes("VmRSS")
    forward_backward(name, given)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else status_bytes("VmHWM")
    return peak - before - sum(x.nbytes for x in given[:2])


def extra_bytes_in_a_fresh_process(*arguments) -> int:
    call = [
        sys.executable,
        "-m",
        "benchmarks.fused_logprob",
        "--memory-of",
        json.dumps([str(a).removeprefix("torch.") for a in arguments]),
    ]
    return int(
        subprocess.run(call, cwd=Path(__file__).parents[1], check=True, stdout=subprocess.PIPE, text=True).stdout
    )


def largest_error(tokens, vocabulary, dtype, device) -> float:
    """Of log-probs and entropies, in nats, against float64 on the same inputs."""
    hidden, weight, targets = (x.detach() for x in inputs(tokens, vocabulary, dtype, device))
    hidden, targets = hidden[:CHECKED_TOKENS], targets[:CHECKED_TOKENS]
    ours = linear_logprob_entropy(hidden, weight, targets, TEMPERATURE, CHECKED_TOKENS)
    exact = linear_exact(hidden, weight, targets)
    return max(float((a.double() - b).abs().max()) for a, b in zip(ours, exact, strict=False))


def linear_exact(hidden, weight, targets):
    logp = torch.cat([hidden.double() @ part.double().T for part in weight.split(16_384)], 1) / TEMPERATURE
    logp = logp.log_softmax(-1)
    return logp.gather(-1, targets[:, None]).squeeze(-1), -(logp.exp() * logp).sum(-1)


def measure(tokens, vocabulary, dtype, device, turns) -> dict[str, object]:
    here = versions()
    names = [name for name, (_, _, library) in PATHS.items() if library is None or here[library]]
    times = timings(names, tokens, vocabulary, dtype, device, turns)
    rows = {}
    for name in times:
        ratios = [mine / base for mine, base in zip(times[name], times["products"], strict=True)]
        rows[name] = {"median_s": statistics.median(times[name]), "of_products": statistics.median(ratios)}
        if name != "products":
            rows[name]["extra_bytes"] = extra_bytes_in_a_fresh_process(name, tokens, vocabulary, dtype, device)
    for name in names:
        of = "plain" if PATHS[name][1] else "plain, no entropy gradient"
        rows[name]["extra_of_plain"] = rows[name]["extra_bytes"] / rows[of]["extra_bytes"]
    load = os.getloadavg()[0]
    title = {"tokens": tokens, "vocabulary": vocabulary, "width": WIDTH, "dtype": str(dtype).removeprefix("torch.")}
    return title | {
        "turns": turns,
        "load": load,
        "largest_error": largest_error(tokens, vocabulary, dtype, device),
        "paths": rows,
    }


def show(found) -> None:
    print("\n{tokens} tokens, vocabulary {vocabulary}, width {width}, {dtype}".format(**found))
    print("largest error {largest_error:.1e} nats; load {load:.1f}".format(**found))
    print(f"{'':<28}{'s':>9}{'of products':>13}{'extra GiB':>11}{'of plain':>10}")
    for name, row in found["paths"].items():
        memory = f"{row['extra_bytes'] / GIB:>11.3f}{row['extra_of_plain']:>10.3f}" if "extra_bytes" in row else ""
        print(f"{name:<28}{row['median_s']:>9.3f}{row['of_products']:>13.2f}{memory}", flush=True)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="one small workload")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if asked.memory_of:
        name, tokens, vocabulary, dtype, device = json.loads(asked.memory_of)
        print(extra_bytes(name, int(tokens), int(vocabulary), getattr(torch, dtype), device))
        return
    stamp = machine() | {"device": torch.cuda.get_device_name() if asked.device == "cuda" else "cpu, one thread"}
    stamp |= {"torch": torch.__version__}
    found = []
    for library, version in versions().items():
        print(f"{library} {version}" if version else f"{library} is not installed, so it is left out")
    for dtype in (torch.float32, torch.bfloat16):
        for tokens, vocabulary in QUICK if asked.quick else WORKLOADS:
            found.append(measure(tokens, vocabulary, dtype, asked.device, asked.turns))
            show(found[-1])
            if asked.save:  # after each, because all take long
                content = {"machine": stamp, "libraries": versions(), "workloads": found}
                RESULTS.write_text(json.dumps(content, indent=2) + "\n")
    print("\n" + "\n".join(f"{key:<14}{value}" for key, value in stamp.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
