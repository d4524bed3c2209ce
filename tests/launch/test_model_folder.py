"""A model is a folder, or a name whose files are in the local Hugging Face cache; nothing is downloaded."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download

from launch.config import CONF, ModelConfig
from launch.model_folder import model_folder, problems
from tests.composed import compose

NAME = "Qwen/Qwen2.5-0.5B"
MODEL = ModelConfig("mine", None, NAME, "bfloat16", 4096, False)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty Hugging Face cache, and no way out of the machine."""

    def refuse(*_arguments, **_settings):
        raise AssertionError("asked the network")

    monkeypatch.setattr("huggingface_hub._snapshot_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(file_download, "get_hf_file_metadata", refuse)
    monkeypatch.setattr("huggingface_hub.hf_api.HfApi.repo_info", refuse)
    return tmp_path


def fill(cache: Path, *names: str) -> Path:
    """What `hf download` leaves of one revision."""
    repository = cache / "models--Qwen--Qwen2.5-0.5B"
    snapshot = repository / "snapshots" / "abc"
    for folder in (repository / "refs", snapshot):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    for name in names:
        (snapshot / name).write_text("{}")
    return snapshot


def test_a_name_that_is_cached_is_its_snapshot(cache):
    snapshot = fill(cache, "config.json", "tokenizer.json", "model.safetensors")
    assert Path(model_folder(NAME)) == snapshot
    assert list(problems(MODEL)) == []


def test_a_name_that_is_not_cached_says_how_to_fetch_it(cache):
    [sentence] = problems(MODEL)
    assert sentence == (
        "model.path: there is no folder Qwen/Qwen2.5-0.5B, and no model of that name in the local Hugging Face cache; "
        "give model.path=FOLDER, or fetch it once with `hf download Qwen/Qwen2.5-0.5B`."
    )
    with pytest.raises(FileNotFoundError, match="neither a folder nor"):
        model_folder(NAME)


def test_an_interrupted_download_is_named(cache):
    snapshot = fill(cache, "config.json", "tokenizer.json", "model-00002-of-00003.safetensors")
    shards = {f"layer.{i}": f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert list(problems(MODEL)) == [
        f"model.path: {snapshot} lacks 2 of the files in its model.safetensors.index.json, "
        "model-00001-of-00003.safetensors first."
    ]


def test_a_folder_comes_before_a_name(cache, tmp_path, monkeypatch):
    fill(cache, "config.json")
    (tmp_path / "here" / NAME).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert model_folder(NAME) == NAME
    assert len(list(problems(MODEL))) == 3


def test_a_path_is_never_looked_up_as_a_name(cache):
    assert list(problems(replace(MODEL, path="/models/a"))) == ["model.path: there is no folder /models/a."]
    assert list(problems(replace(MODEL, path="../a"))) == ["model.path: there is no folder ../a."]


def test_every_option_but_the_laboratory_takes_its_files_from_the_cache_or_a_folder():
    named = sorted(file.stem for file in (CONF / "model").glob("*.yaml") if "-" in file.stem)
    assert len(named) == 11
    for option in named:
        model = compose([f"model={option}"]).model
        assert model.name == option
        assert model.path.split("/")[1].removesuffix("-Base").lower() in (option, option.replace("llama", "llama-"))
    assert compose([f"model={named[0]}", "model.path=/models/a"]).model.path == "/models/a"


def test_a_config_that_is_not_json(tmp_path):
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("{" if name == "config.json" else "{}")
    (found,) = problems(replace(MODEL, path=str(tmp_path)))
    assert found.startswith(f"model.path: {tmp_path}/config.json is not JSON: Expecting property name")
