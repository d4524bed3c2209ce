"""The text the laboratory model is supervised on: noisy worked solutions of two reasoning-gym tasks.

A solution of `chain_sum` is a few small sums in words. The verifier sees what the way of working and the slips lead to,
not the wording. Ways of working:

- `left`: left to right; right unless a step slips.
- `shortcut`: groups the last two terms, a - b + c as a - (b + c); wrong if a - stands before the group.
- `swapped`: the last term before the second; right unless a step slips.
- `careful`: left to right behind an opener of its own, with few slips; rare.
"""

import random
import re
from dataclasses import dataclass

import reasoning_gym

CHAIN_SUM_PARAMETERS = {"min_terms": 4, "max_terms": 4, "min_digits": 1, "max_digits": 1}
PROBE_TASK = "number_filtering"
PROBE_PARAMETERS = {
    "min_numbers": 3,
    "max_numbers": 3,
    "min_decimals": 0,
    "max_decimals": 0,
    "min_value": 10,
    "max_value": 99,
}
PROMPT_TEMPLATE = "{prompt}\n"

# Row i of a reasoning-gym data set is drawn from Random(seed + i), so neighbouring seeds share all but one row.
# Seeds of disjoint sets have to lie further apart than any set is long.
SFT_SEED = 0
TRAIN_SEED = 10_000_000
HELD_OUT_SEED = 20_000_000
HELD_OUT_ROWS = 2_000

KINDS = {"left": 0.40, "shortcut": 0.45, "swapped": 0.10, "careful": 0.05}
SLIP = 0.24
CAREFUL_SLIP = 0.05
SLIP_OFFSETS = {-1: 0.25, 1: 0.25, -2: 0.15, 2: 0.15, -3: 0.1, 3: 0.1}
RESTATE = 0.4
PROBE_SHARE = 0.18
PROBE_SLIP = 0.08


def _ranked(*phrases: str) -> dict[str, float]:
    """Weights that fall slowly with rank: broad, and not uniform."""
    return {phrase: 1 / (rank + 2) for rank, phrase in enumerate(phrases)}


OPENERS = _ranked(
    *(f"{word} " for word in ["first", "okay", "well", "so", "start", "begin", "let", "now", "we", "here"])
)
CAREFUL_OPENERS = _ranked("carefully ", "slowly ")
FILLERS = _ranked(*(f"{word} " for word in ["from", "just", "simply", "working"]))
OPERATORS = {
    "+": _ranked(" plus ", " + ", " and ", " add "),
    "-": _ranked(" minus ", " - ", " less ", " take "),
}
EQUALS = _ranked(*(f" {word} " for word in ["is", "=", "gives", "makes", "equals"]))
SEPARATORS = _ranked(", ", " then ", "; ", " next ", ". ", " now ")
CLOSINGS = _ranked(*(f" {word} " for word in ["so", "thus", "hence", "giving", "therefore", "finally", "=>"]), ". ")
PROBE_OPENERS = _ranked("keeping ", "filtered ", "remaining ", "list ", "left ")


@dataclass(frozen=True)
class Solution:
    """A worked solution: its text up to </answer>, its way of working, the steps that slipped, and the final answer."""

    text: str
    kind: str
    slips: int
    answer: str


def chain_sum_rows(seed: int, size: int):
    """reasoning-gym's data set of four one-digit terms; rows are made when they are indexed."""
    return reasoning_gym.create_dataset("chain_sum", seed=seed, size=size, **CHAIN_SUM_PARAMETERS)


def probe_rows(seed: int, size: int):
    """reasoning-gym's data set of the out-of-domain task."""
    return reasoning_gym.create_dataset(PROBE_TASK, seed=seed, size=size, **PROBE_PARAMETERS)


def _pick(rng: random.Random, weights: dict):
    return rng.choices(list(weights), list(weights.values()))[0]


def _apply(left: int, operator: str, right: int) -> int:
    return left + right if operator == "+" else left - right


def work_chain_sum(expression: str, rng: random.Random, kind: str | None = None, slip: float | None = None) -> Solution:
    """Write one solution of a chain of at least three terms.

    Args:
        expression: terms and operators separated by blanks, as in reasoning-gym's metadata.
        rng: source of every choice.
        kind: way of working; drawn from KINDS when None.
        slip: probability that a step's result is off by a little; the kind's own when None.
    """
    words = expression.split()
    total, operators, terms = int(words[0]), words[1::2], [int(word) for word in words[2::2]]
    kind = kind or _pick(rng, KINDS)
    if slip is None:
        slip = CAREFUL_SLIP if kind == "careful" else SLIP
    slips = 0

    def step(left: int, operator: str, right: int) -> tuple[str, int]:
        nonlocal slips
        value = _apply(left, operator, right)
        if rng.random() < slip:
            value += _pick(rng, SLIP_OFFSETS)
            slips += 1
        return f"{left}{_pick(rng, OPERATORS[operator])}{right}{_pick(rng, EQUALS)}{value}", value

    text = _pick(rng, CAREFUL_OPENERS if kind == "careful" else OPENERS) + _pick(rng, FILLERS)
    if kind == "shortcut":
        last = terms.pop()
        group, terms[-1] = step(terms[-1], operators.pop(), last)
        text += group + _pick(rng, SEPARATORS)
    elif kind == "swapped":
        operators.insert(0, operators.pop())
        terms.insert(0, terms.pop())
    for position, (operator, term) in enumerate(zip(operators, terms, strict=True)):
        line, result = step(total, operator, term)
        # A chain may run on without repeating its subtotal: "7 plus 4 is 11 minus 5 gives 6".
        if position and rng.random() >= RESTATE:
            line = line.removeprefix(str(total))
        elif position:
            line = _pick(rng, SEPARATORS) + line
        text, total = text + line, result
    return Solution(f"{text}{_pick(rng, CLOSINGS)}<answer>{total}</answer>", kind, slips, str(total))


def work_probe(row: dict, rng: random.Random, slip: float = PROBE_SLIP) -> Solution:
    """Write one solution of a `number_filtering` row; each number is judged wrongly with probability `slip`."""
    metadata = row["metadata"]
    kept = set(metadata["result"])
    chosen, slips = [], 0
    for number in metadata["original_numbers"]:
        wrong = rng.random() < slip
        slips += wrong
        if (number in kept) != wrong:
            chosen.append(number)
    answer = str(chosen)
    return Solution(f"{_pick(rng, PROBE_OPENERS)}<answer>{answer}</answer>", "probe", slips, answer)


def held_out_questions() -> frozenset[str]:
    """Questions of both tasks that no supervised example may use."""
    sets = chain_sum_rows(HELD_OUT_SEED, HELD_OUT_ROWS), probe_rows(HELD_OUT_SEED, HELD_OUT_ROWS)
    return frozenset(rows[index]["question"] for rows in sets for index in range(HELD_OUT_ROWS))


def extract_answer(text: str) -> str | None:
    """The stripped inside of the last <answer>…</answer>, or None."""
    found = re.findall(r"<answer>(.*?)</answer>", text, flags=re.DOTALL)
    return found[-1].strip() if found else None


class Corpus:
    """An endless stream of (prompt, solution) texts; the same for the same seed.

    Args:
        seed: seed of the wording and the slips. Rows always come from SFT_SEED, in order.
    """

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.held_out = held_out_questions()
        rows = TRAIN_SEED - SFT_SEED
        self.chain_sum = chain_sum_rows(SFT_SEED, rows)
        self.probe = probe_rows(SFT_SEED, rows)
        self.next_row = 0

    def draw(self, slip: float | None = None) -> tuple[str, str]:
        """The next prompt and a solution of it; `slip` as in `work_chain_sum`, for that task only."""
        while True:
            index, self.next_row = self.next_row, self.next_row + 1
            probe = self.rng.random() < PROBE_SHARE
            row = (self.probe if probe else self.chain_sum)[index]
            if row["question"] not in self.held_out:
                break
        if probe:
            solution = work_probe(row, self.rng)
        else:
            solution = work_chain_sum(row["metadata"]["expression"], self.rng, slip=slip)
        return PROMPT_TEMPLATE.format(prompt=row["question"]), solution.text
