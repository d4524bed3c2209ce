r"""One spelling for what LaTeX and people write in many: an answer without wrappers, cosmetics and needless spaces.

The value never changes: thousands separators go only where they are marked as such (`{,}`, `,\!`), units, percent signs
and currency stay. Text of 20,000 characters takes milliseconds.
"""

import re

_CHARACTERS = str.maketrans(
    {
        "\u2212": "-",  # the typographic minus and its relatives
        "\u2013": "-",
        "\u2010": "-",
        "\u00d7": r"\times ",
        "\u00b7": r"\cdot ",
        "\u22c5": r"\cdot ",
        "\u00f7": r"\div ",
        "\u03c0": r"\pi ",
        "\u221e": r"\infty ",
        "\u2264": r"\le ",
        "\u2265": r"\ge ",
        "\u2260": r"\ne ",
        "\u2248": r"\approx ",
        "\u222a": r"\cup ",
        "\u2208": r"\in ",
        "\u00b1": r"\pm ",
        "\u221a": r"\sqrt ",
        "\u00b0": r"^\circ ",
        "\u00b2": "^2",
        "\u00b3": "^3",
        "\u00bd": r"\frac{1}{2}",
        "\u00bc": r"\frac{1}{4}",
        "\u00be": r"\frac{3}{4}",
        "\u2019": "'",
        "\u00a0": " ",
        "\u202f": " ",
        "\n": " ",
        "\t": " ",
    }
)
_WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"))
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
_REWRITES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<=\d),\\!\s*(?=\d{3})", ""),
        (r"(?<=\d)\{,\}\s*(?=\d{3})", ""),
        (r"\\!", ""),
        (r"\\left\s*\.|\\right\s*\.", ""),
        (
            r"\\(?:left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|limits|tiny|small|large|bf|rm)(?![a-zA-Z])",
            "",
        ),
        (r"(?<!\\)\\(?:[,:;> ]|q?quad(?![a-zA-Z]))|~", " "),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (
            r"\\(?:text(?:bf|rm|it|sf|tt|normal)|math(?:rm|bf|it|sf|tt)|[mh]box|emph|boldsymbol)\s*(?=\{)",
            r"\\text",
        ),
        (r"\\text\s+\{", r"\\text{"),
        (r"\\text\{\s*\}", ""),
        (r"\\le(?:q|qslant)(?![a-zA-Z])", r"\\le"),
        (r"\\ge(?:q|qslant)(?![a-zA-Z])", r"\\ge"),
        (r"\\neq(?![a-zA-Z])", r"\\ne"),
        (r"<=", r"\\le "),
        (r">=", r"\\ge "),
        (r"\\(?:lbrace|rbrace)(?![a-zA-Z])", lambda match: r"\{" if match.group().startswith(r"\l") else r"\}"),
        (r"\\l(?:brack)(?![a-zA-Z])", "["),
        (r"\\r(?:brack)(?![a-zA-Z])", "]"),
        (r"\\langle(?![a-zA-Z])", "("),
        (r"\\rangle(?![a-zA-Z])", ")"),
        (r"\\(?:ldots|cdots|dots)(?![a-zA-Z])", "..."),
        (r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![a-zA-Z])|\\degree(?![a-zA-Z])", r"^\\circ "),
        (r"\\text\{\s*(?:percent|percentage|per cent|\\?%)\s*\}|\s*\b(?:percent|per cent)\b", "%"),
        (r"\\%", "%"),
        (r"\\\$", "$"),
        (r"\$(?!\s?[\d.])", ""),
        (r"\*\*", "^"),
        (r"\\[hv]?phantom\s*(?:\{[^{}]*\}|.)", ""),
        (r"\b(?:np|math)\.(?=[a-z])", ""),
        (
            r"(?<![a-zA-Z\\])(sqrt|pi|sin|cos|tan|arcsin|arccos|arctan|ln|log|exp)(?![a-zA-Z])",
            r"\\\1 ",
        ),
        (r"\\sqrt\s*([^\s{(\[\\])", r"\\sqrt{\1}"),
        (r"\\frac\s*(\\(?:pi|alpha|beta|theta|lambda|phi)(?![a-zA-Z]))", r"\\frac{\1}"),
        (r"\\frac\s*([^\s{\\])", r"\\frac{\1}"),
        (r"(\\frac\s*\{[^{}]*\})\s*([^\s{\\])", r"\1{\2}"),
        (r"([_^])\{(\w)\}", r"\1\2"),
        (r"\s+", " "),
    )
]
# In "1,000, 2,000" the comma without a space is part of a number.
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# A space says something between two digits, two letters, a digit and a word, and after the comma of a list.
_NEEDLESS_SPACE = re.compile(r"(?<![\dA-Za-z,]) | (?![\dA-Za-z])|(?<=[A-Za-z]) (?=\d)|(?<=\d) (?=[A-Za-z](?![A-Za-z]))")
_SPACE_AFTER_COMMA = re.compile(r", (?!\d)|(?<!\d), ")


_LEADING = re.compile(r"\A(?:\+|=|\\approx|\\Rightarrow|\\implies) ?")
_REAL_LINE = re.compile(
    r"\\mathbb(?:\{R\}| ?R)|\\R(?:eals)?|\\text\{ ?(?:all )?real numbers ?\}|all real numbers", re.IGNORECASE
)
_WRAPPED_NUMBER = re.compile(r"\\text\{\(?(-?[\d.]+)\)? ?\}|\((-?[\d.]+)\)")


def tidy(text: str) -> str:
    """`text` in the one spelling that the other modules read. Applying it twice changes nothing more for an answer."""
    text = _unwrapped(text.translate(_CHARACTERS).strip())
    if "\\" in text or not text.isalnum():
        for pattern, replacement in _REWRITES:
            text = pattern.sub(replacement, text)  # type: ignore[arg-type]
        text = text.strip()
        if ", " in text:
            text = _THOUSANDS.sub("", text)
        text = _SPACE_AFTER_COMMA.sub(",", _NEEDLESS_SPACE.sub("", text))
        text = _LEADING.sub("", text).rstrip(".").strip()
        if _REAL_LINE.fullmatch(text):
            return r"(-\infty,\infty)"
        if match := _WRAPPED_NUMBER.fullmatch(text):
            text = match[1] or match[2]
    return text


def _unwrapped(text: str) -> str:
    """Without delimiters of mathematics or bold type, a box around the whole, and the full stop after it."""
    while True:
        before = text
        text = text.rstrip(".,;").strip() if not text.endswith("\\,") else text[:-2].strip()
        for left, right in _WRAPPERS:
            inner = text[len(left) : -len(right)]
            if text.startswith(left) and text.endswith(right) and len(text) > len(left + right) and left not in inner:
                text = inner.strip()
        if (match := _BOXED.match(text)) and text.endswith("}") and closes_at_end(text, match.end() - 1):
            text = text[match.end() : -1].strip()
        if text == before:
            return text


def closes_at_end(text: str, opening: int) -> bool:
    """Whether the brace at `opening` is closed by the last character of `text` and not before."""
    depth = 0
    for position in range(opening, len(text)):
        if text[position] in "{}" and (position == 0 or text[position - 1] != "\\"):
            depth += 1 if text[position] == "{" else -1
            if depth == 0:
                return position == len(text) - 1
    return False
