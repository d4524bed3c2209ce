r"""Whether an answer is the reference answer: the cheap readings first, math-verify for what they do not read.

A value is read as a number, a letter, words, a structure of values, a relation, or a formula. What the reference is
decides: to a reference of words only words are equal.
"""

import re
from fractions import Fraction
from functools import lru_cache

from reward.answers import expressions, symbolic
from reward.answers.numbers import equal_numbers, read_number
from reward.answers.structure import LIST, MATRIX, SET, TUPLE, UNION, Structure, read_structure, split_top
from reward.answers.tidy import tidy
from reward.answers.units import split_unit, units_agree, without_letter
from reward.answers.words import choice_letter, chosen_letter, plain_words, words
from reward.config import MathConfig
from reward.types import BadReference

MAX_CHARACTERS = 20_000  # of an answer that is looked into; a longer one is compared as it stands
_NAME = re.compile(  # x, x_1, f(x), f^{-1}(x), \text{Area}, m\angle ABC
    r"\\?[a-zA-Z]+'*(?:_(?:\w|\{[\w,]+\}))?(?:\([a-zA-Z,]+\))?(?:\^\{-1\}\([a-zA-Z]\))?"
    r"|\\text\{[^{}]*\}|m?\\angle ?[A-Z]+"
)
_INEQUALITY = re.compile(r"\\(?:le|ge|ne)(?![a-zA-Z])|[<>]")


class Unreadable(ValueError):
    """An answer that is no mathematical expression."""


def check_reference(gold: str) -> None:
    """Raises `BadReference` for a reference that nothing here can read."""
    if len(gold) <= MAX_CHARACTERS and not _is_readable(tidy(gold), 0):
        raise BadReference(f"no mathematical expression, letter or words in the gold answer {gold[:200]!r}")


def equivalent(gold: str, answer: str, config: MathConfig) -> bool:
    """Raises `BadReference` for a gold that cannot be read or evaluated, and `Unreadable` for such an answer."""
    if max(len(gold), len(answer)) > MAX_CHARACTERS:
        return _plain(gold) == _plain(answer)
    try:
        return _equal(_tidied(gold), tidy(answer), config, 0)
    except expressions.TooLarge as error:
        raise BadReference(f"the gold answer {gold[:200]!r} is too large to evaluate") from error


def _plain(text: str) -> str:
    return text.strip().replace(",", "").lstrip("0").removesuffix(".")


_tidied = lru_cache(maxsize=4096)(tidy)


def _equal(gold: str, answer: str, config: MathConfig, depth: int) -> bool:
    if gold == answer and (config.units != "require" or not depth):
        return True
    letter = choice_letter(gold)
    if letter is not None and (chosen := chosen_letter(answer)) is not None:
        return chosen == letter
    verdict = shortcut(gold, answer, config)
    if verdict is not None:
        return verdict
    if (gold_words := words(gold)) is not None and (letter is None or len(gold) > 1):
        return gold_words == plain_words(answer)
    if words(answer) is not None and "\\text" in answer and plain_words(gold) == plain_words(answer):
        return True
    sides = _related(gold, answer)
    if sides is not None:
        return _equal(*sides, config, depth + 1)
    if (verdict := _equal_equations(gold, answer)) is not None:
        return verdict
    if (parts := read_structure(gold)) is not None and depth < 8:
        verdict = _equal_structures(parts, answer, config, depth)
        if verdict is not None:
            return verdict
    return _equal_values(gold, answer, config)


def shortcut(gold: str, answer: str, config: MathConfig) -> bool | None:
    """The verdict on two tidy values that are number literals, maybe with units; None for anything else."""
    gold_value, gold_unit = split_unit(gold)
    gold_bare = gold_value.removesuffix("%")
    gold_number = read_number(gold_bare)
    if gold_number is None:
        return None
    answer_value, answer_unit = split_unit(answer)
    answer_bare = answer_value.removesuffix("%")
    answer_number = read_number(answer_bare) or read_number(without_letter(answer_bare, gold))
    if answer_number is None:
        return None
    if not units_agree(gold_unit, answer_unit, config.units):
        return False
    factors = _percent_factors(gold_bare != gold_value, answer_bare != answer_value, config.percent)
    return any(equal_numbers(gold_number, answer_number, config.tolerance, factor) for factor in factors)


def _percent_factors(gold_is_percent: bool, answer_is_percent: bool, rule: str) -> tuple[Fraction, ...]:
    """What the answer is multiplied by before it is compared; several where any of them will do."""
    if gold_is_percent == answer_is_percent or rule == "ignore":
        return (Fraction(1),)
    scaled = Fraction(1, 100) if answer_is_percent else Fraction(100)
    return (scaled,) if rule == "value" else (Fraction(1), scaled)


def _related(gold: str, answer: str) -> tuple[str, str] | None:
    r"""What is to be compared instead of a relation on one side or on both: of x = 5 and 5 the values, of x \in A the
    set. None where neither is a relation of a name, or the two are different equations."""
    gold_name, gold_value = _named(gold)
    answer_name, answer_value = _named(answer)
    if gold_name is None and answer_name is None:
        return None
    if gold_name is None:
        return None if _has_relation(gold) else (gold, answer_value)
    if answer_name is None:
        return None if _has_relation(answer) else (gold_value, answer)
    return (gold_value, answer_value) if gold_name == answer_name else None


def _named(text: str) -> tuple[str | None, str]:
    r"""The name and the value of `x = 5`, `f(x) = 2 + 3 = 5` or `x \in [0, 1]`; None and the text of anything else."""
    if ("=" not in text and r"\in" not in text and r"\approx" not in text) or _INEQUALITY.search(text):
        return None, text
    parts = split_top(text, ("=", r"\in ", r"\in", r"\approx"))
    if parts is None or len(parts) < 2 or split_top(text, (",",)) != [text.strip()] or not _NAME.fullmatch(parts[0]):
        return None, text
    return parts[0], parts[-1]


def _equal_equations(gold: str, answer: str) -> bool | None:
    """Whether two equations say the same, one being a multiple of the other; None where this cannot be told.

    Those of other variables do not. math-verify would solve both, which may take for ever.
    """
    formulas = []
    for text in (gold, answer):
        sides = split_top(text, ("=",)) if "=" in text and not _INEQUALITY.search(text) else None
        if sides is None or len(sides) != 2:
            return None
        formulas.append(expressions.parse(f"({sides[0]})-({sides[1]})"))
    left, right = formulas
    return None if left is None or right is None else expressions.is_multiple(left, right)


def _has_relation(text: str) -> bool:
    return "=" in text or _INEQUALITY.search(text) is not None


def _equal_structures(gold: Structure, answer: str, config: MathConfig, depth: int) -> bool | None:
    found = read_structure(answer)
    if found is None:
        if gold.kind == SET and len(gold.parts) == 1:
            return _equal(gold.parts[0], answer, config, depth + 1)
        if gold.kind in (LIST, TUPLE) and not _has_relation(answer):
            return False
        return None
    kinds = {gold.kind, found.kind}
    if kinds == {UNION, LIST} and _are_inequalities(gold.parts, found.parts):
        return _equal_parts(gold.parts, found.parts, False, config, depth)
    if UNION in kinds or "[" in gold.kind + found.kind or "]" in gold.kind + found.kind:
        if kinds == {gold.kind} and len(gold.parts) == len(found.parts):
            is_ordered = gold.kind != UNION
            return _equal_parts(gold.parts, found.parts, is_ordered, config, depth)
        return None if UNION in kinds else False
    if gold.kind.startswith(MATRIX) != found.kind.startswith(MATRIX):
        return None
    if gold.kind.startswith(MATRIX):
        return gold.kind == found.kind and _equal_parts(gold.parts, found.parts, True, config, depth)
    if kinds == {SET, TUPLE}:
        return False
    is_named = [any("=" in part for part in parts) for parts in (gold.parts, found.parts)]
    is_ordered = TUPLE in kinds or (kinds == {LIST} and config.ordered_lists) or is_named[0] != is_named[1]
    return _equal_parts(gold.parts, found.parts, is_ordered, config, depth)


def _are_inequalities(*sides: list[str]) -> bool:
    """Whether all parts of a side are, as in x < 1 or x > 2, which is a union."""
    return any(all(_INEQUALITY.search(part) for part in parts) for parts in sides)


def _equal_parts(gold: list[str], answer: list[str], is_ordered: bool, config: MathConfig, depth: int) -> bool:
    """Whether each part of one has its own equal in the other."""
    if len(gold) != len(answer):
        return False
    if is_ordered:
        return all(_equal(left, right, config, depth + 1) for left, right in zip(gold, answer, strict=True))
    left_over = list(answer)
    missing = []
    for part in gold:  # those written alike first: the rest is compared each with each
        if part in left_over:
            left_over.remove(part)
        else:
            missing.append(part)
    for part in missing:
        match = next((k for k, other in enumerate(left_over) if _equal(part, other, config, depth + 1)), None)
        if match is None:
            return False
        del left_over[match]
    return True


def _equal_values(gold: str, answer: str, config: MathConfig) -> bool:
    """Of single formulas, their units and percent signs aside."""
    gold_value, gold_unit = split_unit(gold)
    answer_value, answer_unit = split_unit(answer)
    if not units_agree(gold_unit, answer_unit, config.units):
        return False
    gold_bare, answer_bare = gold_value.removesuffix("%"), answer_value.removesuffix("%")
    factors = _percent_factors(gold_bare != gold_value, answer_bare != answer_value, config.percent)
    if gold_bare == answer_bare:
        return Fraction(1) in factors
    return any(_equal_formulas(gold_bare, answer_bare, config.tolerance, factor) for factor in factors)


def _equal_formulas(gold: str, answer: str, tolerance: float, factor: Fraction) -> bool:
    gold_formula, answer_formula = expressions.parse(gold), expressions.parse(answer)
    if gold_formula is not None and answer_formula is not None:
        verdict = expressions.compare(gold_formula, answer_formula, tolerance, factor)
        if verdict is not None:
            return verdict
    if factor != 1:
        answer = rf"({answer})\cdot\frac{{{factor.numerator}}}{{{factor.denominator}}}"
    return equal_symbolically(gold, answer)


def equal_symbolically(gold: str, answer: str) -> bool:
    """By math-verify. Raises as `equivalent` does."""
    gold_expressions = symbolic.parse(gold)
    if not gold_expressions:
        raise BadReference(f"math-verify reads no expression in the gold answer {gold[:200]!r}")
    answer_expressions = symbolic.parse(answer)
    if not answer_expressions:
        raise Unreadable(answer)
    try:
        return symbolic.equal(gold_expressions, answer_expressions)
    except symbolic.Incomparable as error:
        raise Unreadable(answer) from error


@lru_cache(maxsize=4096)
def _is_readable(text: str, depth: int) -> bool:
    if not text:
        return False
    if choice_letter(text) or words(text) or read_number(split_unit(text)[0].removesuffix("%")) is not None:
        return True
    parts = read_structure(text)
    if parts is not None and parts.parts != [text] and depth < 8:
        return all(_is_readable(part, depth + 1) for part in parts.parts)
    name, value = _named(text)
    if name is not None:
        return _is_readable(value, depth + 1)
    sides = split_top(text, ("=",)) if "=" in text else None
    if sides and all(expressions.parse(side) is not None for side in sides):
        return True  # an equation, and math-verify takes a tenth of a second for it
    bare = split_unit(text)[0].removesuffix("%")
    return expressions.parse(bare) is not None or bool(symbolic.parse(bare))
