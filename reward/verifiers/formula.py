"""SymPy expressions from text that a model wrote.

SymPy's own `parse_expr` hands the text to Python's `eval`, with every builtin function in reach. Here it sees nothing
but a formula: numbers, short names, the functions below and + - * / **, of a size that can be computed.
"""

import ast
import math
from collections.abc import Mapping
from typing import Any

import sympy

TRIGONOMETRY = ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth")
INVERSES = ("asin", "acos", "atan", "acot", "asinh", "acosh", "atanh")
FUNCTIONS = frozenset(
    ["Abs", "abs", "sqrt", "cbrt", "exp", "log", "ln", "erf", "erfi", "Rational", *TRIGONOMETRY, *INVERSES]
)
MAX_NAME = 2  # characters of a variable, or of pi
MAX_TEXT = 4000  # characters
MAX_DIGITS = 2000  # of any number that comes up while it is computed


class NotAFormula(ValueError):
    """A text that holds anything besides a formula, or one too large to compute; the message says what."""


def parse_expr(text: str, local_dict: Mapping[str, Any] | None = None) -> Any:
    """What `sympy.parse_expr` makes of a formula. Raises `NotAFormula`, and what SymPy raises."""
    check(text)
    return sympy.parse_expr(text, local_dict=local_dict)


def check(text: str) -> None:
    """Raises `NotAFormula`."""
    if len(text) > MAX_TEXT:
        raise NotAFormula(f"more than {MAX_TEXT} characters are no formula")
    try:
        digits = _digits(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise NotAFormula(f"not a formula ({type(error).__name__})") from error
    if digits > MAX_DIGITS:
        raise NotAFormula(f"a number of more than {MAX_DIGITS} digits would come up in the formula")


def _digits(node: ast.AST) -> float:
    """Upper bound on the decimal digits of the numerators and denominators that computing `node` takes."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return math.log10(max(1, abs(value))) if value < math.inf else math.inf
        case ast.Name(id=name) if name.isascii() and len(name) <= MAX_NAME:
            return 0.0
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            return _digits(operand)
        case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), left=left, right=right):
            return _digits(left) + _digits(right) + math.log10(2)
        case ast.BinOp(op=ast.Pow(), left=base, right=exponent):
            base_digits, exponent_digits = _digits(base), _digits(exponent)
            return base_digits * 10 ** min(exponent_digits, 300.0) if exponent_digits <= MAX_DIGITS else math.inf
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return sum(map(_digits, arguments))
    raise NotAFormula(f"{ast.unparse(node)[:40]!r} is not allowed in a formula")
