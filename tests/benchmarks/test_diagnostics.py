"""The benchmark of the diagnostics takes medians of shares of the same step and clocks what a step calls."""

import ast
import inspect
import time

from benchmarks.diagnostics import FUNCTIONS, PROBE, WARM_UP, clocked, figures
from launch import train as loop
from launch.alarms import Alarms


def test_shares_are_of_the_same_step_and_the_warm_up_is_left_out():
    steps = 4 + WARM_UP
    rows = [{"step": 0}] + [{"step": i, "time/step_s": float(i), PROBE: 0.01 * i} for i in range(1, steps + 1)]
    # A tenth of each step but the first three; alarms look at row 0 too.
    slow_start = [9.0] * WARM_UP
    seconds = {
        "response_metrics": slow_start + [0.1 * i for i in range(WARM_UP + 1, steps + 1)],
        "alarms": [5.0, *slow_start, *[0.02 * i for i in range(WARM_UP + 1, steps + 1)]],
    }
    found = {name: of["share_of_step"] for name, of in figures(rows, seconds).items()}
    assert found == {"response_metrics": 0.1, "alarms": 0.02, "probe": 0.01, "all": 0.13}


def test_every_function_of_metrics_that_a_step_calls_is_clocked():
    calls = [node.func for node in ast.walk(ast.parse(inspect.getsource(loop.train))) if isinstance(node, ast.Call)]
    called = {function.id for function in calls if isinstance(function, ast.Name)}
    assert {name for name in called if name.endswith("_metrics")} == set(FUNCTIONS)


def test_clocks_run_while_the_block_does(monkeypatch):
    monkeypatch.setattr(loop, "term_metrics", lambda: time.sleep(0.02) or {"x": 1.0})
    original, watch = loop.term_metrics, Alarms.watch
    with clocked() as seconds:
        assert loop.term_metrics() == {"x": 1.0}
    assert seconds["term_metrics"][0] >= 0.02
    assert (loop.term_metrics, Alarms.watch) == (original, watch)
