"""Lines of JSON in, requests and lines with verdicts out."""

import json

import pytest

from reward.rows import UnusableRow, no_answer, read_row, written
from reward.types import FailureKind, Verdict


def line(**fields):
    return json.dumps(fields).encode()


def test_a_row_becomes_a_request():
    row = read_row(line(prediction="72", gold={"a": [1]}, problem="6 · 12?", kind="integer", id=7), "math")
    request = row.request
    assert (request.verifier, request.prompt, request.response) == ("math", "6 · 12?", "72")
    assert (request.gold, request.metadata) == ({"a": [1]}, {"kind": "integer"})


def test_what_a_row_may_lack():
    request = read_row(line(prediction="", gold=None, problem=None, kind=None), "math").request
    assert (request.prompt, request.response, request.gold, request.metadata) == ("", "", None, {})
    assert read_row(line(prediction=None, gold="72"), "math").request is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"{", "not JSON: Expecting property name enclosed in double quotes at character 2"),
        (b"prediction", "not JSON: Expecting value at character 1"),
        (b'{"prediction": "1", "gold": "1"} {}', "not JSON: Extra data"),
        (b"\x00\x01\x02", "not JSON"),
        (b'{"prediction": "\xff", "gold": "1"}', r"not text in UTF-8 \(byte 17\)"),
        (b"[1]", "it is a list and not an object"),
        (b"null", "it is null and not an object"),
        (b'"72"', "it is text and not an object"),
        (b"{}", "there is no 'prediction' in it"),
        (b'{"prediction": "1"}', "there is no 'gold' in it"),
        (b'{"prediction": 72, "gold": "72"}', "'prediction' is text or null, not a number"),
        (b'{"prediction": ["72"], "gold": "72"}', "'prediction' is text or null, not a list"),
        (b'{"prediction": true, "gold": "72"}', "'prediction' is text or null, not true or false"),
        (b'{"prediction": "1", "gold": "1", "problem": {}}', "'problem' is text or null, not an object"),
        (b'{"prediction": "1", "gold": "1", "kind": 1}', "'kind' is text or null, not a number"),
        (b'{"prediction": "1", "gold": "1", "prediction": "2"}', "the key 'prediction' stands in it twice"),
        (b'{"prediction": "1", "gold": {"a": 1, "a": 2}}', "the key 'a' stands in it twice"),
        (b'{"prediction": "1", "gold": NaN}', "NaN is not a number of JSON"),
        (b'{"prediction": "1", "gold": -1e999}', "the number -1e999 is too large"),
        (b'{"prediction": "1", "gold": ' + b"1" * 5000 + b"}", "a number that is too long"),
        (b'{"prediction": "1", "gold": ' + b"[" * 100_000, "nested too deeply"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_line_that_cannot_be_judged_says_why(text, problem):
    with pytest.raises(UnusableRow, match=problem):
        read_row(text, "math")


def test_the_row_comes_back_with_its_verdict():
    fields = {"id": 1, "prediction": "é\ud800", "gold": 0.1, "verdict": "of before"}
    row = read_row(line(**fields), "math")
    verdict = Verdict(0.5, None, "7", "boxed", "half of it", 0.12345678)
    assert json.loads(written(row, verdict)) == fields | {
        "verdict": {"score": 0.5, "failure": None, "rule": "boxed", "seconds": 0.123457, "detail": "half of it"}
    }
    failed = json.loads(written(row, Verdict.failed(FailureKind.TIMEOUT, "too slow", 5.0)))["verdict"]
    assert (failed["score"], failed["failure"], failed["detail"]) == (None, "timeout", "too slow")
    assert no_answer().score == 0.0
