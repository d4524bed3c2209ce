"""Comparing what a program gave with what it should have, outside of the program. Both are plain data."""

import math
from typing import Any


def same_output(actual: str, expected: str, tolerance: float) -> bool:
    """As judges of contests compare: line by line, without white space at ends of lines and empty lines at the end.

    With a `tolerance`, absolute or relative, lines agree too where their words do, decimal fractions up to it.
    """
    ours, theirs = _lines(actual), _lines(expected)
    return len(ours) == len(theirs) and all(map(_same_line, ours, theirs, [tolerance] * len(ours)))


def same_value(actual: Any, expected: Any, tolerance: float) -> bool:
    """Equality of what a function returned with JSON, which has neither tuples nor keys but texts.

    A tuple equals the list of its items, and a key its text. Fractions may differ by `tolerance`, absolute or relative.
    """
    pending = [(actual, expected)]
    while pending:
        ours, theirs = pending.pop()
        if type(ours) in (list, tuple) and type(theirs) is list:
            if len(ours) != len(theirs):
                return False
            pending += zip(ours, theirs, strict=True)
        elif isinstance(ours, dict) and type(theirs) is dict:  # a Counter is one
            by_text = {_key(key): value for key, value in ours.items()}
            if len(by_text) != len(ours) or by_text.keys() != theirs.keys():
                return False
            pending += [(by_text[key], value) for key, value in theirs.items()]
        elif type(ours) is float or type(theirs) is float:
            numbers = type(ours) in (int, float) and type(theirs) in (int, float)
            if not numbers or not (ours == theirs or _close(ours, theirs, tolerance)):
                return False
        elif type(ours) is not type(theirs) or ours != theirs:
            return False
    return True


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _same_line(actual: str, expected: str, tolerance: float) -> bool:
    if actual == expected:
        return True
    ours, theirs = actual.split(), expected.split()
    if tolerance == 0 or len(ours) != len(theirs):
        return False
    return all(_same_word(word, right, tolerance) for word, right in zip(ours, theirs, strict=True))


def _same_word(actual: str, expected: str, tolerance: float) -> bool:
    if actual == expected:
        return True
    if not ("." in expected or "e" in expected.lower()):
        return False  # whole numbers and words are exact
    try:
        return _close(float(actual), float(expected), tolerance)
    except ValueError:
        return False


def _close(actual: float, expected: float, tolerance: float) -> bool:
    # Relative to the expected number alone: an infinite answer would be close to anything.
    try:
        return math.fabs(actual - expected) <= tolerance * max(1.0, math.fabs(expected)) < math.inf
    except OverflowError:  # an integer beyond all fractions
        return False


def _key(key: Any) -> Any:
    if key is None or type(key) is bool:
        return {None: "null", True: "true", False: "false"}[key]
    return str(key) if type(key) in (int, float) else key
