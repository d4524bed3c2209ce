"""What each update does to the policy at a few visited states, beside what first-order theory says it does.

The states are a sample: whole distributions over the vocabulary are too many for every token of a rollout batch.
"""

import time
from dataclasses import dataclass, field

import numpy as np
import torch

from entropy.dynamics import (
    observed_change,
    predicted_change,
    sampled_natural_gradient_change,
    sampled_policy_gradient_change,
)
from entropy.keyed import token_keys
from entropy.selection import draw
from entropy.states import States
from learner.config import ProbeConfig
from learner.metrics import Tally
from learner.planning import PassLimits, plan_passes
from learner.policy import Policy
from learner.types import Passes, TokenBatch, UpdatePlan

PROBE = 5  # part of the key, beside the numbers of the controls, so that no choice depends on another
# Logits that are compared at a time, in float64.
CHUNK_LOGITS = 2**20


@dataclass(frozen=True)
class Probe:
    """The probe of a run on one rank. It changes nothing: no weight, no gradient, no random state."""

    config: ProbeConfig
    seed: int
    limits: PassLimits

    def open(self, policy: Policy, batch: TokenBatch, updates: list[UpdatePlan], rank: int) -> "Probed | None":
        """Choose the states of a batch and look at them before its first update; None where nothing is trained.

        All ranks call it at once, and `Probed.after` too: each runs equally many passes over its share.
        """
        if not updates or not batch.mask.any():
            return None
        samples, states = chosen_states(batch, self.config, (self.seed, PROBE, updates[0].number))
        passes = plan_passes(batch.lengths, samples, len(updates[0].passes), self.limits)[rank]
        return Probed(policy, batch, passes, states, rank)


def chosen_states(batch: TokenBatch, config: ProbeConfig, key: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Some responses with a trained token, and some trained tokens of theirs, each drawn by keyed hash.

    Every forward pass is over whole responses, so a few of them with many states each cost the least.

    returns  int64 samples, at most `config.responses`, ascending; and int64 [states] into the batch's arrays over
             response tokens, ascending
    """
    owners = np.repeat(np.arange(batch.lengths.size), batch.response_lengths)
    trained = np.bincount(owners[batch.mask], minlength=batch.lengths.size) > 0
    ones, zeros = np.ones(trained.size, np.int64), np.zeros(trained.size, np.int64)
    samples = draw(trained, config.responses, token_keys(key, batch.sample_keys, ones, zeros))
    index = batch.response_index(samples)
    positions = index - batch.response_offsets[owners[index]]
    keys = token_keys((*key, 1), batch.sample_keys[samples], batch.response_lengths[samples], positions)
    return samples, index[draw(batch.mask[index], config.states, keys)]


@dataclass
class Probed:
    """The states of one rollout batch on one rank, and the sums over its updates so far."""

    policy: Policy
    batch: TokenBatch
    passes: Passes
    states: np.ndarray
    rank: int
    _tally: Tally = field(default_factory=Tally)
    _spent_s: float = 0.0

    def __post_init__(self) -> None:
        began = time.perf_counter()
        self._index, self._before = self._look()
        self._chosen, self._advantages = self._drawn()
        for part in self._chunks():
            found = States.of(self._before[part].double()).entropies
            self._tally.mean("dynamics/entropy_mean", found.sum(), len(found))
        self._tally.mean("dynamics/probe_states", self._index.size, int(self.rank == 0))
        self._spent_s += time.perf_counter() - began

    def after(self, plan: UpdatePlan) -> None:
        """Compare with what the states were before the update of `plan`, which has been applied."""
        began = time.perf_counter()
        _, after = self._look()
        for part in self._chunks():
            self._compare(States.of(self._before[part].double()), States.of(after[part].double()), part, plan)
        self._before = after
        self._spent_s += time.perf_counter() - began

    def tally(self) -> Tally:
        """This rank's share of the figures; each is over states and updates."""
        self._tally.maximum("speed/probe_seconds", self._spent_s)
        return self._tally

    def _look(self) -> tuple[np.ndarray, torch.Tensor]:
        found = [self.policy.distributions(self.batch, rows, self.states) for rows in self.passes]
        return np.concatenate([index for index, _ in found]), torch.cat([logits for _, logits in found])

    def _drawn(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The token that was drawn at each state, int64 [states], and its advantage, float64 [states]."""
        batch, index = self.batch, self._index
        if batch.advantages is None:
            raise ValueError("the batch has no advantages yet")
        owners = np.searchsorted(batch.response_offsets, index, side="right") - 1
        place = batch.offsets[owners] + batch.prompt_lengths[owners] + index - batch.response_offsets[owners]
        device = self._before.device
        chosen = torch.from_numpy(batch.tokens[place].astype(np.int64)).to(device)
        return chosen, torch.from_numpy(batch.advantages[index].astype(np.float64)).to(device)

    def _chunks(self) -> list[slice]:
        size = max(1, CHUNK_LOGITS // self._before.shape[1])
        return [slice(start, start + size) for start in range(0, len(self._before), size)]

    def _compare(self, before: States, after: States, part: slice, plan: UpdatePlan) -> None:
        chosen, advantages, rate = self._chosen[part], self._advantages[part], plan.learning_rate
        observed = observed_change(before, after).cpu().numpy()
        predicted = {
            "lemma1": predicted_change(before, after),
            "theorem1": sampled_policy_gradient_change(before, chosen, advantages, rate),
            "theorem2": sampled_natural_gradient_change(before, chosen, advantages, rate),
        }
        tally, count = self._tally, observed.size
        tally.mean("dynamics/entropy_change_observed", observed.sum(), count)
        tally.deviation("dynamics/entropy_change_observed_std", observed.sum(), observed @ observed, count)
        for name, values in predicted.items():
            found = values.cpu().numpy()
            tally.mean(f"dynamics/entropy_change_{name}", found.sum(), count)
            tally.correlation(f"dynamics/{name}_agreement", found, observed)
        missed = observed - predicted["lemma1"].cpu().numpy()
        tally.mean("dynamics/lemma1_missed_share", missed @ missed, observed @ observed)
