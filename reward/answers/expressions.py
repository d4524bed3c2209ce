r"""Formulas compared by value: both are evaluated to 50 digits at the same few points, without SymPy.

Reads the arithmetic that most answers are made of (numbers, variables, + - * / ^, \frac, \sqrt, \pi, e, i, functions of
a bracketed argument). Two formulas of that kind which agree to 30 digits at points nobody chose are the same function.
What it does not read, and formulas that agree at some points only (\sqrt{x^2} and x), are for the slow path.
"""

import re
import zlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

import mpmath

_TOKEN = re.compile(r"(\d+(?:\.\d*)?|\.\d+)|\\([a-zA-Z]+)|([a-zA-Z](?:_(?:\w|\{\w+\}))?'*)|([-+*/^(){}\[\]])| +")
_GREEK = re.compile(
    "alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|(?:var)?theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|(?:var)?phi|chi|psi"
    "|omega|Gamma|Delta|Theta|Lambda|Sigma|Phi|Psi|Omega|ell|hbar"
)

MAX_DEPTH = 40  # of brackets within brackets
MAX_TOKENS = 600
MAX_EXPONENT = 100_000
DIGITS = 50
AGREEMENT = mpmath.mpf(10) ** -30

_context = mpmath.MPContext()
_context.dps = DIGITS
_FUNCTIONS: Mapping[str, Callable[[Any], Any]] = {
    name: getattr(_context, function)
    for name, function in {
        "sin": "sin",
        "cos": "cos",
        "tan": "tan",
        "cot": "cot",
        "sec": "sec",
        "csc": "csc",
        "arcsin": "asin",
        "arccos": "acos",
        "arctan": "atan",
        "ln": "ln",
        "exp": "exp",
    }.items()
}


class NotArithmetic(ValueError):
    """A text that this module does not read."""


class TooLarge(ArithmeticError):
    """A power that nobody wants to evaluate, such as 9^9^9^9."""


Values = Mapping[str, Any]
Formula = Callable[[Values], Any]


class Parsed:
    """A formula: its `value` at a point, the `names` of its variables, and whether a decimal fraction stands in it."""

    def __init__(self, value: Formula, names: frozenset[str], has_decimals: bool):
        self.value = value
        self.names = names
        self.has_decimals = has_decimals


@lru_cache(maxsize=4096)
def parse(text: str) -> Parsed | None:
    """The formula that a tidy text spells; None where it is more than arithmetic."""
    try:
        return _Parser(text).parsed()
    except NotArithmetic:
        return None


def compare(gold: Parsed, answer: Parsed, tolerance: float, factor: Fraction = Fraction(1)) -> bool | None:
    """Whether `factor` times `answer` is `gold`, or None where this cannot be told.

    `tolerance` is relative, for formulas with decimals. Raises `TooLarge` where gold cannot be evaluated; an answer
    that is too large or undefined where gold is neither is another value.
    """
    if {name.lower() for name in gold.names} == {name.lower() for name in answer.names} and gold.names != answer.names:
        return None  # a capital letter for a small one: math-verify decides
    names = sorted(gold.names | answer.names)
    closeness = _context.mpf(AGREEMENT)
    if gold.has_decimals or answer.has_decimals:
        closeness += _context.mpf(repr(tolerance))
    agreements = set()
    for point in range(3 if names else 1):
        values = {name: _coordinate(name, point) for name in names}
        try:
            left = gold.value(values)
        except ArithmeticError as error:
            if isinstance(error, TooLarge):
                raise
            return None
        try:
            right = answer.value(values) * factor.numerator / factor.denominator
        except ArithmeticError:
            agreements.add(False)
            continue
        agreements.add(bool(abs(left - right) <= closeness * max(abs(left), abs(right))))
    return agreements.pop() if len(agreements) == 1 else None


def is_multiple(gold: Parsed, answer: Parsed) -> bool | None:
    """Whether one is a constant times the other, false for other variables; None where neither is certain."""
    if {name.lower() for name in gold.names} != {name.lower() for name in answer.names}:
        return False
    if gold.names != answer.names:
        return None
    ratios = []
    for point in range(3):
        values = {name: _coordinate(name, point) for name in gold.names}
        try:
            ratios.append(answer.value(values) / gold.value(values))
        except ArithmeticError:
            return None
    is_constant = all(abs(ratio - ratios[0]) <= AGREEMENT * abs(ratios[0]) for ratio in ratios)
    return True if is_constant and ratios[0] != 0 else None


def _coordinate(name: str, point: int) -> Any:
    """A value of a variable, the same in every process: from 0.3 to 2.3, at the second point below zero."""
    fraction = _context.mpf(zlib.crc32(f"{name} {point}".encode())) / 2**32
    return (-1 if point == 1 else 1) * (fraction * 2 + _context.mpf(3) / 10)


def _power(base: Any, exponent: Any) -> Any:
    if abs(exponent) > MAX_EXPONENT and base not in (0, 1, -1):
        raise TooLarge
    return base**exponent


class _Parser:
    """Recursive descent: sum = products, product = powers side by side or with signs, power = atom ^ atom."""

    def __init__(self, text: str):
        self._tokens: list[tuple[str, str]] = []
        self._names: set[str] = set()
        self._has_decimals = False
        self._position = 0
        self._depth = 0
        end = 0
        for match in _TOKEN.finditer(text):
            if match.start() != end or len(self._tokens) > MAX_TOKENS:
                raise NotArithmetic
            end = match.end()
            if match.lastindex is not None:
                self._tokens.append((("number", "command", "name", "sign")[match.lastindex - 1], match.group().strip()))
        if end != len(text) or not self._tokens:
            raise NotArithmetic

    def parsed(self) -> Parsed:
        value = self._sum()
        if self._position < len(self._tokens):
            raise NotArithmetic
        return Parsed(value, frozenset(self._names), self._has_decimals)

    def _peek(self) -> str:
        return self._tokens[self._position][1] if self._position < len(self._tokens) else ""

    def _take(self, *texts: str) -> str:
        if (text := self._peek()) and text in texts:
            self._position += 1
            return text
        return ""

    def _sum(self) -> Formula:
        sign = self._take("+", "-")
        left = self._product()
        if sign == "-":
            left = _negative(left)
        while operator := self._take("+", "-"):
            left = _combined(operator, left, self._product())
        return left

    def _product(self) -> Formula:
        left = self._signed_power()
        while True:
            operator = self._take("*", r"\cdot", r"\times", "/", r"\div")
            if operator:
                left = _combined("/" if operator in ("/", r"\div") else "*", left, self._signed_power())
            elif self._peek() in ("", "+", "-", ")", "}", "]", "^"):
                return left
            else:
                is_digit_after_digit = self._kind(-1) == "number" and self._kind(0) == "number"
                if is_digit_after_digit or self._is_mixed_number():
                    raise NotArithmetic
                left = _combined("*", left, self._power())

    def _is_mixed_number(self) -> bool:
        return self._kind(-1) == "number" and self._peek() == r"\frac"

    def _kind(self, offset: int) -> str:
        position = self._position + offset
        return self._tokens[position][0] if 0 <= position < len(self._tokens) else ""

    def _signed_power(self) -> Formula:
        return _negative(self._power()) if self._take("-") else self._power()

    def _power(self) -> Formula:
        base = self._atom()
        if not self._take("^"):
            return base
        if self._kind(0) == "number" and len(self._peek()) > 1:
            raise NotArithmetic  # x^12 without braces is x^1 2 to LaTeX and x^{12} to people
        self._deeper(1)
        exponent = self._power() if self._kind(0) != "sign" or self._peek() in "{(" else self._signed_power()
        self._deeper(-1)
        return lambda values: _power(base(values), exponent(values))

    def _group(self, opening: str, closing: str) -> Formula:
        if not self._take(opening):
            raise NotArithmetic
        self._deeper(1)
        inner = self._sum()
        self._deeper(-1)
        if not self._take(closing):
            raise NotArithmetic
        return inner

    def _deeper(self, step: int) -> None:
        self._depth += step
        if self._depth > MAX_DEPTH:
            raise NotArithmetic

    def _atom(self) -> Formula:
        kind, text = self._kind(0), self._peek()
        for opening, closing in (("{", "}"), ("(", ")"), ("[", "]")):
            if text == opening:
                return self._group(opening, closing)
        self._position += 1
        if kind == "number":
            self._has_decimals |= bool(text.partition(".")[2].strip("0"))
            number = _context.mpf("0" + text if len(text) <= DIGITS - 10 else _refuse())  # it cannot read ".0"
            return lambda values: number
        if kind == "name":
            return self._name(text)
        if kind == "command":
            return self._command(text[1:])
        raise NotArithmetic

    def _name(self, name: str) -> Formula:
        if name == "e":
            return lambda values: _context.e
        if name == "i":
            return lambda values: _context.j
        self._names.add(name)
        return lambda values: values[name]

    def _command(self, name: str) -> Formula:
        if name == "frac":
            return _combined("/", self._group("{", "}"), self._group("{", "}"))
        if name == "sqrt":
            index = self._group("[", "]") if self._peek() == "[" else None
            radicand = self._group("(", ")") if self._peek() == "(" else self._group("{", "}")
            if index is None:
                return lambda values: _context.sqrt(radicand(values))
            return lambda values: _power(radicand(values), 1 / index(values))
        if name == "pi":
            return lambda values: _context.pi
        if name in _FUNCTIONS and self._peek() in ("(", "{"):
            argument = self._group(self._peek(), ")" if self._peek() == "(" else "}")
            if self._peek() in ("(", "{", "^"):
                raise NotArithmetic
            function = _FUNCTIONS[name]
            return lambda values: function(argument(values))
        if _GREEK.fullmatch(name):
            if self._peek() == "_":
                raise NotArithmetic
            return self._name("\\" + name)
        raise NotArithmetic


def _refuse() -> str:
    raise NotArithmetic


def _negative(value: Formula) -> Formula:
    return lambda values: -value(values)


def _combined(operator: str, left: Formula, right: Formula) -> Formula:
    if operator == "+":
        return lambda values: left(values) + right(values)
    if operator == "-":
        return lambda values: left(values) - right(values)
    if operator == "*":
        return lambda values: left(values) * right(values)
    return lambda values: left(values) / right(values)
