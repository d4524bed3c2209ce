"""Two runs beside each other, by hand; the interval against its closed form."""

import numpy as np
import pytest

from launch.compare import Difference, differences, main, settings_apart
from launch.run_folder import RunFolder
from tests.composed import compose


def rows(values: dict[str, list[float]]) -> list[dict[str, float]]:
    steps = len(next(iter(values.values())))
    return [{"step": i + 1, "time/step_s": 1.0} | {key: each[i] for key, each in values.items()} for i in range(steps)]


def test_means_over_the_last_steps_of_both():
    a = rows({"entropy": [9, 9, 9, 9, 1, 2], "only_a": [0] * 6})
    b = [*rows({"entropy": [0, 0, 0, 0, 3, 5], "only_b": [0] * 6}), {"step": 7, "entropy": 100.0}]
    assert differences(a, b, 1 / 3) == [Difference("entropy", 2, 1.5, 4.0, None, None)]


def test_a_metric_of_some_steps_is_compared_where_both_have_it():
    a, b = rows({"entropy": [1.0] * 4}), rows({"entropy": [2.0] * 4})
    a[0] |= {"eval/x": 0.25}
    b[0] |= {"eval/x": 0.5}
    b[3] |= {"eval/x": 0.75}
    assert differences(a, b, 1 / 4)[1] == Difference("eval/x", 1, 0.25, 0.5, None, None)


def test_equal_runs_have_no_difference_and_a_shift_is_clear():
    noise = np.random.default_rng(0).normal(size=60)
    a = rows({"x": noise.tolist()})
    [same] = differences(a, a, 1.0)
    assert (same.low, same.high, same.is_clear) == (0, 0, False)
    [shifted] = differences(a, rows({"x": (noise + 1.0).tolist()}), 1.0)
    assert shifted.low == pytest.approx(1.0)
    assert shifted.is_clear


@pytest.mark.parametrize(("memory", "least"), [(0.0, 0.88), (0.6, 0.80)], ids=["independent", "alike"])
def test_the_interval_covers_no_difference_nearly_as_often_as_it_says(memory, least):
    generator, hits = np.random.default_rng(1), 0
    for trial in range(150):
        noise = generator.normal(size=200)
        for i in range(1, 200):
            noise[i] += memory * noise[i - 1]
        [found] = differences(rows({"x": [0.0] * 200}), rows({"x": noise.tolist()}), 1.0, seed=trial)
        hits += not found.is_clear
    # Single steps drawn instead of blocks would cover 0.68 of the time where neighbours are alike.
    assert hits / 150 >= least


def test_settings_that_differ_without_the_name_of_the_run():
    a = {"name": "a", "seed": 0, "clip": {"low": 0.2, "high": 0.2}, "output": {"folder": "x"}}
    b = {"name": "b", "seed": 1, "clip": {"low": 0.2, "high": 0.28}, "output": {"folder": "y"}, "new": True}
    assert settings_apart(a, b) == [("seed", 0, 1), ("clip.high", 0.2, 0.28), ("new", None, True)]


def test_the_command(tmp_path, capsys):
    for name, seed, value in (("a", 0, 0.5), ("b", 1, 0.25)):
        folder = RunFolder(tmp_path / name)
        folder.write_config(compose([f"seed={seed}"]))
        for step in range(1, 31):
            folder.append_metrics({"step": step, "entropy/token_mean": value + step / 1000})
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "seed     0  1" in lines
    [line] = [line for line in lines if line.startswith("entropy/token_mean")]
    assert line.split() == ["entropy/token_mean", "10", "0.5255", "0.2755", "-0.25", "-0.25", "to", "-0.25", "*"]


def test_a_folder_of_no_run_is_named(tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path)]) == 2
    assert "config.yaml cannot be read" in capsys.readouterr().err
