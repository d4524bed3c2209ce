"""Prompts of several sources, drawn in proportion to their weights."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil, lcm
from typing import Any

from rollout.curriculum import Curriculum
from rollout.prompts import PromptSource
from rollout.sources import DataError
from rollout.types import Prompt


class Schedule:
    """Names in turn, so that after any number of turns each has had its share of them to within less than one.

    The next turn goes to the name whose share falls due first, among those whose share has begun: the j-th turn of a
    name with weight w of a total W is its own from j W / w to (j + 1) W / w (proportionate fairness, Baruah et al.
    1996). Weights are taken as the decimals they are written as, so there is no round-off in the long run.
    """

    def __init__(self, weights: Mapping[str, float]):
        exact = {name: Fraction(str(weight)) for name, weight in weights.items()}
        scale = lcm(*(weight.denominator for weight in exact.values()))
        self._weights = {name: int(weight * scale) for name, weight in exact.items()}
        self._total = sum(self._weights.values())
        self.given = dict.fromkeys(weights, 0)

    def next(self) -> str:
        """The name whose turn it is."""
        turn = sum(self.given.values())
        begun = [name for name, given in self.given.items() if given * self._total <= turn * self._weights[name]]
        due = min(begun, key=lambda name: -(-(self.given[name] + 1) * self._total // self._weights[name]))
        self.given[due] += 1
        return due

    def most(self, name: str, turns: int) -> int:
        """The most turns that `name` can have in a step of `turns`."""
        share = Fraction(self._weights[name] * turns, self._total)
        return int(share) if share.denominator == 1 else min(ceil(share) + 1, turns)

    def weights(self) -> dict[str, int]:
        """The weights as whole numbers in the same proportion."""
        return dict(self._weights)


class MixedSource:
    """Hands out prompts for ever, of each source by its weight, never one twice in a step.

    Within a step the sources alternate, so that each minibatch of it has about the same mixture. Each source goes
    through epochs of its own.
    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[Prompt]],
        weights: Mapping[str, float],
        prompts_per_step: int,
        shuffle: bool,
        seed: int,
    ):
        self._prompts_per_step = prompts_per_step
        self._schedule = Schedule({name: weights[name] for name in sources})
        self._sources: dict[str, PromptSource] = {}
        for name, prompts in sources.items():
            most = self._schedule.most(name, prompts_per_step)
            if len(prompts) < most:
                raise DataError(
                    f"There are {len(prompts)} training prompts of {name}, and a step can take {most}: lower "
                    f"data.weights.{name} or rollout.prompts_per_step."
                )
            self._sources[name] = PromptSource(prompts, most, shuffle, seed)

    def next(self, curriculum: Curriculum | None = None) -> list[Prompt]:
        """The prompts of the next step. Raises PromptsExhausted where the curriculum allows too few of a source."""
        turns = [self._schedule.next() for _ in range(self._prompts_per_step)]
        drawn = {name: iter(source.take(turns.count(name), curriculum)) for name, source in self._sources.items()}
        return [next(drawn[name]) for name in turns]

    def prompt(self, uid: str) -> Prompt:
        """The prompt of that uid, which begins with the name of its source."""
        return self._sources[uid.rpartition("/")[0]].prompt(uid)

    def state_dict(self) -> dict[str, Any]:
        """JSON values from which a mixture of the same prompts goes on with the same steps."""
        return {
            "weights": self._schedule.weights(),
            "given": dict(self._schedule.given),
            "sources": {name: source.state_dict() for name, source in self._sources.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken. Raises DataError where sources, weights, prompts or their order are others."""
        if list(state.get("weights", {}).items()) != list(self._schedule.weights().items()):
            raise DataError("The training sources or data.weights differ from those of the checkpoint.")
        for name, source in self._sources.items():
            source.load_state_dict(state["sources"][name])
        self._schedule.given = dict(state["given"])
