"""The reliability diagram: its confidences are those of the metrics, its points the means of the bins."""

import re
from dataclasses import dataclass

import numpy as np
import pytest
from matplotlib.figure import Figure

from launch import report_drawings
from launch.calibration import brier_score, expected_calibration_error
from launch.charts import BLUE, ORANGE, Chart
from launch.report_drawings import calibration, confidences
from launch.response_metrics import response_metrics
from reward.types import FailureKind, Verdict
from tests.evaluation.test_response_metrics import sample


@dataclass(frozen=True)
class Response:
    """One of the prompt numbered `prompt`: its answer, None where the verifier failed, and its mean log-probability."""

    prompt: int
    answer: str | None
    right: bool
    logprob: float


RESPONSES = [
    Response(0, "1/2", True, -0.05),
    Response(0, "0.5", True, -0.06),  # the same answer, written otherwise
    Response(0, "7", False, -0.05),
    Response(0, None, False, -0.9),
    Response(1, "7", False, -1.2),  # the same wrong answer to another prompt is no vote
    Response(1, "8", False, -1.2),
]


def record(response: Response) -> dict:
    score = None if response.answer is None else float(response.right)
    logprobs = [response.logprob * 2, 0.0]
    return {"uid": f"p/{response.prompt}", "score": score, "answer": response.answer, "logprobs": logprobs}


def drawn(records, monkeypatch) -> tuple[Chart, Figure]:
    """The chart, and the figure that its function drew on."""
    figures = []

    def kept(title, draw):
        figure = Figure()
        figures.append(figure)
        return Chart(title, "<svg>" if draw(figure.add_subplot()) else None)

    monkeypatch.setattr(report_drawings, "drawing", kept)
    return calibration(records), figures[0]


def test_confidences_by_hand():
    found, right = confidences([record(response) for response in RESPONSES])
    np.testing.assert_allclose(found["likelihood"], np.exp([-0.05, -0.06, -0.05, -1.2, -1.2]))
    np.testing.assert_allclose(found["agreement"], [2 / 4, 2 / 4, 1 / 4, 1 / 2, 1 / 2])
    assert right.tolist() == [True, True, False, False, False]


def test_they_are_those_that_the_metrics_are_of():
    found, right = confidences([record(response) for response in RESPONSES])
    samples = [sample(each.prompt, [1, 2], each.logprob) for each in RESPONSES]
    verdicts = [
        Verdict(None, FailureKind.TIMEOUT, None, "", "", 0.1)
        if each.answer is None
        else Verdict(float(each.right), None, each.answer, "", "", 0.1)
        for each in RESPONSES
    ]
    row = response_metrics(samples, verdicts)
    for name, confidence in found.items():
        assert row[f"calibration/{name}_ece"] == pytest.approx(expected_calibration_error(confidence, right), abs=1e-6)
        assert row[f"calibration/{name}_brier"] == pytest.approx(brier_score(confidence, right), abs=1e-6)


def test_the_diagram_has_the_means_of_the_bins_and_the_diagonal(monkeypatch):
    _, figure = drawn([record(response) for response in RESPONSES], monkeypatch)
    [axes] = figure.axes
    diagonal, likelihood, agreement = axes.lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    # Bins are tenths: three responses of about 0.95, two of which are right, and two of 0.30, both wrong.
    near_one = np.exp([-0.05, -0.06, -0.05]).mean()
    np.testing.assert_allclose(likelihood.get_xdata(), [np.exp(-1.2), near_one])
    np.testing.assert_allclose(likelihood.get_ydata(), [0, 2 / 3])
    # Of the agreement a quarter is wrong, and of the halves two are right and two wrong.
    np.testing.assert_allclose(agreement.get_xdata(), [1 / 4, 1 / 2])
    np.testing.assert_allclose(agreement.get_ydata(), [0, 1 / 2])
    assert (likelihood.get_color(), agreement.get_color()) == (BLUE, ORANGE)
    error = (2 * np.exp(-1.2) + 3 * (near_one - 2 / 3)) / 5
    assert re.fullmatch(rf"likelihood \(error {error:.3f}\)", likelihood.get_label())
    assert axes.get_xlabel().startswith("confidence")


def test_without_a_verdict_nothing_is_drawn(monkeypatch):
    chart, _ = drawn([record(RESPONSES[3])], monkeypatch)
    assert chart.svg is None
