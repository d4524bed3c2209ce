import json
from pathlib import Path

import math_verify
import pytest
import sympy

from reward.types import BadReference, VerificationRequest
from reward.verifiers.math import clean, integer, parse, verify

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "test.jsonl"


def judge(response, gold):
    return verify(VerificationRequest(verifier="math", prompt="", response=response, gold=gold, metadata={}))


@pytest.mark.parametrize(
    ("response", "gold", "score", "rule"),
    [
        (r"\boxed{72}", "72", 1.0, "boxed"),
        (r"\boxed{72}", 72, 1.0, "boxed"),
        (r"\boxed{71}", "72", 0.0, "boxed"),
        (r"\boxed{\frac{1}{2}}", "0.5", 1.0, "boxed"),
        (r"\boxed{0.5}", r"\frac{1}{2}", 1.0, "boxed"),
        (r"\boxed{\dfrac{2}{4}}", r"\frac{1}{2}", 1.0, "boxed"),
        (r"\boxed{\frac{1}{3}}", "0.5", 0.0, "boxed"),
        (r"\boxed{1,000}", "1000", 1.0, "boxed"),
        (r"\boxed{1000}", "1,000", 1.0, "boxed"),
        (r"\boxed{+1,000}", "1000", 1.0, "boxed"),
        (r"\boxed{72.0}", "72", 1.0, "boxed"),
        (r"\boxed{72.5}", "72", 0.0, "boxed"),
        (r"\boxed{$72$}", "72", 1.0, "boxed"),
        (r"\boxed{\$72}", "72", 1.0, "boxed"),
        (r"\boxed{50\%}", "50", 1.0, "boxed"),
        (r"\boxed{x = 5}", "5", 1.0, "boxed"),
        (r"\boxed{2\sqrt{3}}", r"\sqrt{12}", 1.0, "boxed"),
        (r"\boxed{2\sqrt{3}}", "2", 0.0, "boxed"),
        (r"\boxed{(x+1)^2}", "x^2+2x+1", 1.0, "boxed"),
        (r"\boxed{(1,2)}", "(1,2)", 1.0, "boxed"),
        (r"\boxed{(2,1)}", "(1,2)", 0.0, "boxed"),
        (r"\boxed{\{2,1\}}", r"\{1,2\}", 1.0, "boxed"),
        (r"\boxed{\text{Evelyn}}", r"\text{Evelyn}", 1.0, "boxed"),
        (r"at first \boxed{72}, in truth \boxed{7}", "72", 0.0, "boxed"),
        ("#### 72", "72", 1.0, "hash"),
        ("#### $72", "72", 1.0, "hash"),
        ("#### -3", "-3", 1.0, "hash"),
        ("#### 3", "-3", 0.0, "hash"),
        ("<answer> 72 </answer>", "72", 1.0, "answer_tag"),
        ("The answer is $72.", "72", 1.0, "the_answer_is"),
        ("The answer is 72 dollars.", "72", 1.0, "the_answer_is"),
        ("The answer is \u22123.", "-3", 1.0, "the_answer_is"),
        ("So she has 72", "72", 1.0, "last_number"),
        ("72 it is, not 71", "72", 0.0, "last_number"),
        (r"\boxed{9**9**9**9}", "7", 0.0, "boxed"),
        ("\x00\x01\ud800\ufffd \\boxed{7}", "7", 1.0, "boxed"),
        (r"\boxed{" + "1" * 1_000_000 + "}", "7", 0.0, "boxed"),
        (r"\boxed{0" + "1" * 5_000 + "}", "1" * 5_000, 1.0, "boxed"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_literal_cases(response, gold, score, rule):
    judgement = judge(response, gold)
    assert (judgement.score, judgement.rule) == (score, rule)
    assert judgement.answer


@pytest.mark.parametrize("response", ["", "no idea", "x" * 1_000_000, r"\boxed{}"])
def test_no_answer(response):
    judgement = judge(response, "7")
    assert (judgement.score, judgement.answer, judgement.rule) == (0.0, None, "")


@pytest.mark.parametrize("gold", ["}{", "", None, True, ["7"], {"answer": "7"}])
def test_a_gold_that_cannot_be_read_is_not_held_against_the_response(gold):
    for response in (r"\boxed{7}", "no idea"):
        with pytest.raises(BadReference):
            judge(response, gold)


@pytest.mark.parametrize(
    ("text", "digits"),
    [("72", "72"), ("1,000.0", "1000"), ("-007", "-7"), ("-0", "0"), ("72.5", None), ("1,00", None), ("1e3", None)],
)
def test_integer_literals(text, digits):
    assert integer(text) == digits
    if digits is not None:
        assert math_verify.verify(sympy.Integer(digits), parse(text), timeout_seconds=None)


@pytest.mark.parametrize("text", [r"2\sqrt{3}", "2 pi", "2x", "-3", "(1, 2)", "3 and 5", "x.5"])
def test_cleaning_leaves_values_alone(text):
    assert clean(text) == text


def test_gsm8k_solutions_and_their_neighbours():
    """Every written solution is right for its own question; its final answer is wrong for the next one's."""
    if not GSM8K.exists():
        pytest.skip(f"no GSM8K at {GSM8K}")
    with GSM8K.open() as lines:
        rows = [json.loads(line)["answer"] for _, line in zip(range(201), lines, strict=False)]
    golds = [row.rpartition("####")[2].strip() for row in rows]
    for i in range(200):
        judgement = judge(rows[i], golds[i])
        assert (judgement.score, judgement.rule) == (1.0, "hash"), rows[i]
        if golds[i] != golds[i + 1]:
            assert judge(rows[i], golds[i + 1]).score == 0.0, (golds[i], golds[i + 1])
            # The same comparison without the short cut for integers.
            assert judge(rf"\boxed{{{golds[i]} + 0}}", golds[i + 1]).score == 0.0
