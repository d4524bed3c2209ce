"""What training goes on from, as the ranks hand it over: apart from how it is sharded, and from how it is kept."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

WEIGHTS = "weights"

# Of some parameters, by kind ("weights", or the name of a moment) and name: where in the flattened parameter a piece
# starts, and its float32 elements.
Pieces = Mapping[str, Mapping[str, tuple[int, np.ndarray]]]
# The same parameters whole, in their shape.
Wholes = Mapping[str, Mapping[str, np.ndarray]]


class StateMismatch(ValueError):
    """The state in a checkpoint is not one of this model."""


@dataclass(frozen=True)
class Header:
    """The small part of a snapshot.

    shapes    of every trained parameter, whole
    steps     of the optimizer so far
    moments   what it keeps of every element, as exp_avg; nothing before its first step
    controls  state of the entropy controls, values of JSON
    random    states of this rank's generators uint8 [bytes], by device
    """

    shapes: dict[str, tuple[int, ...]]
    steps: int
    moments: list[str]
    controls: dict[str, Any]
    random: dict[str, np.ndarray]


@dataclass(frozen=True)
class NativePart:
    """What became of one rank's part of a checkpoint in DeepSpeed's own form.

    files    names of those that the rank sees in the folder
    problem  why it could not be written
    """

    header: Header
    files: list[str]
    problem: str | None


class Snapshot:
    """A copy of the state of all ranks in Ray's object store, taken between two updates.

    headers  of each rank
    buckets  of each rank, references to the `Pieces` of the same parameters
    """

    def __init__(self, headers: list[Header], buckets: list[list[Any]], limit_s: float):
        self.header = headers[0]
        self.random = {
            f"{rank}.{device}": state for rank, header in enumerate(headers) for device, state in header.random.items()
        }
        self._buckets, self._limit_s = buckets, limit_s

    def wholes(self) -> Iterator[Wholes]:
        """Whole parameters and moments, bucket after bucket; each is let go of as the next is asked for."""
        import ray

        for _ in range(len(self._buckets[0])):
            references = [rank.pop(0) for rank in self._buckets]
            yield joined(ray.get(references, timeout=self._limit_s), self.header.shapes)


def joined(parts: list[Pieces], shapes: Mapping[str, tuple[int, ...]]) -> Wholes:
    """Whole parameters from the pieces of all ranks. Raises ValueError where the pieces do not make up one."""
    wholes: dict[str, dict[str, np.ndarray]] = {}
    for kind in parts[0]:
        names = dict.fromkeys(name for pieces in parts for name in pieces[kind])
        wholes[kind] = {
            name: _whole(name, [each[kind][name] for each in parts if name in each[kind]], shapes[name])
            for name in names
        }
    return wholes


def _whole(name: str, pieces: list[tuple[int, np.ndarray]], shape: tuple[int, ...]) -> np.ndarray:
    pieces = sorted(pieces, key=lambda piece: piece[0])
    ends = [start + values.size for start, values in pieces]
    total = int(np.prod(shape, dtype=np.int64))
    if [start for start, _ in pieces] != [0, *ends[:-1]] or ends[-1] != total:
        raise ValueError(f"the ranks' pieces of {name} do not make up its {total} elements")
    return np.concatenate([values for _, values in pieces]).reshape(shape)
