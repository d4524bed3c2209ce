"""The family `detectable_content`: placeholders and a postscript."""

import re

_POSTSCRIPTS = {"P.S.": re.compile(r"p\.\s?s\."), "P.P.S": re.compile(r"p\.\s?p\.\s?s")}


def number_placeholders(response: str, *, num_placeholders: int) -> bool:
    """At least so many texts in square brackets, each within one line."""
    return sum(map(_placeholders, response.split("\n"))) >= num_placeholders


def postscript(response: str, *, postscript_marker: str) -> bool:
    """The marker occurs, anywhere and in any case; "P.S." and "P.P.S" may have spaces after their full stops."""
    pattern = _POSTSCRIPTS.get(postscript_marker, re.compile(re.escape(postscript_marker.lower())))
    return pattern.search(response.lower()) is not None


def _placeholders(line: str) -> int:
    """By hand, for the regular expression takes quadratic time on a line of opening brackets."""
    number, end = 0, 0
    while (start := line.find("[", end)) >= 0 and (end := line.find("]", start) + 1) > 0:
        number += 1
    return number
