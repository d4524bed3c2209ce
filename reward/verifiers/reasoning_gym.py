"""reasoning-gym's tasks, judged by their own `score_answer`.

gold: {"task": registered data set, "entry": {"question": str, "answer": str, "metadata": {...}}}. A scorer that raises
on an answer it did not expect (prime_factorization does on words) is a failure of kind `error`, not a wrong answer.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from reasoning_gym.factory import DATASETS, get_score_answer_fn

from reward.types import BadReference, Judgement, VerificationRequest, Verifier
from reward.verifiers.extraction import first_found, last_tag

# These scorers compare with a tuple of tuples in the metadata. JSON has lists only, and to lists nothing is equal.
GRID_FIELDS = {"arc_agi": "output", "rearc": "output"}

RULES = (("answer_tag", last_tag),)

scorer = lru_cache(maxsize=None)(get_score_answer_fn)


def make(settings: Mapping[str, Any]) -> Verifier:
    return verify


def verify(request: VerificationRequest) -> Judgement:
    task, entry = _reference(request.gold)
    found = first_found(request.response, RULES)
    if found is None:
        return Judgement(0.0, None, detail="no <answer>...</answer> in the response")
    answer, rule = found
    return Judgement(float(scorer(task)(answer, entry)), answer, rule)


def _reference(gold: Any) -> tuple[str, dict[str, Any]]:
    try:
        task, entry = gold["task"], dict(gold["entry"])
        metadata = dict(entry["metadata"])
        entry["question"], entry["answer"]
    except (TypeError, KeyError, ValueError) as error:
        raise BadReference(
            'gold is not {"task": ..., "entry": {"question": ..., "answer": ..., "metadata": ...}}: '
            f"{type(error).__name__}: {error}"
        ) from error
    if task not in DATASETS or task == "composite":
        raise BadReference(f"reasoning-gym has no task {task!r} with a scorer of its own")
    if task in GRID_FIELDS:
        field = GRID_FIELDS[task]
        metadata[field] = tuple(tuple(row) for row in metadata[field])
    return task, {**entry, "metadata": metadata}
