"""Rows of packed samples as the arrays that a forward pass takes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from learner.types import ragged_index


@dataclass(frozen=True)
class PackedRows:
    """Samples one after another in each row, the rows padded on the right to the longest.

    tokens     int64 [rows, longest]
    positions  int64 [rows, longest], from 0 in each sample and again in the padding. A token sees only what comes
               before it in its own run of positions, which is how samples of a row are kept apart.
    scored     int64 [selected], where in the flattened tokens a scored token is predicted from, sample after sample
    targets    int64 [selected], that token
    """

    tokens: np.ndarray
    positions: np.ndarray
    scored: np.ndarray
    targets: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Sequence[np.ndarray]], prompt_lengths: np.ndarray) -> Self:
        """The tokens of each sample after its prompt are scored; without any rows, a single token that is not.

        rows            of each row, the tokens [length] of its samples, none of them empty
        prompt_lengths  int [samples], at least 1, in the order of the rows
        """
        sizes = [sum(map(len, row)) for row in rows] or [1]
        tokens = np.zeros((len(sizes), max(sizes)), np.int64)
        positions = np.tile(np.arange(tokens.shape[1]), (len(sizes), 1))
        starts = []
        for number, row in enumerate(rows):
            start = 0
            for sample in row:
                starts.append(number * tokens.shape[1] + start)
                stop = start + len(sample)
                tokens[number, start:stop] = sample
                positions[number, start:stop] = np.arange(len(sample))
                start = stop
            positions[number, start:] = np.arange(tokens.shape[1] - start)
        lengths = np.array([len(sample) for row in rows for sample in row], np.int64)
        # The hidden state at t predicts token t + 1: responses are predicted from their prompt's last token on.
        scored = ragged_index(np.array(starts, np.int64) + prompt_lengths - 1, lengths - prompt_lengths)
        return cls(tokens, positions, scored, tokens.reshape(-1)[scored + 1])
