"""From samples to log-probabilities and entropies of their response tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch

from learner.fused_head import Distributions, ScoringHead, TargetTokens
from learner.planning import PassLimits, plan_passes
from learner.rows import PackedRows
from learner.types import Pass, Passes, Scores, TokenBatch, joined

# Transformers hands these kernels the bounds of the samples only where a pass is a single row.
ONE_ROW_KERNELS = ("flash_attention_2",)


class Policy:
    """The model with its LM head replaced by the fused scoring head.

    Log-probs and entropies are those of the distribution that was sampled from, at the temperature of the batch.

    limits  of a pass where the caller does not cut the passes
    """

    def __init__(self, model: Any, chunk_tokens: int, limits: PassLimits):
        self._model = model
        self._head = ScoringHead(model.model.get_output_embeddings(), chunk_tokens)
        self._limits = limits
        self._exact = False
        self._one_row = model.model.config._attn_implementation in ONE_ROW_KERNELS

    def forward(self, batch: TokenBatch, rows: Pass) -> tuple[torch.Tensor, ...]:
        """Log-probs and entropies float32 [response tokens of the rows, sample after sample], with gradients.

        With no rows the model still runs, on one token, because the other ranks' collectives wait for it.
        """
        return self._run(self._sequences(batch, rows), batch.prompt_lengths[_samples(rows)], batch.temperature)

    def score(self, batch: TokenBatch, passes: Passes, exact: bool = False) -> Scores:
        """Log-probs and entropies of all passes, no gradients; with `exact` the discriminators too."""
        found = [Scores(np.zeros(0, np.int64), *np.zeros((3 if exact else 2, 0), np.float32))]
        with torch.no_grad(), self._asking(exact):
            for rows in passes:
                values = [row.cpu().numpy() for row in self.forward(batch, rows)]
                found.append(Scores(batch.response_index(_samples(rows)), *values))
        return joined(found)

    def distributions(self, batch: TokenBatch, rows: Pass, states: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
        """What the tokens `states` of the rows were drawn from, no gradients.

        states   int64, any indices into the batch's arrays over response tokens; those that are not in `rows` have no
                 part
        returns  int64 [n], those that are, in the order of the rows; and float32 [n, vocabulary], tempered logits
        """
        samples = _samples(rows)
        index = batch.response_index(samples)
        chosen = np.flatnonzero(np.isin(index, states))
        packed = self._packed(self._sequences(batch, rows), batch.prompt_lengths[samples])
        self._head.request = Distributions(self._tensor(packed.scored[chosen]), batch.temperature)
        with torch.no_grad():
            return index[chosen], self._model.forward(self._tensor(packed.tokens), self._tensor(packed.positions))

    @contextmanager
    def _asking(self, exact: bool) -> Iterator[None]:
        self._exact = exact
        try:
            yield
        finally:
            self._exact = False

    def score_sequences(self, sequences: list[np.ndarray]) -> list[np.ndarray]:
        """Log-probs at temperature 1 of the tokens of each sequence after its first: float32 [tokens - 1] each."""
        lengths = np.array([len(s) for s in sequences])
        scores: list[np.ndarray] = [np.zeros(0, np.float32)] * len(sequences)
        with torch.no_grad():
            for rows in plan_passes(lengths, np.arange(len(sequences)), 1, self._limits)[0]:
                chosen = _samples(rows)
                tokens = [[sequences[i] for i in row] for row in rows]
                logprobs, _ = self._run(tokens, np.ones(len(chosen), np.int64), 1.0)
                parts = np.split(logprobs.cpu().numpy(), np.cumsum(lengths[chosen] - 1)[:-1])
                for i, part in zip(chosen, parts, strict=True):
                    scores[i] = part
        return scores

    def _run(
        self, rows: list[list[np.ndarray]], prompt_lengths: np.ndarray, temperature: float
    ) -> tuple[torch.Tensor, ...]:
        packed = self._packed(rows, prompt_lengths)
        scored, targets = self._tensor(packed.scored), self._tensor(packed.targets)
        self._head.request = TargetTokens(scored, targets, temperature, self._exact)
        return tuple(self._model.forward(self._tensor(packed.tokens), self._tensor(packed.positions)))

    def _packed(self, rows: list[list[np.ndarray]], prompt_lengths: np.ndarray) -> PackedRows:
        return PackedRows.of([list(chain(*rows))] if rows and self._one_row else rows, prompt_lengths)

    @staticmethod
    def _sequences(batch: TokenBatch, rows: Pass) -> list[list[np.ndarray]]:
        tokens, offsets = batch.tokens, batch.offsets
        return [[tokens[offsets[sample] : offsets[sample + 1]] for sample in row] for row in rows]

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values).to(self._model.device)


def _samples(rows: Pass) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *rows])
