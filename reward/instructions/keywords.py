"""The family `keywords`: words and letters that must, or must not, occur. Case does not count.

A keyword is searched as text; the reference takes it for a regular expression, which is the same for words.
"""

import re
from collections.abc import Sequence

from reward.instructions.parameters import holds


def existence(response: str, *, keywords: Sequence[str]) -> bool:
    """Every keyword occurs, perhaps within a longer word."""
    return all(_pattern(keyword).search(response) for keyword in keywords)


def frequency(response: str, *, keyword: str, frequency: int, relation: str) -> bool:
    """Occurrences within longer words count too, overlapping ones do not."""
    return holds(len(_pattern(keyword).findall(response)), relation, frequency)


def forbidden_words(response: str, *, forbidden_words: Sequence[str]) -> bool:
    """None occurs as a whole word."""
    return not any(_pattern(word, r"\b{}\b").search(response) for word in forbidden_words)


def letter_frequency(response: str, *, letter: str, let_frequency: int, let_relation: str) -> bool:
    """`letter` is any one character. The reference draws a letter at random where it is none of a to z."""
    return holds(response.lower().count(letter), let_relation, let_frequency)


def _pattern(keyword: str, around: str = "{}") -> re.Pattern[str]:
    return re.compile(around.replace("{}", re.escape(keyword)), re.IGNORECASE)
