"""From prompts to index files, with the model that ships; and a run that trains on one of them."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from launch.config import ASSETS, ConfigError, compose
from launch.prepare import prepare, training_prompts
from launch.prompt_embeddings import mean_hidden_states, open_policy
from launch.select_prompts import in_row_order, main

MODEL = str(ASSETS / "laboratory" / "96")


@pytest.fixture(scope="module")
def prompts() -> list[np.ndarray]:
    """Of very different lengths, so that a batch of them is mostly padding."""
    rng = np.random.default_rng(0)
    return [rng.integers(5, 300, size).astype(np.int32) for size in (1, 40, 3, 120, 17, 17, 64, 2)]


@pytest.fixture(scope="module")
def policy():
    return open_policy(MODEL, "float32", "cpu", trust_remote_code=False)


def test_an_embedding_is_the_mean_of_the_last_hidden_states_of_a_plain_forward(policy, prompts):
    whole = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    found = mean_hidden_states(policy, prompts, prompts_per_batch=8)
    assert found.dtype == np.float32
    for row, ids in zip(found, prompts, strict=True):
        with torch.no_grad():
            states = whole(torch.tensor(ids).long()[None], output_hidden_states=True).hidden_states[-1][0]
        np.testing.assert_allclose(row, states.mean(0), atol=2e-6)


@pytest.mark.parametrize("size", [1, 3])
def test_the_batch_does_not_enter(policy, prompts, size):
    together = mean_hidden_states(policy, prompts, prompts_per_batch=8)
    np.testing.assert_allclose(mean_hidden_states(policy, prompts, prompts_per_batch=size), together, atol=2e-6)


def sums(folder, order) -> str:
    file = folder / "sums.jsonl"
    rows = [{"problem": f"{'What is' if i % 3 else 'Compute'} {i * 7 % 90} + {i}?", "answer": "1"} for i in order]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"data.path={file}"


SETTINGS = ["data=file", "data.heldout=0", "rollout.prompts_per_step=8", "off_policy=updates1"]
FIELDS = ["data.train.prompt_field=problem", "data.train.gold_field=answer"]


def data(folder) -> list[str]:
    exam = folder / "exam.jsonl"
    exam.write_text(json.dumps({"problem": "What else?", "answer": "1"}) + "\n")
    evaluation = ["+data/source@data.evaluation.exam=math500", f"data.evaluation.exam.path={exam}"]
    return [*SETTINGS, *FIELDS, sums(folder, range(120)), *evaluation]


def select(folder, *arguments: str) -> dict[str, str]:
    assert main(["--out", str(folder), "--clusters", "6", "--top", "2,1", *arguments]) == 0
    return {file.name: file.read_text() for file in folder.iterdir()}


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("selected")
    overrides = data(folder)
    return folder / "indexes", overrides, select(folder / "indexes", *overrides)


def test_the_random_subset_is_as_large_as_the_clusters(selected):
    _, _, files = selected
    assert sorted(files) == ["clusters-1.json", "clusters-2.json", "random-1.json", "random-2.json"]
    found = {name: json.loads(text) for name, text in files.items()}
    for top in (1, 2):
        clusters, random = found[f"clusters-{top}.json"], found[f"random-{top}.json"]
        assert {entry["cluster"] for entry in clusters["prompts"]} == set(range(top))
        assert len(clusters["prompts"]) == len(random["prompts"]) == random["made"]["chosen"]
        assert random["subset"] == f"a random subset (seed 0) as large as the {top} largest of 6 clusters"
        rows = [int(entry["uid"].removeprefix("train/")) for entry in random["prompts"]]
        assert rows == sorted(set(rows))
    assert found["clusters-1.json"]["made"]["prompts"] == 120


@pytest.mark.parametrize("batch", ["1", "50"])
def test_any_batch_size_writes_the_same_files(selected, tmp_path, batch):
    _, overrides, files = selected
    assert select(tmp_path / "again", *overrides, "--batch", batch) == files


def test_the_order_the_prompts_come_in_does_not_enter(selected, tmp_path, monkeypatch):
    _, overrides, files = selected

    def shuffled(config):
        prompts = training_prompts(config)
        return [prompts[i] for i in np.random.default_rng(0).permutation(len(prompts))]

    monkeypatch.setattr("launch.select_prompts.training_prompts", shuffled)
    assert select(tmp_path / "again", *overrides) == files


def test_rows_are_in_the_order_of_their_numbers(selected):
    _, overrides, _ = selected
    prompts = training_prompts(compose(overrides))
    assert [prompt.uid for prompt in in_row_order(prompts[::-1])] == [f"train/{row}" for row in range(120)]


def test_a_run_trains_on_the_index_only_and_says_so(selected):
    folder, overrides, files = selected
    file = folder / "random-2.json"
    prepared = prepare(compose([*overrides, f"data.index={file}"]))
    uids = {entry["uid"] for entry in json.loads(files["random-2.json"])["prompts"]}
    assert {prompt.uid for _ in range(40) for prompt in prepared.train.next()} == uids
    assert prepared.sentence() == (
        f"Prompts: {len(uids)} to train on; evaluation: exam 1. data.index = {file}: a random subset (seed 0) as large "
        f"as the 2 largest of 6 clusters, {len(uids)} of 120 prompts."
    )


def test_another_index_is_another_run(selected):
    folder, overrides, _ = selected
    state = prepare(compose([*overrides, f"data.index={folder / 'random-2.json'}"])).train.state_dict()
    with pytest.raises(ValueError, match="differ from those of the checkpoint"):
        prepare(compose([*overrides, f"data.index={folder / 'clusters-2.json'}"])).train.load_state_dict(state)


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        ("none.json", "data.index: there is no file {}; python -m launch.select_prompts writes one."),
        ("sums.jsonl", "data.index: {} is not an index of prompts (JSONDecodeError"),
    ],
)
def test_a_file_that_is_no_index_is_refused_before_a_run(selected, index, sentence):
    folder, overrides, _ = selected
    file = folder.parent / index
    with pytest.raises(ConfigError) as caught:
        prepare(compose([*overrides, f"data.index={file}"]))
    assert str(caught.value).startswith(sentence.format(file))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--clusters", "121"], "--clusters 121 is more than the 120 training prompts."),
        (["data.index=x"], "data.index is what this command writes; leave it out."),
        (["data.path=missing.jsonl"], "there is no file missing.jsonl"),
    ],
)
def test_what_cannot_be_selected_from_is_refused(selected, tmp_path, capsys, arguments, sentence):
    _, overrides, _ = selected
    given = ["--out", str(tmp_path), "--clusters", "6", "--top", "1", *overrides, *arguments]
    assert main(given) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("top", ["0", "7", "two"])
def test_tops_beyond_the_clusters_are_refused(tmp_path, top):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--clusters", "6", "--top", top])


def test_a_folder_that_cannot_be_made_is_refused(selected, tmp_path, capsys):
    _, overrides, _ = selected
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file"), "--clusters", "6", "--top", "1", *overrides]) == 2
    assert capsys.readouterr().err == f"--out {tmp_path / 'file'} cannot be made (File exists).\n"
