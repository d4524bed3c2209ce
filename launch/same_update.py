"""Whether an update is the one that a run made: figure by figure, and weight by weight."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors

from launch.checkpoint_folder import Checkpoint
from learner.snapshots import WEIGHTS, Wholes

# Times are of the machine, and those of the learner's passes of the layout.
NOT_COMPARED = ("time/", "speed/", "memory/", "learner/")
# Sums in another order differ in the last digits, which the updates of a step pass on: the first steps of AdamW are the
# signs of the gradients. By dtype of the model, relative, and absolute for figures near 0.
ROUND_OFF = {"float32": (1e-3, 1e-4), "bfloat16": (5e-2, 5e-3)}
# Of how far the weights moved, how far they may be from where they should be. By dtype of the model.
ASTRAY = {"float32": 1e-3, "bfloat16": 0.2}


@dataclass(frozen=True)
class Figure:
    """One metric, as the run recorded it and as it was computed again; None where it is missing."""

    name: str
    recorded: float | None
    again: float | None

    @property
    def equal(self) -> bool:
        return self.recorded == self.again

    @property
    def difference(self) -> float | None:
        """How much is more now than recorded; None where one is missing."""
        return None if self.recorded is None or self.again is None else self.again - self.recorded

    def close(self, dtype: str) -> bool:
        """Whether the two differ by round-off at most."""
        if self.recorded is None or self.again is None:
            return False
        relative, absolute = ROUND_OFF[dtype]
        return math.isclose(self.recorded, self.again, rel_tol=relative, abs_tol=absolute)


def figures(recorded: Mapping[str, float], again: Mapping[str, float], needed: Iterable[str]) -> list[Figure]:
    """Every metric that was computed again, and those of the `needed` sections that only the run has."""
    of_update = tuple(f"{section}/" for section in needed)
    names = dict.fromkeys([*again, *(name for name in recorded if name.startswith(of_update))])
    return [Figure(n, recorded.get(n), again.get(n)) for n in names if not n.startswith(NOT_COMPARED)]


@dataclass
class Gap:
    """Between the state that was reached again and that in a checkpoint of the same step.

    equal     whether weights and moments are the same bit for bit
    largest   absolute difference of a weight
    distance  sum of the squared differences of all weights
    moved     the same between the checkpoint and the state before the step
    """

    equal: bool = True
    largest: float = 0.0
    distance: float = 0.0
    moved: float = 0.0

    def close(self, dtype: str) -> bool:
        """Whether the two differ by round-off at most."""
        return math.sqrt(self.distance) <= ASTRAY[dtype] * math.sqrt(self.moved)


class Recorded:
    """Whole parameters and moments of a checkpoint, by kind and name."""

    def __init__(self, checkpoint: Checkpoint):
        self._files: dict[tuple[str, str], Any] = {}
        for kind in (WEIGHTS, *checkpoint.state["optimizer"]["moments"]):
            for path in sorted(checkpoint.path.glob(f"{kind}-*.safetensors")):
                file = safetensors.safe_open(path, framework="np")
                self._files |= {(kind, name): file for name in file.keys()}  # noqa: SIM118  it is no dictionary

    def array(self, kind: str, name: str) -> np.ndarray | None:
        file = self._files.get((kind, name))
        return None if file is None else file.get_tensor(name)


def gap(recorded: Recorded, before: Iterable[Wholes], after: Iterable[Wholes]) -> Gap:
    """Compare the state `after` a step with the recorded one; `before` the step says how far the weights moved."""
    found = Gap()
    for bucket in before:
        for name, old in bucket[WEIGHTS].items():
            new = recorded.array(WEIGHTS, name)
            found.moved += math.inf if new is None else _squared(new, old)
    for bucket in after:
        for kind, arrays in bucket.items():
            for name, values in arrays.items():
                wanted = recorded.array(kind, name)
                if wanted is None or not np.array_equal(wanted, values):
                    found.equal = False
                if kind == WEIGHTS and wanted is not None:
                    found.largest = max(found.largest, float(np.abs(wanted - values).max(initial=0.0)))
                    found.distance += _squared(wanted, values)
    return found


def _squared(one: np.ndarray, other: np.ndarray) -> float:
    difference = (one - other).astype(np.float64).ravel()
    return float(difference @ difference)
