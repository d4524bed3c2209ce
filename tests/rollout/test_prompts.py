"""Prompts are read row by row with errors that name the row, and handed out in an order that can be resumed."""

import json
import os
from collections import Counter
from dataclasses import replace
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from rollout.config import SourceConfig
from rollout.prompts import PromptSource, check_lengths, load_source
from rollout.sources import DataError
from rollout.types import Prompt

GSM8K = Path(__file__).resolve().parents[3] / "shared" / "data" / "gsm8k" / "train.jsonl"


class ByteTokenizer:
    """One token a byte; refuses to be asked for special tokens, and counts its calls."""

    chat_template: str | None = None

    def __init__(self):
        self.calls = 0

    def __call__(self, texts: list[str], add_special_tokens: bool, verbose: bool) -> dict[str, list[list[int]]]:
        assert not add_special_tokens
        self.calls += 1
        return {"input_ids": [list(text.encode()) for text in texts]}


def file_source(file: os.PathLike | str, **changes) -> SourceConfig:
    source = SourceConfig(
        kind="file",
        verifier="math",
        template="{prompt}\n",
        first_row=0,
        rows=None,
        task=None,
        parameters={},
        seed=None,
        path=str(file),
        prompt_field="question",
        prompt_wrapper=None,
        gold_field="answer",
        gold_after="####",
        no_reference="refuse",
        source_field=None,
    )
    return replace(source, **changes)


def gym_source(**changes) -> SourceConfig:
    source = SourceConfig(
        kind="reasoning_gym",
        verifier="reasoning_gym",
        template="{prompt}\n",
        first_row=0,
        rows=8,
        task="chain_sum",
        parameters={"min_terms": 3, "max_terms": 3, "min_digits": 2, "max_digits": 2},
        seed=5,
        path=None,
        prompt_field=None,
        prompt_wrapper=None,
        gold_field=None,
        gold_after=None,
        no_reference="refuse",
        source_field=None,
    )
    return replace(source, **changes)


def write(path: Path, *rows) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def prompt(uid: str, text: str = "text", tokens: int = 4) -> Prompt:
    return Prompt(uid, text, np.zeros(tokens, np.int32), "train", "math", "1", {}, text)


def prompts(count: int) -> list[Prompt]:
    return [prompt(f"train/{row}", f"question {row}") for row in range(count)]


def test_rows_of_a_file(tmp_path):
    file = write(
        tmp_path / "a.jsonl",
        {"question": "1 + 1?", "answer": "so #### of it: #### 2 "},
        {"question": "braces {x} {prompt}?", "answer": "#### \\frac{1}{2}"},
    )
    tokenizer = ByteTokenizer()
    source = file_source(file, template="Q: {prompt} Use \\boxed{}.\n")
    first, second = load_source("train", source, tokenizer)
    assert tokenizer.calls == 1
    assert (first.uid, first.source, first.verifier, first.gold) == ("train/0", "train", "math", "2")
    assert first.text == "Q: 1 + 1? Use \\boxed{}.\n"
    assert first.token_ids.dtype == np.int32
    assert bytes(first.token_ids.tolist()).decode() == first.text
    assert second.text == "Q: braces {x} {prompt}? Use \\boxed{}.\n"
    assert second.gold == "\\frac{1}{2}"


def test_a_slice_keeps_the_rows_of_the_file_in_the_uids(tmp_path):
    rows = [{"question": f"q{row}", "answer": f"#### {row}"} for row in range(6)]
    file = write(tmp_path / "a.jsonl", *rows[:3], "", *rows[3:])
    loaded = load_source("train", file_source(file, first_row=2, rows=3), ByteTokenizer())
    assert [(row.uid, row.gold) for row in loaded] == [("train/2", "2"), ("train/3", "3"), ("train/4", "4")]
    assert len(load_source("train", file_source(file, first_row=2), ByteTokenizer())) == 4


def test_numbers_are_references(tmp_path):
    file = write(tmp_path / "a.jsonl", *({"question": "q", "answer": number} for number in (27.0, 12, 0.5, "7 ")))
    loaded = load_source("train", file_source(file, gold_after=None), ByteTokenizer())
    assert [row.gold for row in loaded] == ["27", "12", "0.5", "7"]


GOOD = {"question": "q", "answer": "#### 1"}


@pytest.mark.parametrize(
    ("rows", "changes", "sentence"),
    [
        ([GOOD, '{"question": '], {}, "{file}, line 2 is not JSON: Expecting value at column 13."),
        ([GOOD, "[1]"], {}, "{file}, line 2 is not a JSON object but list."),
        (
            [GOOD, {"problem": "q", "answer": "#### 1"}],
            {},
            "{file}, row 1 has no field 'question'; its fields are problem, answer.",
        ),
        ([{"question": "q"}], {}, "{file}, row 0 has no field 'answer'; its fields are question."),
        ([GOOD, {"question": "q", "answer": "1"}], {}, "{file}, row 1: '####' is not in field 'answer'."),
        (
            [{"question": "q", "answer": "1 ####  "}],
            {},
            "{file}, row 0: field 'answer' holds no reference; no_reference=drop leaves such rows out.",
        ),
        ([{"question": 3, "answer": "#### 1"}], {}, "{file}, row 0: field 'question' is not text but int."),
        ([{"question": " ", "answer": "#### 1"}], {}, "{file}, row 0: field 'question' is empty."),
        (
            [{"question": "q", "answer": True}],
            {},
            "{file}, row 0: field 'answer' is neither text nor a number but bool.",
        ),
        ([], {}, "train: {file} has no rows."),
        ([GOOD], {"first_row": 1}, "train: {file} has no row 1 or later."),
        (
            [GOOD, GOOD],
            {"rows": 3},
            "train: {file} has 2 rows from row 0 on, and rows = 3 asks for more; "
            "lower rows, or set it to null to take all.",
        ),
        ([GOOD], {"path": None}, "train: path is needed for kind file."),
        ([GOOD], {"path": "/no/such.jsonl"}, "there is no file /no/such.jsonl."),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, rows, changes, sentence):
    file = write(tmp_path / "a.jsonl", *rows)
    with pytest.raises(DataError) as caught:
        load_source("train", file_source(file, **changes), ByteTokenizer())
    assert str(caught.value) == sentence.replace("{file}", str(file))


def test_a_file_that_is_not_utf8(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(json.dumps(GOOD).encode() + b'\n{"question": "\xff"}\n')
    with pytest.raises(DataError, match="line 2 is not UTF-8: invalid start byte at byte 14"):
        load_source("train", file_source(file), ByteTokenizer())


def test_bad_rows_outside_the_slice_do_no_harm(tmp_path):
    file = write(tmp_path / "a.jsonl", "broken", GOOD, "broken")
    assert len(load_source("train", file_source(file, first_row=1, rows=1), ByteTokenizer())) == 1


def test_gsm8k():
    if not GSM8K.is_file():
        pytest.skip(f"GSM8K is not at {GSM8K}")
    loaded = load_source("train", file_source(GSM8K), ByteTokenizer())
    assert len(loaded) == 7473
    assert len({row.uid for row in loaded}) == 7473
    assert loaded[0].text.startswith("Natalia sold clips to 48 of her friends in April")
    assert [row.gold for row in loaded[:3]] == ["72", "10", "5"]


def test_reasoning_gym_rows_are_the_same_every_time():
    first = load_source("train", gym_source(), ByteTokenizer())
    again = load_source("train", gym_source(), ByteTokenizer())
    assert [(row.uid, row.text, row.gold) for row in first] == [(row.uid, row.text, row.gold) for row in again]
    assert [row.uid for row in first] == [f"train/{row}" for row in range(8)]


def test_reasoning_gym_gold_is_json_its_own_scorer_accepts():
    import reasoning_gym

    row = load_source("train", gym_source(), ByteTokenizer())[3]
    assert json.loads(json.dumps(row.gold)) == row.gold
    assert row.gold["task"] == "chain_sum"
    entry = row.gold["entry"]
    assert row.text == entry["question"] + "\n"
    assert eval(entry["metadata"]["expression"]) == int(entry["answer"])
    assert reasoning_gym.get_score_answer_fn("chain_sum")(entry["answer"], entry) == 1.0


def test_reasoning_gym_slice_and_the_shift_between_neighbouring_seeds():
    whole = load_source("train", gym_source(), ByteTokenizer())
    part = load_source("train", gym_source(first_row=3, rows=2), ByteTokenizer())
    assert [(row.uid, row.text) for row in part] == [(row.uid, row.text) for row in whole[3:5]]
    # What launch.validate refuses between sets, because a change of seed looks like new rows.
    shifted = load_source("train", gym_source(seed=6), ByteTokenizer())
    assert [row.text for row in shifted[:7]] == [row.text for row in whole[1:]]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"task": "chain_sums"}, "reasoning-gym refuses chain_sums with .*: Dataset 'chain_sums' not registered"),
        ({"parameters": {"terms": 3}}, "reasoning-gym refuses chain_sum with .* unexpected keyword argument 'terms'"),
        ({"parameters": {"min_terms": 9, "max_terms": 3}}, "max_terms must be >= min_terms"),
        ({"seed": None}, "train: seed is needed for kind reasoning_gym"),
    ],
)
def test_a_bad_task_is_one_sentence(changes, sentence):
    with pytest.raises(DataError, match=sentence):
        load_source("train", gym_source(**changes), ByteTokenizer())


def test_a_prompt_longer_than_the_context_leaves_room_for():
    fitting, long = prompt("train/3", tokens=10), prompt("train/4", tokens=11)
    check_lengths([fitting], 10, "evaluation.max_new_tokens")
    with pytest.raises(DataError) as caught:
        check_lengths([fitting, long], 10, "evaluation.max_new_tokens")
    assert str(caught.value) == (
        "Prompt train/4 has 11 tokens, and the context leaves 10 beside the response: "
        "raise model.context_tokens, lower evaluation.max_new_tokens, or leave the row out."
    )


def steps(source: PromptSource, count: int) -> list[list[str]]:
    return [[row.uid for row in source.next()] for _ in range(count)]


def test_the_order_depends_on_seed_and_epoch_and_not_on_the_order_of_the_rows():
    rows = prompts(12)
    order = steps(PromptSource(rows, 4, True, 7), 6)
    assert steps(PromptSource(rows[::-1], 4, True, 7), 6) == order
    assert steps(PromptSource(rows, 4, True, 8), 6) != order
    assert list(chain(*order[:3])) != list(chain(*order[3:]))


def test_the_order_is_the_same_in_every_process():
    """Pinned by the hash itself: Python's own is salted anew in each process, so a resumed run would go another way."""
    [uids] = steps(PromptSource(prompts(5), 5, True, 7), 1)
    keys = {uid: blake2b(f"order\x1f7\x1f0\x1f{uid}".encode(), digest_size=8).digest() for uid in uids}
    # The lowest bit is dropped, which no tie hangs on here.
    assert uids == sorted(uids, key=lambda uid: keys[uid])


def test_without_shuffling_rows_come_as_they_are():
    order = steps(PromptSource(prompts(6), 3, False, 7), 3)
    assert order == [[f"train/{row}" for row in part] for part in ((0, 1, 2), (3, 4, 5), (0, 1, 2))]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("count", "per_step"), [(10, 4), (7, 5), (5, 5), (9, 8)])
def test_every_prompt_comes_once_an_epoch_and_none_twice_in_a_step(shuffle, count, per_step):
    order = steps(PromptSource(prompts(count), per_step, shuffle, 3), 3 * count)
    assert all(len(set(step)) == per_step for step in order)
    flat = list(chain(*order))
    for epoch in range(3 * per_step):
        assert set(Counter(flat[epoch * count : (epoch + 1) * count]).values()) == {1}


@pytest.mark.parametrize("done", [0, 1, 2, 3, 5, 8])
def test_a_resumed_source_goes_on_with_the_same_steps(done):
    source = PromptSource(prompts(10), 4, True, 3)
    steps(source, done)
    state = json.loads(json.dumps(source.state_dict()))
    expected = steps(source, 9)
    resumed = PromptSource(prompts(10)[::-1], 4, True, 3)
    resumed.load_state_dict(state)
    assert steps(resumed, 9) == expected


def test_the_state_of_other_prompts_is_refused():
    state = PromptSource(prompts(10), 4, True, 3).state_dict()
    renamed = [replace(row, text=row.text + "!") for row in prompts(10)]
    for other in (
        PromptSource(prompts(11), 4, True, 3),
        PromptSource(renamed, 4, True, 3),
        PromptSource(prompts(10), 4, False, 3),
        PromptSource(prompts(10), 4, True, 4),
    ):
        with pytest.raises(DataError, match=r"The training prompts, data\.shuffle or seed differ"):
            other.load_state_dict(state)


def test_too_few_prompts_for_a_step():
    with pytest.raises(DataError, match=r"There are 3 training prompts, fewer than rollout\.prompts_per_step = 4"):
        PromptSource(prompts(3), 4, True, 0)
    with pytest.raises(DataError, match="Two training prompts have the same uid"):
        PromptSource(prompts(3) + prompts(3), 4, True, 0)
