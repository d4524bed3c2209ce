"""Which prompts to train on, by clusters of their embeddings: `python -m launch.select_prompts --out DIR [overrides]`.

The overrides are those of the run to come, `model=... data=...`. Its training prompts are embedded by the policy,
clustered by K-means, and for each M of --top two index files are written: all prompts of the M largest clusters, and as
many drawn at random. `data.index=FILE` trains on one of them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from launch.config import ConfigError, RunConfig, compose
from launch.model_folder import model_folder
from launch.prepare import training_prompts
from launch.prompt_clusters import by_chance, clusters_by_size, effective_clusters, nearest_cosine, of_largest
from rollout.prompt_index import Entry, PromptIndex, question_digest, write_index
from rollout.types import Prompt


def in_row_order(prompts: Sequence[Prompt]) -> list[Prompt]:
    """By source and row, so that what comes of them does not depend on the order they come in."""

    def place(prompt: Prompt) -> tuple[str, int]:
        source, _, row = prompt.uid.rpartition("/")
        return source, int(row)

    return sorted(prompts, key=place)


def indexes(
    prompts: Sequence[Prompt], embeddings: np.ndarray, asked: argparse.Namespace, config: RunConfig
) -> dict[str, PromptIndex]:
    """The index of each subset by its file name, the larger subsets first.

    embeddings  float [prompts, hidden], in the order of `prompts`, which is that of their rows
    """
    labels = clusters_by_size(embeddings, asked.clusters, asked.seed)
    uids = [prompt.uid for prompt in prompts]
    made = {
        "model": config.model.path,
        "embedding": "mean of the last hidden states over the prompt's tokens",
        "prompts": len(prompts),
        "clusters": asked.clusters,
        "seed": asked.seed,
    }

    def index(subset: str, chosen: np.ndarray, top: int) -> PromptIndex:
        entries = (Entry(uids[i], int(labels[i]), question_digest(prompts[i])) for i in chosen)
        figures = {
            "chosen": len(chosen),
            "clusters_among_chosen": len(np.unique(labels[chosen])),
            "effective_clusters": round(effective_clusters(labels[chosen]), 3),
            "nearest_cosine": round(nearest_cosine(embeddings[chosen]), 6),
        }
        return PromptIndex(subset, config.data.name, made | {"top": top} | figures, tuple(entries))

    found = {}
    for top in sorted(asked.top, reverse=True):
        chosen = of_largest(labels, top)
        narrow = f"the {top} largest of {asked.clusters} clusters"
        found[f"clusters-{top}.json"] = index(narrow, chosen, top)
        random = f"a random subset (seed {asked.seed}) as large as {narrow}"
        found[f"random-{top}.json"] = index(random, by_chance(uids, len(chosen), asked.seed), top)
    return found


def table(found: dict[str, PromptIndex]) -> str:
    """A line for each index."""
    lines = [f"{'index':<24}{'prompts':>9}{'clusters':>10}{'effective':>11}{'nearest cosine':>16}"]
    for name, index in found.items():
        made = index.made
        lines.append(
            f"{name:<24}{made['chosen']:>9}{made['clusters_among_chosen']:>10}{made['effective_clusters']:>11.1f}"
            f"{made['nearest_cosine']:>16.4f}"
        )
    return "\n".join(lines)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m launch.select_prompts", description=__doc__.split("\n\n")[0])
    parser.add_argument("overrides", nargs="*", help="settings of the run to come: model=... data=... data.path=...")
    parser.add_argument("--out", type=Path, required=True, help="folder for the index files, made if need be")
    parser.add_argument("--clusters", type=int, required=True, help="K of K-means; the paper has 1000")
    parser.add_argument(
        "--top", type=_counts, required=True, help="numbers of largest clusters to take; the paper has 281,112,49,21,9"
    )
    parser.add_argument("--seed", type=int, default=0, help="of K-means and of the random subsets (the default is 0)")
    parser.add_argument("--batch", type=int, default=64, help="prompts embedded at a time (the default is 64)")
    asked = parser.parse_intermixed_args(arguments)
    if asked.batch < 1:
        parser.error(f"--batch {asked.batch} is less than 1")
    if asked.seed < 0:
        parser.error(f"--seed {asked.seed} is negative")
    if any(not 1 <= top <= asked.clusters for top in asked.top):
        parser.error(f"--top has to be from 1 to --clusters {asked.clusters}")
    return asked


def _counts(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the index files, print the table, return the exit status: 2 where the settings or the data are refused."""
    asked = _arguments(arguments)
    try:
        config = compose([*asked.overrides, "output.folder=unused"])
        if config.data.index is not None:
            raise ConfigError("data.index is what this command writes; leave it out.")
        prompts = in_row_order(training_prompts(config))
        if len(prompts) < asked.clusters:
            raise ConfigError(f"--clusters {asked.clusters} is more than the {len(prompts)} training prompts.")
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"--out {asked.out} cannot be made ({error.strerror}).", file=sys.stderr)
        return 2
    found = indexes(prompts, _embeddings(config, prompts, asked.batch), asked, config)
    for name, index in found.items():
        write_index(asked.out / name, index)
    print(table(found), f"\ntrain on one with data.index={asked.out / next(iter(found))}", sep="\n")
    return 0


def _embeddings(config: RunConfig, prompts: Sequence[Prompt], prompts_per_batch: int) -> Any:
    # torch takes seconds to import, and what is refused before needs none of it.
    import torch

    from launch.prompt_embeddings import mean_hidden_states, open_policy

    model, device = config.model, config.cluster.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    policy = open_policy(model_folder(model.path), model.dtype, device, model.trust_remote_code)
    return mean_hidden_states(policy, [prompt.token_ids for prompt in prompts], prompts_per_batch)


if __name__ == "__main__":
    sys.exit(main())
