import json

import pytest
import reasoning_gym

from reward.types import BadReference, VerificationRequest
from reward.verifiers.reasoning_gym import verify

CHAIN_SUM = {"task": "chain_sum", "entry": {"question": "20 - 32 =", "answer": "-12", "metadata": {}}}


def judge(response, gold):
    return verify(VerificationRequest(verifier="reasoning_gym", prompt="", response=response, gold=gold, metadata={}))


@pytest.mark.parametrize(
    ("response", "score", "answer"),
    [
        ("20 - 32 = -12 <answer>-12</answer>", 1.0, "-12"),
        ("<answer>\n -12.00 </answer>", 1.0, "-12.00"),
        ("<answer>12</answer>", 0.0, "12"),
        ("<answer>-12 ok</answer>", 0.5, "-12 ok"),  # reasoning-gym: length of the oracle over length of the answer
        ("<answer>5</answer> no, <answer>-12</answer>", 1.0, "-12"),
        ("<answer>-12</answer> no, <answer>5</answer>", 0.0, "5"),
        ("-12", 0.0, None),
        ("<answer>-12", 0.0, None),
        ("<answer></answer>", 0.0, None),
    ],
)
def test_chain_sum(response, score, answer):
    judgement = judge(response, CHAIN_SUM)
    assert (judgement.score, judgement.answer) == (score, answer)
    assert judgement.rule == ("answer_tag" if answer is not None else "")


@pytest.mark.parametrize("task", ["chain_sum", "spell_backward", "countdown", "arc_agi", "rearc", "sudoku"])
def test_the_data_sets_own_answers_are_right_after_a_trip_through_json(task):
    """arc_agi and rearc keep their grids as tuples, which JSON does not have."""
    entries = list(reasoning_gym.create_dataset(task, size=3, seed=7))
    for entry in entries:
        # A countdown entry carries one solution in its metadata, not in its answer.
        answer = entry["metadata"].get("expression", entry["answer"]) if task == "countdown" else entry["answer"]
        gold = json.loads(json.dumps({"task": task, "entry": entry}))
        assert judge(f"<answer>{answer}</answer>", gold).score == 1.0
        assert judge("<answer>zzz</answer>", gold).score < 1.0


def test_the_reference_is_left_as_it_was():
    gold = json.loads(json.dumps({"task": "rearc", "entry": reasoning_gym.create_dataset("rearc", size=1, seed=7)[0]}))
    before = json.dumps(gold)
    judge("<answer>1</answer>", gold)
    assert json.dumps(gold) == before


@pytest.mark.parametrize(
    "gold",
    [
        None,
        "-12",
        {"task": "chain_sum"},
        {"task": "chain_sum", "entry": {"question": "", "answer": "5"}},
        {"task": "no_such_task", "entry": CHAIN_SUM["entry"]},
        {"task": "composite", "entry": CHAIN_SUM["entry"]},
    ],
)
def test_a_reference_that_cannot_be_used(gold):
    with pytest.raises(BadReference):
        judge("<answer>-12</answer>", gold)


def test_a_scorer_that_raises_is_no_wrong_answer():
    entry = reasoning_gym.create_dataset("prime_factorization", size=1, seed=7)[0]
    with pytest.raises(ValueError, match="zzz"):
        judge("<answer>zzz</answer>", {"task": "prime_factorization", "entry": entry})
