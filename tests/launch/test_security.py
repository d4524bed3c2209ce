"""Files of others run no code: weights, data sets, checkpoints, model folders."""

import json
import pickle
import re
import shutil
from pathlib import Path

import pyarrow
import pytest
import safetensors
import torch

from launch.checkpoint_folder import CheckpointDamaged, newest, open_checkpoint, partial_folder, write
from launch.config import ASSETS, ModelConfig, compose
from launch.model_folder import problems, reference_problems
from launch.validate import check
from learner.reference import FrozenModel
from rollout.sources import DataError, read_rows

ROOT = Path(__file__).parents[2]
ROOMS = ("benchmarks", "entropy", "launch", "learner", "reward", "rollout")
SHIPPED = ASSETS / "laboratory" / "96"
UNPICKLES = re.compile(
    r"torch\.(load|save)\b|(import|from) +\w*(pickle|dill|joblib|shelve)\b|allow_pickle|read_pickle|weights_only"
)


class Malice:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path) -> Path:
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Malice(mark)))
    assert mark.exists()
    mark.unlink()
    return mark


def model(path: Path, trusted: bool = False) -> ModelConfig:
    return ModelConfig("other", None, str(path), "float32", 64, trusted)


def test_no_source_reads_or_writes_a_pickle():
    sources = [source for room in ROOMS for source in (ROOT / room).rglob("*.py")]
    assert len(sources) > 150
    found = [
        f"{source.relative_to(ROOT)}: {line.strip()}"
        for source in sources
        for line in source.read_text().splitlines()
        if UNPICKLES.search(line)
    ]
    assert found == []


def test_weights_in_a_pickle_are_refused_and_not_opened(tmp_path, mark):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(SHIPPED / name, folder)
    torch.save({"w": Malice(mark)}, folder / "pytorch_model.bin")
    assert list(problems(model(folder))) == [f"model.path: {folder} has no weights (*.safetensors)."]
    with pytest.raises(OSError, match="safetensors"):
        FrozenModel(str(folder), "float32", "sdpa", False, torch.device("cpu"), False)
    assert not mark.exists()


def test_a_pickle_beside_the_weights_is_left_alone(tmp_path, mark):
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED, folder)
    torch.save({"w": Malice(mark)}, folder / "pytorch_model.bin")
    assert list(problems(model(folder))) == []
    FrozenModel(str(folder), "float32", "sdpa", False, torch.device("cpu"), False)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["rows.pkl", "rows.parquet", "rows.arrow", "rows.jsonl", "rows.pt"])
def test_a_pickle_is_no_data(tmp_path, mark, name):
    (tmp_path / name).write_bytes(pickle.dumps([Malice(mark)]))
    with pytest.raises(DataError):
        list(read_rows(tmp_path / name, 0, None, ["question"]))
    assert not mark.exists()


def test_a_pickle_in_the_schema_of_a_table_is_not_opened(tmp_path, mark):
    """The extension types that old versions of pyarrow rebuilt from a pickle (CVE-2023-47248)."""
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Malice(mark)),
    }
    field = pyarrow.field("question", pyarrow.string(), metadata=metadata)
    table = pyarrow.Table.from_arrays([pyarrow.array(["1 + 1"])], schema=pyarrow.schema([field]))
    with pyarrow.ipc.new_file(tmp_path / "rows.arrow", table.schema) as file:
        file.write_table(table)
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    for name in ("rows.arrow", "rows.parquet"):
        assert [row.fields for row in read_rows(tmp_path / name, 0, None, ["question"])] == [{"question": "1 + 1"}]
    assert not mark.exists()


def test_a_pickle_in_a_checkpoint_is_not_opened(tmp_path, mark):
    partial = partial_folder(tmp_path, 3)
    state = {"optimizer": {"steps": 0, "moments": []}}
    path = write(partial, 3, state, {}, {}, [], lambda: False)
    (path / "random.safetensors").write_bytes(pickle.dumps(Malice(mark)))
    with pytest.raises(CheckpointDamaged, match=r"random\.safetensors"):
        open_checkpoint(path)
    assert newest(tmp_path)[0] is None
    # With a manifest that says it belongs there.
    again = partial_folder(tmp_path, 4)
    path = write(again, 4, state, {}, {}, [], lambda: False)
    (path / "random.safetensors").write_bytes(pickle.dumps(Malice(mark)))
    manifest = json.loads((path / "manifest.json").read_text())
    from launch.checkpoint_folder import _entry_of

    manifest["files"]["random.safetensors"] = _entry_of(path / "random.safetensors")
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(safetensors.SafetensorError):
        open_checkpoint(path).random()
    assert not mark.exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_a_model_folder_needs_leave_for_each_model(tmp_path, file):
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED, folder)
    settings = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
    (folder / file).write_text(json.dumps(settings | {"auto_map": {"AutoModelForCausalLM": "own.Model"}}))
    sentence = (
        f"model.path: the model in {folder} brings Python code of its own (auto_map in {file}): give "
        "model.trust_remote_code=true to run it, or another model."
    )
    assert list(problems(model(folder))) == [sentence]
    assert list(problems(model(folder, trusted=True))) == []
    of_reference = ["output.folder=unused", "reference=loss", f"reference.path={folder}"]
    asked = compose([*of_reference, "model.trust_remote_code=true"])
    assert list(reference_problems(asked.reference)) == [
        sentence.replace("model.path", "reference.path").replace("model.trust", "reference.trust")
    ]
    trusted = compose([*of_reference, "reference.trust_remote_code=true"])
    assert list(reference_problems(trusted.reference)) == []


def test_leave_for_a_reference_policy_that_is_the_model_is_said_to_be_without_effect():
    config = compose(["output.folder=unused", "reference=loss", "reference.trust_remote_code=true"])
    assert [each for each in check(config) if "reference.trust_remote_code is without effect" in each]


def test_no_code_is_trusted_unless_asked():
    config = compose(["output.folder=unused"])
    assert config.model.trust_remote_code is config.reference.trust_remote_code is False
