"""The family `detectable_format`: bullets, highlights, sections, titles, JSON, and one of three answers."""

import json
import re

_BULLETS = (re.compile(r"^[^\S\n]*\*[^*].*$", re.MULTILINE), re.compile(r"^[^\S\n]*-", re.MULTILINE))
_HIGHLIGHTS = (re.compile(r"\*([^\n*]*)\*"), re.compile(r"\*\*([^\n*]*)\*\*"))
_FENCES = ("```json", "```Json", "```JSON", "```")
CONSTRAINED_RESPONSES = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def number_bullet_lists(response: str, *, num_bullets: int) -> bool:
    """Exactly so many lines that begin with * and something else than *, or with a hyphen (a rule --- is one too)."""
    return sum(len(bullet.findall(response)) for bullet in _BULLETS) == num_bullets


def constrained_response(response: str) -> bool:
    """One of the three answers occurs, in just these letters."""
    return any(answer in response for answer in CONSTRAINED_RESPONSES)


def number_highlighted_sections(response: str, *, num_highlights: int) -> bool:
    """At least so many texts between asterisks on one line; **bold** counts once, as in the reference, whose two
    patterns see *one* and **one** but find within **one** only empty text between single asterisks."""
    found = (text for pattern in _HIGHLIGHTS for text in pattern.findall(response))
    return sum(bool(text.strip()) for text in found) >= num_highlights


def multiple_sections(response: str, *, section_spliter: str, num_sections: int) -> bool:
    """At least so many marks such as "Section 1", in just these letters."""
    return len(re.findall(re.escape(section_spliter) + r"\s?\d+", response)) >= num_sections


def json_format(response: str) -> bool:
    """The whole response is JSON, perhaps in a Markdown fence. JSON nested too deeply for Python's reader is none."""
    text = response.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(response: str) -> bool:
    """A text in double angular brackets on one line."""
    return any(_has_title(line) for line in response.split("\n"))


def _has_title(line: str) -> bool:
    """By hand, for the regular expression takes quadratic time on a line of opening brackets."""
    start, end = line.find("<<"), line.rfind(">>")
    return start >= 0 and bool(line[start : end + 2].lstrip("<").rstrip(">").strip())
