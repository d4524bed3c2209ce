"""Verifiable instructions, the kinds of IFEval (`reward.instructions`).

gold: {"instruction_id_list": [...], "kwargs": [{...}, ...]}, lists in parallel; nulls in kwargs are left out. Of a
reasoning response only what follows the first </think> is judged, so the reasoning may use the commas and the words
that the answer must not.
"""

from collections.abc import Mapping
from typing import Any

from reward.config import InstructionsConfig
from reward.instructions import following, language, text
from reward.types import Judgement, VerificationRequest, Verifier

MODES = ("strict", "loose")
SCORES = ("all", "share")
MAX_ANSWER = 200  # characters of the response that a verdict repeats


def make(settings: Mapping[str, Any]) -> Verifier:
    config = InstructionsConfig(**settings["instructions"])
    if config.mode not in MODES or config.score not in SCORES:
        raise ValueError(
            f"reward.instructions.mode is one of {MODES} and reward.instructions.score one of {SCORES}, "
            f"got {config.mode!r} and {config.score!r}"
        )

    def verify(request: VerificationRequest) -> Judgement:
        instructions = following.read(request.gold)
        response, reasoned = following.without_reasoning(request.response)
        if not response.strip():
            return Judgement(0.0, None, detail="nothing after the reasoning" if reasoned else "the response is empty")
        strict, loose = following.follow(instructions, response)
        counted = strict if config.mode == "strict" else loose
        share = sum(counted) / len(counted)
        return Judgement(
            score=share if config.score == "share" else float(share == 1.0),
            answer=response[:MAX_ANSWER],
            rule="after_reasoning" if reasoned else "whole_response",
            detail=_detail(instructions, strict, loose, counted),
        )

    return verify


def _detail(
    instructions: list[following.Instruction], strict: list[bool], loose: list[bool], counted: list[bool]
) -> str:
    """Both modes in numbers, then what was not followed in the one that counts."""
    numbers = f"followed of {len(instructions)}: {sum(strict)} strictly, {sum(loose)} loosely"
    missed = [str(each) for each, followed in zip(instructions, counted, strict=True) if not followed]
    return f"{numbers}; not followed: {'; '.join(missed)}" if missed else numbers


# Loads the profiles of languages and the model of sentences once, before children are forked from this process.
language.detect("one")
text.sentences("One. Two.", 1)
