"""The report: one page that needs nothing else, from whatever a run has left."""

import itertools
import re
from dataclasses import asdict
from html.parser import HTMLParser

import hydra
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from matplotlib.figure import Figure

from launch import charts as charts_module
from launch import page, report
from launch.charts import PALETTE, charts, thinned
from launch.config import CONF, HYDRA_VERSION
from launch.run_folder import RunFolder, summarize
from tests.composed import compose

VOID = {"meta", "br", "link", "img", "hr", "input"}
BASE = {"step": 0, "eval/heldout/avg_at_k": 0.3125, "eval/heldout/k": 8, "time/evaluate_s": 2.0, "time/step_s": 2.0}
STEP = {
    "step": 1,
    "reward/accuracy": 0.5,
    "reward/correct": 2,
    "reward/wrong": 1,
    "reward/unparsable": 0,
    "reward/failed": 1,
    "reward/failed.timeout": 1,
    "groups/all_correct": 0.5,
    "groups/all_wrong": 0.0,
    "groups/mixed": 0.5,
    "response/length_mean": 20.0,
    "response/length_max": 64,
    "response/truncated_share": 0.25,
    "entropy/correct_mean": 0.5,
    "entropy/update_positive_mean": 0.625,
    "entropy/first_quarter_mean": 0.9,
    "clip_cov/selected_share": 0.05,
    "clip_cov/selected_negative_share": 0.25,
    "positive_advantage/weight": 0.5,
    "eval/heldout/prompt_entropy_ratio": 0.5,
    "eval/heldout/train_gap": 0.0625,
    "dynamics/entropy_change_observed": -0.001,
    "covariance/mean": 0.002,
    "diversity/ngram": 0.25,
    "diversity/distinct_answers": 2.5,
    "calibration/agreement_ece": 0.125,
    "entropy/token_mean": 0.75,
    "entropy/sampled_mean": 0.71,
    "policy/clip_low_share": 0.0,
    "policy/clip_high_share": 0.01,
    "policy/kl_k1": -0.001,
    "policy/kl_k3": 0.001,
    "policy/grad_norm": 0.5,
    "mismatch/logprob_abs_mean": 1e-7,
    "mismatch/logprob_abs_max": 1e-6,
    "sync/canary_abs_mean": 0.0,
    "time/generate_s": 3.0,
    "time/update_s": 1.0,
    "time/step_s": 4.0,
}
LAST = STEP | {"step": 2, "entropy/token_mean": 0.25, "eval/heldout/avg_at_k": 0.4375, "eval/heldout/k": 8}
TITLES = [
    "Accuracy",
    "Training accuracy above that of the evaluation sets",
    "Token entropy",
    "Entropy by outcome",
    "Entropy by sign of the advantage",
    "Entropy by place in the response",
    "Tokens that a control acted on",
    "Of them with an advantage below 0",
    "Strength of a control",
    "Entropy on the prompts of the evaluation sets",
    "Change of entropy by an update",
    "Covariance of log-probability and advantage",
    "Diversity of the responses to a prompt",
    "Answers to a prompt",
    "Calibration error",
    "Response length",
    "Truncated responses",
    "Verdicts",
    "Groups",
    "Clipped tokens",
    "Gradient norm",
    "KL to the old policy",
    "Engine against learner",
    "Time by phase",
    "Entropy against accuracy",
]
ATTACK = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Collects tags, ids and text, and complains where tags do not close in order."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def record(uid: str, **changes):
    return {
        "uid": uid,
        "sample": 0,
        "source": "train",
        "prompt": "2+2=",
        "response": "4",
        "token_ids": np.array([5], np.int32),
        "logprobs": np.array([-0.25], np.float32),
        "entropies": None,
        "finish_reason": "stop",
        "score": 1.0,
        "failure": None,
        "answer": "4",
        "rule": "whole",
        "reward": 1.0,
        "advantage": 0.0,
        "first_weight_version": 1,
        "weight_version": 1,
    } | changes


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run & <one>")


def page_of(folder) -> Page:
    return Page(report.write_report(folder).read_text(encoding="utf-8"))


def fill(folder, *rows):
    for row in rows:
        folder.append_metrics(row)


def test_a_finished_run_is_told_in_words_curves_and_provenance(folder):
    fill(folder, BASE, STEP, LAST)
    config_hash = folder.write_config({"seed": 1, "output": {"folder": "x"}})
    versions = {"ray": "2.60.0", "vllm": None}
    rows = [BASE, STEP, LAST]
    folder.write_summary(
        summarize(rows, config_hash=config_hash, versions=versions, started="2026-01-01", seconds=252.0)
    )
    page = page_of(folder)

    assert "The run finished after 2 steps, in 4 min 12 s." in page.text
    assert "Accuracy on heldout (avg@8): 0.312 → 0.438." in page.text
    assert "Token entropy: 0.750 → 0.250 nats." in page.text
    assert "correct 4, wrong 2, unparsable 0, failed 2 (timeout 2)" in page.text
    assert [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"] == TITLES
    assert config_hash in page.text
    assert "2.60.0" in page.text
    assert "seed: 1" in page.text


def test_the_page_needs_nothing_from_outside_and_its_ids_are_unique(folder):
    fill(folder, BASE, STEP, LAST)
    html = report.write_report(folder).read_text(encoding="utf-8")
    fetched = re.findall(r'(?:src|href)="(?!#)[^"]*"|url\((?!#)[^)]*\)|@import', html)
    assert fetched == []
    ids = [attributes["id"] for _, attributes in Page(html).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', html)) <= set(ids)


def test_drawings_take_the_colour_of_the_page(folder):
    svg = charts([BASE, STEP])[0].svg
    assert "currentColor" in svg
    assert "#000000" not in svg
    assert "prefers-color-scheme: dark" in page.STYLE


def test_axes_name_their_units():
    text = " ".join(chart.svg for chart in charts([BASE, STEP]))
    for label in (
        "training step",
        "nats per token",
        "length (tokens)",
        "responses (count)",
        "share of tokens",
        "time (s)",
    ):
        assert label in text


def test_hostile_text_stays_text(folder):
    fill(folder, BASE, STEP)
    folder.write_config({"output": {"folder": ATTACK}})
    folder.write_rollouts(1, [record("a", prompt=ATTACK, response=ATTACK, answer=ATTACK)])
    folder.write_summary(
        summarize([BASE, STEP], config_hash="c", versions={"ray": ATTACK}, started=ATTACK, seconds=1.0, error=ATTACK)
    )
    page = page_of(folder)
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert page.text.count(ATTACK) == 7
    assert "run & <one>" in page.text


def test_an_evaluation_set_with_a_hostile_name_stays_text(folder):
    fill(folder, {"step": 0, f"eval/{ATTACK}/avg_at_k": 0.5, "eval/other/avg_at_k": 0.5})
    assert not [tag for tag, _ in page_of(folder).tags if tag == "script"]


def test_samples_come_from_the_last_step_and_show_every_outcome(folder):
    fill(folder, STEP)
    folder.write_rollouts(1, [record("old")])
    folder.write_rollouts(
        2,
        [
            *(record(f"right{index}") for index in range(9)),
            record("miss", score=0.0, answer="5"),
            record("blank", score=0.0, answer=None, rule="", finish_reason="length"),
            record("late", score=None, failure="timeout", answer=None, rule=""),
            record("half", score=0.5),
        ],
    )
    text = page_of(folder).text
    assert "right0, sample 0: correct, answer read by whole: 4" in text
    assert "miss, sample 0: wrong, answer read by whole: 5" in text
    assert "blank, sample 0: unparsable, ended by length" in text
    assert "late, sample 0: failed (timeout)" in text
    assert "half, sample 0: wrong, score 0.5, answer read by whole: 4" in text
    assert text.count("sample 0:") == 6
    assert "old, sample" not in text


def test_a_run_of_one_step_without_summary_config_or_rollouts_has_a_page(folder):
    fill(folder, STEP)
    page = page_of(folder)
    assert "The run has not ended or was cut off; it has recorded 1 step." in page.text
    assert [tag for tag, _ in page.tags].count("svg") == len(TITLES)
    assert "No rollouts were kept" in page.text


def test_a_run_with_nothing_but_the_base_evaluation_draws_what_there_is(folder):
    fill(folder, BASE)
    page = page_of(folder)
    assert [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"] == ["Accuracy", "Time by phase"]
    undrawn = [
        *(title for title in TITLES if title not in ("Accuracy", "Time by phase")),
        "Confidence against accuracy",
    ]
    assert f"Nothing to draw in this run: {', '.join(undrawn)}." in page.text
    assert "0.312 → not measured" in page.text


def test_an_empty_metrics_file_has_a_page(folder):
    (folder.path / "metrics.jsonl").touch()
    assert "it has recorded no step" in page_of(folder).text


LINEAR_TO_LMS = {
    # Machado, Oliveira and Fernandes 2009, severity 1: what linear RGB looks like to each kind of colour blindness.
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    """Linear RGB of "#rrggbb"."""
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    x, y, z = (value ** (1 / 3) for value in TO_XYZ @ rgb.clip(1e-3, 1) / [0.95047, 1, 1.08883])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", LINEAR_TO_LMS)
def test_colours_are_apart_for_every_kind_of_sight(sight):
    seen = [lab(np.array(LINEAR_TO_LMS[sight]) @ linear(colour)) for colour in PALETTE]
    closest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
    # 2.3 is just noticeable side by side.
    assert closest > 20


@pytest.mark.parametrize("background", re.findall(r"--card: (#\w{6})", page.STYLE))
def test_colours_stand_out_from_the_page_as_wcag_asks_of_graphics(background):
    def luminance(colour: str) -> float:
        return float(TO_XYZ[1] @ linear(colour))

    for colour in PALETTE:
        high, low = sorted((luminance(colour), luminance(background)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 2.9, colour


def test_a_thinned_line_keeps_every_spike_and_its_ends():
    points = [(x, float(x % 3)) for x in range(10_000)]
    points[5_000], points[7_777] = (5_000, 99.0), (7_777, -99.0)
    kept = thinned(points)
    assert 500 < len(kept) <= 604
    assert {points[0], points[5_000], points[7_777], points[-1]} <= set(kept)
    assert kept == sorted(kept)
    assert thinned(points[:600]) == points[:600]


def law_rows(steps: int = 48) -> list[dict[str, float]]:
    """On R = -0.2 e^H + 0.9."""
    entropies = 0.05 + 0.9 * np.exp(-np.arange(steps) / 10)
    return [
        {"step": step, "entropy/token_mean": h, "reward/accuracy": 0.9 - 0.2 * float(np.exp(h))}
        for step, h in enumerate(entropies.tolist(), 1)
    ]


def test_the_law_is_told_with_its_forecast_and_the_course_of_the_run(folder):
    fill(folder, *law_rows())
    text = page_of(folder).text
    assert "R = -a e^H + b on 48 steps: a = 0.200, b = 0.900; at H = 0 accuracy would be 0.700" in text
    # 15 % of 48 steps are 8; points on the law are forecast without error.
    assert "Forecast from the first 8 steps of the 40 after: RMSE 0.0000; at the last step it says 0.688" in text
    assert "The first third of the steps brought" in text
    assert "reward/accuracy-1.0048" in text


def test_alarms_stand_in_the_report(folder):
    fill(folder, STEP)
    for step in range(1, 15):
        folder.append_alarm({"step": step, "kind": "truncation", "sentence": f"{step}0.5% too long <b>"})
    for name in ("a", "b"):
        folder.append_alarm({"step": 9, "kind": "heldout_fall", "sentence": f"accuracy on {name} fell to 0.5"})
    text = page_of(folder).text
    assert "Step 1: 10.5% too long <b>. It began 14 times, last at step 14." in text
    assert "Step 9: accuracy on a fell to 0.5.Step 9: accuracy on b fell to 0.5." in text
    assert "Step 2:" not in text


def test_the_time_of_the_phases_and_their_shares():
    rows = [{"time/generate_s": 3.0, "time/update_s": 1.0}, {"time/generate_s": 3.0, "time/other_s": 1.0}]
    assert report.time_table(rows) == [
        ["phase", "time", "share"],
        ["generate", "6.0 s", "75%"],
        ["update", "1.0 s", "12%"],
        ["other", "1.0 s", "12%"],
    ]
    assert report.time_table([]) == [["phase", "time", "share"]]


def test_settings_other_than_the_defaults():
    config = asdict(compose(["clip=higher", "seed=3", "output.folder=somewhere"]))
    found = {name: (here, default) for name, here, default in report.settings_apart(config)}
    assert found == {"seed": (3, 0), "clip.high": (0.28, 0.2)}


def test_a_report_is_written_from_within_hydra_too():
    config = asdict(compose(["seed=3"]))
    with hydra.initialize_config_dir(str(CONF), version_base=HYDRA_VERSION, job_name="entrain"):
        loader = GlobalHydra.instance().config_loader()
        report._defaults.cache_clear()
        assert [name for name, *_ in report.settings_apart(config)] == ["seed"]
        assert GlobalHydra.instance().config_loader() is loader
    assert not GlobalHydra.instance().is_initialized()


def test_a_logarithmic_scale_leaves_out_zeros_rather_than_drawing_them_at_its_foot():
    engine = next(chart for chart in charts([STEP]) if chart.title == "Engine against learner")
    assert ">largest<" in engine.svg
    assert "canary" not in engine.svg
    same = STEP | {"mismatch/logprob_abs_mean": 0.0, "mismatch/logprob_abs_max": 0.0}
    assert next(chart for chart in charts([same]) if chart.title == "Engine against learner").svg is None


def test_a_long_run_is_drawn_in_few_pieces():
    long = [STEP | {"step": step, "reward/correct": step % 7} for step in range(1, 3001)]
    verdicts = next(chart for chart in charts(long) if chart.title == "Verdicts")
    assert len(verdicts.svg) < 150_000


def test_the_command_prints_where_the_report_is(folder, capsys):
    fill(folder, BASE)
    assert report.main([str(folder.path)]) == 0
    assert capsys.readouterr().out == f"{folder.path / 'report.html'}\n"


def test_the_command_refuses_a_folder_without_metrics_in_one_sentence(tmp_path, capsys):
    assert report.main([str(tmp_path)]) == 2
    assert (
        capsys.readouterr().err
        == f"{tmp_path} holds no metrics.jsonl, so it is not the folder of a run that has started\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [3, 20, 60])
def test_a_legend_stays_within_its_figure(length, monkeypatch):
    figures = []
    monkeypatch.setattr(charts_module, "Figure", lambda **kwargs: figures.append(Figure(**kwargs)) or figures[-1])
    names = [letter * length for letter in "abcd"]
    chart = charts_module.drawing("t", lambda axes: [axes.plot([0, 1], label=name) for name in names])
    [legend] = figures[0].legends
    assert legend.get_window_extent().x1 <= figures[0].bbox.width or legend._ncols == 1
    assert legend._ncols == {3: 4, 20: 2, 60: 1}[length]
    assert all(name in chart.svg for name in names)
