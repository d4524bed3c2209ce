r"""Number literals: whole, decimal, scientific, fractions, mixed numbers, ratios; read and compared exactly.

Decimals are `Decimal`, because Python refuses to convert more than 4,300 digits to `int`, and because 1e999999999 costs
nothing there.
"""

import re
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction

_UNSIGNED = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)(?:\.\d*)?|\.\d+"
_DECIMAL = re.compile(
    rf"([+-]?)({_UNSIGNED})(?:[eE]([+-]?\d{{1,6}})|(?: ?(?:\\times|\\cdot|\*|x) ?10\^(?:\{{([+-]?\d{{1,6}})\}}|(\d))))?"
)
_POWER_OF_TEN = re.compile(r"([+-]?)10\^(?:\{([+-]?\d{1,6})\}|(\d))")
_FRACTION = re.compile(
    rf"([+-]?)(?:(\d{{1,50}}) ?)?\\frac\{{([+-]?)({_UNSIGNED})\}}\{{({_UNSIGNED})\}}"
    rf"|([+-]?)(?:(\d{{1,50}}) )?({_UNSIGNED})/({_UNSIGNED})"
)
_RATIO = re.compile(r"(\d{1,50}):(\d{1,50})")
_CLOCK = re.compile(r"\d{1,2}:[0-5]\d")

MAX_FRACTION_DIGITS = 1000  # a longer number, or one further from 1, stays a Decimal
_EXACT = Context(prec=MAX_FRACTION_DIGITS)


@dataclass(frozen=True)
class Number:
    """value: a Fraction, or a Decimal where that would be too long; is_decimal: written with decimals or a power."""

    value: Fraction | Decimal
    is_decimal: bool


def read_number(text: str) -> Number | None:
    """The number that a tidy text spells, None for anything else."""
    if match := _DECIMAL.fullmatch(text):
        sign, digits, *exponents = match.groups()
        exponent = next((found for found in exponents if found is not None), None)
        number = Decimal(sign + _digits(digits) + (f"e{exponent}" if exponent is not None else ""))
        has_decimals = bool(digits.partition(".")[2].strip("0"))
        return Number(_fraction(number), has_decimals or exponent is not None)
    if match := _POWER_OF_TEN.fullmatch(text):
        return Number(_fraction(Decimal(f"{match[1]}1e{match[2] or match[3]}")), False)
    if match := _FRACTION.fullmatch(text):
        if match[4] is not None:
            sign, whole, inner_sign, above, below = match.group(1, 2, 3, 4, 5)
        else:
            sign, whole, above, below = match.group(6, 7, 8, 9)
            inner_sign = ""
        return _quotient(sign, whole, inner_sign, above, below)
    if (match := _RATIO.fullmatch(text)) and not _CLOCK.fullmatch(text):
        return _quotient("", None, "", match[1], match[2])
    return None


def equal_numbers(gold: Number, answer: Number, tolerance: float, factor: Fraction = Fraction(1)) -> bool:
    """Whether `answer` times `factor` is `gold`: exactly, or where one is a decimal within `tolerance` of gold."""
    left, right = gold.value, answer.value
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        if left == right * factor:
            return True
        is_close = abs(left - right * factor) <= Fraction(tolerance).limit_denominator(10**12) * abs(left)
        return (gold.is_decimal or answer.is_decimal) and is_close
    # With one or both too long for a fraction there is no tolerance to speak of.
    return factor == 1 and isinstance(left, Decimal) and isinstance(right, Decimal) and left == right


def _digits(text: str) -> str:
    return text.replace(",", "").replace(" ", "")


def _fraction(number: Decimal) -> Fraction | Decimal:
    if number.is_zero():
        return Fraction(0)
    if len(number.as_tuple().digits) > MAX_FRACTION_DIGITS or abs(number.adjusted()) > MAX_FRACTION_DIGITS:
        return number
    return Fraction(number)


def _quotient(sign: str, whole: str | None, inner_sign: str, above: str, below: str) -> Number | None:
    numerator, denominator = (_fraction(Decimal(_digits(part))) for part in (above, below))
    if isinstance(numerator, Decimal) or isinstance(denominator, Decimal) or denominator == 0:
        return None
    part = numerator / denominator
    if whole is not None:
        if inner_sign or part >= 1 or "." in above + below:  # 3\frac{5}{2} is a product
            return None
        part += int(whole)
    negative = (sign == "-") != (inner_sign == "-")
    return Number(-part if negative else part, any(text.partition(".")[2].strip("0") for text in (above, below)))
