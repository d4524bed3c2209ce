"""How a response is cut into lines, words and sentences."""

import re
from functools import lru_cache

import punkt

_WORD = re.compile(r"\w+")

# Where NLTK's word tokenizer cuts a sentence, as far as it matters to whether a piece is in capitals: pieces without
# letters need not be told apart, so all of these become spaces.
_OPENING_APOSTROPHE = re.compile(r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", re.IGNORECASE)
_FINAL_PERIOD = re.compile(r"""(?<!\.)\.(?=[\])}>"'\u00bb\u201d\u2019 ]*+\s*$)""")
_ALWAYS = re.compile(
    r"""[\u00ab\u00bb\u201c\u201d\u201e\u2018\u2019`"?!;@#$%&*()\[\]{}<>\u2012-\u2015]|--|\.{2,}|''|[:,](?!\d)"""
)
_CLOSING_APOSTROPHE = re.compile(r"([^'])' ")
_SPACE = re.compile(r"\s+")
_CLITICS = (
    re.compile(r"([^' ])('[sS]|'[mM]|'[dD]|') "),
    re.compile(r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) "),
)
_CONTRACTIONS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\b(can)(not)\b",
        r"\b(d)('ye)\b",
        r"\b(gim)(me)\b",
        r"\b(gon)(na)\b",
        r"\b(got)(ta)\b",
        r"\b(lem)(me)\b",
        r"\b(more)('n)\b",
        r"\b(wan)(na)(?=\s)",
        r" ('t)(is)\b",
        r" ('t)(was)\b",
    )
)


def words(text: str) -> int:
    r"""Number of runs of letters, digits and underscores: "well-known" is two words."""
    return len(_WORD.findall(text))


def sentences(text: str) -> list[str]:
    """Sentences of English by Punkt (Kiss and Strunk 2006), with the parameters that NLTK has for English.

    NLTK makes one more sentence of the last mark where a text ends in three or more of "!", "?" and "."; here a run of
    marks belongs to the sentence before it. Line breaks alone end no sentence.
    """
    return _punkt().tokenize(text)


def capital_words(text: str) -> int:
    """Number of pieces in capital letters, cut as NLTK's `word_tokenize` cuts them: hyphenated words are one piece,
    "DON'T" and "CANNOT" are two, "I" and "P.S." count."""
    return sum(piece.isupper() for sentence in sentences(text) for piece in _pieces(sentence))


def _pieces(sentence: str) -> list[str]:
    sentence = _FINAL_PERIOD.sub(" ", _OPENING_APOSTROPHE.sub("' ", sentence))
    sentence = _CLOSING_APOSTROPHE.sub(r"\1 ' ", _ALWAYS.sub(" ", sentence))
    sentence = f" {_SPACE.sub(' ', sentence)} "
    for clitic in _CLITICS:
        sentence = clitic.sub(r"\1 \2 ", sentence)
    for contraction in _CONTRACTIONS:
        sentence = contraction.sub(r" \1 \2 ", sentence)
    return sentence.split()


@lru_cache(maxsize=1)
def _punkt() -> punkt.PunktSentenceTokenizer:
    return punkt.PunktSentenceTokenizer(punkt.load_model("english"))
