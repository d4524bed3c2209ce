r"""The slow path: math-verify, which parses LaTeX into SymPy and compares there. Milliseconds, and sometimes for ever.

math-verify's own time limit is switched off: it works by SIGALRM, on the main thread only, and turns an expired limit
into "not equal". Here the child's deadline does that job.
"""

import logging
from functools import lru_cache
from typing import Any

import math_verify
import sympy
from latex2sympy2_extended import NormalizationConfig

from reward.answers.expressions import TooLarge

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns about the limit that is switched off

MAX_CHARACTERS = 2000  # its grammar needs time beyond proportion for more
MAX_DEPTH = 25  # of brackets; it needs seconds for a hundred
MAX_EXPONENT = 100_000
_CONFIG = [
    math_verify.LatexExtractionConfig(
        boxed_match_priority=0,
        # Units are reward.answers.units' business: here the m of "5 m" would go whether or not it is a variable.
        normalization_config=NormalizationConfig(
            basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all", equations=False
        ),
    )
]


class Incomparable(ValueError):
    """An answer on which math-verify or SymPy raises."""


@lru_cache(maxsize=4096)
def parse(text: str) -> tuple[Any, ...]:
    """SymPy expressions of one answer; empty where math-verify reads none, or raises for what it cannot read."""
    if len(text) > MAX_CHARACTERS or _is_deep(text):
        return ()
    try:
        return tuple(
            math_verify.parse(
                rf"\boxed{{{text}}}", _CONFIG, fallback_mode="no_fallback", parsing_timeout=None, raise_on_error=True
            )
        )
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 -- which kind its grammar and SymPy raise has no rule
        return ()


def equal(gold: tuple[Any, ...], answer: tuple[Any, ...]) -> bool:
    """Whether an expression of `answer` is one of `gold`.

    Raises `TooLarge` where gold cannot be evaluated, `Incomparable` where the answer cannot be compared, and whatever
    SymPy does where the gold cannot be compared with itself either.
    """
    if any(_is_too_large(expression) for expression in gold):
        raise TooLarge
    if any(_is_too_large(expression) or _is_undefined(expression) for expression in answer):
        return False
    if any(_is_undefined(expression) for expression in gold):  # 12:00, for one: equal to its own spelling alone
        return False
    try:
        return not all(_differ(left, right) for left in gold for right in answer) and _verified(gold, answer)
    except MemoryError:
        raise
    except Exception as error:  # which kind SymPy raises has no rule
        _verified(gold, gold)
        raise Incomparable(f"{type(error).__name__}: {error}") from error


def _verified(gold: tuple[Any, ...], answer: tuple[Any, ...]) -> bool:
    return math_verify.verify(
        list(gold), list(answer), timeout_seconds=None, raise_on_error=True, allow_set_relation_comp=True
    )


def _is_deep(text: str) -> bool:
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest > MAX_DEPTH


def _differ(gold: Any, answer: Any) -> bool:
    """Whether two scalars have clearly different values at each of two points, or two equations other variables.

    math-verify would simplify the difference or solve the equations, which takes long just where they are not equal.
    """
    if isinstance(gold, sympy.Eq) and isinstance(answer, sympy.Eq):
        return {symbol.name for symbol in gold.free_symbols} != {symbol.name for symbol in answer.free_symbols}
    if not all(isinstance(each, sympy.Expr) and not isinstance(each, sympy.MatrixExpr) for each in (gold, answer)):
        return False
    for point in (0.737, 1.391):
        values = []
        for each in (gold, answer):
            coordinates = {symbol: point + 0.1 * (sum(symbol.name.encode()) % 17) for symbol in each.free_symbols}
            value = each.evalf(20, subs=coordinates)
            if not value.is_number or not value.is_finite:
                return False
            values.append(complex(value))
        if abs(values[0] - values[1]) <= 1e-4 * max(map(abs, values)) + 1e-6:
            return False
    return True


def _is_too_large(expression: Any) -> bool:
    """Whether a power of numbers in it has an exponent that takes long to evaluate. Looks, and evaluates nothing."""
    return isinstance(expression, sympy.Basic) and _magnitude(expression) is None


def _magnitude(expression: sympy.Basic) -> float | None:
    """Roughly the largest absolute value in a number's tree; None where a power or factorial goes beyond the limit."""
    parts = [_magnitude(part) for part in expression.args]
    if None in parts:
        return None
    sizes = [part for part in parts if part is not None]
    if isinstance(expression, sympy.Pow):
        if sizes[1] > MAX_EXPONENT and sizes[0] != 1:
            return None
        try:
            return max(sizes[0], 2.0) ** sizes[1]
        except OverflowError:
            return float("inf")
    if isinstance(expression, sympy.factorial) and sizes[0] > MAX_EXPONENT:
        return None
    if expression.is_Number:
        return _size(expression)
    if isinstance(expression, sympy.Mul):
        product = 1.0
        for size in sizes:
            product *= max(size, 1.0)
        return product
    return float(sum(sizes)) if sizes else 1.0


def _size(number: Any) -> float:
    try:
        return abs(float(number))
    except (OverflowError, TypeError):
        return float("inf")


def _is_undefined(expression: Any) -> bool:
    return isinstance(expression, sympy.Basic) and expression.has(sympy.nan, sympy.zoo)


# Fills the grammar's tables once, before children are forked from this process.
parse(r"\frac{1}{2}")
