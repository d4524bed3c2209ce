"""The policy as a Hugging Face folder that transformers and vLLM load as is."""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

EXPORT_BUCKET_BYTES = 1 << 30


def save_model(model: Any, folder: str, write: bool) -> None:
    """Write weights, config and tokenizer of a `DeepSpeedModel` into `folder`; all ranks call it, one writes.

    The folder appears whole: it is filled under another name and renamed.
    """
    state: dict[str, torch.Tensor] = {}
    for bucket in model.full_parameters(EXPORT_BUCKET_BYTES):
        if write:
            state |= {spec.name: tensor.cpu().clone() for spec, tensor in bucket}
    if not write:
        return
    target = Path(folder)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(state, partial / "model.safetensors", metadata={"format": "pt"})
    model.model.config.save_pretrained(partial)
    source = Path(model.model_path)
    for file in source.iterdir():
        if file.suffix in (".json", ".jinja", ".model", ".txt") and not (partial / file.name).exists():
            if file.name.endswith(".index.json") or file.name == "PROVENANCE.json":
                continue
            shutil.copy(file, partial / file.name)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
