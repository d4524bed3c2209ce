"""From samples to log-probabilities and entropies of their response tokens."""

from typing import Any

import numpy as np
import torch

from learner.fused_head import ScoringHead, TargetTokens
from learner.planning import PassLimits, plan_passes
from learner.types import Pass, Passes, Scores, TokenBatch, joined


class Policy:
    """The model with its LM head replaced by the fused scoring head.

    temperature   the rollout's; log-probs and entropies are those of the distribution that was sampled from
    limits        of a pass where the caller does not cut the passes
    """

    def __init__(self, model: Any, temperature: float, chunk_tokens: int, limits: PassLimits):
        self._model = model
        self._head = ScoringHead(model.model.get_output_embeddings(), temperature, chunk_tokens)
        self._limits = limits

    def forward(self, batch: TokenBatch, rows: Pass) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs and entropies float32 [response tokens of the rows, sample after sample], with gradients.

        With no rows the model still runs, on one token, because the other ranks' collectives wait for it.
        """
        samples = np.concatenate([np.zeros(0, np.int64), *rows])
        sequences = [
            batch.tokens[s : s + n] for s, n in zip(batch.offsets[samples], batch.lengths[samples], strict=True)
        ]
        return self._run(sequences, batch.prompt_lengths[samples])

    def score(self, batch: TokenBatch, passes: Passes) -> Scores:
        """Log-probs and entropies of all passes, no gradients."""
        found = [Scores(np.zeros(0, np.int64), *np.zeros((2, 0), np.float32))]
        with torch.no_grad():
            for rows in passes:
                logprobs, entropies = self.forward(batch, rows)
                index = batch.response_index(np.concatenate([np.zeros(0, np.int64), *rows]))
                found.append(Scores(index, logprobs.cpu().numpy(), entropies.cpu().numpy()))
        return joined(found)

    def score_sequences(self, sequences: list[np.ndarray]) -> list[np.ndarray]:
        """Log-probs at temperature 1 of the tokens of each sequence after its first: float32 [tokens - 1] each."""
        lengths = np.array([len(s) for s in sequences])
        scores: list[np.ndarray] = [np.zeros(0, np.float32)] * len(sequences)
        with torch.no_grad(), self._head.at_temperature(1.0):
            for rows in plan_passes(lengths, np.arange(len(sequences)), 1, self._limits)[0]:
                chosen = np.concatenate(rows)
                logprobs, _ = self._run([sequences[i] for i in chosen], np.ones(len(chosen), np.int64))
                parts = np.split(logprobs.cpu().numpy(), np.cumsum(lengths[chosen] - 1)[:-1])
                for i, part in zip(chosen, parts, strict=True):
                    scores[i] = part
        return scores

    def _run(self, sequences: list[np.ndarray], prompt_lengths: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        device = self._model.device
        lengths = np.array([len(s) for s in sequences] or [1])
        tokens = np.zeros((len(lengths), lengths.max()), np.int64)
        for row, sequence in zip(tokens, sequences, strict=False):
            row[: len(sequence)] = sequence
        # The hidden state at t predicts token t + 1: responses are predicted from their prompt's last token on.
        positions = [
            row * tokens.shape[1] + np.arange(prompt - 1, length - 1)
            for row, (prompt, length) in enumerate(zip(prompt_lengths, lengths, strict=False))
        ]
        flat = np.concatenate(positions) if positions else np.zeros(0, np.int64)
        targets = tokens.reshape(-1)[flat + 1]
        self._head.request = TargetTokens(torch.from_numpy(flat).to(device), torch.from_numpy(targets).to(device))
        logprobs, entropies = self._model.forward(torch.from_numpy(tokens).to(device))
        return logprobs, entropies
