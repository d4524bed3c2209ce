"""Ranks that gather their shares of an update over gloo and select from the whole: a program of test_selection.

`python gloo_selection.py FOLDER RANKS...` writes FOLDER/<ranks>_<rank>.json with what each rank selected.
"""

import json
import multiprocessing
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch.distributed as dist

from tests.entropy.test_selection import selections
from tests.entropy.updates import joined, random_update

LIMIT_S = 60


def owner(sample: int, ranks: int) -> int:
    """Shares of unequal size; the third rank of four has none."""
    rank = int(sample) % 7 % ranks
    return 0 if (rank, ranks) == (2, 4) else rank


def rank_selects(folder: str, rank: int, ranks: int) -> None:
    store = dist.FileStore(f"{folder}/store_{ranks}", ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=timedelta(seconds=LIMIT_S))
    tokens = random_update(steps=0.25)
    order = np.random.default_rng(rank).permutation(tokens.lengths.size)
    mine = [int(sample) for sample in order if owner(sample, ranks) == rank]
    gathered: list = [None] * ranks
    dist.all_gather_object(gathered, mine)
    Path(folder, f"{ranks}_{rank}.json").write_text(json.dumps(selections(joined(tokens, gathered))))
    dist.destroy_process_group()


def main(folder: str, worlds: list[int]) -> None:
    context = multiprocessing.get_context("fork")
    for ranks in worlds:
        children = [
            context.Process(target=rank_selects, args=(folder, rank, ranks), daemon=True) for rank in range(ranks)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(LIMIT_S)


if __name__ == "__main__":
    main(sys.argv[1], [int(ranks) for ranks in sys.argv[2:]])
