"""The report of a sweep from folders of synthetic runs on known laws."""

import csv
import json
import re
from dataclasses import asdict

import pytest

from launch.config import ConfigError
from launch.points import POINTS, Point
from launch.sweep_report import main, sentences, write
from launch.sweep_tables import arms_table, comparisons, latex, law_table, names, pairs_table, read
from tests.launch.test_law_of_runs import rows_of, write_run
from tests.launch.test_report import ATTACK, Page

ARMS = {"grpo": (0.2, 0.9), "clip_cov": (0.3, 1.2)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two arms with seeds 0 to 2, each on a law of its own that is lifted by a hundredth a seed; one point failed."""
    root = tmp_path_factory.mktemp("sweep")
    points = []
    for arm, (a, b) in ARMS.items():
        for seed in range(3):
            point = Point(f"{arm}-{seed}", (f"experiment={arm}", f"seed={seed}", "steps=60"), "finished", None)
            points.append(point)
            # The lift of the second arm grows with the seed, so that differences of seeds vary.
            rows = rows_of(a, b + 0.01 * seed * (1 + (arm == "clip_cov")))
            write_run(root / point.name, [row | {"tokens/generated": 10, "time/step_s": 0.5} for row in rows])
    points.append(Point("dead", ("experiment=grpo", "seed=3", "steps=60"), "failed", "it died"))
    (root / POINTS).write_text(json.dumps([asdict(point) for point in points]))
    return root


def test_arms_by_hand(folder):
    found = read(folder)
    assert found.accuracy == "accuracy/heldout"
    head, grpo, clip_cov = arms_table(found)
    assert head[:4] == ["arm", "seeds", "other, final", "heldout, final"]
    assert grpo[:3] == ["grpo", "3", "0.500 ± 0.000"]
    # Entropy after 60 steps is 0.05 + 0.9 e^-4 = 0.06648, e^H 1.06874, and the seeds lift accuracy by 0, 0.01, 0.02.
    assert grpo[3] == f"{0.9 - 0.2 * 1.06874 + 0.01:.3f} ± 0.010"
    assert clip_cov[3] == f"{1.2 - 0.3 * 1.06874 + 0.02:.3f} ± 0.020"
    assert grpo[head.index("tokens generated")] == "610 ± 0"


def test_differences_over_the_seeds_by_hand(folder):
    found = read(folder)
    [(a, b, difference)] = [each for each in comparisons(found) if each[2].figure == "accuracy/heldout"]
    expected = 0.3 - 0.1 * 1.06874 + 0.01
    assert (a, b, difference.seeds) == ("grpo", "clip_cov", 3)
    assert difference.difference == pytest.approx(expected, abs=1e-4)
    # Differences rise by 0.01 a seed: their deviation is 0.01, t of 2 degrees 4.302653.
    assert difference.high - difference.difference == pytest.approx(4.302653 * 0.01 / 3**0.5)
    [row] = [row for row in pairs_table(found, "grpo") if row[1] == "heldout, final"]
    assert row[0] == "clip_cov"
    assert row[3] == f"{expected:+.3f}"
    [turned] = [row for row in pairs_table(found, "clip_cov") if row[1] == "heldout, final"]
    assert turned[0] == "grpo"
    assert turned[3] == f"{-expected:+.3f}"
    assert turned[4].split(" to ") == [f"{-float(end):+.3f}" for end in reversed(row[4].split(" to "))]


def test_the_law_of_an_arm_is_the_one_its_runs_were_made_on(folder):
    _, grpo, clip_cov = law_table(read(folder))
    # Three seeds of 60 steps, and the mean lift is in b.
    assert grpo[:4] == ["grpo", "180", "0.200", "0.910"]
    assert clip_cov[:4] == ["clip_cov", "180", "0.300", "1.220"]
    assert clip_cov[4].startswith("0.920 [0.")


def test_the_page_says_it_all_and_needs_nothing_from_outside(folder):
    path = write(folder)
    html = path.read_text()
    page = Page(html)
    assert "6 of 7 points finished: 2 arms, 3 seeds each." in page.text
    assert "Left out: experiment=grpo seed=3 steps=60 (failed)." in page.text
    assert "Highest accuracy on heldout: clip_cov, 0.899 on average." in page.text
    drawings = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg" and "role" in attributes]
    assert drawings == [
        "Accuracy on other",
        "Accuracy on heldout",
        "Token entropy",
        "Entropy against accuracy",
        "Accuracy on heldout against entropy",
        "Accuracy on heldout against tokens",
        "Accuracy on heldout against time",
        "Accuracy on heldout by experiment",
        "Final entropy by experiment",
    ]
    assert re.findall(r'(?:src|href)="(?!#)[^"]*"|url\((?!#)[^)]*\)|@import|<script', html) == []
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_tables_for_other_programs(folder):
    write(folder)
    rows = list(csv.DictReader((folder / "sweep_arms.csv").open()))
    [row] = [row for row in rows if row["arm"] == "grpo" and row["figure"] == "accuracy/heldout"]
    assert float(row["std"]) == pytest.approx(0.01)
    assert float(row["highest"]) - float(row["lowest"]) == pytest.approx(0.02)
    pairs = list(csv.DictReader((folder / "sweep_pairs.csv").open()))
    assert {(row["a"], row["b"]) for row in pairs} == {("grpo", "clip_cov")}
    tex = (folder / "sweep.tex").read_text()
    assert tex.startswith("\\begin{tabular}{lrr")
    assert "clip\\_cov & 3 & 0.500 $\\pm$ 0.000" in tex


def test_latex_escapes_what_it_would_act_on():
    assert latex([["a_b", "50%"], ["{x}\\y", "p±q"]]).splitlines()[2:5] == [
        r"a\_b & 50\% \\",
        r"\midrule",
        r"\{x\}\textbackslash y & p$\pm$q \\",
    ]


def test_arms_are_named_by_what_differs():
    assert names([("clip=a", "lr=1"), ("clip=b", "lr=1")]) == {("clip=a", "lr=1"): "a", ("clip=b", "lr=1"): "b"}
    several = [("clip=a", "lr=1"), ("clip=b", "lr=2")]
    assert list(names(several).values()) == ["clip=a lr=1", "clip=b lr=2"]
    assert list(names([("clip=a",)]).values()) == ["the defaults"]


def test_hostile_overrides_stay_text(tmp_path):
    points = [Point(f"p{seed}", (f"name={ATTACK}{seed}", f"seed={seed}"), "finished", None) for seed in (0, 1)]
    for point in points:
        write_run(tmp_path / point.name, rows_of(steps=4))
    (tmp_path / POINTS).write_text(json.dumps([asdict(point) for point in points]))
    assert not [tag for tag, _ in Page(write(tmp_path).read_text()).tags if tag == "script"]


def test_what_cannot_be_reported_is_refused_in_a_sentence(folder, tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no points.json" in capsys.readouterr().err
    (tmp_path / POINTS).write_text(json.dumps([asdict(Point("a", ("seed=0",), "failed", "x"))]))
    with pytest.raises(ConfigError, match="no point of the sweep has finished"):
        write(tmp_path)
    with pytest.raises(ConfigError, match="--baseline=none is not one of the arms: grpo, clip_cov"):
        write(folder, "none")


def test_the_command_names_its_files(folder, capsys):
    assert main([str(folder), "--baseline", "clip_cov"]) == 0
    files = capsys.readouterr().out.split()
    assert [file.rsplit("/", 1)[1] for file in files] == [
        "sweep.html",
        "sweep_arms.csv",
        "sweep_pairs.csv",
        "sweep.tex",
    ]
    assert "Against clip_cov" in (folder / "sweep.html").read_text()
    assert any("seeds each" in sentence for sentence in sentences(read(folder)))


def test_a_sweep_of_updates_per_rollout_shows_the_gap_by_them(tmp_path):
    points = []
    for updates, gap in ((1, 0.01), (16, 0.25)):
        point = Point(f"of-{updates}", (f"off_policy.minibatches={updates}", "seed=0"), "finished", None)
        points.append(point)
        rows = rows_of(0.2, 0.9)
        write_run(tmp_path / point.name, [*rows[:-1], rows[-1] | {"eval/heldout/train_gap": gap}])
    (tmp_path / POINTS).write_text(json.dumps([asdict(point) for point in points]))
    head, *arms = arms_table(read(tmp_path))
    assert [(row[0], row[head.index("train above heldout")]) for row in arms] == [("1", "0.010"), ("16", "0.250")]
    text = write(tmp_path).read_text()
    assert "Training accuracy above heldout by off_policy.minibatches" in text
    assert f"<title>{tmp_path.name}: Entrain sweep</title>" in text
    assert f"<h1>{tmp_path.name}</h1>" in text
