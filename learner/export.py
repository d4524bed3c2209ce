"""The policy as a Hugging Face folder that transformers and vLLM load as is."""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

# Memory of one rank while saving, and the size of a file.
EXPORT_BUCKET_BYTES = 1 << 30


def save_model(model: Any, folder: str, write: bool) -> None:
    """Write weights, config and tokenizer of a `DeepSpeedModel` into `folder`; all ranks call it, one writes.

    The folder appears whole: it is filled under another name and renamed.
    """
    target = Path(folder)
    partial = target.with_name(target.name + ".partial")
    if write:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    files: dict[str, str] = {}
    for number, bucket in enumerate(model.full_parameters(EXPORT_BUCKET_BYTES)):
        if write:
            name = f"model-{number:05d}.safetensors"
            tensors = {spec.name: tensor.cpu().contiguous() for spec, tensor in bucket}
            save_file(tensors, partial / name, metadata={"format": "pt"})
            files |= dict.fromkeys(tensors, name)
    if not write:
        return
    _name_shards(partial, files)
    model.model.config.save_pretrained(partial)
    source = Path(model.model_path)
    for file in source.iterdir():
        if file.suffix in (".json", ".jinja", ".model", ".txt") and not (partial / file.name).exists():
            if file.name.endswith(".index.json") or file.name == "PROVENANCE.json":
                continue
            shutil.copy(file, partial / file.name)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def _name_shards(folder: Path, files: dict[str, str]) -> None:
    """The names that loaders look for: one plain file, or shards with an index. `files`: shard of each parameter."""
    shards = sorted(set(files.values()))
    if len(shards) == 1:
        (folder / shards[0]).rename(folder / "model.safetensors")
        return
    final = {name: f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i, name in enumerate(shards)}
    for name, new in final.items():
        (folder / name).rename(folder / new)
    size = sum((folder / name).stat().st_size for name in final.values())
    index = {"metadata": {"total_size": size}, "weight_map": {key: final[name] for key, name in files.items()}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
