"""What the parameters of an instruction may be. Each function returns the value to use, or raises `ValueError` with the
end of a sentence that begins with the parameter's name."""

from collections.abc import Sequence
from typing import Any

RELATIONS = ("less than", "at least")


def count(value: Any) -> int:
    """A number of things, 0 or more. Tables with empty cells turn whole numbers into 3.0, which is 3."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or value < 0:
        raise ValueError(f"is a whole number from 0 on, got {_short(value)}")
    return int(value)


def position(value: Any) -> int:
    """A place in an order, from 1 on."""
    number = count(value)
    if number == 0:
        raise ValueError("counts from 1, got 0")
    return number


def relation(value: Any) -> str:
    if value not in RELATIONS:
        raise ValueError(f"is one of {' and '.join(map(repr, RELATIONS))}, got {_short(value)}")
    return value


def text(value: Any) -> str:
    """Without the white space around it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"is a text that is not empty, got {_short(value)}")
    return value.strip()


def texts(value: Any) -> Sequence[str]:
    """A list, each kept as it is: a keyword may begin or end with a space."""
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"is a list of texts that is not empty, got {_short(value)}")
    for each in value:
        text(each)
    return value


def character(value: Any) -> str:
    """One character, a letter or not: some prompts of IFEval count "!" and "#"."""
    if len(text(value)) != 1:
        raise ValueError(f"is one character, got {_short(value)}")
    return text(value).lower()


def holds(number: int, relation: str, threshold: int) -> bool:
    """Whether `number` is less than, or at least, `threshold`."""
    return number < threshold if relation == "less than" else number >= threshold


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
