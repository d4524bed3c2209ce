"""The family `change_case`: capital letters, small letters, words in capitals."""

from reward.instructions import text
from reward.instructions.language import detect
from reward.instructions.parameters import holds


def capital_word_frequency(response: str, *, capital_frequency: int, capital_relation: str) -> bool:
    return holds(text.capital_words(response), capital_relation, capital_frequency)


def english_capital(response: str) -> bool:
    """In English (as langdetect has it, which takes capitals for German now and then) and without a small letter."""
    return response.isupper() and detect(response) in ("en", None)


def english_lowercase(response: str) -> bool:
    """In English and without a capital letter."""
    return response.islower() and detect(response) in ("en", None)
