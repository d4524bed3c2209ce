"""`python -m launch.law` on synthetic runs whose coefficients are known."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml

from entropy.law import FORMS, fit
from launch.law import main, text
from launch.law_curves import curves, exponential, lines, points, scalings
from launch.points import POINTS, Point
from launch.run_folder import METRICS

A, B = 0.21, 0.9
STEPS = 60


def rows_of(
    a: float = A, b: float = B, noise: float = 0.0, seed: int = 0, every: int = 5, steps: int = STEPS
) -> list[dict]:
    """A run on the law: entropy before each step's updates, accuracy of the same weights, evaluations after updates."""
    entropies = 0.05 + 0.9 * np.exp(-np.arange(steps + 1) / 15)  # of the weights after so many updates
    accuracies = b - a * np.exp(entropies) + noise * np.random.default_rng(seed).normal(size=steps + 1)
    rows = [{"step": 0, "eval/other/avg_at_k": 0.5, "eval/heldout/avg_at_k": accuracies[0]}]
    for step in range(1, steps + 1):
        row = {"step": step, "entropy/token_mean": entropies[step - 1], "reward/accuracy": accuracies[step - 1]}
        if step % every == 0:
            row |= {"eval/other/avg_at_k": 0.5, "eval/heldout/avg_at_k": accuracies[step]}
        rows.append(row)
    return rows


def write_run(folder: Path, rows: list[dict], width: int | None = 96) -> Path:
    folder.mkdir(parents=True)
    (folder / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"width": width}}))
    return folder


def words(out: str) -> list[str]:
    return [" ".join(line.split()) for line in out.splitlines()]


def test_training_accuracy_goes_with_the_entropy_of_its_step_and_evaluations_with_the_next_steps():
    rows = [
        {"step": 0, "eval/heldout/avg_at_k": 0.1},
        {"step": 1, "entropy/token_mean": 0.9, "reward/accuracy": 0.2},
        {"step": 2, "entropy/token_mean": 0.8, "eval/heldout/avg_at_k": 0.3},
        {"step": 3, "entropy/token_mean": 0.7, "reward/accuracy": 0.4, "eval/heldout/avg_at_k": 0.5},
    ]
    entropies, scores = points(rows, "train")
    assert (entropies.tolist(), scores.tolist()) == ([0.9, 0.7], [0.2, 0.4])
    entropies, scores = points(rows, "heldout")
    assert (entropies.tolist(), scores.tolist()) == ([0.9, 0.7], [0.1, 0.3])


def test_the_held_out_set_is_the_one_of_that_name_or_the_first():
    rows = [
        {"step": 0, "eval/aime/avg_at_k": 0.1, "eval/heldout/avg_at_k": 0.2},
        {"step": 1, "entropy/token_mean": 0.9, "eval/aime/k": 4},
    ]
    assert points(rows, "heldout")[1].tolist() == [0.2]
    del rows[0]["eval/heldout/avg_at_k"]
    assert points(rows, "heldout")[1].tolist() == [0.1]
    assert points([], "heldout")[0].size == points([], "train")[0].size == 0


@pytest.mark.parametrize("accuracy", ["train", "heldout"])
def test_known_coefficients_come_back_exactly(tmp_path, accuracy):
    [curve], left_out = curves(write_run(tmp_path / "run", rows_of()), accuracy)
    assert (curve.scores.size, curve.width, left_out) == (60 if accuracy == "train" else 12, 96, [])
    rows = lines(curve)
    fitted = exponential(rows)
    assert (-fitted.slope.value, fitted.intercept.value) == pytest.approx((A, B), rel=1e-9)
    assert fitted.ceiling.value == pytest.approx(B - A)
    assert rows[0].forecast.rmse < 1e-9
    assert rows[1].forecast.rmse > 1e-3


def test_the_table_and_the_drawing(tmp_path, capsys):
    run = write_run(tmp_path / "run", rows_of(noise=0.01))
    assert main([str(run)]) == 0
    out = capsys.readouterr().out
    lines_ = words(out)
    assert (
        lines_[0]
        == "R is training accuracy of each step (reward/accuracy), H the entropy of the same step's responses."
    )
    assert f"{run}: 60 points" in lines_
    assert "form a or d b or c ceiling at H = 0 RMSE R² forecast RMSE final error" in lines_
    [curve], _ = curves(run, "train")
    found = fit(curve.entropies, curve.scores, FORMS[0])
    a, b, ceiling = found.slope, found.intercept, found.ceiling
    expected = (
        f"R = -a e^H + b {-a.value:.3f} [{-a.high:.3f}, {-a.low:.3f}] {b.value:.3f} [{b.low:.3f}, {b.high:.3f}] "
        f"{ceiling.value:.3f} [{ceiling.low:.3f}, {ceiling.high:.3f}] {found.rmse:.4f} {found.r_squared:.3f}"
    )
    assert any(line.startswith(expected) for line in lines_)
    assert [line.split(" = ")[1][:9] for line in lines_ if line.startswith("R = c")] == ["c - d H 0", "c - d ln "]
    assert any("fitted to the first 9 points (15%, at least 3), 51 predicted" in line for line in lines_)
    drawing = (run / "law.svg").read_text()
    assert drawing.rstrip().endswith("</svg>")
    assert "R = -a e^H + b" in drawing
    assert lines_[-1] == f"drawing: {run / 'law.svg'}"
    assert main([str(run), "--output", str(tmp_path / "law.png"), "--accuracy", "heldout"]) == 0
    assert "held-out accuracy (avg@k)" in capsys.readouterr().out
    assert (tmp_path / "law.png").read_bytes().startswith(b"\x89PNG")
    main([str(run)])
    assert (run / "law.svg").read_text() == drawing


def test_a_sweep_and_coefficients_against_width(tmp_path, capsys):
    sweep = tmp_path / "sweep"
    overrides = []
    for width in (64, 96, 160):
        for seed in (0, 1):
            rows = rows_of(a=0.05 * np.log(width), b=0.5 + 0.1 * np.log(width), seed=seed)
            overrides.append((f"model.width={width}", f"seed={seed}", "steps=60"))
            write_run(sweep / f"{width}_{seed}", rows, width)
    record = [Point(f"{o[0][12:]}_{o[1][5:]}", o, "finished", None) for o in overrides]
    write_run(sweep / "none", rows_of())  # of an earlier attempt
    record += [Point("none", ("model.width=8", "seed=0", "steps=60"), "refused", "no such model")]
    (sweep / POINTS).write_text(json.dumps([asdict(point) for point in record]))
    assert main([str(sweep)]) == 0
    printed = capsys.readouterr()
    out = words(printed.out)
    assert "model.width=64 seed=0: 60 points" in out
    assert "left out: model.width=8 seed=0: refused, without metrics of its own" in printed.err
    at = out.index("coefficients of R = -a e^H + b over 6 runs of model.width 64, 96, 160")
    assert out[at + 1 : at + 3] == ["a = 0.050 ln(width) +0.000, R² 1.000", "b = 0.100 ln(width) +0.500, R² 1.000"]
    drawing = (sweep / "law.svg").read_text()
    assert "coefficient" in drawing
    assert [drawing.count(f"model.width={width}<") for width in (64, 96, 160)] == [1, 1, 1]  # not one for each seed


def test_several_runs_of_one_width_have_no_scaling(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [str(write_run(tmp_path / name, rows_of(), width)) for name, width in (("x", 96), ("y", 96), ("z", None))]
    assert main(runs) == 0
    assert "ln(width)" not in capsys.readouterr().out
    assert (tmp_path / "law.svg").is_file()
    found = [(curve, lines(curve)) for run in runs for curve in curves(Path(run), "train")[0]]
    assert scalings(found) is None


def test_entropies_of_zero_leave_the_logarithmic_form_out(tmp_path, capsys):
    rows = rows_of()
    rows[-1]["entropy/token_mean"] = 0.0
    assert main([str(write_run(tmp_path / "run", rows))]) == 0
    out = words(capsys.readouterr().out)
    assert "not fitted: R = c - d ln H needs entropies above 0, and 1 of 60 are not" in out
    assert sum(line.startswith("R = ") for line in out) == 2


def test_three_points_are_fitted_and_not_forecast(tmp_path, capsys):
    assert main([str(write_run(tmp_path / "run", rows_of(steps=3)))]) == 0
    out = words(capsys.readouterr().out)
    assert "not forecast: 3 points leave none to predict after the first 3" in out
    assert sum(line.endswith(" - -") for line in out) == 3


@pytest.mark.parametrize(
    ("rows", "options", "sentence"),
    [
        (rows_of(steps=2), [], "run: 2 points do not determine R = -a e^H + b; at least 3 are needed."),
        (
            rows_of(every=60),
            ["--accuracy", "heldout"],
            "run: 1 points do not determine R = -a e^H + b; at least 3 are "
            "needed; evaluation.every sets how many there are, and --accuracy train has one a step.",
        ),
        (
            [row | {"entropy/token_mean": 0.0} for row in rows_of()],
            [],
            "run: 60 points that all have entropy 0 do not determine R = -a e^H + b.",
        ),
        ([], [], "run: 0 points do not determine R = -a e^H + b; at least 3 are needed."),
    ],
    ids=["two steps", "one evaluation", "entropies of zero", "no rows"],
)
def test_runs_that_determine_nothing_are_said_so(tmp_path, capsys, rows, options, sentence):
    assert main([str(write_run(tmp_path / "run", rows)), *options]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"{tmp_path}/{sentence}\n")
    assert not (tmp_path / "run" / "law.svg").exists()


def test_a_folder_that_is_no_run_is_said_so(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path} holds neither metrics.jsonl nor points.json, so it is the folder of neither a run nor a sweep\n"
    )


def test_a_drawing_that_cannot_be_written_is_said_so(tmp_path, capsys):
    run = write_run(tmp_path / "run", rows_of())
    assert main([str(run), "--output", str(tmp_path / "nowhere" / "law.svg")]) == 2
    assert (
        f"--output={tmp_path}/nowhere/law.svg cannot be written (No such file or directory)." in capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        main([str(run), "--output", "law.bmp"])
    assert "--output=law.bmp ends in none of .svg, .png, .pdf" in capsys.readouterr().err


def test_one_short_run_among_others_does_not_stop_them(tmp_path):
    found = []
    for name, rows in (("long", rows_of()), ("short", rows_of(steps=2))):
        [curve], _ = curves(write_run(tmp_path / name, rows), "train")
        found.append((curve, lines(curve)))
    out = words(text(found, "train"))
    at = out.index(f"{tmp_path}/short: 2 points")
    assert out[at + 1 :] == [
        f"not fitted: 2 points do not determine {form.text}; at least 3 are needed" for form in FORMS
    ]
    assert sum(line.startswith("R = ") for line in out[:at]) == 3
