from functools import partial

import pytest
import reasoning_gym

from reward.config import CountdownConfig
from reward.types import BadReference, VerificationRequest
from reward.verifiers import load
from reward.verifiers.countdown import verify

GOLD = {"numbers": [3, 5, 7, 7], "target": 22}


def judge(response, gold=GOLD, all_numbers=False):
    return verify(VerificationRequest("countdown", "", response, gold, {}), CountdownConfig(all_numbers))


@pytest.mark.parametrize(
    ("response", "score", "rule"),
    [
        ("<answer>3 + 5 + 7 + 7</answer>", 1.0, "answer_tag"),
        ("<answer>3*5 + 7</answer>", 1.0, "answer_tag"),
        ("<answer>3*5 + 7 = 22</answer>", 1.0, "answer_tag"),
        ("<answer>3*5 + 7 = 22.</answer>", 1.0, "answer_tag"),
        ("<answer>3*5 + 7 = 21</answer>", 0.0, "answer_tag"),
        ("<answer>3*5 + 7 = 22 = 22</answer>", 0.0, "answer_tag"),
        ("<answer>22</answer>", 0.0, "answer_tag"),
        ("<answer>= 22</answer>", 0.0, "answer_tag"),
        ("<answer>3*5 + 6</answer>", 0.0, "answer_tag"),
        ("<answer>3+5+7</answer>", 0.0, "answer_tag"),
        ("<answer>5*5 - 3</answer>", 0.0, "answer_tag"),  # 5 is there once
        ("<answer>7*7/7 + 5*3</answer>", 0.0, "answer_tag"),  # 7 is there twice
        ("<answer>7*(3 + 1/7)</answer>", 0.0, "answer_tag"),  # exactly 22, and 1 is not there
        ("<answer>3*5 + 7.0</answer>", 0.0, "answer_tag"),
        ("<answer>7**7**7**7</answer>", 0.0, "answer_tag"),
        ("<answer>5/(7-7)</answer>", 0.0, "answer_tag"),
        ("<answer>__import__('os')._exit(0)</answer>", 0.0, "answer_tag"),
        ("<answer>3+5</answer> better <answer>3*5+7</answer>", 1.0, "answer_tag"),
        ("<answer>3*5+7</answer> worse <answer>3+5</answer>", 0.0, "answer_tag"),
        (r"so \boxed{3 \times 5 + 7}", 1.0, "boxed"),
        ("3*5+7", 1.0, "last_line"),
        ("first this\n\n(3 \u00d7 5) + 7 = 22\n", 1.0, "last_line"),
    ],
)
def test_by_hand(response, score, rule):
    judgement = judge(response)
    assert (judgement.score, judgement.rule, bool(judgement.detail)) == (score, rule, not score)
    assert judgement.answer


@pytest.mark.parametrize("response", ["", "no idea", "<answer></answer>", "the numbers are 3, 5", "x" * 10**6])
def test_no_expression(response):
    judgement = judge(response)
    assert (judgement.score, judgement.answer) == (0.0, None)


def test_every_number_only_where_asked():
    assert judge("3*5+7", all_numbers=True).score == 0.0
    assert "7 is not used, and reward.countdown.all_numbers" in judge("3*5+7", all_numbers=True).detail
    assert judge("3+5+7+7", all_numbers=True).score == 1.0
    made = load("countdown", {"countdown": {"all_numbers": True}})
    assert made(VerificationRequest("countdown", "", "3*5+7", GOLD, {})).score == 0.0


def test_thirds_are_exact():
    """8 / (3 - 8/3) = 24, for which floats come to 23.999999999999993."""
    assert judge("8/(3-8/3)", {"numbers": [3, 3, 8, 8], "target": 24}, all_numbers=True).score == 1.0
    assert judge("1/3", {"numbers": [1, 3], "target": 0}).score == 0.0


@pytest.mark.parametrize("answer", ["(" * 10**6, "-" * 10**6 + "3", "9" * 10**6, "7*" * 500_000 + "7"])
def test_a_megabyte_of_an_answer(answer):
    assert judge(f"<answer>{answer}</answer>").score == 0.0


@pytest.mark.parametrize(
    "gold",
    [
        None,
        "22",
        [3, 5],
        {},
        {"numbers": [3, 5]},
        {"numbers": [], "target": 1},
        {"numbers": "35", "target": 8},
        {"numbers": [3, "5"], "target": 8},
        {"numbers": [3, 5.0], "target": 8},
        {"numbers": [3, True], "target": 4},
        {"numbers": [3, 5], "target": "8"},
        {"entry": {}},
    ],
    ids=str,
)
def test_a_reference_that_cannot_be_used(gold):
    with pytest.raises(BadReference):
        judge("3+5", gold)


def test_entries_of_reasoning_gym_are_references_too():
    for entry in reasoning_gym.create_dataset("countdown", size=20, seed=7):
        gold = {"task": "countdown", "entry": entry}
        right = partial(judge, gold=gold, all_numbers=True)
        assert right(entry["metadata"]["expression"]).score == 1.0
        assert right(f"{entry['metadata']['expression']} + 1").score == 0.0
