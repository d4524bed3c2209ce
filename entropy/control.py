"""The protocol of a control, and several as one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from entropy.plan import TokenPlan, composed
from entropy.tokens import UpdateTokens

# Which tokens a plan looks at, and under which policy: those of an update as it begins, those of an update under the
# policy that drew the rollout, or those of one forward pass, as the reference implementations do it.
UPDATE, ROLLOUT, MICROBATCH = "update", "rollout", "microbatch"


@dataclass(frozen=True)
class Needs:
    """What a control has to be given.

    current_logprobs  its plan looks at the policy of each update, not of the rollout: an extra forward pass per update
    discriminators    its score is the exact first-order one
    entropies         it looks at the rollout policy's entropies before the first update
    several_updates   it does nothing with one update per rollout
    synchronous       it decides how the next rollout is drawn, so none may have begun by then
    """

    current_logprobs: bool = False
    entropies: bool = False
    discriminators: bool = False
    several_updates: bool = False
    synchronous: bool = False

    def __or__(self, other: "Needs") -> "Needs":
        return Needs(
            self.current_logprobs or other.current_logprobs,
            self.entropies or other.entropies,
            self.discriminators or other.discriminators,
            self.several_updates or other.several_updates,
            self.synchronous or other.synchronous,
        )


@dataclass(frozen=True)
class Observed:
    """What is known of a rollout batch before its updates.

    step         from 0
    entropy      mean over its trained tokens, exact, in nats, at `temperature`; NaN where it was not measured
    temperature  that its responses were drawn at
    vocabulary   tokens that each was drawn from
    """

    step: int
    entropy: float
    temperature: float
    vocabulary: int


@dataclass
class Decision:
    """A plan and what to report about it.

    metrics  sums with denominators, by name: (total, count)
    """

    plan: TokenPlan
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)


class EntropyControl(Protocol):
    """One method that steers entropy. Deterministic: every rank holds a copy, shows it the same and gets the same."""

    needs: Needs
    scope: str  # update, rollout or microbatch: of which tokens, under which policy, `plan` is shown

    def shape(self, advantages: np.ndarray, entropies: np.ndarray) -> np.ndarray:
        """Advantages float [n] of a rollout batch's tokens, once, before any update."""
        ...

    def plan(self, tokens: UpdateTokens) -> Decision:
        """What the tokens of one update are told, each field of the plan a scalar or a tensor [n]."""
        ...

    def observe(self, batch: Observed) -> None:
        """Begin a rollout batch."""
        ...

    def next_temperature(self) -> float | None:
        """At which the next rollout is to be drawn; None leaves it as configured."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Plain:
    """What a control does that does nothing; the base of the others."""

    needs = Needs()
    scope = "update"

    def shape(self, advantages: np.ndarray, entropies: np.ndarray) -> np.ndarray:
        return advantages

    def plan(self, tokens: UpdateTokens) -> Decision:
        return Decision(TokenPlan())

    def observe(self, batch: Observed) -> None:
        pass

    def next_temperature(self) -> float | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            raise ValueError(f"{type(self).__name__} has no state, and was given {sorted(state)}")


class Controls:
    """Several controls as one, by name; with none, the neutral plan."""

    def __init__(self, controls: Mapping[str, EntropyControl]):
        self._controls = dict(controls)
        self.needs = Needs()
        for control in controls.values():
            self.needs |= control.needs

    def shape(self, advantages: np.ndarray, entropies: np.ndarray) -> np.ndarray:
        for control in self._controls.values():
            advantages = control.shape(advantages, entropies)
        return advantages

    def has(self, scope: str) -> bool:
        """Whether any control works in that scope."""
        return any(control.scope == scope for control in self._controls.values())

    def plan(self, tokens: UpdateTokens, scope: str) -> Decision:
        """Of the controls that work in `scope`."""
        decisions: Sequence[Decision] = [c.plan(tokens) for c in self._controls.values() if c.scope == scope]
        metrics = {name: value for decision in decisions for name, value in decision.metrics.items()}
        return Decision(composed([decision.plan for decision in decisions]), metrics)

    def observe(self, batch: Observed) -> None:
        for control in self._controls.values():
            control.observe(batch)

    def next_temperature(self) -> float | None:
        """That of the one control that has an opinion. Raises ValueError where several have."""
        wanted = {name: control.next_temperature() for name, control in self._controls.items()}
        given = {name: temperature for name, temperature in wanted.items() if temperature is not None}
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both decide at which temperature the next rollout is drawn")
        return next(iter(given.values()), None)

    def state_dict(self) -> dict[str, Any]:
        return {name: control.state_dict() for name, control in self._controls.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state.keys() != self._controls.keys():
            raise ValueError(f"state of the controls {sorted(state)}, but the run has {sorted(self._controls)}")
        for name, control in self._controls.items():
            control.load_state_dict(state[name])
