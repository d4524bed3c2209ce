r"""Equivalence of mathematical answers by math-verify.

gold: the final answer as a string ("72", "\frac{3}{4}") or a number. A percent sign is dropped on both sides.
math-verify's own time limit is switched off: it works by SIGALRM, on the main thread only, and turns an expired limit
into "not equal". Here the child's deadline does that job.
"""

import logging
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import math_verify

from reward.types import BadReference, Judgement, VerificationRequest, Verifier
from reward.verifiers.extraction import MATH_RULES, NUMBER, first_found

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns about the limit that is switched off

_LATEX = [math_verify.LatexExtractionConfig(boxed_match_priority=0)]
_INTEGER = re.compile(r"(-?)\s?(\d{1,3}(?:,\d{3})+|\d+)(?:\.0*)?")
_WITH_UNIT = re.compile(rf"(-?\s?(?:{NUMBER}))(?:\s*\\?%|\s+[a-z]{{3,}}(?:\s[a-z]+)*)")
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))


def make(settings: Mapping[str, Any]) -> Verifier:
    return verify


def verify(request: VerificationRequest) -> Judgement:
    gold = _gold_text(request.gold)
    gold_integer = integer(gold)
    gold_expressions = None if gold_integer is not None else _parse_gold(gold)
    found = first_found(request.response, MATH_RULES)
    if found is None:
        return Judgement(0.0, None, detail="no answer in the response")
    answer, rule = found
    cleaned = clean(answer)
    if gold_integer is not None and (answer_integer := integer(cleaned)) is not None:
        return Judgement(float(answer_integer == gold_integer), answer, rule)
    expressions = parse(cleaned)
    if not expressions:
        return Judgement(0.0, answer, rule, detail="the answer is not a mathematical expression")
    equal = math_verify.verify(
        gold_expressions if gold_expressions is not None else _parse_gold(gold),
        expressions,
        timeout_seconds=None,
        raise_on_error=True,
    )
    return Judgement(float(equal), answer, rule)


def clean(answer: str) -> str:
    """The answer without what surrounds its value: full stop, delimiters, currency, unit words, percent sign."""
    answer = answer.replace("\u2212", "-").strip().rstrip(".").strip()  # the typographic minus
    for left, right in _DELIMITERS:
        if len(answer) > len(left + right) and answer.startswith(left) and answer.endswith(right):
            answer = answer[len(left) : -len(right)].strip().rstrip(".").strip()
    answer = re.sub(r"^(-?)\s?(?:\\?\$|€|£)\s?", r"\1", answer.removeprefix("+"))
    with_unit = _WITH_UNIT.fullmatch(answer)
    return with_unit.group(1) if with_unit else answer


def integer(text: str) -> str | None:
    """Canonical digits of an integer literal ("1,000.0" gives "1000"), None for anything else. Strings, because
    Python refuses to convert more than 4,300 digits."""
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    digits = match.group(2).replace(",", "").lstrip("0") or "0"
    return "-" + digits if match.group(1) and digits != "0" else digits


def parse(text: str) -> list:
    """SymPy expressions of one answer; empty where math-verify reads none."""
    return math_verify.parse(
        rf"\boxed{{{text}}}", _LATEX, fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True
    )


def _gold_text(gold: Any) -> str:
    if isinstance(gold, bool) or not isinstance(gold, str | int | float):
        raise BadReference(f"gold is a string or a number for the verifier math, got {type(gold).__name__}")
    return clean(str(gold))


@lru_cache(maxsize=4096)
def _parse_gold(gold: str) -> list:
    expressions = parse(gold)
    if not expressions:
        raise BadReference(f"math-verify reads no expression in the gold answer {gold[:200]!r}")
    return expressions


# Fills the grammar's tables once, before children are forked from this process.
parse(r"\frac{1}{2}")
