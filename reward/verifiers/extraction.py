"""Finding the final answer in a response.

Every rule looks for the last place where it applies and takes time linear in the text: responses reach megabytes, and a
regular expression that backtracks over one would spend the whole deadline.
"""

import re
from collections.abc import Callable, Sequence

Rule = tuple[str, Callable[[str], str | None]]  # its name, and what it reads out of a text

MAX_PHRASE = 200  # characters; a longer line after "####" or "the answer is" is prose, not an answer

MIN_ECHO = 40  # characters of a prompt's line; a shorter one may be said again in good faith

_MARKS = (r"\boxed", r"\fbox", "####", "<answer>", "answer is", "answer:")

NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?|\.\d+"

_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_HASH_ANSWER = re.compile(rf"[-+]?[$€£]?(?:{NUMBER})\s?(?:%|[A-Za-z ]*)\.?|[\\$].+")
_ANSWER_IS = re.compile(r"\banswer(?:\s+is\b\s*:?|(?:\*\*)?:)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\.(?:\s|$)|\n")
_LAST_NUMBER = re.compile(rf"(?:(?<![\w)])[-\u2212])?(?:{NUMBER})")


def last_boxed(text: str) -> str | None:
    r"""Inside of the `\boxed{...}` that closes last, braces balanced; an unclosed or empty one is passed over."""
    opened: list[int | None] = []
    found = None
    for token in _BRACES.finditer(text):
        if token.group() == "}":
            start = opened.pop() if opened else None
            if start is not None and text[start : token.start()].strip():
                found = text[start : token.start()]
        elif token.group() == "{":
            opened.append(None)
        elif token.group().endswith("{") and token.group() != r"\{":
            opened.append(token.end())
    return found


def last_tag(text: str) -> str | None:
    """Inside of the last `<answer>...</answer>`."""
    start = text.rfind("<answer>", 0, max(text.rfind("</answer>"), 0))
    if start < 0:
        return None
    start += len("<answer>")
    return text[start : text.find("</answer>", start)]


def hash_line(text: str) -> str | None:
    """What follows the last `####` on its line, where that looks like a value: `####` is a Markdown heading too."""
    start = text.rfind("####")
    if start < 0:
        return None
    line = text[start + 4 : start + 4 + MAX_PHRASE].partition("\n")[0].strip()
    return line if _HASH_ANSWER.fullmatch(line) else None


def answer_is(text: str) -> str | None:
    """What follows the last "answer is" or "answer:", up to the end of the sentence."""
    start = -1
    for match in _ANSWER_IS.finditer(text):
        start = match.end()
    if start < 0:
        return None
    return _SENTENCE_END.split(text[start : start + MAX_PHRASE].lstrip(), maxsplit=1)[0].replace("**", "")


def last_number(text: str) -> str | None:
    """The last number in the text, with its sign."""
    found = None
    for match in _LAST_NUMBER.finditer(text):
        found = match.group()
    return found


MATH_RULES: dict[str, Callable[[str], str | None]] = {
    "boxed": last_boxed,
    "hash": hash_line,
    "answer_tag": last_tag,
    "the_answer_is": answer_is,
    "last_number": last_number,
}


def without_echo(response: str, prompt: str) -> str:
    r"""`response` without the prompt and without the prompt's instruction lines, where it repeats them word by word.

    An example in the instructions ("write \boxed{42} if it is 42") is then not an answer. Lines shorter than
    `MIN_ECHO` are left: the "#### 18" of a worked example may be the answer here too.
    """
    if prompt.strip() and prompt.strip() in response:
        response = response.replace(prompt.strip(), "")
    for line in {line.strip() for line in prompt.splitlines() if any(mark in line for mark in _MARKS)}:
        if len(line) >= MIN_ECHO and line in response:
            response = response.replace(line, "")
    return response


def first_found(text: str, rules: Sequence[Rule]) -> tuple[str, str] | None:
    """(stripped answer, name of the rule) by the first of `rules` that finds a non-empty answer, or None."""
    for name, rule in rules:
        answer = rule(text)
        if answer is not None and answer.strip():
            return answer.strip(), name
    return None
