"""The family `length_constraints`: how many sentences, words and paragraphs, and how one paragraph begins."""

from itertools import takewhile

from reward.instructions import text
from reward.instructions.parameters import holds

_ENDS_A_WORD = ".,?!'\""


def number_sentences(response: str, *, num_sentences: int, relation: str) -> bool:
    return holds(text.sentences(response, num_sentences), relation, num_sentences)


def number_words(response: str, *, num_words: int, relation: str) -> bool:
    return holds(text.words(response), relation, num_words)


def number_paragraphs(response: str, *, num_paragraphs: int) -> bool:
    """Exactly so many, with the divider *** between them; it may also stand before the first and after the last."""
    paragraphs = response.split("***")
    if any(not paragraph.strip() for paragraph in paragraphs[1:-1]):
        return False
    ends = {0, len(paragraphs) - 1}
    return len(paragraphs) - sum(not paragraphs[end].strip() for end in ends) == num_paragraphs


def nth_paragraph_first_word(response: str, *, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Exactly `num_paragraphs` parted by blank lines, and paragraph `nth_paragraph` begins with `first_word`.

    As in the reference, empty paragraphs are left out of the number but not of the order in which `nth_paragraph`
    counts, so two blank lines before that paragraph fail it.
    """
    paragraphs = response.split("\n\n")
    number = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if number != num_paragraphs or nth_paragraph > number or not paragraphs[nth_paragraph - 1].strip():
        return False
    word = paragraphs[nth_paragraph - 1].split(maxsplit=1)[0].lstrip("'").lstrip('"')
    return "".join(takewhile(lambda letter: letter not in _ENDS_A_WORD, word)).lower() == first_word.lower()
