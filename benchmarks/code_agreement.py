"""The verifier `code` on the reference solutions of public data sets, and on mutants of them that are wrong by one.

    python -m benchmarks.code_agreement --data ../shared/data [--sets humaneval mbpp ...] [--rows 50]

A reference solution has to pass. A mutant returns one more wherever the solution returns a number, and has to fail;
where a mutant passes, a third program tells whether the solution returns numbers at all. Prints exceptions and counts.
"""

import argparse
import ast
import gzip
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.config import compose
from reward.keeper import Keeper
from reward.types import Verdict, VerificationRequest

NUMERIC = """

def _numeric(function):
    def changed(*args, **kwargs):
        result = function(*args, **kwargs)
        if type(result) in (int, float):
            {change}
        return result
    return changed

{name} = _numeric({name})
"""
WRONG_BY_ONE, NONE_NUMERIC = "result += 1", "raise RuntimeError('a number')"


@dataclass(frozen=True)
class Row:
    """A task, its reference solution as a whole program, and the functions it is tested by."""

    uid: str
    gold: dict[str, Any]
    program: str
    entries: tuple[str, ...]

    def changed(self, change: str) -> str:
        return self.program + "".join(NUMERIC.format(name=name, change=change) for name in self.entries)


def humaneval(row: dict) -> Row:
    gold = {key: row[key] for key in ("prompt", "test", "entry_point")}
    return Row(row["task_id"], gold, row["prompt"] + row["canonical_solution"], (row["entry_point"],))


def leetcode(row: dict) -> Row:
    gold = {key: row[key] for key in ("prompt", "test", "entry_point")}
    return Row(row["task_id"], gold, row["completion"], (row["entry_point"].replace("()", ""),))


def mbpp(row: dict) -> Row:
    return _mbpp(row, {"setup": row["test_setup_code"], "tests": row["test_list"]})


def mbpp_sanitized(row: dict) -> Row:
    return _mbpp(row, {"test_imports": row["test_imports"], "test_list": row["test_list"]})


def mbpp_plus(row: dict) -> Row:
    return _mbpp(row, {"setup": row["test_imports"], "tests": row["test"]})


def _mbpp(row: dict, gold: dict) -> Row:
    called = {node.id for test in row["test_list"] for node in ast.walk(ast.parse(test)) if isinstance(node, ast.Name)}
    defined = [node.name for node in ast.parse(row["code"]).body if isinstance(node, ast.FunctionDef)]
    return Row(f"mbpp/{row['task_id']}", gold, row["code"], tuple(dict.fromkeys(n for n in defined if n in called)))


SETS: dict[str, tuple[str, Callable[[dict], Row]]] = {
    "humaneval": ("humaneval/HumanEval.jsonl.gz", humaneval),
    "humaneval_plus": ("humaneval_plus/HumanEvalPlus-OriginFmt.jsonl.gz", humaneval),
    "mbpp": ("mbpp/mbpp.jsonl", mbpp),
    "mbpp_sanitized": ("mbpp/sanitized-mbpp.json", mbpp_sanitized),
    "mbpp_plus": ("mbpp_plus/MbppPlus-OriginFmt.jsonl.gz", mbpp_plus),
    "leetcode": ("leetcode/LeetCodeDataset-v0.2.0-train.jsonl.gz", leetcode),
    "leetcode_test": ("leetcode/LeetCodeDataset-v0.3.1-test.jsonl.gz", leetcode),
}


def read(path: Path) -> Iterator[dict]:
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    yield from json.loads(text) if text.startswith("[") else map(json.loads, text.splitlines())


def keeper(children: int, test_timeout_s: float, total_timeout_s: float, overrides: tuple[str, ...] = ()) -> Keeper:
    """With the settings of conf/reward but for the times, which are for a busy machine."""
    limits = (f"reward.code.test_timeout_s={test_timeout_s}", f"reward.code.total_timeout_s={total_timeout_s}")
    reward = compose([*limits, f"reward.timeout_s={total_timeout_s + 10}", *overrides]).reward
    return Keeper(["code"], reward.verifier_settings(), children, reward.timeout_s, reward.memory_mb, 60.0)


def judged(keeper: Keeper, rows: list[Row], programs: list[str]) -> list[Verdict]:
    requests = [
        VerificationRequest("code", "", f"```python\n{program}\n```", row.gold, {})
        for row, program in zip(rows, programs, strict=True)
    ]
    return keeper.verify(requests, deadline_s=7200.0)


def agreement(keeper: Keeper, rows: list[Row]) -> dict[str, list[str]]:
    """Sentences on the references that do not pass, and on mutants that do though the solution returns numbers."""
    passing = judged(keeper, rows, [row.program for row in rows])
    missed = [
        f"{row.uid}: {_said(verdict)}" for row, verdict in zip(rows, passing, strict=True) if verdict.score != 1.0
    ]
    good = [row for row, verdict in zip(rows, passing, strict=True) if verdict.score == 1.0]
    mutants = judged(keeper, good, [row.changed(WRONG_BY_ONE) for row in good])
    unharmed = [row for row, verdict in zip(good, mutants, strict=True) if verdict.score != 0.0]
    probes = judged(keeper, unharmed, [row.changed(NONE_NUMERIC) for row in unharmed])
    survivors = [row.uid for row, verdict in zip(unharmed, probes, strict=True) if verdict.score != 1.0]
    return {"missed": missed, "survivors": survivors, "killed": [str(len(good) - len(unharmed))]}


def _said(verdict: Verdict) -> str:
    return f"{verdict.failure or verdict.score} {verdict.detail}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--rows", type=int, help="of each set, evenly spread; all where not given")
    parser.add_argument("--children", type=int, default=2)
    arguments = parser.parse_args()
    judge = keeper(arguments.children, test_timeout_s=30.0, total_timeout_s=90.0)
    try:
        for name in arguments.sets:
            path, shape = SETS[name]
            rows = [shape(row) for row in read(arguments.data / path)]
            rows = rows[:: max(1, len(rows) // arguments.rows)] if arguments.rows else rows
            began = time.monotonic()
            found = agreement(judge, rows)
            for key in ("missed", "survivors"):
                for sentence in found[key]:
                    print(f"  {name} {key}: {sentence}")
            print(
                f"{name}: {len(rows) - len(found['missed'])} of {len(rows)} references pass, mutants: "
                f"{found['killed'][0]} fail, {len(found['survivors'])} pass; {time.monotonic() - began:.0f} s",
                flush=True,
            )
    finally:
        judge.close()


if __name__ == "__main__":
    main()
