import json

import pytest
import reasoning_gym
from reasoning_gym.factory import DATASETS

from reward.types import BadReference, VerificationRequest
from reward.verifiers.reasoning_gym import RAISES, TRUTH_TASKS, scorer, verify

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


TASKS = sorted(set(DATASETS) - {"composite"})

# Tasks whose entries carry no answer, and where the metadata has one that is right. boxnet and rush_hour have none.
SOLUTIONS = {
    "graph_color": lambda metadata: json.dumps(metadata["possible_answer"]),
    "propositional_logic": lambda metadata: metadata["example_answer"],
    "rubiks_cube": lambda metadata: metadata["example_correct_answer"],
}
UNSOLVED = ("boxnet", "rush_hour")

ODD_ANSWERS = (
    "zzz",
    "0",
    "-1",
    "[]",
    "{}",
    "[{}]",
    "null",
    '"a"',
    "[[1, 2], [3, 4]]",
    "1e400",
    "\u00bd",
    "nan",
    "1 2 3",
    "'",
)


@pytest.fixture(scope="module")
def entries():
    """One of every task."""
    return {task: reasoning_gym.create_dataset(task, size=1, seed=7)[0] for task in TASKS}


def test_all_tasks_are_there():
    assert len(TASKS) == 105
    assert {*SOLUTIONS, *UNSOLVED} <= set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_after_a_trip_through_json(task, entries):
    """Its own answer is right, another is not, and both score what the library says of the entry as it was drawn.

    arc_agi and rearc keep their grids as tuples, which JSON does not have.
    """
    entry = entries[task]
    gold = json.loads(json.dumps({"task": task, "entry": entry}))
    answer = SOLUTIONS[task](gold["entry"]["metadata"]) if task in SOLUTIONS else entry["answer"]
    if task in UNSOLVED:
        assert entry["answer"] is None
    else:
        # White space around an answer is taken off, as everywhere.
        assert judge(f"<answer>{answer}</answer>", gold).score == scorer(task)(answer, entry) == 1.0
    wrong = judge("<answer>zzz</answer>", gold).score
    assert wrong < 1.0
    if task not in (*RAISES, *TRUTH_TASKS):
        assert wrong == scorer(task)("zzz", entry)


@pytest.mark.parametrize("task", TASKS)
def test_no_task_stumbles_over_an_answer_of_another_form(task, entries):
    gold = json.loads(json.dumps({"task": task, "entry": entries[task]}))
    for answer in ODD_ANSWERS:
        assert 0.0 <= judge(f"<answer>{answer}</answer>", gold).score <= 1.0


def test_what_some_scorers_raise_is_a_wrong_answer(entries):
    for task, answer in [
        ("boxnet", "0"),
        ("boxnet", "[[1]]"),
        ("coin_flip", "1e400"),
        ("game_of_life", "{}"),
        ("prime_factorization", "zzz"),
    ]:
        with pytest.raises(RAISES[task]):
            scorer(task)(answer, entries[task])
        judgement = judge(f"<answer>{answer}</answer>", {"task": task, "entry": entries[task]})
        assert (judgement.score, judgement.answer) == (0.0, answer)
        assert "reasoning-gym cannot read the answer" in judgement.detail
    assert {"boxnet", "coin_flip", "game_of_life", "prime_factorization"} == set(RAISES)


def test_false_is_not_true():
    """The library scores the truth of a text: "False" is right there where "True" is."""
    entry = {"question": "", "answer": "False", "metadata": {}}
    gold = {"task": "game_of_life_halting", "entry": entry}
    assert scorer("game_of_life_halting")("True", entry) == 1.0
    scores = [judge(f"<answer>{answer}</answer>", gold).score for answer in ("False", "false", "True", "0", "maybe")]
    assert scores == [1.0, 1.0, 0.0, 0.0, 0.0]


ARITHMETIC = ("countdown", "puzzle24")
FORMULAS = ("intermediate_integration", "polynomial_multiplication", "simple_integration")
LITERALS = ("binary_matrix", "n_queens", "spiral_matrix", "string_insertion")


@pytest.mark.parametrize("task", [*ARITHMETIC, *FORMULAS, *LITERALS])
def test_no_answer_is_executed(task, entries, tmp_path):
    """These scorers call `eval`, or SymPy's parse_expr, on the answer."""
    for code in ("open({path!r}, 'w')", "exec('open({path!r}, \\'w\\')')", "[open({path!r}, 'w')]"):
        attack = code.format(path=str(tmp_path / "written"))
        assert judge(f"<answer>{attack}</answer>", {"task": task, "entry": entries[task]}).score <= 0.05
    assert judge("<answer>9**9**9**9</answer>", {"task": task, "entry": entries[task]}).score <= 0.05
    assert list(tmp_path.iterdir()) == []


def test_partial_scores_of_literals_are_the_librarys():
    gold = {"task": "string_insertion", "entry": {"question": "", "answer": "ABC", "metadata": {}}}
    assert judge("<answer>['A', 'B', 'C']</answer>", gold).score == 0.1
    assert judge("<answer>['A', 'B']</answer>", gold).score == 0.0


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


def test_a_scorer_that_raises_on_its_reference_is_no_wrong_answer():
    with pytest.raises(KeyError, match="initial_state"):
        judge("<answer>[]</answer>", {"task": "boxnet", "entry": {"question": "", "answer": None, "metadata": {}}})
