"""reasoning-gym's tasks, judged by their own `score_answer`.

gold: {"task": registered data set, "entry": {"question": str, "answer": str, "metadata": {...}}}.

Scorers that hand the answer to Python's `eval` get one that reads literals, arithmetic or formulas only. What reading
leaves out scores what the task gives an answer that cannot be read. A scorer that raises is a failure of kind `error`,
not a wrong answer, but for those in `RAISES`, which are known to raise on answers of another form.
"""

import ast
from collections.abc import Mapping
from functools import lru_cache
from types import ModuleType
from typing import Any

import sympy
from reasoning_gym.algebra import intermediate_integration, polynomial_multiplication, simple_integration
from reasoning_gym.algorithmic import binary_matrix, spiral_matrix, string_insertion
from reasoning_gym.factory import DATASETS, get_score_answer_fn
from reasoning_gym.games import countdown, n_queens, puzzle24

from reward.types import BadReference, Judgement, VerificationRequest, Verifier
from reward.verifiers import arithmetic, formula
from reward.verifiers.extraction import first_found, last_tag

# These scorers compare with a tuple of tuples in the metadata. JSON has lists only, and to lists nothing is equal.
GRID_FIELDS = {"arc_agi": "output", "rearc": "output"}

# The scorer takes the truth of a text, so that "False" is as true as "True".
TRUTH_TASKS = ("game_of_life_halting",)

# What these scorers raise for an answer of another form than theirs; it is wrong, and no failure.
RAISES: dict[str, tuple[type[Exception], ...]] = {
    "boxnet": (AttributeError, TypeError),
    "coin_flip": (OverflowError,),
    "game_of_life": (KeyError,),
    "prime_factorization": (ValueError,),
}

MAX_NUMBERS = 100  # of one expression; arithmetic on more may take longer than a verification should

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
    if task in TRUTH_TASKS:
        return Judgement(float(answer.casefold() == str(entry["answer"]).casefold()), answer, rule)
    try:
        return Judgement(float(scorer(task)(answer, entry)), answer, rule)
    except RAISES.get(task, ()) as error:
        return Judgement(0.0, answer, rule, f"reasoning-gym cannot read the answer: {type(error).__name__}: {error}")


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


def _arithmetic(text: str) -> Any:
    expression = arithmetic.parse(text)
    if len(expression.numbers) > MAX_NUMBERS:
        raise arithmetic.NotArithmetic(f"more than {MAX_NUMBERS} numbers")
    return expression.value()


class _Formulas(ModuleType):
    """SymPy with the `parse_expr` that reads formulas only."""

    parse_expr = staticmethod(formula.parse_expr)

    def __getattr__(self, name: str) -> Any:
        return getattr(sympy, name)


def _replace_eval() -> None:
    """Puts readers of our own where these modules look `eval` and `parse_expr` up."""
    for module in (binary_matrix, n_queens, spiral_matrix, string_insertion):
        vars(module)["eval"] = ast.literal_eval
    for module in (countdown, puzzle24):
        vars(module)["parse_expr"] = _arithmetic
    for module in (intermediate_integration, simple_integration):
        vars(module)["sympy"] = _Formulas("sympy")
    vars(polynomial_multiplication)["sp"] = _Formulas("sympy")


_replace_eval()
