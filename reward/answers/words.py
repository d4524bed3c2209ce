r"""Answers that are no formula: the letter of a multiple choice, and words such as \text{Monday}."""

import re

_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_CHOICE = re.compile(
    r"(?:(?:option|choice|answer) ?)?(?:\(([A-Ja-j])\)|([A-J]))(?:[.:)](?!\d)|(?=\(|\\text| ?$))?(.*)", re.I
)
_LONE_LETTER = re.compile(r"\(?([A-J])\)?[.:)]?|\(([a-j])\)")
_SEVERAL = re.compile(r" ?(?:,|;|/|&|\+|and\b|or\b)|.*\([A-Ja-j]\)")
_BARE = re.compile(r"[A-Za-z][A-Za-z'\u2019.,\- ]*")
MIN_LETTERS = 4  # of a bare word; fewer letters in a row are a product of variables


def choice_letter(text: str) -> str | None:
    """The capital letter of a reference such as (A), A, A., \text{A}, \textbf{(A)}; None for anything else."""
    match = _LONE_LETTER.fullmatch(_TEXT.sub(r"\1", text).strip())
    return (match[1] or match[2]).upper() if match else None


def chosen_letter(text: str) -> str | None:
    """The capital letter that a response chose, also with the choice's own text after it, as in (A) 5 or A. 5."""
    plain = _TEXT.sub(r"\1", text).strip()
    if lone := choice_letter(plain):
        return lone
    match = _CHOICE.fullmatch(plain)
    if match is None or _SEVERAL.match(match[3]):
        return None
    is_marked = match[1] is not None or plain[match.end(2) : match.end(2) + 1] in (".", ":", ")", "")
    return (match[1] or match[2]).upper() if is_marked else None


def plain_words(text: str) -> str:
    r"""Any text in the spelling that `words` gives: \text{} and punctuation gone, lower case."""
    return re.sub(r"[\s.,!'\u2019-]+", " ", _TEXT.sub(r" \1 ", text).casefold()).strip()


def words(text: str) -> str | None:
    r"""The words of an answer that is nothing else, in one spelling: \text{Monday} and Monday. give monday."""
    plain = _TEXT.sub(r" \1 ", text)
    is_marked = plain != text and not _TEXT.sub("", text).strip(" .,")
    plain = " ".join(plain.split())
    if not is_marked and not (_BARE.fullmatch(plain) and max(map(len, re.split(r"[^A-Za-z]+", plain))) >= MIN_LETTERS):
        return None
    if not re.search(r"[A-Za-z]", plain):
        return None
    return plain_words(plain) or None
