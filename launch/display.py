"""What a person sees while a run is on: a live panel on a terminal, one line per step in a pipe."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from launch.run_folder import evaluations
from launch.wording import (
    BLOCKS,
    Row,
    change,
    counted,
    duration,
    share,
    size,
    sparkline,
    stopwatch,
    time_share_words,
    verdict_totals,
    verdict_words,
)

LABEL_WIDTH = 17


class Display(Protocol):
    """Watches one run. A context manager: leaving it gives the terminal back."""

    def started(self, lines: list[str]) -> None:
        """Print sentences about the run, once, at the top."""

    def waiting(self, text: str) -> None:
        """Say what start-up is doing now; the time it takes is shown beside it."""

    def notice(self, sentence: str) -> None:
        """Print a sentence about something that has happened to the run and does not end it."""

    def goes_on(self, rows: Sequence[Row]) -> None:
        """Take the rows of the steps before, where a run is taken up again."""

    def step(self, row: Row) -> None:
        """Show one metric row; row 0 is the base model's evaluation."""

    def finished(self, summary: Mapping[str, Any], report: Path | None = None) -> None:
        """Print the closing block from the content of `summary.json` and the place of the report."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def make_display(kind: str, total_steps: int, console: Console | None = None) -> Display:
    """The display called `kind` (auto | live | lines): auto is live on a terminal that can redraw, lines elsewhere.

    console  where to write; standard output by default
    """
    console = console or Console()
    if kind == "auto":
        redraws = console.is_terminal and not console.is_dumb_terminal and not console.options.ascii_only
        kind = "live" if redraws else "lines"
    if kind == "live":
        return LiveDisplay(total_steps, console)
    if kind == "lines":
        return LineDisplay(total_steps, console)
    raise ValueError(f"output.display={kind!r} is not one of auto, live, lines")


class LineDisplay:
    """One line per step, in plain ASCII of its own: for CI logs, pipes and job drivers."""

    def __init__(self, total_steps: int, console: Console, clock: Callable[[], float] = time.monotonic):
        self._total_steps = total_steps
        self._console = console
        self._clock = clock
        self._created = clock()
        self._rows: list[Row] = []

    def _print(self, line: str) -> None:
        # A log line is one line however wide the console believes itself to be, and "[...]" in it is no markup.
        self._console.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)

    def started(self, lines: list[str]) -> None:
        for line in lines:
            self._print(line)

    def waiting(self, text: str) -> None:
        self._print(f"[{stopwatch(self._clock() - self._created)}] {text}")

    def notice(self, sentence: str) -> None:
        self._print(sentence)

    def goes_on(self, rows: Sequence[Row]) -> None:
        self._rows = list(rows)

    def step(self, row: Row) -> None:
        self._rows.append(row)
        self._print(step_line(row, self._rows, self._total_steps))

    def finished(self, summary: Mapping[str, Any], report: Path | None = None) -> None:
        for label, value in closing_figures(summary, self._rows, report, arrow="->"):
            self._print(f"{label:<{LABEL_WIDTH}}  {value}")

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class LiveDisplay:
    """A panel that is redrawn in place, with a bar over the steps and sparklines over the whole run."""

    def __init__(self, total_steps: int, console: Console, clock: Callable[[], float] = time.monotonic):
        self._total_steps = total_steps
        self._console = console
        self._clock = clock
        self._waiting: tuple[str, float] | None = None
        self._began = clock()
        self._rows: list[Row] = []
        self._figures: Table | None = None
        self._done_at: float | None = None  # when the last step should end, on the clock
        self._spinner = Spinner("dots")
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=False)

    def started(self, lines: list[str]) -> None:
        for line in lines:
            self._console.print(line, markup=False, highlight=False, emoji=False)

    def waiting(self, text: str) -> None:
        self._waiting = (text, self._clock())
        self._show()

    def notice(self, sentence: str) -> None:
        # While the panel is on, the console prints above it.
        self._console.print(sentence, markup=False, highlight=False, emoji=False)

    def goes_on(self, rows: Sequence[Row]) -> None:
        self._rows = list(rows)

    def step(self, row: Row) -> None:
        self._waiting = None
        self._rows.append(row)
        left_s = remaining_s(self._rows, self._total_steps)
        self._done_at = self._clock() + left_s if left_s else None
        # Here rather than in `render`, which runs several times a second: the work grows with the number of steps.
        self._figures = self._figures_table()
        self._show()

    def finished(self, summary: Mapping[str, Any], report: Path | None = None) -> None:
        self.close()
        figures = closing_figures(summary, self._rows, report)
        colour = "green" if summary["status"] == "finished" else "red"
        self._console.print(Panel(_table(figures), title="entrain", title_align="left", border_style=colour))

    def close(self) -> None:
        self._waiting = None
        self._live.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _show(self) -> None:
        if not self._live.is_started:
            self._live.start()
        self._live.refresh()

    def render(self) -> RenderableType:
        """The panel as of now."""
        parts: list[RenderableType] = []
        if self._figures is not None:
            parts += [self._progress(), Text(), self._figures]
        # Read once: the refreshing thread renders while the loop sets it.
        if (waiting := self._waiting) is not None:
            text, since = waiting
            self._spinner.update(text=Text(f"{text}  {stopwatch(self._clock() - since)}"))
            parts.append(self._spinner)
        return Panel(Group(*parts), title="entrain", title_align="left", border_style="cyan")

    def _progress(self) -> Table:
        done = int(self._rows[-1]["step"])
        now = self._clock()
        elapsed = f"{stopwatch(now - self._began)} elapsed"
        left = "" if self._done_at is None else f", {stopwatch(max(self._done_at - now, 0.0))} left"
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        table.add_column(no_wrap=True, justify="right")
        table.add_row(
            Text(f"step {done}/{self._total_steps}", style="bold"),
            ProgressBar(total=self._total_steps, completed=done, complete_style="cyan", finished_style="green"),
            Text(elapsed + left),
        )
        return table

    def _figures_table(self) -> Table:
        # Beside the sparkline stand the label and the figure; panel border and paddings take the rest.
        spark_width = max(8, min(48, self._console.width - LABEL_WIDTH - 20))
        return _table(panel_figures(self._rows, spark_width))


def _table(figures: Iterator[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=LABEL_WIDTH, max_width=28, no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for label, value in figures:
        text = Text(value)
        text.highlight_regex(f"[{BLOCKS}]+", "cyan")
        table.add_row(Text(label), text)
    return table


def step_line(row: Row, rows: Sequence[Row], total_steps: int) -> str:
    """One step in one line. `rows` are all rows so far, `row` the last of them."""
    parts = [f"step {int(row['step'])}/{total_steps}"]
    parts += [f"{name} avg@{int(row.get(f'eval/{name}/k', 1))} {value:.3f}" for name, value in _evaluated(row)]
    if "reward/accuracy" in row:
        parts += [f"accuracy {row['reward/accuracy']:.3f}", verdict_words(row)]
    if "entropy/token_mean" in row:
        parts.append(f"entropy {row['entropy/token_mean']:.3f} nats")
    if "response/length_mean" in row:
        parts.append(
            f"length {row['response/length_mean']:.0f}, truncated {share(row.get('response/truncated_share', 0.0))}"
        )
    if "speed/generated_tokens_per_s" in row:
        parts.append(f"{row['speed/generated_tokens_per_s']:,.0f} tok/s")
    if "time/step_s" in row:
        parts.append(duration(row["time/step_s"]))
    if left_s := remaining_s(rows, total_steps):
        parts.append(f"left {duration(left_s)}")
    return " | ".join(parts)


def panel_figures(rows: Sequence[Row], spark_width: int) -> Iterator[tuple[str, str]]:
    """(label, value) lines of the live panel; a figure that no row holds yet has no line."""
    last = rows[-1]
    for name, figures in evaluations(rows).items():
        measured = figures["avg_at_k"]
        at = max(int(row["step"]) for row in rows if f"eval/{name}/avg_at_k" in row)
        value = f"{measured['base']:.3f}" if at == 0 else change(measured["base"], measured["final"])
        yield f"{name} accuracy", f"{value}  avg@{int(measured['k'] or 1)} at step {at}"
    for label, metric, unit in (
        ("training accuracy", "reward/accuracy", ""),
        ("token entropy", "entropy/token_mean", " nats"),
    ):
        series = [row[metric] for row in rows if metric in row]
        if series:
            yield label, f"{series[-1]:.3f}{unit:<5}  {sparkline(series, spark_width)}"
    if "response/length_mean" in last:
        length = f"mean {last['response/length_mean']:.0f}, max {last['response/length_max']:.0f} tokens"
        yield "response length", f"{length}, {share(last['response/truncated_share'])} truncated"
    if "reward/correct" in last:
        yield "verdicts", verdict_words(last)
    if "groups/mixed" in last:
        correct, wrong = last["groups/all_correct"], last["groups/all_wrong"]
        yield (
            "no group signal",
            f"{share(correct + wrong)} of groups ({share(correct)} all correct, {share(wrong)} all wrong)",
        )
    if "policy/grad_norm" in last:
        clipped = f"clip {share(last['policy/clip_low_share'])} low, {share(last['policy/clip_high_share'])} high"
        yield "policy update", f"{clipped}; KL {last['policy/kl_k3']:.2g}; grad norm {last['policy/grad_norm']:.3g}"
    if "mismatch/logprob_abs_mean" in last:
        mean, largest = last["mismatch/logprob_abs_mean"], last["mismatch/logprob_abs_max"]
        canary = f"; canary {last['sync/canary_abs_mean']:.1e}" if "sync/canary_abs_mean" in last else ""
        yield "engine mismatch", f"|Δ log p| mean {mean:.1e}, max {largest:.1e}{canary}"
    if "speed/generated_tokens_per_s" in last:
        generated, trained = last["speed/generated_tokens_per_s"], last["speed/trained_tokens_per_s"]
        yield "tokens per second", f"{generated:,.0f} generated, {trained:,.0f} trained"
    if "time/step_s" in last:
        yield "time", time_share_words(last)
    if "memory/total_bytes" in last:
        yield "memory", size(last["memory/total_bytes"])


def closing_figures(
    summary: Mapping[str, Any], rows: Sequence[Row], report: Path | None, arrow: str = "→"
) -> Iterator[tuple[str, str]]:
    """(label, value) lines of the closing block. `rows` are those this process has shown."""
    if summary["error"] is not None:
        yield "error", summary["error"]
    yield "run", f"{summary['status']}, {counted(summary['steps'], 'step')} in {duration(summary['seconds'])}"
    for name, figures in summary["eval"].items():
        measured = figures["avg_at_k"]
        yield f"{name} avg@{int(measured['k'] or 1)}", change(measured["base"], measured["final"], arrow=arrow)
    entropies = [row["entropy/token_mean"] for row in rows if "entropy/token_mean" in row]
    if entropies:
        yield "token entropy", f"{change(entropies[0], entropies[-1], arrow=arrow)} nats"
    if totals := verdict_totals(rows):
        yield "verdicts", verdict_words(totals)
    times = [row["time/step_s"] for row in rows if row["step"] > 0 and "time/step_s" in row]
    if times:
        yield "median step time", duration(statistics.median(times))
    for kind, failure in summary["loggers"].items():
        if failure is not None:
            yield f"logger {kind}", failure
    if report is not None:
        yield "report", str(report)


def remaining_s(rows: Sequence[Row], total_steps: int) -> float | None:
    """Time left in seconds at the mean pace so far, evaluations included; None before the first step."""
    times = [row["time/step_s"] for row in rows if row["step"] > 0 and "time/step_s" in row]
    return statistics.fmean(times) * (total_steps - rows[-1]["step"]) if times else None


def _evaluated(row: Row) -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if name.startswith("eval/") and name.endswith("/avg_at_k"):
            yield name.removeprefix("eval/").removesuffix("/avg_at_k"), value
