"""docs/data.md says what conf/ and the code do, and its commands run as written up to the first actor."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from launch.config import CONF
from launch.prepare import prepare, prepare_evaluation
from launch.select_prompts import main as select_prompts
from rollout.sources import _READERS
from tests.composed import compose

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text()
SELECTED = ("clusters-8.json", "random-8.json", "clusters-2.json", "random-2.json")
COMMANDS = [block.replace("\\\n", " ").strip() for block in re.findall(r"```\n(.*?)```", DOCS, re.DOTALL)]


def yaml_of(*parts: str) -> tuple[dict, str]:
    text = (CONF / "data").joinpath(*parts).read_text()
    return yaml.safe_load(text), text


def test_the_table_of_presets_is_what_the_presets_say():
    table = re.findall(r"^\| `(\w+)` \| (.*) \| (\w+) \| (train|measure) \|$", DOCS, re.MULTILINE)
    assert [row[0] for row in table] == list(dict.fromkeys(row[0] for row in table))
    assert {row[0] for row in table} == {f.stem for f in (CONF / "data").glob("*.yaml")} - {
        "base",
        "laboratory",
        "sets",
    }
    for name, file, verifier, use in table:
        preset, text = yaml_of(f"{name}.yaml")
        source, own = yaml_of("source", f"{name}.yaml")
        assert source["verifier"] == verifier
        assert (use == "train") == ("train" in preset)
        assert f": {file}.\npath: ???" in text
        assert own.startswith(f"# Reads {file}.\n")


def test_the_formats_are_those_that_are_read():
    [table] = re.findall(r"\| `path` ends in .*?\n\n", DOCS, re.DOTALL)
    assert re.findall(r"^\| `(\.\w+)` \|", table, re.MULTILINE) == list(_READERS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prepares_as_written(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sums.csv").write_text(
        "question,answer\n" + "".join(f"what is {i} and {i}?,{2 * i}\n" for i in range(300))
    )
    exam = [{"problem": f"Prove {i}.", "answer": "1"} for i in range(20)]
    (tmp_path / "exam.jsonl").write_text("\n".join(map(json.dumps, exam)))
    (tmp_path / "more.json").write_text(json.dumps([{"problem": f"Find {i}.", "answer": "1"} for i in range(90)]))
    _, _, module, *overrides = shlex.split(command)
    if module == "launch.select_prompts":
        assert select_prompts(overrides) == 0
        assert {file.name for file in (tmp_path / "indexes").iterdir()} == set(SELECTED)
        return
    if "data.index" in command:
        [select] = [other for other in COMMANDS if "launch.select_prompts" in other]
        assert select_prompts(shlex.split(select)[3:]) == 0
        assert 8 <= sum(prepare(compose(overrides)).train_prompts.values()) < 172
        return
    config = compose(overrides)
    if module == "launch.evaluate":
        assert len(prepare_evaluation(config)["math500"]) == 20
    else:
        assert sum(prepare(config).train_prompts.values()) >= 172
