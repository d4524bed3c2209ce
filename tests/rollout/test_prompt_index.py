"""Training on the prompts that an index names, and refusing what it was not made from."""

import json

import numpy as np
import pytest

from rollout.prompt_index import Entry, PromptIndex, narrowed, question_digest, read_index, write_index
from rollout.sources import DataError
from rollout.types import Prompt


def prompt(uid: str, question: str, template: str = "{}") -> Prompt:
    text = template.format(question)
    return Prompt(uid, text, np.zeros(1, np.int32), uid.split("/")[0], "math", "1", {}, identity=question)


TRAIN = {"train": [prompt(f"train/{row}", f"what is {row}") for row in range(6)], "more": [prompt("more/0", "a sum")]}


def written(folder, *uids: str):
    prompts = {prompt.uid: prompt for of_source in TRAIN.values() for prompt in of_source}
    entries = tuple(Entry(uid, 0, question_digest(prompts[uid])) for uid in uids)
    write_index(folder / "index.json", PromptIndex("the 1 largest of 2 clusters", "file", {"seed": 0}, entries))
    return folder / "index.json"


def test_an_index_is_read_as_it_was_written(tmp_path):
    path = written(tmp_path, "train/4", "more/0")
    index = read_index(path)
    assert [entry.uid for entry in index.entries] == ["train/4", "more/0"]
    assert (index.subset, index.data, index.made) == ("the 1 largest of 2 clusters", "file", {"seed": 0})
    assert json.loads(path.read_text())["prompts"][1] == {
        "uid": "more/0",
        "cluster": 0,
        "digest": question_digest(TRAIN["more"][0]),
    }


def test_only_the_named_prompts_stay_in_the_order_of_their_rows(tmp_path):
    path = written(tmp_path, "more/0", "train/4", "train/1")
    kept, sentence = narrowed(TRAIN, path, "file")
    assert {name: [prompt.uid for prompt in prompts] for name, prompts in kept.items()} == {
        "train": ["train/1", "train/4"],
        "more": ["more/0"],
    }
    assert sentence == f"data.index = {path}: the 1 largest of 2 clusters, 3 of 7 prompts."


def test_another_template_is_the_same_question(tmp_path):
    path = written(tmp_path, "train/1")
    other = {"train": [prompt("train/1", "what is 1", "Think, then answer: {}")]}
    assert narrowed(other, path, "file")[0] == other


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        (
            {"train": TRAIN["train"][2:]},
            "2 of the 3 prompts in {} are not among the training prompts, train/0 first; the index was made with "
            "data.name = file, and this run has exam. Give the same data and evaluation sets, or make the index again.",
        ),
        (
            {"train": [*TRAIN["train"][:4], prompt("train/4", "what is 44")]},
            "1 of the 3 prompts in {} have another question now, train/4 first; the index was made with data.name = "
            "file, and this run has exam. Give back the data, or make the index again.",
        ),
        (
            TRAIN,
            "{} names no prompt of the source more; leave the source out, or make the index again.",
        ),
    ],
)
def test_other_data_is_refused_by_its_first_row(tmp_path, train, sentence):
    path = written(tmp_path, "train/0", "train/1", "train/4")
    with pytest.raises(DataError) as caught:
        narrowed(train, path, "exam")
    assert str(caught.value) == "data.index: " + sentence.format(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[1", "is not an index of prompts (JSONDecodeError"),
        ("[1]", "is not an index of prompts (TypeError"),
        ('{"subset": "s", "data": "d", "made": {}}', "is not an index of prompts (KeyError: 'prompts')"),
        ('{"subset": "s", "data": "d", "made": {}, "prompts": []}', "names no prompt;"),
        (
            '{"subset": "s", "data": "d", "made": {}, "prompts": ['
            '{"uid": "a/1", "cluster": 0, "digest": "0"}, {"uid": "a/1", "cluster": 0, "digest": "0"}]}',
            "names a/1 2 times",
        ),
    ],
)
def test_what_is_no_index_is_refused(tmp_path, content, sentence):
    path = tmp_path / "index.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        read_index(path)
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\)"):
        read_index(tmp_path / "none.json")
