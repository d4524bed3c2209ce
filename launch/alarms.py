"""Warnings of a run: what is said once when it begins to hold, and is in the metrics for as long as it does.

A rule is made of its threshold in `alarms` of the configuration, whose name is its kind, and is shown the rows of a run
in order. It answers with a sentence while it holds, with "" while it does not, and with None of a row that says nothing
about it. A threshold of None never holds.
"""

import statistics
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields

from entropy.dynamics import Alarm, entropy_alarm
from launch.config import AlarmsConfig
from launch.wording import OUTCOMES, Row

Rule = Callable[[Row], str | None]
# Steps whose gradient norms a new one is held against, and the fewest that are enough.
NORMS, FEWEST_NORMS = 20, 5


class Alarms:
    """Watches one run.

    rows  metric rows that the run has already, oldest first
    """

    def __init__(self, config: AlarmsConfig, rows: Iterable[Row] = ()):
        self._rules = {field.name: RULES[field.name](getattr(config, field.name)) for field in fields(config)}
        self._holding: set[str] = set()
        for row in rows:
            self.watch(row)

    def watch(self, row: Row) -> tuple[dict[str, float], list[Alarm]]:
        """The metrics of the next row, 1 for an alarm that holds and 0 for one that does not, and those that begin to.

        A row without the figure that an alarm is about, such as that of the base model's evaluation, has none of it.
        """
        flags: dict[str, float] = {}
        begun: list[Alarm] = []
        for kind, rule in self._rules.items():
            if (said := rule(row)) is None:
                continue
            flags[f"alarms/{kind}"] = int(bool(said))
            if said and kind not in self._holding:
                begun.append(Alarm(kind, said))
            (self._holding.add if said else self._holding.discard)(kind)
        return flags, begun


class EntropyFar:
    """Mean token entropy of the rollout batch against that of the first."""

    def __init__(self, collapse: float | None, surge: float | None):
        self._collapse, self._surge = collapse, surge
        self._first: float | None = None

    def __call__(self, row: Row) -> str | None:
        if (entropy := row.get("entropy/token_mean")) is None:
            return None
        self._first = entropy if self._first is None else self._first
        found = entropy_alarm([self._first, entropy], self._collapse, self._surge)
        return found.sentence if found else ""


class LengthExplosion:
    """Mean response length against that of the first step."""

    def __init__(self, limit: float | None):
        self._limit, self._first = limit, 0.0

    def __call__(self, row: Row) -> str | None:
        if (length := row.get("response/length_mean")) is None:
            return None
        self._first = self._first or length
        if self._limit is None or length <= self._limit * self._first:
            return ""
        return (
            f"responses grew from {self._first:.3g} to {length:.3g} tokens, above {self._limit:g} times what they were"
        )


class HeldOutFall:
    """Held-out accuracy clearly below its best while training accuracy is above what it was there.

    Clearly: by more than the threshold, and with the whole interval of the evaluation. What an evaluation says holds
    until the next one. Jin et al. (arXiv 2511.05993, section 4) see this in runs whose entropy is nearly gone.
    """

    def __init__(self, limit: float | None):
        self._limit = limit
        self._best: dict[str, tuple[float, float | None, float]] = {}  # accuracy, training accuracy, step
        self._training: float | None = None
        self._said: dict[str, str] = {}

    def __call__(self, row: Row) -> str | None:
        self._training = row.get("reward/accuracy", self._training)
        for key, accuracy in row.items():
            if key.startswith("eval/") and key.endswith("/avg_at_k"):
                self._look(key.split("/")[1], accuracy, row.get(f"{key}_high", accuracy), row["step"])
        return "; ".join(said for said in self._said.values() if said) if self._best else None

    def _look(self, name: str, accuracy: float, high: float, step: float) -> None:
        best, then, at = self._best.get(name, (accuracy, self._training, step))
        if name not in self._best or accuracy >= best:
            self._best[name], self._said[name] = (accuracy, self._training, step), ""
            return
        # The base model's row has no training accuracy: that of the first step after it stands for it.
        rises = then is None or (self._training is not None and self._training > then)
        fallen = self._limit is not None and best - accuracy > self._limit and high < best
        self._said[name] = (
            f"accuracy on {name} fell to {accuracy:.3f} from {best:.3f} at step {at:.0f}, "
            "although training accuracy has risen since"
            if fallen and rises
            else ""
        )


class Above:
    """A figure of the step above a threshold.

    figure    of a row, None where it has none
    sentence  to be filled in with `value` and `limit`
    """

    def __init__(self, limit: float | None, figure: Callable[[Row], float | None], sentence: str):
        self._limit, self._figure, self._sentence = limit, figure, sentence

    def __call__(self, row: Row) -> str | None:
        if (value := self._figure(row)) is None:
            return None
        above = self._limit is not None and value > self._limit
        return self._sentence.format(value=value, limit=self._limit) if above else ""


class GradientSpike:
    """Gradient norm against the median of the last `NORMS` steps before, which a single spike does not move."""

    def __init__(self, limit: float | None):
        self._limit, self._before = limit, deque[float](maxlen=NORMS)

    def __call__(self, row: Row) -> str | None:
        if (norm := row.get("policy/grad_norm")) is None:
            return None
        usual = statistics.median(self._before) if len(self._before) >= FEWEST_NORMS else None
        self._before.append(norm)
        if self._limit is None or not usual or norm <= self._limit * usual:
            return ""
        return f"the gradient norm is {norm:.3g}, above {self._limit:g} times its median of the last steps, {usual:.3g}"


def _without_signal(row: Row) -> float | None:
    return None if "groups/mixed" not in row else 1 - row["groups/mixed"]


def _failed_share(row: Row) -> float | None:
    total = sum(row.get(f"reward/{outcome}", 0) for outcome in OUTCOMES)
    return row["reward/failed"] / total if total and "reward/failed" in row else None


RULES: Mapping[str, Callable[[float | None], Rule]] = {
    "entropy_collapse": lambda limit: EntropyFar(limit, None),
    "entropy_surge": lambda limit: EntropyFar(None, limit),
    "length_explosion": LengthExplosion,
    "truncation": lambda limit: Above(
        limit,
        lambda row: row.get("response/truncated_share"),
        "{value:.0%} of the responses were cut at rollout.max_new_tokens, above {limit:.0%}",
    ),
    "heldout_fall": HeldOutFall,
    "mismatch": lambda limit: Above(
        limit,
        lambda row: row.get("mismatch/prob_ratio_mean"),
        "the engines' probabilities are off from the learner's by a factor of {value:.3f} on average, above {limit:g}",
    ),
    "no_signal": lambda limit: Above(
        limit,
        _without_signal,
        "{value:.0%} of the groups teach nothing, all their responses having the same score; above {limit:.0%}",
    ),
    "verifier_failures": lambda limit: Above(
        limit, _failed_share, "the verifier failed on {value:.1%} of the responses, above {limit:.1%}"
    ),
    "gradient_spike": GradientSpike,
}
