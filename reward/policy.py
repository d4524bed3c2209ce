"""What becomes of verdicts: counts for display, and rewards under a stated policy on failures. Pure functions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from reward.types import FailureKind, Outcome, Verdict


class FailurePolicy(StrEnum):
    """What a failed verdict is worth: left out of its group, charged as a wrong answer, or the end of the run."""

    EXCLUDE = "exclude"
    WRONG = "wrong"
    ABORT = "abort"


@dataclass(frozen=True)
class OutcomeCounts:
    """How many verdicts came out how; `failures` has only the kinds that occurred."""

    correct: int
    wrong: int
    unparsable: int
    failures: Mapping[FailureKind, int]

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    @property
    def total(self) -> int:
        return self.correct + self.wrong + self.unparsable + self.failed

    def __str__(self) -> str:
        """For example "correct 12, wrong 3, unparsable 1, failed 2 (timeout 1, crash 1)"."""
        text = f"correct {self.correct}, wrong {self.wrong}, unparsable {self.unparsable}, failed {self.failed}"
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.failures.items())
        return f"{text} ({kinds})" if kinds else text


class TooManyFailures(RuntimeError):
    """More verdicts failed than the policy allows; `counts` says how many of which kind."""

    def __init__(self, message: str, counts: OutcomeCounts):
        super().__init__(message)
        self.counts = counts


def count_outcomes(verdicts: Sequence[Verdict]) -> OutcomeCounts:
    """Counts of the four outcomes, and of the kinds of failure, the commonest first."""
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    failures = Counter(verdict.failure for verdict in verdicts if verdict.failure is not None)
    return OutcomeCounts(
        correct=outcomes[Outcome.CORRECT],
        wrong=outcomes[Outcome.WRONG],
        unparsable=outcomes[Outcome.UNPARSABLE],
        failures=dict(failures.most_common()),
    )


def apply_failure_policy(verdicts: Sequence[Verdict], on_failure: str, max_failure_share: float) -> list[float | None]:
    """One reward per verdict, in order: its score, or for a failure what the policy says (None: excluded).

    `max_failure_share`, in [0, 1], holds for every policy; `abort` allows no failure at all. Raises
    `TooManyFailures`, and `ValueError` for a policy that does not exist.
    """
    policy = FailurePolicy(on_failure)
    counts = count_outcomes(verdicts)
    if counts.failed and policy is FailurePolicy.ABORT:
        raise TooManyFailures(_sentence(verdicts, counts, "reward.on_failure=abort allows none"), counts)
    if counts.failed > max_failure_share * counts.total:
        raise TooManyFailures(
            _sentence(verdicts, counts, f"reward.max_failure_share={max_failure_share:g} allows fewer"), counts
        )
    charge = 0.0 if policy is FailurePolicy.WRONG else None
    return [charge if verdict.failure is not None else verdict.score for verdict in verdicts]


def _sentence(verdicts: Sequence[Verdict], counts: OutcomeCounts, rule: str) -> str:
    kind, count = next(iter(counts.failures.items()))
    example = next(verdict.detail for verdict in verdicts if verdict.failure is kind)
    return (
        f"{counts.failed} of {counts.total} verdicts failed ({counts.failed / counts.total:.1%}), "
        f"most of them by {kind} ({count}, for example: {example}); {rule}"
    )
