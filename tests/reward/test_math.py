import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest

from reward.keeper import Keeper
from reward.types import BadReference, FailureKind, VerificationRequest
from reward.verifiers.math import make
from tests.reward.math_settings import PRESETS, SETTINGS

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "test.jsonl"


VERIFIERS = {name: make({"math": asdict(preset)}) for name, preset in PRESETS.items()}
MATH500 = GSM8K.parents[1] / "math500" / "test.jsonl"


def request(response, gold, prompt=""):
    return VerificationRequest(verifier="math", prompt=prompt, response=response, gold=gold, metadata={})


def judge(response, gold, prompt="", preset="lenient"):
    return VERIFIERS[preset](request(response, gold, prompt))


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


@pytest.mark.parametrize("preset", ["boxed", "strict"])
def test_presets_that_ask_for_a_box_take_nothing_else(preset):
    for response in ("#### 7", "<answer>7</answer>", "The answer is 7.", "7"):
        assert judge(response, "7").score == 1.0
        judgement = judge(response, "7", preset=preset)
        assert (judgement.score, judgement.answer) == (0.0, None)
    assert judge(r"\boxed{7}", "7", preset=preset).score == 1.0


EXAMPLE = "Put the final answer in a box, for example \\boxed{42} if the answer is 42."


@pytest.mark.parametrize(
    ("response", "score", "answer"),
    [
        (EXAMPLE, 0.0, None),
        (f"What is 6 x 7?\n{EXAMPLE}", 0.0, None),
        (f"I was told: {EXAMPLE}", 0.0, None),
        (f"It is \\boxed{{41}}. {EXAMPLE}", 0.0, "41"),
        (f"{EXAMPLE} It is \\boxed{{42}}.", 1.0, "42"),
        (r"\boxed{42}", 1.0, "42"),
    ],
)
def test_the_example_of_the_prompt_is_no_answer(response, score, answer):
    judgement = judge(response, "42", prompt=f"What is 6 x 7?\n{EXAMPLE}")
    assert (judgement.score, judgement.answer) == (score, answer)


def test_a_short_line_of_a_worked_example_may_be_the_answer_again():
    assert judge("3 x 6 = 18\n#### 18", "18", prompt="Q: 9 + 9?\n#### 18\nQ: 3 x 6?").score == 1.0


def test_several_boxes_and_an_empty_one_at_the_end():
    assert judge(r"\boxed{1}, \boxed{2}, \boxed{7}", "7").score == 1.0
    assert judge(r"\boxed{7}, \boxed{8}", "7").score == 0.0
    assert judge(r"\boxed{7}. The answer stands in \boxed{}.", "7").score == 1.0


def test_what_a_verdict_carries_is_short():
    judgement = judge(r"\boxed{" + "1" * 1_000_000 + "}", "7")
    assert (judgement.score, len(judgement.answer)) == (0.0, 2000)


def test_hostile_answers_cost_a_child_at_most_and_never_a_neighbour():
    """In children, with a deadline, as training judges. What SymPy never finishes is a failure and not a zero."""
    endless = r"\sum_{n=1}^{10^{9}} \sin(\sin n)"
    hostile = ["9**9**9**9", r"\sqrt{" * 2000 + "}" * 2000, "x" * 1_000_000, "\x00\ufffd", "(" * 3000, endless]
    keeper = Keeper({"math"}, SETTINGS, 2, 2.0, 512, 1000, 512, 60.0)
    try:
        requests = [r for answer in hostile for r in (request(rf"\boxed{{{answer}}}", "7"), request("#### 7", "7"))]
        verdicts = keeper.verify(requests, deadline_s=60.0)
    finally:
        keeper.close()
    assert [verdict.score for verdict in verdicts[1::2]] == [1.0] * len(hostile)
    assert all(v.score == 0.0 or v.failure in (FailureKind.TIMEOUT, FailureKind.MEMORY) for v in verdicts[::2])
    assert [verdict.score for verdict in verdicts[::2]][:3] == [0.0, 0.0, 0.0]
    assert verdicts[-2].failure is not None


def test_worked_solutions_of_math500_and_wrong_ones():
    if not MATH500.exists():
        pytest.skip(f"no MATH-500 at {MATH500}")
    with MATH500.open() as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows[:200]:
        assert judge(row["solution"], row["answer"]).score == 1.0, row["answer"]
    accepted = [
        (left["answer"], right["answer"])
        for left, right in pairwise(rows[:100])
        if left["answer"] != right["answer"] and judge(left["solution"], right["answer"]).score
    ]
    assert accepted == [("5", "x=5")]  # which is right


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
