"""The synthetic run of the report's benchmark is a run as the report reads it."""

from benchmarks.report import RESPONSES, write_run
from launch.metric_registry import registry
from launch.report import render
from launch.run_folder import RunFolder, read_metrics
from launch.shown_responses import last_responses


def test_the_run_has_every_metric_and_is_drawn(tmp_path):
    write_run(RunFolder(tmp_path), 21)
    rows = read_metrics(tmp_path)
    assert len(rows) == 21
    assert len(rows[0]) == len(registry())
    assert rows[20].keys() == rows[0].keys() > rows[1].keys()  # of an evaluation
    assert len(last_responses(tmp_path)) == RESPONSES
    text = render(tmp_path)
    assert "Nothing to draw" not in text
