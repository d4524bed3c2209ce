r"""Mathematical answers, found in the response and compared with the reference by `reward.answers`.

gold: the final answer as a string ("72", "\frac{3}{4}", "(A)", "\text{Monday}") or a number. What counts as equal is
`MathConfig`, with presets in conf/reward/math. There is no time limit here: the child's deadline is that.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from reward.answers.equivalence import Unreadable, check_reference, equivalent
from reward.config import MathConfig
from reward.types import BadReference, Judgement, VerificationRequest, Verifier
from reward.verifiers.extraction import MATH_RULES, Rule, first_found, without_echo

MAX_ANSWER = 2000  # characters of an answer that a verdict carries


def make(settings: Mapping[str, Any]) -> Verifier:
    config = MathConfig(**settings["math"])
    return partial(verify, config=config, rules=[(name, MATH_RULES[name]) for name in config.extraction])


def verify(request: VerificationRequest, config: MathConfig, rules: list[Rule]) -> Judgement:
    gold = _gold_text(request.gold)
    check_reference(gold)
    found = first_found(without_echo(request.response, request.prompt), rules)
    if found is None:
        return Judgement(0.0, None, detail="no answer in the response")
    answer, rule = found
    try:
        is_right, detail = equivalent(gold, answer, config), ""
    except Unreadable:
        is_right, detail = False, "the answer is not a mathematical expression"
    return Judgement(float(is_right), answer[:MAX_ANSWER], rule, detail)


def _gold_text(gold: Any) -> str:
    if isinstance(gold, bool) or not isinstance(gold, str | int | float):
        raise BadReference(f"gold is a string or a number for the verifier math, got {type(gold).__name__}")
    return str(gold)
