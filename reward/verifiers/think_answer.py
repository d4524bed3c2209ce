"""Whether a response has the form <think>...</think><answer>...</answer>, each part once and in this order.

Scores form alone and reads no gold: it is meant as one of `reward.terms.verifiers`, with a small weight. White space
may stand before, between and after the parts. Where the prompt already ends with <think>, as some chat templates do, a
response need not repeat it.
"""

import re
from collections.abc import Mapping
from typing import Any

from reward.types import Judgement, VerificationRequest, Verifier

# Possessive, so that no text makes it go back: time is linear in the response.
_PART = r"((?:[^<]|<(?!/?(?:think|answer)>))*+)"
_FORM = re.compile(rf"\s*+<think>{_PART}</think>\s*+<answer>{_PART}</answer>\s*+")


def make(settings: Mapping[str, Any]) -> Verifier:
    return verify


def verify(request: VerificationRequest) -> Judgement:
    response = request.response
    if request.prompt.rstrip().endswith("<think>") and not response.lstrip().startswith("<think>"):
        response = "<think>" + response
    form = _FORM.fullmatch(response)
    if form is None:
        return Judgement(0.0, None, detail="the response is not <think>...</think><answer>...</answer>")
    if not form[2].strip():
        return Judgement(0.0, None, detail="the answer is empty")
    return Judgement(1.0, form[2].strip(), "think_answer")
