"""The table against calculations by hand, the record of points, and whole sweeps with a stand-in for the run."""

import csv
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from launch.config import ConfigError
from launch.points import Point, Sweep, is_finished, point_name, read_points
from launch.sweep import Figures, Result, arms, figures, text, to_csv

ROOT = Path(__file__).resolve().parents[2]


def summary(base=0.25, final=0.5, steps=2, status="finished", **others) -> dict:
    held_out = {"avg_at_k": {"k": 4, "base": base, "final": final}}
    return {
        "status": status,
        "steps": steps,
        "eval": {"out_of_domain": {"avg_at_k": {"k": 4, "base": 0.9, "final": 0.8}}, "heldout": held_out},
        "seconds": 30.0,
        "config_hash": "abc",
        **others,
    }


ROWS = [
    {"step": 0, "eval/heldout/avg_at_k": 0.25},
    {"step": 1, "entropy/token_mean": 0.8},
    {"step": 2, "entropy/token_mean": 0.6},
]


def test_figures_of_a_run_by_hand():
    assert figures(ROWS, summary()) == Figures(0.25, 0.5, 0.8, 0.6, 2, 30.0)
    assert figures(ROWS[:2], None) == Figures(None, None, 0.8, 0.8, 1, None)
    assert figures([], None) == Figures(None, None, None, None, 0, None)
    other = summary() | {"eval": {"aime": {"avg_at_k": {"k": 1, "base": 0.1, "final": None}}}}
    assert figures(ROWS, other) == Figures(0.1, None, 0.8, 0.6, 2, 30.0)
    assert figures(ROWS[:1], summary() | {"eval": {}}) == Figures(None, None, None, None, 2, 30.0)


def result(overrides: str, final: float | None, status: str = "finished", error: str | None = None) -> Result:
    found = Figures() if final is None else Figures(0.25, final, 0.8, 0.6, 2, 30.0)
    return Result(Point(overrides.replace(" ", "_"), tuple(overrides.split()), status, error), found)


RESULTS = [
    result("clip=ppo seed=0 steps=2", 0.5),
    result("clip=ppo seed=1 steps=2", 0.6),
    result("clip=ppo seed=2 steps=2", 0.1, "failed", "RolloutFailed: an engine died\nlogs: somewhere"),
    result("clip=open seed=0 steps=2", 0.4),
    result("clip=open seed=1 steps=2", None, "refused", "seed = 1 will not do."),
]


def test_means_and_spreads_over_seeds_by_hand():
    ppo, opened = arms(RESULTS)
    assert ppo.overrides == ("clip=ppo", "steps=2")
    assert (ppo.points, ppo.finished, opened.points, opened.finished) == (3, 2, 2, 1)
    assert ppo.mean.final == pytest.approx(0.55)  # the failed point's 0.1 does not count
    assert ppo.spread.final == pytest.approx(0.1 / 2**0.5)  # sample standard deviation of 0.5 and 0.6
    assert ppo.spread.base == 0
    assert opened.mean.final == 0.4
    assert opened.spread == Figures()


def test_the_table_to_read():
    lines = [" ".join(line.split()) for line in text(RESULTS).splitlines()]
    assert lines[0] == "point status base final entropy_first entropy_last steps seconds"
    assert lines[1] == "clip=ppo seed=0 finished 0.250 0.500 0.800 0.600 2 30"
    assert lines[5] == "clip=open seed=1 refused - - - - - -"
    assert lines[8] == "clip=ppo 2 of 3 0.250 ±0.000 0.550 ±0.071 0.800 ±0.000 0.600 ±0.000 2 ±0 30 ±0"
    assert lines[9] == "clip=open 1 of 2 0.250 0.400 0.800 0.600 2 30"
    assert lines[11] == "in every point: steps=2"
    assert lines[13:] == [
        "failed: clip=ppo seed=2: RolloutFailed: an engine died",
        "refused: clip=open seed=1: seed = 1 will not do.",
    ]


def test_the_table_as_csv():
    rows = list(csv.DictReader(to_csv(RESULTS).splitlines()))
    assert [row["row"] for row in rows] == ["point"] * 5 + ["mean"] * 2
    assert [row["seed"] for row in rows[:5]] == ["0", "1", "2", "0", "1"]
    assert (rows[1]["final"], rows[1]["final_spread"], rows[1]["overrides"]) == ("0.6", "", "clip=ppo steps=2")
    assert rows[4]["final"] == ""
    assert rows[4]["error"] == "seed = 1 will not do."
    assert float(rows[5]["final"]) == pytest.approx(0.55)
    assert float(rows[5]["final_spread"]) == pytest.approx(0.0707, abs=1e-4)
    assert (rows[5]["points"], rows[5]["finished"], rows[6]["final_spread"]) == ("3", "2", "")


def test_a_point_is_named_by_its_overrides_alone():
    assert point_name(["seed=1", "clip=open"]) == point_name(["clip=open", "seed=1"]) == "clip-open_seed-1"
    assert point_name([]) == "point"
    alike = [["model.path=/a/b"], ["model.path=/a-b"], ["name=" + "x" * 99], ["name=" + "x" * 98 + "y"]]
    assert len({point_name(overrides) for overrides in alike}) == 4
    assert all(len(point_name(overrides)) < 100 and "/" not in point_name(overrides) for overrides in alike)


def test_only_a_finished_run_of_the_same_settings_is_finished(tmp_path):
    assert not is_finished(tmp_path, "abc")
    for content, finished in [
        (summary(), True),
        (summary(status="failed"), False),
        (summary(config_hash="other"), False),
    ]:
        (tmp_path / "summary.json").write_text(json.dumps(content))
        assert is_finished(tmp_path, "abc") is finished


def test_earlier_attempts_are_kept_in_order_and_other_folders_left_alone(tmp_path):
    sweep = Sweep(tmp_path)
    assert sweep.set_aside("a-1") is None
    (tmp_path / "a-1").mkdir()
    (tmp_path / "a-1" / "notes.txt").touch()
    assert sweep.set_aside("a-1") is None
    for number in (1, 2):
        (tmp_path / "a-1").mkdir(exist_ok=True)
        (tmp_path / "a-1" / "config.yaml").write_text(str(number))
        assert sweep.set_aside("a-1") == tmp_path / "attempts" / f"a-1.{number}"
    assert (tmp_path / "attempts" / "a-1.2" / "config.yaml").read_text() == "2"
    assert not (tmp_path / "a-1").exists()


def test_two_processes_cannot_run_the_same_point(tmp_path):
    first, second = Sweep(tmp_path), Sweep(tmp_path)
    with first.held("a-1"):
        with pytest.raises(ConfigError, match="another process is running a-1 there"), second.held("a-1"):
            pass
        with second.held("b-1"):
            pass
    with second.held("a-1"):
        pass


def test_records_of_several_processes_are_all_kept_in_order(tmp_path):
    def record(number: int) -> None:
        points = Sweep(tmp_path)
        for name in (f"{number}-a", f"{number}-b", f"{number}-a"):
            points.record(Point(name, (), "finished", None))

    Sweep(tmp_path).record(Point("before", (), "failed", "it broke"))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(record, range(24)))
    names = [point.name for point in read_points(tmp_path)]
    assert names[0] == "before"
    assert sorted(names[1:]) == sorted(f"{number}-{letter}" for number in range(24) for letter in "ab")
    assert all(names.index(f"{number}-a") < names.index(f"{number}-b") for number in range(24))


# A stand-in for launch.train: seed 7 is refused, seed 8 fails unless a file says it is mended, the others finish.
APPLICATION = """
import sys
from pathlib import Path
from launch.config import ConfigError
from launch.entry import RunFailed, hydra_entry
from launch.run_folder import RunFolder, RunFolderError, read_metrics, summarize

def main(config):
    if config.seed == 7:
        raise ConfigError("seed 7 will not do")
    try:
        folder = RunFolder(config.output.folder)
    except RunFolderError as error:
        raise ConfigError(str(error)) from error
    digest = folder.write_config(config)
    print("ran seed", config.seed)
    broken = config.seed == 8 and not Path("mended").exists()
    folder.append_metrics({"step": 0, "eval/heldout/avg_at_k": 0.25, "eval/heldout/k": 4})
    folder.append_metrics({"step": 1, "entropy/token_mean": 0.5, "eval/heldout/avg_at_k": 0.5, "eval/heldout/k": 4})
    folder.write_summary(summarize(read_metrics(folder), config_hash=digest, versions={}, started=None, seconds=3.0,
                                   error="an engine died" if broken else None))
    if broken:
        raise RunFailed("an engine died")
    if config.seed == 9:
        raise RuntimeError("seed 9 broke")

hydra_entry(main)
"""


def sweep(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", APPLICATION, "--multirun", "hydra.sweep.dir=here", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def ran(done: subprocess.CompletedProcess) -> list[str]:
    return [line for line in done.stdout.splitlines() if line.startswith("ran ")]


def test_a_sweep_goes_on_after_bad_points_and_a_second_one_repeats_only_those(tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    (here / "clip-open_seed-2").write_text("in the way")  # the folder of this point cannot be made
    first = sweep(tmp_path, "clip=open", "seed=7,8,9,1,2")
    assert first.returncode == 1
    assert ran(first) == ["ran seed 8", "ran seed 9", "ran seed 1"]
    assert "Failed: clip=open seed=7\nseed 7 will not do\n" in first.stderr
    assert "Failed: clip=open seed=8\nan engine died\n" in first.stderr
    assert "Failed: clip=open seed=9\nRuntimeError: seed 9 broke\n" in first.stderr
    assert "Traceback" in first.stderr
    points = {point.overrides[1]: point for point in read_points(here)}
    statuses = {seed: point.status for seed, point in points.items()}
    assert statuses == {
        "seed=7": "refused",
        "seed=8": "failed",
        "seed=9": "failed",
        "seed=1": "finished",
        "seed=2": "refused",
    }
    assert "1 of 5" in first.stdout
    assert first.stdout.rstrip().endswith(f"table: {here / 'sweep.csv'}")
    assert len(list(csv.DictReader((here / "sweep.csv").open()))) == 6
    untouched = (here / "clip-open_seed-1" / "summary.json").stat().st_mtime_ns

    (tmp_path / "mended").touch()
    (here / "clip-open_seed-2").unlink()
    second = sweep(tmp_path, "clip=open", "seed=8,1,2,3")
    assert ran(second) == ["ran seed 8", "ran seed 2", "ran seed 3"]
    assert "Already finished: clip=open seed=1" in second.stdout
    kept = here / "attempts" / "clip-open_seed-8.1"
    assert f"Again: clip=open seed=8; the earlier attempt is in {kept}" in second.stdout
    assert json.loads((kept / "summary.json").read_text())["status"] == "failed"
    assert json.loads((here / "clip-open_seed-8" / "summary.json").read_text())["status"] == "finished"
    assert (here / "clip-open_seed-1" / "summary.json").stat().st_mtime_ns == untouched
    # Seeds 7 and 9 stay in the table, but this time they were not asked for.
    assert second.returncode == 0
    assert "4 of 6" in second.stdout

    again = subprocess.run(
        [sys.executable, "-m", "launch.sweep", str(here)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert again.stdout == second.stdout[second.stdout.index("\npoint") :]
    assert again.returncode == 0


def test_a_point_with_a_checkpoint_goes_on_where_it_is(tmp_path):
    folder = tmp_path / "here" / "seed-1"
    (folder / "checkpoints" / "step_000001").mkdir(parents=True)
    (folder / "metrics.jsonl").touch()
    done = sweep(tmp_path, "seed=1")
    assert "Goes on: seed=1" in done.stdout
    assert (folder / "checkpoints").is_dir()
    assert not (tmp_path / "here" / "attempts").exists()
    (folder / "summary.json").unlink()
    again = sweep(tmp_path, "seed=1", "resume=never")
    assert "Goes on" not in again.stdout


def test_a_sweep_of_finished_points_exits_with_0_and_of_refused_ones_with_2(tmp_path):
    assert sweep(tmp_path, "experiment=lab_grpo,lab_clip_higher").returncode == 0
    names = {point.name for point in read_points(tmp_path / "here")}
    assert names == {"experiment-lab_grpo", "experiment-lab_clip_higher"}
    assert "name: lab_clip_higher" in (tmp_path / "here/experiment-lab_clip_higher/config.yaml").read_text()
    assert sweep(tmp_path, "seed=7").returncode == 2


def test_a_misspelt_point_stops_a_sweep_before_it_starts(tmp_path):
    done = sweep(tmp_path, "clip=ppo,higer")
    assert done.returncode == 2
    assert done.stderr.startswith("clip=higer does not exist; did you mean clip=higher?")
    assert ran(done) == []


def test_a_sweep_ends_at_a_point_that_another_process_is_running(tmp_path):
    with Sweep(tmp_path / "here").held("seed-2"):
        done = sweep(tmp_path, "seed=1,2,3")
    assert done.returncode == 2
    assert ran(done) == ["ran seed 1"]
    assert done.stderr == f"hydra.sweep.dir={tmp_path / 'here'}: another process is running seed-2 there.\n"
    assert [point.name for point in read_points(tmp_path / "here")] == ["seed-1"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("foo.bar=1,2", "foo.bar is not a setting.\n"),
        ("clip.hihg=0.2,0.3", "clip.hihg is not a setting; did you mean clip.high?\n"),
        ("steps=1,two", "steps=two is refused: steps: Value 'two' of type 'str' could not be converted to Integer.\n"),
        ("+new.key=1,2", "Failed: +new.key=1\nnew is not a setting.\nFailed: +new.key=2\nnew is not a setting.\n"),
    ],
)
def test_a_sweep_over_what_cannot_be_runs_nothing(tmp_path, override, words):
    done = sweep(tmp_path, override)
    assert (done.returncode, done.stderr, ran(done)) == (2, words, [])


def test_a_folder_that_holds_no_sweep(tmp_path):
    with pytest.raises(ConfigError, match="not the folder of a sweep that has started"):
        read_points(tmp_path)
