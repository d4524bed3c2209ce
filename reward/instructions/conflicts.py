"""Which kinds of instruction do not go together in one prompt.

The table of the reference (`INSTRUCTION_CONFLICTS`), made symmetric, and beyond it pairs that no natural response
satisfies: the reference leaves them to chance.
"""

from collections.abc import Collection, Mapping

from reward.instructions.kinds import KINDS

# A kind and all it goes with; every other kind conflicts with it.
_ONLY_WITH: Mapping[str, Collection[str]] = {
    "detectable_format:constrained_response": (),
    "detectable_format:json_format": ("keywords:forbidden_words", "keywords:existence"),
    "combination:two_responses": (
        "keywords:forbidden_words",
        "keywords:existence",
        "language:response_language",
        "detectable_format:title",
        "punctuation:no_comma",
    ),
    "combination:repeat_prompt": ("keywords:existence", "detectable_format:title", "punctuation:no_comma"),
}
_CONFLICTS: Mapping[str, Collection[str]] = {
    "language:response_language": (
        "detectable_format:multiple_sections",
        "keywords:existence",
        "keywords:frequency",
        "keywords:forbidden_words",
        "startend:end_checker",
        "change_case:english_capital",
        "change_case:english_lowercase",
    ),
    "length_constraints:number_paragraphs": (
        "length_constraints:nth_paragraph_first_word",
        "length_constraints:number_sentences",
    ),
    "detectable_format:multiple_sections": ("detectable_format:number_highlighted_sections",),
    "change_case:capital_word_frequency": ("change_case:english_lowercase", "change_case:english_capital"),
    "change_case:english_lowercase": ("change_case:english_capital",),
    "startend:quotation": ("detectable_format:title",),
}
# Ours: words, letters and sentences are those of English, and the mark of a section has letters of both cases.
_BEYOND: Mapping[str, Collection[str]] = {
    "language:response_language": (
        "keywords:letter_frequency",
        "length_constraints:nth_paragraph_first_word",
        "length_constraints:number_sentences",
        "length_constraints:number_words",
        "detectable_content:postscript",
        "change_case:capital_word_frequency",
    ),
    "length_constraints:number_sentences": ("length_constraints:nth_paragraph_first_word",),
    "detectable_format:multiple_sections": ("change_case:english_capital", "change_case:english_lowercase"),
}


def conflict(one: str, other: str) -> bool:
    """Whether two kinds of `KINDS` do not go together; a kind does not go with itself."""
    if one == other:
        return True
    for first, second in ((one, other), (other, one)):
        if first in _ONLY_WITH and second not in _ONLY_WITH[first]:
            return True
        if second in _CONFLICTS.get(first, ()) or second in _BEYOND.get(first, ()):
            return True
    return False


def compatible(chosen: Collection[str]) -> list[str]:
    """The kinds that go with all those chosen, in the order of `KINDS`."""
    return [kind for kind in KINDS if not any(conflict(kind, other) for other in chosen)]
