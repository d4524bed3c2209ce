"""Countdown: an arithmetic expression of given numbers that comes to a target.

gold: {"numbers": [1, 2, 3], "target": 7}, or an entry of reasoning-gym's task countdown as its prompts carry it. The
answer may end with "= 7". Each number may be used as often as it is given, and all of them have to be where
`reward.countdown.all_numbers` says so.
"""

import re
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from reward.config import CountdownConfig
from reward.types import BadReference, Judgement, VerificationRequest, Verifier
from reward.verifiers.arithmetic import NotArithmetic, parse
from reward.verifiers.extraction import first_found, last_boxed, last_tag

_LINE = re.compile(r"[-+*/()\[\]=0-9.\s\u00d7\u00b7\u22c5\u2217\u00f7\u2212]+")


def last_line(text: str) -> str | None:
    """The last line that is not empty, where nothing but an expression stands on it."""
    line = text.rstrip().rpartition("\n")[2].strip()
    return line if _LINE.fullmatch(line) and re.search("[0-9]", line) else None


RULES = (("answer_tag", last_tag), ("boxed", last_boxed), ("last_line", last_line))


def make(settings: Mapping[str, Any]) -> Verifier:
    return partial(verify, config=CountdownConfig(**settings["countdown"]))


def verify(request: VerificationRequest, config: CountdownConfig) -> Judgement:
    numbers, target = _reference(request.gold)
    found = first_found(request.response, RULES)
    if found is None:
        return Judgement(0.0, None, detail="no expression in the response")
    answer, rule = found
    try:
        problem = _problem(answer, numbers, target, config.all_numbers)
    except (NotArithmetic, ZeroDivisionError) as error:
        problem = str(error) if isinstance(error, NotArithmetic) else "the expression divides by zero"
    return Judgement(0.0 if problem else 1.0, answer, rule, problem)


def _problem(answer: str, numbers: list[int], target: int, all_numbers: bool) -> str:
    """What is wrong with the answer, "" where nothing is. Raises `NotArithmetic` and `ZeroDivisionError`."""
    left, equals, right = answer.rstrip(". \n").partition("=")
    expression = parse(left)
    used, given = Counter(expression.numbers), Counter(numbers)
    # Before anything is computed: how large a value can get is then bounded by the puzzle.
    if extra := used - given:
        return f"{next(iter(extra))} is used more often than it is given"
    if all_numbers and (unused := given - used):
        return f"{next(iter(unused))} is not used, and reward.countdown.all_numbers asks for every number"
    value = expression.value()
    if value != target:
        return f"the expression comes to {value}, not to {target}"
    if equals and right.strip() != str(target):
        return f"{right.strip()[:40]!r} stands behind the equals sign, not {target}"
    return ""


def _reference(gold: Any) -> tuple[list[int], int]:
    try:
        puzzle = gold["entry"]["metadata"] if "entry" in gold else gold
        numbers, target = puzzle["numbers"], puzzle["target"]
    except (TypeError, KeyError) as error:
        raise BadReference(
            f'gold is not {{"numbers": [...], "target": ...}}: {type(error).__name__}: {error}'
        ) from error
    whole = [type(number) is int for number in [*numbers, target]] if isinstance(numbers, list) else []
    if len(whole) < 2 or not all(whole):
        raise BadReference(f"numbers is a list of integers and target an integer, got {str(gold)[:200]}")
    return numbers, target
