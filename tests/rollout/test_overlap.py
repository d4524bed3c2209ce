"""The same problem is recognised whatever its spelling, and a bare sum is not mistaken for another."""

import pytest

from rollout.overlap import normalised, overlaps, refusal, without_repeats
from rollout.prompts import load_source
from tests.rollout.test_prompts import ByteTokenizer, file_source, gym_source, prompt, write


@pytest.mark.parametrize(
    ("question", "letters"),
    [
        ("What is $2^{3}$?\n", "whatis23"),
        ("  WHAT is 2 ^ 3", "whatis23"),
        ("\uff37hat is \u00b2\u2083", "whatis23"),  # full-width W, superscript two, subscript three
        ("stra\u00dfe STRASSE", "strassestrasse"),
        ("e\u0301t\u00e9", "\u00e9t\u00e9"),  # composed and not
        ("\u6c42 x \u7684\u503c\u3002", "\u6c42x\u7684\u503c"),
        ("1 + 2", "12"),
        ("?! ...", "?! ..."),  # nothing left: the text itself, or all such prompts were the same
    ],
)
def test_normalised(question, letters):
    assert normalised(question) == letters
    assert normalised(letters) == letters


def test_templates_do_not_hide_a_problem_and_repeats_are_found(tmp_path):
    file = write(
        tmp_path / "a.jsonl",
        {"question": "Find $x$!", "answer": 1},
        {"question": "find x", "answer": 1},
        {"question": "Find y.", "answer": 1},
    )
    train = load_source("train", file_source(file, gold_after=None, template="Solve. {prompt}"), ByteTokenizer())
    held = load_source("exam", file_source(file, gold_after=None, template="{prompt}\nGo.", rows=1), ByteTokenizer())
    assert [row.uid for row in without_repeats(train)] == ["train/0", "train/2"]
    assert {name: [row.uid for row in rows] for name, rows in overlaps(train, {"exam": held, "none": []}).items()} == {
        "exam": ["train/0", "train/1"]
    }


def test_procedural_questions_are_compared_to_the_letter():
    """4 + 1 - 2 and 4 - 1 + 2 have the same letters and digits."""
    short = {"min_terms": 3, "max_terms": 3, "min_digits": 1, "max_digits": 1}
    rows = load_source("train", gym_source(rows=300, parameters=short), ByteTokenizer())
    assert len({row.identity for row in rows}) == len({row.text for row in rows})
    assert len({normalised(row.text) for row in rows}) < len({row.text for row in rows})


def test_the_refusal_names_rows_and_sets_and_what_to_change():
    found = {"math500": [prompt(f"train/{row}") for row in range(7)], "aime24": [prompt("train/9")]}
    assert refusal(found) == (
        "Training prompts stand in evaluation sets: 7 of evaluation set math500 (train/0, train/1, train/2, train/3, "
        "train/4 and 2 more); 1 of evaluation set aime24 (train/9). Give data.overlap=drop to leave them out of "
        "training, or measure on other sets."
    )
