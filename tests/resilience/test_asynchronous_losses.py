"""Real engines killed and stopped in asynchronous mode, while they draw and the learner trains."""

import signal

import pytest

from launch.run_folder import read_metrics
from tests.resilience import asynchronous
from tests.resilience.actors import left_behind
from tests.resilience.runs import SETTINGS, MarkedRun

pytestmark = pytest.mark.slow


def test_an_engine_that_is_killed_and_one_that_hangs_lose_and_double_no_response(tmp_path):
    with MarkedRun(tmp_path / "run", *SETTINGS, *asynchronous.SETTINGS) as run:
        run.send("engine", signal.SIGKILL, after=1)
        run.wait_for_step(2)
        assert asynchronous.DIED.search(run.said()), run.said()
        hung = run.send("engine", signal.SIGSTOP, after=3)
        assert run.wait() == 0, run.errors()
        assert asynchronous.HUNG.search(run.said()), run.said()
        assert not hung.is_running()
        assert left_behind(run.mark, 15) == []
    asynchronous.nothing_lost_or_doubled(run.folder, 6)
    rows = [row for row in read_metrics(run.folder) if row["step"]]
    assert all(row["staleness/max"] <= 1 and row["sync/canary_abs_mean"] < 1e-4 for row in rows)
