"""How a response is cut into lines, words and sentences."""

import re
from functools import lru_cache

import punkt

FIRST_READ = 4096  # characters

_WORD = re.compile(r"\w+")

# Where NLTK's word tokenizer cuts, as far as it matters to whether a piece is in capitals: pieces without
# letters need not be told apart, so all of these become spaces.
_OPENING_APOSTROPHE = re.compile(r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", re.IGNORECASE)
_FINAL_PERIOD = re.compile(r"""(?<!\.)\.(?=[\])}>"'\u00bb\u201d\u2019]*+(?:\s|$))""")
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
    """Number of runs of letters, digits and underscores: "well-known" is two words.

    The vowel signs of Indic scripts part words, as with the NLTK of the reference's time; the NLTK of today, on another
    engine of regular expressions, joins them.
    """
    return len(_WORD.findall(text))


def sentences(text: str, enough: int) -> int:
    """Number of sentences of English, by Punkt (Kiss and Strunk 2006) with the parameters that NLTK has for English.

    A number above `enough` only says that there are more: long texts are read from the front until that is plain, for
    Punkt needs up to 0.1 ms for a full stop. Line breaks alone end no sentence. NLTK counts a mark that stands alone
    ("Wow! !"), and the last of three or more at the end of the text, as one more sentence; here it belongs to the one
    before it.
    """
    read = FIRST_READ
    while read < len(text):
        # Where the text is cut, the last sentence and the decision before it may differ.
        if (number := len(_punkt().tokenize(text[:read])) - 2) > enough:
            return number
        read *= 4
    return len(_punkt().tokenize(text))


def capital_words(text: str) -> int:
    """Number of pieces in capital letters, cut as NLTK's `word_tokenize` cuts them: hyphenated words are one piece,
    "DON'T" and "CANNOT" are two, "I" and "P.S." count. NLTK cuts sentence by sentence; here a full stop before white
    space is taken for the end of one, which tells the same pieces in capitals apart."""
    return sum(piece.isupper() for piece in _pieces(text))


def _pieces(text: str) -> list[str]:
    text = _FINAL_PERIOD.sub(" ", _OPENING_APOSTROPHE.sub("' ", text))
    text = _CLOSING_APOSTROPHE.sub(r"\1 ' ", _ALWAYS.sub(" ", text))
    text = f" {_SPACE.sub(' ', text)} "
    for clitic in _CLITICS:
        text = clitic.sub(r"\1 \2 ", text)
    for contraction in _CONTRACTIONS:
        text = contraction.sub(r" \1 \2 ", text)
    return text.split()


@lru_cache(maxsize=1)
def _punkt() -> punkt.PunktSentenceTokenizer:
    return punkt.PunktSentenceTokenizer(punkt.load_model("english"))
