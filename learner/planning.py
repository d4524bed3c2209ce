"""Which samples go into which update, rank, forward pass and row. Pure.

Invariants of the passes of an update:
- every sample is in exactly one row of one pass of one rank;
- a row with several samples holds at most `row_tokens`, and no more than `tokens`; a longer sample has its own row;
- a pass, its rows padded to the longest, stays within `tokens`, or holds a single sample;
- no row is padded to more than twice its length;
- every rank makes the same number of passes, at least one, so that collectives match; a rank with nothing left gets
  empty ones;
- the costs of two ranks differ by at most that of the most expensive sample;
- the same arguments give the same plan.
"""

import heapq
from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np

from learner.config import LearnerConfig
from learner.types import Pass, Passes

# The length of a row at which attention over it costs as much as the linear layers: their weights over twice the
# attention width, per layer. It is 8,000 for Qwen2.5-0.5B, 15,000 for 1.5B and 33,000 for 7B. Shorter rows than that
# cost nearly what their tokens cost, whatever the figure.
ATTENTION_TOKENS = 16_384


@dataclass(frozen=True)
class PassLimits:
    """How samples are put together.

    tokens      of one pass, padding included; a longer sample goes alone
    row_tokens  of one row into which several samples are packed, a longer sample alone; 0: one sample a row
    """

    tokens: int
    row_tokens: int

    @classmethod
    def of(cls, config: LearnerConfig) -> "PassLimits":
        return cls(config.tokens_per_microbatch, config.row_tokens if config.packing else 0)

    @property
    def packed_tokens(self) -> int:
        """Of one row with several samples."""
        return min(self.row_tokens, self.tokens)


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


def sample_costs(lengths: np.ndarray, limits: PassLimits) -> np.ndarray:
    """int64 [n], what samples of these lengths cost in the rows they end up in, in any unit.

    tokens · (ATTENTION_TOKENS + row length): the linear layers cost every token the same, and dense attention costs it
    the length of its row, that of a full one where samples are packed.
    """
    lengths = lengths.astype(np.int64)
    return lengths * (ATTENTION_TOKENS + np.maximum(lengths, limits.packed_tokens))


def plan_passes(lengths: np.ndarray, samples: np.ndarray, ranks: int, limits: PassLimits) -> tuple[Passes, ...]:
    """Deal `samples` over `ranks`, pack each share into rows and cut these into passes within `limits`.

    lengths  int [N] of all samples of the batch; samples  int [n]
    """
    ordered = samples[np.lexsort((samples, -lengths[samples]))].astype(np.int64)
    sizes = lengths[ordered].astype(np.int64)
    owner = _dealt(sample_costs(sizes, limits), ranks)
    shares = [_rows(ordered[owner == rank], sizes[owner == rank], limits) for rank in range(ranks)]
    count = max(1, *(len(_cut(row_sizes, _reaches(row_sizes), limits.tokens)) for _, row_sizes in shares))
    return tuple(
        tuple(tuple(rows[start:stop]) for start, stop in _cut_into(count, row_sizes, limits.tokens))
        for rows, row_sizes in shares
    )


def pass_cost(lengths: np.ndarray, rows: Pass) -> int:
    """What the forward pass over `rows` costs with its padding, in the unit of `sample_costs`."""
    longest = max((int(lengths[row].sum()) for row in rows), default=1)
    return computed_tokens(lengths, rows) * (ATTENTION_TOKENS + longest)


def computed_tokens(lengths: np.ndarray, rows: Pass) -> int:
    """Tokens that the forward pass over `rows` computes, padding included; an empty one runs on a single token."""
    return len(rows) * max((int(lengths[row].sum()) for row in rows), default=0) or 1


def _dealt(sizes: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each item: the emptiest one at its turn. `sizes` descend, so that small items even out large ones."""
    owner, fill = [], [(0, one) for one in range(bins)]
    for size in sizes.tolist():
        full, emptiest = fill[0]
        owner.append(emptiest)
        heapq.heapreplace(fill, (full + size, emptiest))
    return np.array(owner, np.int64)


def _rows(ordered: np.ndarray, sizes: np.ndarray, limits: PassLimits) -> tuple[list[np.ndarray], np.ndarray]:
    """Rows of the samples, whose `sizes` descend, and the tokens of each row; the longest row first."""
    alone = int(np.count_nonzero(sizes > limits.packed_tokens))
    packed = alone + _packed(sizes[alone:], limits)
    owner = np.concatenate([np.arange(alone), packed]).astype(np.int64)
    row_sizes = np.bincount(owner, sizes).astype(np.int64)
    by_row = np.split(ordered[np.argsort(owner, kind="stable")], np.cumsum(np.bincount(owner))[:-1])
    longest_first = np.argsort(-row_sizes, kind="stable")
    return [by_row[i] for i in longest_first.tolist()], row_sizes[longest_first]


def _packed(sizes: np.ndarray, limits: PassLimits) -> np.ndarray:
    """The row of each sample, in as few and as evenly filled rows as possible.

    Where all rows fit into one pass, a few more of them may pad less: eight rows of four rather than seven of four or
    five.
    """
    fewest = _best_fit(sizes, limits.packed_tokens)
    count = int(fewest.max(initial=-1)) + 1
    most = min(2 * count, limits.tokens // max(1, limits.packed_tokens))
    chosen, least = fewest, None
    for rows in range(count, max(count, most) + 1) if count else ():
        owner = _dealt(sizes, rows)
        longest = int(np.bincount(owner, sizes).max())
        if longest <= limits.packed_tokens and (least is None or rows * longest < least):
            chosen, least = owner, rows * longest
    return chosen


def _best_fit(sizes: np.ndarray, capacity: int) -> np.ndarray:
    """The bin of each item, the fullest that still takes it: best-fit decreasing, 11/9 of the fewest bins at worst."""
    owner, bins, free = [], 0, list[tuple[int, int]]()
    for size in sizes.tolist():
        at = bisect_left(free, (size, 0))
        if at == len(free):
            room, fullest = capacity, bins
            bins += 1
        else:
            room, fullest = free.pop(at)
        owner.append(fullest)
        insort(free, (room - size, fullest))
    return np.array(owner, np.int64)


def _reaches(row_sizes: np.ndarray) -> list[int]:
    """Where a pass that starts at each row has to end, so that it pads none to more than twice its length."""
    return np.searchsorted(-2 * row_sizes, -row_sizes, side="right").tolist()


def _cut(row_sizes: np.ndarray, reaches: list[int], limit: int) -> list[tuple[int, int]]:
    """As few runs of the rows, which descend in size, as fit into `limit` tokens each."""
    longest, start, runs = row_sizes.tolist(), 0, []
    while start < len(longest):
        stop = min(start + max(1, limit // longest[start]), reaches[start])
        runs.append((start, stop))
        start = stop
    return runs


def _cut_into(count: int, row_sizes: np.ndarray, limit: int) -> list[tuple[int, int]]:
    """Exactly `count` runs of near-equal size, as many as `limit` asks for or more. Empty ones come last."""
    reaches, low, high = _reaches(row_sizes), 1, limit
    while low < high:
        middle = (low + high) // 2
        fits = len(_cut(row_sizes, reaches, middle)) <= count
        low, high = (low, middle) if fits else (middle + 1, high)
    largest_first = [(start - stop, start, stop) for start, stop in _cut(row_sizes, reaches, low)]
    heapq.heapify(largest_first)
    while len(largest_first) < count and largest_first and largest_first[0][0] < -1:
        _, start, stop = heapq.heappop(largest_first)
        half = (start + stop) // 2
        heapq.heappush(largest_first, (start - half, start, half))
        heapq.heappush(largest_first, (half - stop, half, stop))
    runs = sorted((start, stop) for _, start, stop in largest_first)
    return runs + [(0, 0)] * (count - len(runs))
