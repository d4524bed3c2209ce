import time

import pytest

from reward.types import VerificationRequest
from reward.verifiers.think_answer import verify


def judge(response, prompt=""):
    return verify(VerificationRequest("think_answer", prompt, response, None, {}))


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("<think>1 + 1</think><answer>2</answer>", "2"),
        (" <think>\n1 + 1\n</think>\n\n<answer>\n2\n</answer>\n", "2"),
        ("<think></think><answer>2</answer>", "2"),
        ("<think>a < b <b></think><answer>1 < 2</answer>", "1 < 2"),
        ("<think>1</think><answer></answer>", None),
        ("<think>1</think><answer>  </answer>", None),
        ("<answer>2</answer>", None),
        ("<think>1</think>", None),
        ("<answer>2</answer><think>1</think>", None),
        ("<think>1</think> so <answer>2</answer>", None),
        ("<think>1</think><answer>2</answer> done", None),
        ("well <think>1</think><answer>2</answer>", None),
        ("<think>1<think>2</think><answer>2</answer>", None),
        ("<think>1</think></think><answer>2</answer>", None),
        ("<think>1</think><answer>1</answer><answer>2</answer>", None),
        ("<think>1<answer>2</answer></think>", None),
        ("<think>1</think><answer>2", None),
        ("", None),
    ],
)
def test_by_hand(response, answer):
    judgement = judge(response)
    assert (judgement.score, judgement.answer) == (float(answer is not None), answer)


def test_a_prompt_that_opens_the_thoughts():
    assert judge("1 + 1</think><answer>2</answer>", "user: 1 + 1?\nassistant: <think>\n").score == 1.0
    assert judge("<think>1 + 1</think><answer>2</answer>", "assistant: <think>\n").score == 1.0
    assert judge("1 + 1</think><answer>2</answer>", "assistant:").score == 0.0


@pytest.mark.parametrize(
    "response",
    [
        "<think>" * 150000,
        "<think>" + "<" * 10**6,
        " " * 10**6,
        "<think></think>" + " " * 10**6,
        "<think>" + "a" * 10**6 + "</think><answer>" + "b" * 10**6,
        "<think>" + "</thin" * 150000,
    ],
    ids=["open", "angles", "blanks", "blanks between", "unclosed", "nearly closed"],
)
def test_a_megabyte_takes_linear_time(response):
    began = time.process_time()
    assert judge(response).score == 0.0
    assert time.process_time() - began < 2
