"""The drawings of a run's report that are not over its steps: the law, and how far confidence can be believed."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from entropy.law import EARLY, Fit, Forecast
from launch.calibration import expected_calibration_error, reliability
from launch.charts import BLUE, GREY, ORANGE, PURPLE, SLATE, Chart, drawing
from launch.law_curves import Curve, Line

MOST_DOTS = 600


def law(curve: Curve, lines: Sequence[Line]) -> Chart:
    """Entropy and training accuracy of the steps, the first ones hollow, and the three forms fitted to all."""

    def draw(axes: Axes) -> bool:
        if not curve.scores.size:
            return False
        made = next((line.forecast for line in lines if isinstance(line.forecast, Forecast)), None)
        early = made.fit.points if made else 0
        every = max(1, curve.scores.size // MOST_DOTS)
        h, r = curve.entropies[early::every], curve.scores[early::every]
        axes.scatter(h, r, s=12, color=GREY, linewidths=0)
        if made:
            h, r = curve.entropies[:early:every], curve.scores[:early:every]
            axes.scatter(h, r, s=14, facecolor="none", edgecolor=SLATE, label=f"first {EARLY:.0%}")
        for line, colour, dash in zip(lines, (BLUE, ORANGE, PURPLE), ("solid", "dashed", "dotted"), strict=True):
            if isinstance(line.fit, Fit):
                grid = np.linspace(curve.entropies.min(), curve.entropies.max(), 100)
                axes.plot(grid, line.fit.predict(grid), color=colour, linestyle=dash, linewidth=2, label=line.form.name)
        axes.set_xlabel("mean token entropy H (nats)")
        axes.set_ylabel("training accuracy R (share)")
        return True

    return drawing("Entropy against accuracy", draw)


def confidences(records: Sequence[Mapping[str, Any]]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two confidences float [judged] of responses that have a verdict, by name, and whether each is right.

    likelihood  exp(mean log-probability per token); agreement  share of its prompt's responses with the same answer,
    right ones being one, as in `launch.response_metrics`
    """
    answers = ["right" if record["score"] == 1.0 else (record["answer"],) for record in records]
    votes: dict[str, Counter] = defaultdict(Counter)
    for record, answer in zip(records, answers, strict=True):
        votes[record["uid"]][answer] += 1
    judged = [i for i, record in enumerate(records) if record["score"] is not None]
    likelihood = [np.exp(np.mean(records[i]["logprobs"], dtype=np.float64)) for i in judged]
    agreement = [votes[records[i]["uid"]][answers[i]] / votes[records[i]["uid"]].total() for i in judged]
    right = np.array([records[i]["score"] == 1.0 for i in judged], bool)
    return {"likelihood": np.array(likelihood), "agreement": np.array(agreement)}, right


def calibration(records: Sequence[Mapping[str, Any]]) -> Chart:
    """Accuracy against confidence by bins; on the diagonal a confidence can be taken at its word."""

    def draw(axes: Axes) -> bool:
        found, right = confidences(records)
        if not right.size:
            return False
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="dashed")
        for (name, confidence), colour, marker in zip(found.items(), (BLUE, ORANGE), "os", strict=True):
            bins = reliability(confidence, right)
            error = expected_calibration_error(confidence, right)
            label = f"{name} (error {error:.3f})"
            axes.plot(bins.confidence, bins.accuracy, color=colour, linewidth=1.5, label=label)
            sizes = 15 + 120 * bins.count / right.size
            axes.scatter(bins.confidence, bins.accuracy, s=sizes, color=colour, marker=marker, linewidths=0)
        axes.set_xlim(0, 1.03)
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("confidence (mean of a tenth)")
        axes.set_ylabel("accuracy (share correct)")
        return True

    return drawing("Confidence against accuracy", draw)
