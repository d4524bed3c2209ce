"""Lines of JSON that hold responses to judge, and the same with their verdicts."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reward.types import Verdict, VerificationRequest


class UnusableRow(ValueError):
    """A line that cannot be judged; the message says what is wrong with it."""


@dataclass(frozen=True)
class Row:
    """One line of the input.

    fields   all of it, to be written again
    request  None where the prediction is null: nobody answered, and there is nothing to judge
    """

    fields: Mapping[str, Any]
    request: VerificationRequest | None


def read_row(line: bytes, verifier: str) -> Row:
    """Raises `UnusableRow`."""
    fields = _object(line)
    for key in ("prediction", "gold"):
        if key not in fields:
            raise UnusableRow(f"there is no {key!r} in it")
    prediction = fields["prediction"]
    if prediction is not None and not isinstance(prediction, str):
        raise UnusableRow(f"'prediction' is text or null, not {_kind(prediction)}")
    for key in ("problem", "kind"):
        if not isinstance(fields.get(key, ""), str | None):
            raise UnusableRow(f"{key!r} is text or null, not {_kind(fields[key])}")
    if prediction is None:
        return Row(fields, None)
    metadata = {} if fields.get("kind") is None else {"kind": fields["kind"]}
    return Row(fields, VerificationRequest(verifier, fields.get("problem") or "", prediction, fields["gold"], metadata))


def no_answer() -> Verdict:
    """Of a prediction that is null."""
    return Verdict(score=0.0, failure=None, answer=None, rule="", detail="no answer", seconds=0.0)


def written(row: Row, verdict: Verdict) -> bytes:
    """The row with its verdict, as a line. A `verdict` that the row had is replaced."""
    judged = {
        "score": verdict.score,
        "failure": verdict.failure,
        "rule": verdict.rule,
        "seconds": round(verdict.seconds, 6),
        "detail": verdict.detail,
    }
    return json.dumps({**row.fields, "verdict": judged}, allow_nan=False).encode() + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(
            line.decode(), object_pairs_hook=_without_duplicates, parse_constant=_no_constant, parse_float=_finite
        )
    except UnicodeDecodeError as error:
        raise UnusableRow(f"it is not text in UTF-8 (byte {error.start + 1})") from error
    except json.JSONDecodeError as error:
        raise UnusableRow(f"it is not JSON: {error.msg} at character {error.pos + 1}") from error
    except RecursionError as error:
        raise UnusableRow("it is nested too deeply") from error
    except UnusableRow:
        raise
    except ValueError as error:  # an integer of more digits than Python converts
        raise UnusableRow(f"it holds a number that is too long, which could stand as text: {error}") from error
    if not isinstance(found, dict):
        raise UnusableRow(f"it is {_kind(found)} and not an object")
    return found


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UnusableRow(f"the key {twice!r} stands in it twice")
    return found


def _no_constant(name: str) -> None:
    raise UnusableRow(f"{name} is not a number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise UnusableRow(f"the number {digits[:20]} is too large")
    return number


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return "null" if value is None else kinds[type(value)]
