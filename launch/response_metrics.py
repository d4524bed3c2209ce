"""Diversity of the responses to a prompt, and what their likelihood and their agreement say about being right. Pure."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from launch.batch import Sample
from launch.calibration import auroc, brier_score, expected_calibration_error
from launch.diversity import diversity
from reward.types import Verdict


def response_metrics(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Figures over the responses of a step; means over prompts, then calibration over all judged responses.

    diversity/*                 `launch.diversity`
    confidence/logprob_right    mean over right responses of their mean log-probability per token, in nats; likewise
                                logprob_wrong, and logprob_gap between the two
    calibration/likelihood_*    ece, brier and auroc of exp(mean log-probability per token), the response's own
    calibration/agreement_*     the same of the share of its prompt's responses with the same answer

    A figure that has no meaning for the step, as a gap without wrong responses, is missing. Right responses to a prompt
    have one answer, however they are written.

    verdicts  one per sample, in order
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        groups[sample.group].append(i)
    answers = [given_answer(v) for v in verdicts]
    of_groups = list(groups.values())
    row = diversity(
        [samples[group[0]].prompt.uid for group in of_groups],
        [[samples[i].response.token_ids.tolist() for i in group] for group in of_groups],
        [[answers[i] for i in group] for group in of_groups],
    )
    agreement = np.empty(len(samples))
    for group in of_groups:
        votes = Counter(answers[i] for i in group)
        agreement[group] = [votes[answers[i]] / len(group) for i in group]
    judged = np.array([v.score is not None for v in verdicts])
    right = np.array([v.score == 1.0 for v in verdicts])[judged]
    logprobs = np.array([np.mean(s.response.logprobs, dtype=np.float64) for s in samples])[judged]
    return (
        {f"diversity/{name}": value for name, value in row.items()}
        | _gap(logprobs, right)
        | _of("likelihood", np.exp(logprobs), right)
        | _of("agreement", agreement[judged], right)
    )


def given_answer(verdict: Verdict) -> Hashable:
    """What counts as one answer: every right one, each wrong one, and having none."""
    return "right" if verdict.score == 1.0 else (verdict.answer,)


def _gap(logprobs: np.ndarray, right: np.ndarray) -> dict[str, float]:
    means = {
        f"confidence/logprob_{name}": float(logprobs[chosen].mean())
        for name, chosen in (("right", right), ("wrong", ~right))
        if chosen.any()
    }
    if len(means) == 2:
        means["confidence/logprob_gap"] = means["confidence/logprob_right"] - means["confidence/logprob_wrong"]
    return means


def _of(name: str, confidence: np.ndarray, right: np.ndarray) -> dict[str, float]:
    if not right.size:
        return {}
    row = {
        f"calibration/{name}_ece": expected_calibration_error(confidence, right),
        f"calibration/{name}_brier": brier_score(confidence, right),
    }
    area = auroc(confidence, right)
    return row if area is None else row | {f"calibration/{name}_auroc": area}
