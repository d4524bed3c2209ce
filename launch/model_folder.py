"""Where the files of a model are: the folder that `model.path` names, or the copy in the local Hugging Face cache.

Nothing is downloaded here: a run does not depend on a network.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launch.config import ASSETS, ModelConfig
from learner.config import ReferenceConfig
from learner.head_support import transform_problem

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
INDEX = "model.safetensors.index.json"
CONFIG, TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
TOKENIZER = "tokenizer (tokenizer.json or tokenizer.model)"
CONTENTS = {
    CONFIG: (CONFIG,),
    TOKENIZER: ("tokenizer.json", "tokenizer.model"),
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
    yield from _lacking("model.path", folder, CONTENTS)
    yield from _brings_code("model", folder, model.trust_remote_code)


def reference_problems(reference: ReferenceConfig) -> Iterator[str]:
    """A sentence for each reason why the reference policy cannot be loaded from a folder of its own."""
    if reference.path is None:
        return
    try:
        folder = Path(model_folder(reference.path))
    except FileNotFoundError as error:
        yield f"reference.path: {error}."
        return
    needed = {what: patterns for what, patterns in CONTENTS.items() if what != TOKENIZER}
    yield from _lacking("reference.path", folder, needed)
    yield from _brings_code("reference", folder, reference.trust_remote_code)


def _lacking(setting: str, folder: Path, contents: dict[str, tuple[str, ...]]) -> Iterator[str]:
    for what, patterns in contents.items():
        if not any(any(folder.glob(pattern)) for pattern in patterns):
            yield f"{setting}: {folder} has no {what}."
    if missing := _missing_shards(folder):
        yield f"{setting}: {folder} lacks {len(missing)} of the files in its {INDEX}, {missing[0]} first."
    yield from _unsupported(setting, folder / CONFIG)


def _brings_code(section: str, folder: Path, trusted: bool) -> Iterator[str]:
    """A sentence where transformers or vLLM would run Python files of the folder, and may not."""
    found = [name for name in (CONFIG, TOKENIZER_CONFIG) if "auto_map" in _json_object(folder / name)]
    if found and not trusted:
        yield (
            f"{section}.path: the model in {folder} brings Python code of its own (auto_map in {found[0]}): give "
            f"{section}.trust_remote_code=true to run it, or another model."
        )


def _json_object(file: Path) -> dict[str, Any]:
    """Empty where the file holds none; what is wrong with it is said elsewhere."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _unsupported(setting: str, file: Path) -> Iterator[str]:
    if not file.is_file():
        return
    try:
        settings = json.loads(file.read_text())
    except ValueError as error:
        yield f"{setting}: {file} is not JSON: {error}."
        return
    if problem := transform_problem(settings):
        yield f"{setting}: the model in {file.parent} {problem}; choose another model."


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
