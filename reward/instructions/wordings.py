"""How each kind of instruction is put in words; `{name}` stands for a parameter."""

from collections.abc import Mapping, Sequence
from typing import Any

from reward.instructions.tasks import LANGUAGES

WORDINGS: Mapping[str, Sequence[str]] = {
    "change_case:capital_word_frequency": (
        "Words in all capital letters should appear {capital_relation} {capital_frequency} times.",
        "Use {capital_relation} {capital_frequency} words in all capitals.",
    ),
    "change_case:english_capital": (
        "Your entire response should be in English and in all capital letters.",
        "Answer in English and only in capital letters.",
    ),
    "change_case:english_lowercase": (
        "Your entire response should be in English and in all lowercase letters. No capital letters are allowed.",
        "Answer in English without a single capital letter.",
    ),
    "combination:repeat_prompt": (
        "First repeat the sentence above word for word, then give your answer. Do not say anything before it.",
        "Before you answer, repeat the request up to here without any change; write nothing in front of it.",
    ),
    "combination:two_responses": (
        "Give two different responses. Responses and only responses should be separated by 6 asterisk symbols: ******.",
        "Answer in two different ways, with the line ****** between the two answers and nowhere else.",
    ),
    "detectable_content:number_placeholders": (
        "The response must contain at least {num_placeholders} placeholders in square brackets, such as [address].",
        "Leave at least {num_placeholders} places to be filled in, each in square brackets like [name].",
    ),
    "detectable_content:postscript": (
        "At the end of your response, add a postscript starting with {postscript_marker}",
        "Close with a postscript that begins with {postscript_marker}",
    ),
    "detectable_format:constrained_response": (
        'Answer with one of the following options: "My answer is yes.", "My answer is no.", "My answer is maybe."',
        'Choose one answer from: ("My answer is yes.", "My answer is no.", "My answer is maybe.")',
    ),
    "detectable_format:json_format": (
        "Wrap your entire output in JSON format. You can use markdown ticks such as ```.",
        "Your whole answer should be valid JSON.",
    ),
    "detectable_format:multiple_sections": (
        "Your response must have {num_sections} sections. Mark the beginning of each section with {section_spliter} X, "
        "such as {section_spliter} 1.",
        "Divide your answer into {num_sections} parts that begin with {section_spliter} 1 and so on.",
    ),
    "detectable_format:number_bullet_lists": (
        "Your answer must contain exactly {num_bullets} bullet points. Use markdown bullet points such as:\n"
        "* This is a point.",
        "Use exactly {num_bullets} bullet points in markdown, each on a line that begins with an asterisk and a space.",
    ),
    "detectable_format:number_highlighted_sections": (
        "Highlight at least {num_highlights} sections in your answer with markdown, i.e. *highlighted section*.",
        "Put at least {num_highlights} phrases between asterisks, *like this*.",
    ),
    "detectable_format:title": (
        "Your answer must contain a title, wrapped in double angular brackets, such as <<poem of joy>>.",
        "Give your answer a title in double angular brackets like <<this>>.",
    ),
    "keywords:existence": (
        "Include the keywords {keywords} in the response.",
        "The answer must mention {keywords}.",
    ),
    "keywords:forbidden_words": (
        "Do not include the keywords {forbidden_words} in the response.",
        "Avoid the words {forbidden_words}.",
    ),
    "keywords:frequency": (
        "In your response, the word {keyword} should appear {relation} {frequency} times.",
        "Use the word {keyword} {relation} {frequency} times.",
    ),
    "keywords:letter_frequency": (
        "In your response, the letter {letter} should appear {let_relation} {let_frequency} times.",
        "Let the letter {letter} occur {let_relation} {let_frequency} times.",
    ),
    "language:response_language": (
        "Your ENTIRE response should be in {language}, no other language is allowed.",
        "Answer only in {language}.",
    ),
    "length_constraints:nth_paragraph_first_word": (
        "There should be {num_paragraphs} paragraphs. Paragraphs and only paragraphs are separated by two new lines. "
        "Paragraph {nth_paragraph} must start with the word {first_word}.",
        "Write {num_paragraphs} paragraphs with one empty line between them, and begin paragraph {nth_paragraph} with "
        "the word {first_word}.",
    ),
    "length_constraints:number_paragraphs": (
        "There should be {num_paragraphs} paragraphs. Separate the paragraphs with the markdown divider: ***",
        "Write exactly {num_paragraphs} paragraphs, with *** between one and the next.",
    ),
    "length_constraints:number_sentences": (
        "Your response should contain {relation} {num_sentences} sentences.",
        "Use {relation} {num_sentences} sentences.",
    ),
    "length_constraints:number_words": (
        "Answer with {relation} {num_words} words.",
        "Your response should have {relation} {num_words} words.",
    ),
    "punctuation:no_comma": (
        "In your entire response, refrain from the use of any commas.",
        "Do not use any commas.",
    ),
    "startend:end_checker": (
        'Finish your response with this exact phrase: "{end_phrase}" No other words should follow this phrase.',
        'The very last words of your response should be "{end_phrase}"',
    ),
    "startend:quotation": (
        "Wrap your entire response with double quotation marks.",
        "Put your whole answer in double quotation marks.",
    ),
}


def in_words(wording: str, parameters: Mapping[str, Any]) -> str:
    """The instruction as a prompt says it: lists with commas, languages by name."""
    shown = {
        name: ", ".join(value) if isinstance(value, list) else LANGUAGES[value] if name == "language" else value
        for name, value in parameters.items()
    }
    return wording.format(**shown)
