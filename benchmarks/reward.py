"""What verdicts cost: `python -m benchmarks.reward [--data FOLDER] [--children N] [--save]`.

Mathematics: every distinct reference answer of MATH-500 and GSM8K, paired with itself and with the next one, judged by
the verifier `math` in killable children, and by math-verify's own `parse` and `verify` in a plain pool of as many
processes, in turns. Code: trivial programs, all different, through the verifier `code` with its isolation on. Besides,
what one request that hangs costs beyond its deadline, and the memory of a child. Processes are new in each round, so no
cache holds an expression of the round before; starting them is left out of the times and stated by itself. On a machine
with other work the ratio of core times (`ratio_cpu`, of all processes and the caller) says more than that of the clock.

The machine and its load before stand beside the figures; `--save` also writes them to benchmarks/results/reward.json.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil

from benchmarks.step import machine
from reward.keeper import Keeper
from reward.settings import reward_settings
from reward.types import Judgement, Verdict, VerificationRequest
from reward.verifiers import REGISTRY

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "reward.json"
ROUNDS = 3
PROGRAMS = 200
HANG_TIMEOUT_S = 1.0
DEADLINE_S = 600.0
HANG, ECHO = "benchmarks.reward:hang", "benchmarks.reward:echo"

Pair = tuple[str, str]  # answer, gold


def hang(request: VerificationRequest) -> Judgement:
    while True:
        pass


def echo(request: VerificationRequest) -> Judgement:
    return Judgement(1.0, request.response)


def pairs(data: Path) -> list[Pair]:
    """Each distinct reference answer with itself and with its neighbour."""
    golds = [json.loads(line)["answer"] for line in (data / "math500" / "test.jsonl").open()]
    gsm8k = (data / "gsm8k" / "test.jsonl").open()
    golds += [json.loads(line)["answer"].rpartition("####")[2].strip() for line in gsm8k]
    golds = list(dict.fromkeys(golds))
    return [
        pair for gold, other in zip(golds, golds[1:] + golds[:1], strict=True) for pair in ((gold, gold), (other, gold))
    ]


def start(verifiers: Sequence[str], children: int, timeout_s: float | None = None) -> Keeper:
    config = reward_settings([])
    return Keeper(
        verifiers,
        config.verifier_settings(),
        children,
        timeout_s or config.timeout_s,
        config.memory_mb,
        config.recycle_after,
        config.recycle_growth_mb,
        start_timeout_s=120.0,
    )


def memory(pids: Sequence[int]) -> list[float]:
    """Of each process what it shares with no other, in MiB."""
    return [psutil.Process(pid).memory_full_info().uss / 2**20 for pid in pids]


def core_s(*processes: psutil.Process) -> float:
    """Core time of this process, of these and of their children, those that have ended among them."""
    alive = [each for process in processes for each in (process, *process.children())]
    times = [each.cpu_times() for each in alive]
    ended = sum(each.children_user + each.children_system for each in times)
    return time.process_time() + ended + sum(each.user + each.system for each in times)


def figures(
    rows: Sequence[Pair], seconds: float, core: float, started_s: float, private: Sequence[float]
) -> dict[str, float]:
    return {
        "rows_per_s": len(rows) / seconds,
        "rows_per_core_s": len(rows) / core,
        "start_s": started_s,
        "child_private_mib": max(private),
    }


def ours(rows: Sequence[Pair], children: int) -> tuple[dict[str, float], list[Verdict]]:
    began = time.perf_counter()
    keeper = start(["math"], children)
    started_s = time.perf_counter() - began
    requests = [VerificationRequest("math", "", rf"\boxed{{{answer}}}", gold, {}) for answer, gold in rows]
    server = next(p for p in psutil.Process().children() if "reward.fork_server" in p.cmdline())
    began, core = time.perf_counter(), core_s(server)
    verdicts = keeper.verify(requests, DEADLINE_S)
    seconds, core = time.perf_counter() - began, core_s(server) - core
    private = memory([child.pid for child in server.children()])
    keeper.close()
    return figures(rows, seconds, core, started_s, private), verdicts


def plain_verdict(pair: Pair) -> bool:
    import math_verify

    answer, gold = pair
    return math_verify.verify(math_verify.parse(rf"\boxed{{{gold}}}"), math_verify.parse(rf"\boxed{{{answer}}}"))


def plain(rows: Sequence[Pair], children: int) -> tuple[dict[str, float], list[bool]]:
    began = time.perf_counter()
    with ProcessPoolExecutor(children) as pool:
        # Every process loads its libraries and grammar before the clock starts.
        list(pool.map(plain_verdict, [(r"\frac{1}{2}", "0.5")] * 64 * children))
        started_s = time.perf_counter() - began
        workers = [psutil.Process(pid) for pid in pool._processes]
        began, core = time.perf_counter(), core_s(*workers)
        found = list(pool.map(plain_verdict, rows, chunksize=16))
        seconds, core = time.perf_counter() - began, core_s(*workers) - core
        private = memory([worker.pid for worker in workers])
    return figures(rows, seconds, core, started_s, private), found


def mathematics(data: Path, children: int) -> dict[str, float]:
    rows = pairs(data)
    rounds = [(ours(rows, children), plain(rows, children)) for _ in range(ROUNDS)]
    ratios = [own["rows_per_s"] / other["rows_per_s"] for (own, _), (other, _) in rounds]
    (_, verdicts), (_, answers) = rounds[-1]
    seconds = [1000 * verdict.seconds for (_, found), _ in rounds for verdict in found]
    p50, p99 = np.percentile(seconds, [50, 99])
    core = [own["rows_per_core_s"] / other["rows_per_core_s"] for (own, _), (other, _) in rounds]
    own, other = [a for (a, _), _ in rounds], [b for _, (b, _) in rounds]
    differ = sum((verdict.score == 1.0) != right for verdict, right in zip(verdicts, answers, strict=True))
    return {
        "rows": len(rows),
        **{key: statistics.median(each[key] for each in own) for key in own[0]},
        **{f"plain_{key}": statistics.median(each[key] for each in other) for key in other[0]},
        "ratio_min": min(ratios),
        "ratio": statistics.median(ratios),
        "ratio_max": max(ratios),
        "ratio_cpu": statistics.median(core),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "max_ms": max(seconds),
        "failed": sum(verdict.failure is not None for verdict in verdicts),
        "other_outcome_than_plain": differ,
    }


def one_hang() -> dict[str, float]:
    """Seconds beyond the deadline until the next request in line has its verdict."""
    keeper = start([HANG, ECHO], 1, HANG_TIMEOUT_S)
    found = []
    for _ in range(5):
        began = time.perf_counter()
        verdicts = keeper.verify([VerificationRequest(name, "", "", "", {}) for name in (HANG, ECHO)], DEADLINE_S)
        found.append(1000 * (time.perf_counter() - began - HANG_TIMEOUT_S))
        assert verdicts[1].score == 1.0
    keeper.close()
    return {"beyond_deadline_ms": statistics.median(found)}


def programs(children: int) -> dict[str, float]:
    keeper = start(["code"], children)
    requests = [
        VerificationRequest("code", "", f"def f(x):\n    return x + {i}", {"tests": [f"assert f(1) == {1 + i}"]}, {})
        for i in range(PROGRAMS)
    ]
    keeper.verify(requests[:children], DEADLINE_S)
    (server,) = (p for p in psutil.Process().children() if "reward.fork_server" in p.cmdline())
    began, core = time.perf_counter(), core_s(server)
    verdicts = keeper.verify(requests, DEADLINE_S)
    seconds, core = time.perf_counter() - began, core_s(server) - core
    keeper.close()
    p50, p99 = np.percentile([1000 * verdict.seconds for verdict in verdicts], [50, 99])
    return {
        "programs_per_s": PROGRAMS / seconds,
        "core_ms_per_program": 1000 * core / PROGRAMS,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "passed": sum(verdict.score == 1.0 for verdict in verdicts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What verdicts cost.")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--children", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    found = {"math": mathematics(options.data, options.children), "hang": one_hang()}
    if "code" in REGISTRY:
        found["code"] = programs(options.children)
    else:
        print("the verifier code is not registered, so programs are left out")
    rounded = {part: {key: round(value, 3) for key, value in each.items()} for part, each in found.items()}
    content = {
        "machine": machine(),
        "load_before": load,
        "children": options.children,
        "rounds": ROUNDS,
        "figures": rounded,
    }
    print(json.dumps(content, indent=2))
    if options.save:
        RESULTS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
