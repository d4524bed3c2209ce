"""Which samples go into which update, rank and forward pass. Pure.

Invariants of a plan:
- every sample of an update is in exactly one pass of exactly one rank;
- every rank makes the same number of passes (a rank with nothing left gets empty ones), so that collectives match;
- a pass padded to its longest sample stays within the token budget, or holds a single sample.
"""

from dataclasses import dataclass

import numpy as np

from learner.types import Pass, Passes


@dataclass(frozen=True)
class PassLimits:
    """How samples are put together.

    tokens      of one pass, padding included; a longer sample goes alone
    row_tokens  of one row into which several samples are packed, a longer sample alone; 0: one sample a row
    """

    tokens: int
    row_tokens: int


def minibatches(groups: np.ndarray, count: int, epochs: int, seed: tuple[int, ...]) -> list[np.ndarray]:
    """Samples of each of the `count * epochs` updates; a group stays whole and appears once per epoch.

    groups  int [N]; seed  the key of the shuffle, epoch appended
    """
    names = np.unique(groups)
    updates = []
    for epoch in range(epochs):
        order = np.random.default_rng((*seed, epoch)).permutation(names)
        for part in np.array_split(order, count):
            updates.append(np.flatnonzero(np.isin(groups, part)))
    return updates


def plan_passes(lengths: np.ndarray, samples: np.ndarray, ranks: int, limits: PassLimits) -> tuple[Passes, ...]:
    """Deal `samples` over `ranks` and cut each share into passes within `limits`.

    lengths  int [N] of all samples of the batch; samples  int [n]
    """
    ordered = samples[np.argsort(lengths[samples], kind="stable")]
    # Dealt like cards, the longest first, back and forth: the tokens of two ranks differ by at most one sample's.
    turn = np.arange(ordered.size)[::-1] % (2 * ranks)
    owner = np.minimum(turn, 2 * ranks - 1 - turn)
    shares = [_cut(ordered[owner == rank], lengths, limits.tokens) for rank in range(ranks)]
    passes = max(1, *(len(share) for share in shares))
    return tuple(tuple(_rows(part) for part in _split_to(share, passes)) for share in shares)


def _rows(samples: np.ndarray) -> Pass:
    return tuple(samples[i : i + 1] for i in range(samples.size))


def _cut(ordered: np.ndarray, lengths: np.ndarray, token_budget: int) -> list[np.ndarray]:
    passes: list[np.ndarray] = []
    start = 0
    for stop in range(1, ordered.size + 1):
        is_last = stop == ordered.size
        if is_last or (stop + 1 - start) * lengths[ordered[stop]] > token_budget:
            passes.append(ordered[start:stop])
            start = stop
    return passes


def _split_to(passes: list[np.ndarray], count: int) -> list[np.ndarray]:
    passes = list(passes)
    while len(passes) < count:
        largest = max(range(len(passes)), key=lambda i: passes[i].size, default=None)
        if largest is None or passes[largest].size < 2:
            passes.append(np.zeros(0, np.int64))
            continue
        half = passes[largest].size // 2
        passes[largest : largest + 1] = [passes[largest][:half], passes[largest][half:]]
    return passes
