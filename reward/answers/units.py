r"""What stands beside a value and is no part of it: units, words for things counted, degree, currency."""

import re
from typing import NamedTuple

# Canonical name: how else it is written. Two units of this table are different things; of other words nobody knows.
_SPELLINGS = {
    "mm": "millimeter, millimeters, millimetre, millimetres",
    "cm": "centimeter, centimeters, centimetre, centimetres",
    "m": "meter, meters, metre, metres",
    "km": "kilometer, kilometers, kilometre, kilometres",
    "inch": "inches, in",
    "foot": "feet, ft",
    "yard": "yards, yd, yds",
    "mile": "miles, mi",
    "g": "gram, grams, gm",
    "kg": "kilogram, kilograms, kgs",
    "pound": "pounds, lb, lbs",
    "ounce": "ounces, oz",
    "ton": "tons, tonne, tonnes",
    "second": "seconds, sec, secs, s",
    "minute": "minutes, min, mins",
    "hour": "hours, hr, hrs, h",
    "day": "days",
    "week": "weeks",
    "month": "months",
    "year": "years, yr, yrs",
    "liter": "liters, litre, litres, l",
    "ml": "milliliter, milliliters, millilitre, millilitres",
    "gallon": "gallons, gal",
    "dollar": "dollars, usd, bucks",
    "cent": "cents",
    "euro": "euros, eur",
    "degree": "degrees, deg",
    "radian": "radians, rad",
    "mph": "mile per hour, miles per hour",
    "km/h": "kmh, kph, kilometers per hour",
    "m/s": "meters per second",
    "hz": "hertz",
    "n": "newton, newtons",
    "j": "joule, joules",
    "w": "watt, watts",
    "v": "volt, volts",
    "kelvin": "k",
}
_KNOWN = {spelling: name for name, others in _SPELLINGS.items() for spelling in (name, *others.split(", "))}
_CURRENCIES = {"$": "dollar", "\u20ac": "euro", "\u00a3": "pound sterling"}

_CURRENCY = re.compile(r"([+-]?) ?([$\u20ac\u00a3]) ?(?=[\d.\\(])([+-]?)")
_TEXT = re.compile(r"\\text\{([A-Za-z][^{}\\]*|[^{}\\]*[A-Za-z]\.?)\}(?:\^(?:\{([23])\}|([23])))?$")
_DEGREE = re.compile(r"\^\\circ ?(?:\\text\{ ?([CFK]) ?\}|([CFK]))?$")
_WORDS = re.compile(r"(?<=[\d})]) ([a-zA-Z]{2,}(?:[ /-][a-zA-Z]+){0,5})(?:\^?([23]))?$")
_GLUED = re.compile(r"(?<=\d)([a-z]{2,3})(?:\^?([23]))?$")
_LETTER = re.compile(r"(?<=[\d})]) ?([a-zA-Z])(?:\^([23]))?$")
_NOT_WORDS = re.compile(r"(?:and|or|sin|cos|tan|log|ln|exp|sqrt|pi|if|mod|times|over)\b")


class Unit(NamedTuple):
    name: str  # canonical, lower case
    is_known: bool


def split_unit(text: str) -> tuple[str, Unit | None]:
    """A tidy value without its unit, and the unit; None where it has none or is nothing else."""
    unit: Unit | None = None
    if match := _CURRENCY.match(text):
        unit = Unit(_CURRENCIES[match[2]], True)
        text = (match[1] or match[3]) + text[match.end() :]
    if match := _DEGREE.search(text):
        scale = match[1] or match[2]
        return _cut(text, match, Unit(f"degree {scale}" if scale else "degree", True))
    if match := _TEXT.search(text):
        return _cut(text, match, _unit(match[1], match[2] or match[3]))
    if (match := _WORDS.search(text)) and not _NOT_WORDS.match(match[1]):
        named = _unit(match[1], match[2])
        if len(match[1]) > 2 or named.is_known:
            return _cut(text, match, named)
    if (match := _GLUED.search(text)) and match[1] in _KNOWN:
        return _cut(text, match, _unit(match[1], match[2]))
    return text, unit


def without_letter(text: str, other: str) -> str:
    """`text` without a letter at its end that may be a unit, as in "5 m"; where `other` has it too it is a variable."""
    match = _LETTER.search(text)
    if match is None or match[1].lower() not in _KNOWN or match[1] in other or match.start() == 0:
        return text
    return text[: match.start()]


def units_agree(gold: Unit | None, answer: Unit | None, rule: str) -> bool:
    """`rule`: ignore, agree (units that are known must not differ) or require (the reference's unit must be there)."""
    if rule == "ignore":
        return True
    if rule == "require":
        return gold is None or (answer is not None and gold.name == answer.name)
    return gold is None or answer is None or not (gold.is_known and answer.is_known) or gold.name == answer.name


def _unit(words: str, power: str | None) -> Unit:
    words = words.strip().rstrip(".").strip().lower()
    for prefix, implied in (("square ", "2"), ("sq ", "2"), ("sq. ", "2"), ("cubic ", "3"), ("cu ", "3")):
        if words.startswith(prefix):
            words, power = words.removeprefix(prefix).strip(), implied
    known = _KNOWN.get(words)
    name = known or words.removesuffix("s")
    return Unit(f"{name}^{power}" if power else name, known is not None)


def _cut(text: str, match: re.Match, unit: Unit) -> tuple[str, Unit | None]:
    value = text[: match.start()].strip()
    if not value or value[-1] in "=+-*/^_,(<>{\\":
        return text, None
    return value, unit
