"""How long the verdicts of a step took, and who failed, by verifier and source where a step has several. Pure.

Times are under `time/`, as everything is that does not repeat with the seed.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from launch.batch import Sample
from reward.policy import count_outcomes
from reward.types import Verdict


def verdict_metrics(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Seconds of execution and seconds in the queue over all verdicts, failures too; counts and means of each part.

    verdicts  one per sample, in order
    """
    row = _seconds("time/verdict", verdicts)
    queued = [verdict.queued_s for verdict in verdicts]
    row |= {"time/verdict_queued_p50_s": float(np.median(queued)), "time/verdict_queued_max_s": max(queued)}
    for name, chosen in _parts((sample.prompt.verifier for sample in samples), verdicts):
        row |= _seconds(f"time/by_verifier/{name}/verdict", chosen)
        row |= _outcomes(f"reward/by_verifier/{name}", chosen)
    for name, chosen in _parts((sample.prompt.source for sample in samples), verdicts):
        row |= _outcomes(f"reward/by_source/{name}", chosen)
    return row


def _parts(names: Iterable[str], verdicts: Sequence[Verdict]) -> list[tuple[str, list[Verdict]]]:
    """The verdicts of each name in the order of names; nothing where all have the same."""
    parts: dict[str, list[Verdict]] = defaultdict(list)
    for name, verdict in zip(names, verdicts, strict=True):
        parts[name].append(verdict)
    return sorted(parts.items()) if len(parts) > 1 else []


def _seconds(prefix: str, verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Percentiles are times that occurred, the next above where one falls between two."""
    seconds = [verdict.seconds for verdict in verdicts]
    p50, p99 = np.percentile(seconds, [50, 99], method="higher")
    return {f"{prefix}_p50_s": float(p50), f"{prefix}_p99_s": float(p99), f"{prefix}_max_s": max(seconds)}


def _outcomes(prefix: str, verdicts: Sequence[Verdict]) -> dict[str, float]:
    counts = count_outcomes(verdicts)
    row: dict[str, float] = {f"{prefix}/responses": counts.total, f"{prefix}/failed": counts.failed}
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    if scores:
        row |= {f"{prefix}/accuracy": counts.correct / len(scores), f"{prefix}/score_mean": float(np.mean(scores))}
    return row
