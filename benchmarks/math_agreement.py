r"""How well the verifier of mathematics agrees with public data sets: `python -m benchmarks.math_agreement [DATA]`.

DATA is the folder of the data sets (default ../shared/data). Judged by killable children, as in training:

solutions   worked solutions with a box or `####` against the reference beside them; each exception with its verdict
mismatched  10,000 pairs of different references of one type; each accepted pair is printed
rewritten   references in another form of the same value (fractions, spacing, delimiters, units, order in sets)
"""

import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from launch.config import compose
from reward.answers.numbers import read_number
from reward.answers.structure import read_structure
from reward.answers.tidy import tidy
from reward.answers.units import split_unit
from reward.answers.words import choice_letter, words
from reward.keeper import Keeper
from reward.types import Verdict, VerificationRequest
from reward.verifiers.extraction import hash_line, last_boxed

Pair = tuple[str, str]  # response, gold
MISMATCHED = 10_000
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def solutions(data: Path) -> dict[str, list[Pair]]:
    """By data set; for AMC and AIME 2025, which have no solutions, the reference itself in a box."""
    math_train = {row["problem"]: row["answer"] for row in json.loads((data / "math/train.json").read_text())}
    math500 = _lines(data / "math500/test.jsonl")
    answers = {row["problem"]: row["answer"] for row in math500}
    worked = [
        row["reward_model"]["ground_truth"]
        for row in parquet.read_table(data / "math/train_with_solutions.parquet").to_pylist()
    ]
    tests = _lines(data / "math/test.jsonl")
    found = {
        "gsm8k": [
            (row["answer"], row["answer"].rpartition("####")[2].strip())
            for part in ("train", "test")
            for row in _lines(data / f"gsm8k/{part}.jsonl")
        ],
        "math_train": [(row["solution"], math_train.get(row["question"], row["target"])) for row in worked],
        "math_test": [
            (row["solution"], answers.get(row["problem"]) or last_boxed(row["solution"]) or "") for row in tests
        ],
        "math500": [(row["solution"], row["answer"]) for row in math500],
        "minerva_math": [
            (row["solution"], last_boxed(row["solution"]) or "") for row in _lines(data / "minerva_math/test.jsonl")
        ],
        "aime_train": [
            (row["solution"], row["answer"]) for row in json.loads((data / "aime_amc/aime_train.json").read_text())
        ],
        "aime24": [(row["solution"], row["answer"]) for row in _lines(data / "aime_amc/aime24.jsonl")],
    }
    for name in ("aime25", "amc23"):
        rows = _lines(data / f"aime_amc/{name}.jsonl")
        found[name] = [(rf"\boxed{{{row['answer']}}}", str(row["answer"])) for row in rows]
    return {
        name: [(text or "", gold) for text, gold in pairs if last_boxed(text or "") or hash_line(text or "")]
        for name, pairs in found.items()
    }


def kind(gold: str) -> str:
    """Type of a reference: what its mismatched partners share with it."""
    text = tidy(gold)
    bare = split_unit(text)[0].removesuffix("%")
    if (number := read_number(bare)) is not None:
        return "decimal" if number.is_decimal else "integer" if re.fullmatch(r"-?[\d, ]+", bare) else "fraction"
    if choice_letter(text):
        return "choice"
    if words(text):
        return "words"
    parts = read_structure(text)
    if parts is not None:
        return f"{parts.kind} of {len(parts.parts)}"
    return "relation" if "=" in text else "formula"


def mismatched(golds: Sequence[str], count: int, seed: int) -> list[Pair]:
    """Pairs of one type that are spelt differently, spread evenly over the types but for the small ones."""
    rng = random.Random(seed)
    by_kind: dict[str, list[str]] = {}
    for gold in dict.fromkeys(golds):
        by_kind.setdefault(kind(gold), []).append(gold)
    groups = [group for group in by_kind.values() if len(group) > 1]
    limits = [len(group) * (len(group) - 1) for group in groups]
    pairs: dict[Pair, None] = {}
    taken = [0] * len(groups)
    while len(pairs) < count and any(used < limit for used, limit in zip(taken, limits, strict=True)):
        for k, group in enumerate(groups):
            if taken[k] < limits[k] and len(pairs) < count:
                taken[k] += 1
                answer, gold = rng.sample(group, 2)
                spellings = [tidy(text).replace(" ", "") for text in (answer, gold)]
                letters = [choice_letter(text) for text in spellings]
                if spellings[0] != spellings[1] and (letters[0] is None or letters[0] != letters[1]):
                    pairs[(rf"\boxed{{{answer}}}", gold)] = None
    return list(pairs)


def rewritten(gold: str) -> Iterator[tuple[str, str]]:
    """(what was done, the same value in another form) for a reference."""
    text = tidy(gold)
    number = read_number(text)
    yield "dollars", f"${gold}$"
    if r"\frac" in gold and r"\dfrac" not in gold:
        yield "dfrac", re.sub(r"\\t?frac", r"\\dfrac", gold)
    if "+" in gold and r"\text" not in gold:
        yield "spacing", gold.replace("+", " + ").replace("=", r"\;=\;")
    if r"\left" not in gold and gold.startswith("(") and gold.endswith(")"):
        yield "left and right", rf"\left{gold[:-1]}\right)"
    if number is not None and not isinstance(number.value, float):
        value: Any = number.value
        if hasattr(value, "denominator") and value.denominator > 1:
            yield "fraction", rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
            yield "slash", f"{value.numerator}/{value.denominator}"
            if 10**6 % value.denominator == 0:
                yield "decimal", f"{float(value):.12g}"
            if value > 1:
                whole, rest = divmod(value.numerator, value.denominator)
                yield "mixed number", rf"{whole}\frac{{{rest}}}{{{value.denominator}}}"
        elif hasattr(value, "denominator") and 0 < abs(value) < 10**12:
            yield "point zero", f"{int(value)}.0"
            yield "thousands", f"{int(value):,}"
            yield "unit", rf"{int(value)} \text{{ units}}"
            yield "equation", f"x = {int(value)}"
            yield "scientific", rf"{int(value) / 1000:.12g} \times 10^{{3}}"
    if (letter := choice_letter(text)) is not None:
        yield from (("choice", form) for form in (f"({letter})", f"{letter}.", rf"\text{{{letter}}}"))
    elif words(text) and r"\text" in text:
        yield "plain words", re.sub(r"\\text *\{([^{}]*)\}", r"\1", gold)
    parts = read_structure(text)
    if parts is not None and parts.kind in ("list", "{}") and len(parts.parts) > 1:
        yield "order", (r"\{%s\}" if parts.kind == "{}" else "%s") % ", ".join(reversed(parts.parts))


def judge(keeper: Keeper, pairs: Sequence[Pair]) -> list[Verdict]:
    requests = [VerificationRequest("math", "", response, gold, {}) for response, gold in pairs]
    return keeper.verify(requests, deadline_s=3600.0)


def _lines(path: Path) -> list[dict[str, Any]]:
    with path.open() as lines:
        return [json.loads(line) for line in lines]


def _print(title: str, pairs: Sequence[Pair], verdicts: Sequence[Verdict], wanted: bool, seconds: float) -> None:
    exceptions = [k for k, verdict in enumerate(verdicts) if (verdict.score == 1.0) != wanted]
    if not wanted:
        exceptions = [k for k, verdict in enumerate(verdicts) if verdict.score == 1.0]
    failures = Counter(verdict.failure for verdict in verdicts if verdict.failure is not None)
    share = len(exceptions) / max(len(pairs), 1)
    print(f"{title}: {len(pairs)} pairs, {len(exceptions)} exceptions ({share:.3%}), {len(pairs) / seconds:.0f}/s")
    for failure, count in failures.items():
        print(f"    {count} failed: {failure}")
    for k in exceptions:
        verdict, answer = verdicts[k], verdicts[k].answer or ""
        print(f"    gold {pairs[k][1][:90]!r}, answer {answer[:90]!r} {verdict.failure or ''} {verdict.detail[:120]}")


def main(data: Path) -> None:
    config = compose([]).reward
    keeper = Keeper({"math"}, {"math": asdict(config.math)}, 2, config.timeout_s, config.memory_mb, 10_000, 256, 120.0)
    try:
        sets = solutions(data)
        for name, pairs in sets.items():
            began = time.monotonic()
            _print(name, pairs, judge(keeper, pairs), True, time.monotonic() - began)
        golds = [gold for pairs in sets.values() for _, gold in pairs if gold]
        wrong = mismatched(golds, MISMATCHED, seed=0)
        began = time.monotonic()
        _print("mismatched", wrong, judge(keeper, wrong), False, time.monotonic() - began)
        forms: dict[str, list[Pair]] = {}
        for gold in dict.fromkeys(golds):
            for name, form in rewritten(gold):
                forms.setdefault(name, []).append((rf"\boxed{{{form}}}", gold))
        for name, pairs in forms.items():
            began = time.monotonic()
            _print(f"rewritten, {name}", pairs, judge(keeper, pairs), True, time.monotonic() - began)
    finally:
        keeper.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED)
