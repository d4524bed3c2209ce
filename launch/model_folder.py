"""Where the files of a model are: the folder that `model.path` names, or the copy in the local Hugging Face cache.

Nothing is downloaded here: a run does not depend on a network.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launch.config import ASSETS, ModelConfig
from learner.head_support import transform_problem

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
INDEX = "model.safetensors.index.json"
CONTENTS = {
    "config.json": ("config.json",),
    "tokenizer (tokenizer.json or tokenizer.model)": ("tokenizer.json", "tokenizer.model"),
    "weights (*.safetensors)": ("*.safetensors",),
}


def model_folder(path: str) -> str:
    """The folder of `path`. Raises FileNotFoundError where it is neither a folder nor a name in the cache."""
    if Path(path).is_dir():
        return path
    cached = _cached(path)
    if cached is None:
        raise FileNotFoundError(f"{path} is neither a folder nor the name of a model in the Hugging Face cache")
    return cached


def problems(model: ModelConfig) -> Iterator[str]:
    """A sentence for each reason why a model cannot be loaded."""
    try:
        folder = Path(model_folder(model.path))
    except FileNotFoundError:
        yield _absent(model)
        return
    for what, patterns in CONTENTS.items():
        if not any(any(folder.glob(pattern)) for pattern in patterns):
            yield f"model.path: {folder} has no {what}."
    if missing := _missing_shards(folder):
        yield f"model.path: {folder} lacks {len(missing)} of the files in its {INDEX}, {missing[0]} first."
    if problem := transform_problem(_settings(folder)):
        yield f"model.path: the model in {folder} {problem}; choose another model."


def _settings(folder: Path) -> dict[str, Any]:
    config = folder / "config.json"
    try:
        found = json.loads(config.read_text()) if config.is_file() else {}
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _absent(model: ModelConfig) -> str:
    if model.width is not None and Path(model.path) == ASSETS / "laboratory" / str(model.width):
        return (
            f"model.width = {model.width} is not built: there is no folder {model.path}; "
            f"python -m launch.laboratory --width {model.width} builds it."
        )
    if HUB_NAME.fullmatch(model.path):
        return (
            f"model.path: there is no folder {model.path}, and no model of that name in the local Hugging Face cache; "
            f"give model.path=FOLDER, or fetch it once with `hf download {model.path}`."
        )
    return f"model.path: there is no folder {model.path}."


def _cached(name: str) -> str | None:
    if not HUB_NAME.fullmatch(name):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return snapshot_download(name, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _missing_shards(folder: Path) -> list[str]:
    """Weight files that the index names and the folder lacks: what an interrupted download leaves."""
    if not (folder / INDEX).is_file():
        return []
    shards = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
    return sorted(shard for shard in shards if not (folder / shard).is_file())
