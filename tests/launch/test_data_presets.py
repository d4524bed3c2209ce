"""Every preset composes and reads its file, and the overlaps that are known between the files are found."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from launch.config import CONF
from launch.instructions import main as write_instructions
from launch.prepare import evaluation_sources, training_sources
from launch.validate import check
from reward.instructions.generate import rows
from rollout.config import SourceConfig
from rollout.overlap import overlaps, without_repeats
from rollout.prompts import load_source
from rollout.types import Prompt
from tests.composed import compose
from tests.rollout.test_prompts import ByteTokenizer

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
# preset: file, rows of the file, the gold of the first row or the keys of each gold
FILES = {
    "gsm8k": ("gsm8k/train.jsonl", 7473, "72"),
    "svamp": ("svamp/SVAMP.json", 1000, "51"),
    "math": ("math/train.json", 7474, "0"),
    "math_solutions": ("math/train_with_solutions.parquet", 7500, "0"),
    "math_test": ("math/test.jsonl", 5000, "2"),
    "math500": ("math500/test.jsonl", 500, r"\left( 3, \frac{\pi}{2} \right)"),
    "aime": ("aime_amc/aime_train.json", 975, "60"),
    "aime24": ("aime_amc/aime24.jsonl", 30, "204"),
    "aime25": ("aime_amc/aime25.jsonl", 30, "70"),
    "amc23": ("aime_amc/amc23.jsonl", 40, "27"),
    "minerva_math": ("minerva_math/test.jsonl", 272, "1.6"),
    "olympiadbench": ("olympiadbench/test.jsonl", 675, "2"),
    "dapo_math_17k": ("dapo_math_17k/train_dapo.parquet", 17917, "34"),
    "deepmath_5k": ("deepmath_5k/math_deepmath_deal.jsonl", 4994, "1"),
    "deepscaler_sub": ("deepscaler_sub/dsr_sub.parquet", 1209, r"\frac{3}{7}"),
    "humaneval": ("humaneval/HumanEval.jsonl.gz", 164, {"prompt", "test", "entry_point"}),
    "humaneval_plus": ("humaneval_plus/HumanEvalPlus-OriginFmt.jsonl.gz", 164, {"prompt", "test", "entry_point"}),
    "mbpp": ("mbpp/mbpp.jsonl", 974, {"setup", "tests"}),
    "mbpp_test": ("mbpp/mbpp.jsonl", 974, {"setup", "tests"}),
    "mbpp_sanitized": ("mbpp/sanitized-mbpp.json", 427, {"test_imports", "test_list"}),
    "mbpp_plus": ("mbpp_plus/MbppPlus-OriginFmt.jsonl.gz", 378, {"setup", "tests"}),
    "leetcode": ("leetcode/LeetCodeDataset-v0.2.0-train.jsonl.gz", 1890, {"prompt", "test", "entry_point"}),
    "leetcode_test": ("leetcode/LeetCodeDataset-v0.3.1-test.jsonl.gz", 228, {"prompt", "test", "entry_point"}),
    "code_contests": ("code_contests/code_contests.json", 165, {"inputs", "outputs"}),
    "ifeval": ("ifeval/input_data.jsonl", 541, {"instruction_id_list", "kwargs"}),
    "ifbench": ("ifbench/IFBench_test.jsonl", 300, {"instruction_id_list", "kwargs"}),
}
OWN_FORM = {"file", "instructions", "verl", "openrlhf"}
# Rows whose reference is null, empty or "\boxed{}" in the files themselves.
WITHOUT_REFERENCE = {"math": 4, "math_solutions": 2, "deepscaler_sub": 1}
EVALUATION = ("math_test", "math500", "aime24", "aime25", "amc23", "minerva_math", "olympiadbench")


class NoTokenizer(ByteTokenizer):
    def __call__(self, texts: list[str], add_special_tokens: bool, verbose: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [[0]] * len(texts)}


def shared(path: str) -> Path:
    file = SHARED / path
    if not file.is_file():
        pytest.skip(f"the data sets are not at {SHARED}")
    return file


@cache
def preset(name: str) -> SourceConfig:
    """The source of a preset as it is in conf/data, on its file."""
    data = compose([f"data={name}", f"data.path={SHARED / FILES[name][0]}"]).data
    assert data.name == name
    assert data.overlap == "refuse"
    training, measured = training_sources(data), evaluation_sources(data)
    assert bool(training) == bool(data.heldout) == (name not in measured)
    return measured.get(name, data.train)


@cache
def whole(name: str) -> list[Prompt]:
    """Every row of a preset's file."""
    return load_source(name, replace(preset(name), first_row=0, rows=None), NoTokenizer())


def test_every_preset_is_tested():
    names = {file.stem for file in (CONF / "data").glob("*.yaml")} - {"base", "laboratory", "sets"}
    assert names == FILES.keys() | OWN_FORM
    sources = {file.stem for file in (CONF / "data" / "source").glob("*.yaml")}
    assert sources == names | {"base", "none", "reasoning_gym"}


@pytest.mark.parametrize("name", FILES)
def test_a_preset_reads_every_row_of_its_file(name):
    path, rows, gold = FILES[name]
    shared(path)
    prompts = whole(name)
    assert len(prompts) == rows
    assert sum(prompt.gold is None for prompt in prompts) == WITHOUT_REFERENCE.get(name, 0)
    if isinstance(gold, str):
        assert prompts[0].gold == gold
        assert {prompt.verifier for prompt in prompts} == {"math"}
    else:
        assert all(prompt.gold.keys() == gold for prompt in prompts)
        assert {prompt.verifier for prompt in prompts} == {"instructions" if "kwargs" in gold else "code"}
    assert all("{prompt}" not in prompt.text and "{row." not in prompt.text for prompt in prompts)


def test_a_problem_in_two_fields_is_read_whole():
    shared("svamp/SVAMP.json")
    assert whole("svamp")[0].text.startswith(
        "Each pack of dvds costs 76 dollars. If there is a discount of 25 dollars on each pack How much do you have to "
        "pay to buy each pack?\nReason step by step"
    )


def test_the_parts_of_mbpp_are_those_of_its_paper():
    shared("mbpp/mbpp.jsonl")
    training, test, sanitized = (load_source(name, preset(name), NoTokenizer()) for name in MBPP)
    assert [(part[0].uid, part[-1].uid, len(part)) for part in (training, test)] == [
        ("mbpp/600", "mbpp/973", 374),  # task ids 601 to 974
        ("mbpp_test/10", "mbpp_test/509", 500),  # 11 to 510
    ]
    assert len(sanitized) == 120
    assert {prompt.gold["test_list"][0] for prompt in sanitized}


MBPP = ("mbpp", "mbpp_test", "mbpp_sanitized")


def test_generated_instructions_are_trained_on(tmp_path):
    file = tmp_path / "prompts.jsonl"
    write_instructions(["--rows", "200", "--seed", "0", "--out", str(file)])
    config = compose(["data=instructions", f"data.path={file}"])
    assert check(config) == []
    prompts = load_source("train", config.data.train, NoTokenizer())
    assert [prompt.gold for prompt in prompts] == [
        {"instruction_id_list": row["instruction_id_list"], "kwargs": row["kwargs"]} for row in rows(200, seed=0)
    ]
    assert {prompt.verifier for prompt in prompts} == {"instructions"}


def test_data_to_measure_on_is_not_trained_on():
    shared(FILES["math500"][0])
    config = compose(["data=math500", f"data.path={SHARED / FILES['math500'][0]}"])
    assert check(config, training=False) == []
    assert check(config) == [
        "data.train.kind is none: math500 is data to measure on. Give what to train on as data/source@data.train=... "
        "data.train.path=..."
    ]


KNOWN_FILES = [name for name in FILES if name in ("gsm8k", "svamp", "math", "math_solutions", "aime", "dapo_math_17k")]


@pytest.mark.parametrize("name", [*KNOWN_FILES, "deepmath_5k", "deepscaler_sub"])
def test_every_known_overlap_is_found_and_no_other(name):
    """`overlaps.json` was made apart from this code, from the same rule: letters and digits in lower case."""
    known = json.loads(shared("overlaps.json").read_text())["files"][FILES[name][0]]
    found = overlaps(whole(name), {FILES[other][0]: whole(other) for other in EVALUATION})
    assert {file: [int(prompt.uid.partition("/")[2]) for prompt in rows] for file, rows in found.items()} == {
        file: sorted(rows) for file, rows in known["same_problem_as"].items()
    }
    assert (len(whole(name)), len(without_repeats(whole(name)))) == (known["rows"], known["distinct_problems"])
