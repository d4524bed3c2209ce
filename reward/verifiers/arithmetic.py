"""Arithmetic on whole numbers with + - * / and parentheses: read without `eval`, computed exactly.

Reading takes linear time and no recursion, whatever the text. There are no powers, so that the size of a value is
bounded by the numbers in the text; who computes it checks those first.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 18  # of one number; more belong to no puzzle, and Python takes quadratic time to read very many

# Signs of prose and LaTeX that mean the same; no digit outside ASCII is one.
SYNONYMS = {
    "\u00d7": "*",  # multiplication sign
    "\u00b7": "*",
    "\u22c5": "*",
    "\u2217": "*",
    "\u00f7": "/",  # division sign
    "\u2212": "-",  # the typographic minus
    r"\times": "*",
    r"\cdot": "*",
    r"\div": "/",
    r"\left": "",
    r"\right": "",
    "[": "(",
    "]": ")",
}

_SYNONYM = re.compile("|".join(map(re.escape, SYNONYMS)))
_TOKEN = re.compile(r"([0-9]+)|([-+*/()])|(\s+)|(.)", re.DOTALL)
_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "negative": 3, "positive": 3}
_PREFIX = {"-": "negative", "+": "positive"}


class NotArithmetic(ValueError):
    """A text that is no arithmetic expression; the message says where it stops being one."""


@dataclass(frozen=True)
class Expression:
    """What was read.

    numbers  every number in the text, in order, with repetitions
    postfix  the same numbers and the operators, in the order of computation
    """

    numbers: Sequence[int]
    postfix: Sequence[int | str]

    def value(self) -> Fraction:
        """Raises `ZeroDivisionError`."""
        stack: list[Fraction] = []
        for item in self.postfix:
            if isinstance(item, int):
                stack.append(Fraction(item))
            elif item in ("negative", "positive"):
                stack[-1] = -stack[-1] if item == "negative" else stack[-1]
            else:
                right = stack.pop()
                stack[-1] = _apply(item, stack[-1], right)
        return stack[0]


def parse(text: str) -> Expression:
    """Reads an expression by the shunting-yard algorithm (Dijkstra 1961). Raises `NotArithmetic`."""
    text = _SYNONYM.sub(lambda found: SYNONYMS[found.group()], text)
    numbers: list[int] = []
    postfix: list[int | str] = []
    waiting: list[str] = []  # operators and open parentheses
    after_operand = False
    for token in _TOKEN.finditer(text):
        digits, sign, space, other = token.groups()
        if space:
            continue
        starts_operand = bool(digits) or sign == "(" or (not after_operand and sign in _PREFIX)
        if other or starts_operand is after_operand:
            raise _unexpected(text, token.start())
        if digits:
            if len(digits.lstrip("0")) > MAX_DIGITS:
                raise NotArithmetic(f"a number has more than {MAX_DIGITS} digits")
            numbers.append(int(digits))
            postfix.append(numbers[-1])
            after_operand = True
        elif sign == "(":
            waiting.append(sign)
        elif sign == ")":
            while waiting and waiting[-1] != "(":
                postfix.append(waiting.pop())
            if not waiting:
                raise _unexpected(text, token.start())
            waiting.pop()
        elif not after_operand:
            waiting.append(_PREFIX[sign])
        else:
            while waiting and waiting[-1] != "(" and _PRECEDENCE[waiting[-1]] >= _PRECEDENCE[sign]:
                postfix.append(waiting.pop())
            waiting.append(sign)
            after_operand = False
    if not after_operand or "(" in waiting:
        raise NotArithmetic("the expression is not finished" if text.strip() else "there is no expression")
    return Expression(numbers, [*postfix, *reversed(waiting)])


def _apply(operator: str, left: Fraction, right: Fraction) -> Fraction:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    return left * right if operator == "*" else left / right


def _unexpected(text: str, at: int) -> NotArithmetic:
    return NotArithmetic(f"unexpected {text[at : at + 20]!r} in the expression")
