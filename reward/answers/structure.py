r"""Answers of several parts: lists, tuples, sets, intervals, unions of them, matrices."""

import re
from typing import NamedTuple

_OPENING, _CLOSING = "([{", ")]}"
_AND = re.compile(r",? ?\\text\{[ ,]*(?:and|or)[ ,]*\},? ?|,? (?:and|or)(?: |(?=\d))(?=\S)")
_MATRIX = re.compile(r"\\begin\{([pbvBV]?matrix|array)\}(?:\{[lcr|]*\})?(.*)\\end\{\1\}", re.DOTALL)
_EMPTY = re.compile(r"\\(?:emptyset|varnothing)|\\\{\\\}")

LIST, TUPLE, SET, UNION, MATRIX = "list", "()", "{}", "union", "matrix"
MAX_PARTS = 200
MAX_DEPTH = 60


class Structure(NamedTuple):
    """kind: LIST (no brackets), TUPLE (or an open interval), SET, UNION, "[]", "[)", "(]", or MATRIX with its shape."""

    kind: str
    parts: list[str]


def read_structure(text: str) -> Structure | None:
    """The parts of a tidy text; None for one value alone, and for what is nested too deeply or never closed."""
    if match := _MATRIX.fullmatch(text):
        rows = [row.split("&") for row in re.split(r"\\\\", match[2].strip().removesuffix(r"\\"))]
        kind = f"{MATRIX} {len(rows)}x{len(rows[0])}"
        return Structure(kind, [entry.strip() for row in rows for entry in row])
    if _EMPTY.fullmatch(text):
        return Structure(SET, [])
    if r"\begin" in text:
        return None
    unions = split_top(text, (r"\cup",))
    if unions is None:
        return None
    if len(unions) > 1:
        return Structure(UNION, unions)
    if kind := _brackets(text):
        inner = text[2:-2] if kind == SET else text[1:-1]
        parts = split_top(_AND.sub(",", inner), (",", ";"))
        if parts is not None and (len(parts) > 1 or kind == SET):
            return Structure(kind, _both_signs(parts) if kind == SET else parts)
        return None
    parts = split_top(_AND.sub(",", text), (",", ";"))
    if parts is None:
        return None
    parts = _both_signs(parts)
    return Structure(LIST, parts) if len(parts) > 1 else None


def split_top(text: str, separators: tuple[str, ...]) -> list[str] | None:
    """The stripped, non-empty parts of `text` between `separators` that stand in no bracket. None where brackets do not
    match, or nest more than `MAX_DEPTH` deep. A bracket of any kind closes any other, as in [0, 1)."""
    parts, depth, start, position = [], 0, 0, 0
    while position < len(text):
        if text[position] in _OPENING:
            depth += 1
        elif text[position] in _CLOSING:
            depth -= 1
        elif depth == 0:
            for separator in separators:
                if text.startswith(separator, position):
                    parts.append(text[start:position])
                    start = position + len(separator)
                    position = start - 1
                    break
        if depth < 0 or depth > MAX_DEPTH:
            return None
        position += 1
    if depth:
        return None
    parts = [part.strip() for part in [*parts, text[start:]] if part.strip()]
    return parts if len(parts) <= MAX_PARTS else None


def _brackets(text: str) -> str:
    """The kind of brackets around the whole of `text`, "" where it has none."""
    is_set = text.startswith(r"\{") and text.endswith(r"\}")
    if len(text) < 2 or not (is_set or (text[0] in "([" and text[-1] in ")]")):
        return ""
    depth = 0
    for position, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0 and position > 0 and position < len(text) - 1:
            return ""
        if depth > MAX_DEPTH:
            return ""
    return SET if is_set else text[0] + text[-1]


def _both_signs(parts: list[str]) -> list[str]:
    r"""With `a\pm b` replaced by a+b and a-b, where it is the only such sign of its part."""
    found = []
    for part in parts:
        if part.count(r"\pm") == 1 and r"\mp" not in part:
            before, _, after = part.partition(r"\pm")
            found += [f"{before}{'+' if before.strip() else ''}{after.strip()}", f"{before}-{after.strip()}"]
        else:
            found.append(part)
    return found
