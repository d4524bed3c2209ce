"""What a person reads while a run is on."""

import io

import pytest
from rich.console import Console

from launch.display import LineDisplay, LiveDisplay, make_display
from launch.run_folder import summarize
from launch.wording import change, duration, share, size, sparkline, time_share_words, verdict_totals, verdict_words

BASE = {"step": 0, "eval/heldout/avg_at_k": 0.3125, "eval/heldout/k": 8, "time/evaluate_s": 2.0, "time/step_s": 2.0}
FIRST = {
    "step": 1,
    "reward/accuracy": 0.46875,
    "reward/correct": 120,
    "reward/wrong": 100,
    "reward/unparsable": 30,
    "reward/failed": 6,
    "reward/failed.crash": 1,
    "reward/failed.timeout": 5,
    "groups/all_correct": 0.125,
    "groups/all_wrong": 0.25,
    "groups/mixed": 0.625,
    "response/length_mean": 143.2,
    "response/length_max": 512,
    "response/truncated_share": 0.031,
    "entropy/token_mean": 0.812,
    "policy/clip_low_share": 0.002,
    "policy/clip_high_share": 0.0004,
    "policy/kl_k3": 0.0012,
    "policy/grad_norm": 0.43,
    "mismatch/logprob_abs_mean": 3e-7,
    "mismatch/logprob_abs_max": 4e-6,
    "sync/canary_abs_mean": 2e-7,
    "time/generate_s": 4.0,
    "time/update_s": 3.0,
    "time/other_s": 1.0,
    "time/step_s": 8.0,
    "speed/generated_tokens_per_s": 10374.4,
    "speed/trained_tokens_per_s": 18281.0,
    "memory/total_bytes": 12_348_030_976,
}
SECOND = FIRST | {"step": 2, "entropy/token_mean": 0.5, "time/step_s": 10.0, "eval/heldout/avg_at_k": 0.4375}
SECOND |= {"eval/heldout/k": 8}
VERDICTS = "correct 120, wrong 100, unparsable 30, failed 6 (timeout 5, crash 1)"


def console(width: int = 80, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, legacy_windows=False)


def lines_of(total_steps: int, *rows) -> list[str]:
    out = console()
    display = LineDisplay(total_steps, out)
    for row in rows:
        display.step(row)
    return out.file.getvalue().splitlines()


def panel_of(width: int, *rows, total_steps: int = 10) -> str:
    """The panel after `rows`, as text."""
    display = LiveDisplay(total_steps, console(width, terminal=True), clock=lambda: 0.0)
    for row in rows:
        display.step(row)
    display.close()
    out = console(width)
    out.print(display.render())
    return out.file.getvalue()


def test_verdicts_are_counted_in_words_and_a_count_of_zero_is_said():
    assert verdict_words(FIRST) == VERDICTS
    assert verdict_words({"reward/correct": 4}) == "correct 4, wrong 0, unparsable 0, failed 0"


def test_verdict_totals_add_counts_and_kinds_but_no_means():
    totals = verdict_totals([BASE, FIRST, {"reward/correct": 1, "reward/failed": 2, "reward/failed.crash": 2}])
    assert totals == {
        "reward/correct": 121,
        "reward/wrong": 100,
        "reward/unparsable": 30,
        "reward/failed": 8,
        "reward/failed.crash": 3,
        "reward/failed.timeout": 5,
    }


def test_a_line_tells_the_whole_step_in_one_line_even_in_a_narrow_pipe():
    base, first = lines_of(10, BASE, FIRST)
    assert base == "step 0/10 | heldout avg@8 0.312 | 2.0 s"
    assert first == (
        f"step 1/10 | accuracy 0.469 | {VERDICTS} | entropy 0.812 nats | "
        "length 143, truncated 3.1% | 10,374 tok/s | 8.0 s | left 72.0 s"
    )
    assert first.isascii()


def test_time_left_is_the_mean_step_times_the_steps_left_and_gone_at_the_end():
    assert lines_of(10, BASE, FIRST, SECOND)[-1].endswith("| left 72.0 s")
    assert "left" not in lines_of(2, FIRST, SECOND)[-1]


def test_a_run_that_goes_on_counts_the_steps_before():
    out = console()
    display = LineDisplay(10, out)
    display.goes_on([BASE, FIRST])
    display.step(SECOND)
    assert out.file.getvalue() == lines_of(10, BASE, FIRST, SECOND)[-1] + "\n"


def test_a_bracket_in_a_sentence_is_not_taken_for_markup():
    out = console()
    LineDisplay(1, out).started(["data=[red]gsm8k[/red]"])
    assert out.file.getvalue() == "data=[red]gsm8k[/red]\n"


def test_waiting_says_since_when():
    out = console()
    now = iter([100.0, 112.5])
    LineDisplay(1, out, clock=lambda: next(now)).waiting("loading the model")
    assert out.file.getvalue() == "[12 s] loading the model\n"


@pytest.mark.parametrize("width", [80, 120])
def test_the_panel_keeps_to_the_terminal_and_shows_every_figure(width):
    panel = panel_of(width, BASE, FIRST, SECOND)
    assert {len(line) for line in panel.splitlines()} == {width}
    words = " ".join(panel.replace("│", " ").split())
    for expected in (
        "step 2/10",
        "heldout accuracy 0.312 → 0.438 avg@8 at step 2",
        "training accuracy 0.469",
        "token entropy 0.500 nats █▁",
        "mean 143, max 512 tokens, 3.1% truncated",
        VERDICTS,
        "38% of groups (12% all correct, 25% all wrong)",
        "clip 0.2% low, <0.1% high; KL 0.0012; grad norm 0.43",
        "mean 3.0e-07, max 4.0e-06; canary 2.0e-07",
        "10,374 generated, 18,281 trained",
        "10.0 s: generate 40%, update 30%, other 10%",
        "11.5 GiB",
        "72 s left",
    ):
        assert expected in words


def test_the_panel_of_a_very_narrow_terminal_still_fits():
    assert {len(line) for line in panel_of(36, BASE, FIRST, SECOND).splitlines()} == {36}


def test_the_panel_shows_only_what_is_measured():
    words = panel_of(80, BASE)
    assert "heldout accuracy   0.312  avg@8 at step 0" in words
    assert "verdicts" not in words
    assert "→" not in words


def test_the_panel_says_what_it_waits_for_with_the_time():
    now = [50.0]
    display = LiveDisplay(10, console(terminal=True), clock=lambda: now[0])
    with display:
        display.waiting("starting 2 engines")
        now[0] = 53.5
        out = console()
        out.print(display.render())
    assert "starting 2 engines  3 s" in out.file.getvalue()


@pytest.mark.parametrize("kind", ["lines", "live"])
def test_the_closing_block_sums_the_run_up(kind):
    rows = [BASE, FIRST, SECOND]
    summary = summarize(rows, config_hash=None, versions={}, started=None, seconds=252.0)
    out = console(120)
    with make_display(kind, 2, out) as display:
        for row in rows:
            display.step(row)
        display.finished(summary, report="runs/a/report.html")
    closing = out.file.getvalue().split("finished, ", 1)[1].replace("→", "->")
    assert "2 steps in 4 min 12 s" in closing
    assert "0.312 -> 0.438" in closing
    assert "0.812 -> 0.500 nats" in closing
    assert "correct 240, wrong 200, unparsable 60, failed 12 (timeout 10, crash 2)" in closing
    assert "median step time" in closing
    assert "9.0 s" in closing
    assert "runs/a/report.html" in closing


def test_a_failed_run_says_why_first():
    summary = summarize([], config_hash=None, versions={}, started=None, seconds=1.5, error="Engine 0 died [twice].")
    out = console()
    make_display("lines", 2, out).finished(summary)
    assert out.file.getvalue().splitlines()[0] == "error              Engine 0 died [twice]."


def test_auto_is_live_on_a_terminal_and_lines_in_a_pipe(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    assert isinstance(make_display("auto", 1, Console(file=io.StringIO(), force_terminal=True)), LiveDisplay)
    assert isinstance(make_display("auto", 1, console()), LineDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_display("auto", 1, Console(file=io.StringIO(), force_terminal=True)), LineDisplay)
    with pytest.raises(ValueError, match=r"output\.display='quiet' is not one of auto, live, lines"):
        make_display("quiet", 1)


def test_figures_in_words():
    assert [duration(s) for s in (0.0042, 6.41, 252, 7500, 59.96, 3599.7)] == [
        "4.2 ms", "6.4 s", "4 min 12 s", "2 h 05 min", "60.0 s", "1 h 00 min",
    ]  # fmt: skip
    assert [size(b) for b in (512, 2048, 12_348_030_976)] == ["512 bytes", "2.0 KiB", "11.5 GiB"]
    assert [share(x) for x in (0.0, 0.0001, 0.031, 0.42, 1.0)] == ["0%", "<0.1%", "3.1%", "42%", "100%"]
    assert change(None, 0.5) == "not measured → 0.500"
    assert time_share_words({"time/step_s": 0.0}) == "0 ms"


def test_a_sparkline_spans_lowest_to_highest_and_averages_neighbours():
    assert sparkline([0.0, 1.0, 0.5], 8) == "▁█▅"
    assert sparkline([2.0, 2.0], 8) == "▁▁"
    assert sparkline([0.0, 0.0, 1.0, 1.0, 0.0, 0.0], 3) == "▁█▁"
    assert sparkline([], 8) == ""
