"""The 25 kinds of instruction by their ids in IFEval: the check, and what its parameters may be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from reward.instructions import (
    case,
    combination,
    content,
    ends,
    keywords,
    language,
    layout,
    length,
    punctuation,
)
from reward.instructions.parameters import character, count, position, relation, text, texts


@dataclass(frozen=True)
class Kind:
    """check        response text and parameters in, followed or not out
    parameters   by name, what reads one (`reward.instructions.parameters`); all of them are needed
    """

    check: Callable[..., bool]
    parameters: Mapping[str, Callable[[Any], Any]]


def _kind(check: Callable[..., bool], **parameters: Callable[[Any], Any]) -> Kind:
    return Kind(check, parameters)


KINDS: Mapping[str, Kind] = {
    "change_case:capital_word_frequency": _kind(
        case.capital_word_frequency, capital_frequency=count, capital_relation=relation
    ),
    "change_case:english_capital": _kind(case.english_capital),
    "change_case:english_lowercase": _kind(case.english_lowercase),
    "combination:repeat_prompt": _kind(combination.repeat_prompt, prompt_to_repeat=text),
    "combination:two_responses": _kind(combination.two_responses),
    "detectable_content:number_placeholders": _kind(content.number_placeholders, num_placeholders=count),
    "detectable_content:postscript": _kind(content.postscript, postscript_marker=text),
    "detectable_format:constrained_response": _kind(layout.constrained_response),
    "detectable_format:json_format": _kind(layout.json_format),
    "detectable_format:multiple_sections": _kind(layout.multiple_sections, section_spliter=text, num_sections=count),
    "detectable_format:number_bullet_lists": _kind(layout.number_bullet_lists, num_bullets=count),
    "detectable_format:number_highlighted_sections": _kind(layout.number_highlighted_sections, num_highlights=count),
    "detectable_format:title": _kind(layout.title),
    "keywords:existence": _kind(keywords.existence, keywords=texts),
    "keywords:forbidden_words": _kind(keywords.forbidden_words, forbidden_words=texts),
    "keywords:frequency": _kind(keywords.frequency, keyword=text, frequency=count, relation=relation),
    "keywords:letter_frequency": _kind(
        keywords.letter_frequency, letter=character, let_frequency=count, let_relation=relation
    ),
    "language:response_language": _kind(language.response_language, language=language.known_language),
    "length_constraints:nth_paragraph_first_word": _kind(
        length.nth_paragraph_first_word, num_paragraphs=position, nth_paragraph=position, first_word=text
    ),
    "length_constraints:number_paragraphs": _kind(length.number_paragraphs, num_paragraphs=count),
    "length_constraints:number_sentences": _kind(length.number_sentences, num_sentences=count, relation=relation),
    "length_constraints:number_words": _kind(length.number_words, num_words=count, relation=relation),
    "punctuation:no_comma": _kind(punctuation.no_comma),
    "startend:end_checker": _kind(ends.end_checker, end_phrase=text),
    "startend:quotation": _kind(ends.quotation),
}
