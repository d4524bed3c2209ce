"""The curves of a run as inline SVG.

The drawings carry no background, and their text and lines take the page's colour (`currentColor`), so that one drawing
serves a light and a dark page. Importing this module imports matplotlib; only the report does.
"""

import io
import itertools
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from launch.entropy_story import STRENGTHS, TOKENS, acting
from launch.phases import PHASES
from launch.run_folder import evaluations
from launch.wording import OUTCOMES, Row, metric_names

# Chosen by a search: about 3:1 against the page in light and in dark, and apart for every kind of colour blindness.
BLUE, ORANGE, SLATE, RED, PURPLE, GREY = "#0594ed", "#b27b02", "#546a9c", "#c94741", "#8541ff", "#8e8e8e"
PALETTE = (BLUE, ORANGE, PURPLE, RED, SLATE, GREY)
MARKERS = "osD^vP"
INK = "#010203"  # stands for currentColor, which matplotlib cannot name
MOST_PIECES = 300
MOST_POINTS = 600
MOST_COLUMNS = 4  # of a legend
Series = list[tuple[str, str, str]]
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass(frozen=True)
class Chart:
    """One figure of the report: `svg` is None where the run holds nothing to draw."""

    title: str
    svg: str | None


def charts(rows: Sequence[Row]) -> list[Chart]:
    """Every chart of the report, from the metric rows of a run, oldest first; missing metrics leave gaps."""
    verdicts = dict(zip(OUTCOMES, (SLATE, GREY, ORANGE, RED), strict=True))
    phases = dict(zip((*PHASES, "other"), itertools.cycle(PALETTE), strict=False))
    names = metric_names(rows)
    return [
        _chart("Accuracy", rows, _accuracy),
        _lines(
            "Training accuracy above that of the evaluation sets",
            rows,
            "difference (share correct)",
            _of_sets(names, "train_gap"),
            scale="signed",
        ),
        _lines(
            "Token entropy",
            rows,
            "entropy (nats per token)",
            [("of the sampled tokens", "entropy/sampled_mean", ORANGE), ("exact", "entropy/token_mean", BLUE)],
        ),
        _lines(
            "Entropy by outcome",
            rows,
            "entropy (nats per token)",
            [("right responses", "entropy/correct_mean", SLATE), ("wrong", "entropy/wrong_mean", ORANGE)],
        ),
        _lines(
            "Entropy by sign of the advantage",
            rows,
            "entropy (nats per token)",
            [("above 0", "entropy/update_positive_mean", BLUE), ("below 0", "entropy/update_negative_mean", ORANGE)],
        ),
        _lines(
            "Entropy by place in the response",
            rows,
            "entropy (nats per token)",
            [
                ("first quarter", "entropy/first_quarter_mean", BLUE),
                ("last quarter", "entropy/last_quarter_mean", ORANGE),
            ],
        ),
        _lines(
            "Tokens that a control acted on",
            rows,
            "share of tokens",
            _of_controls(names, [f"{kind}_share" for kind in TOKENS]),
        ),
        _lines(
            "Of them with an advantage below 0",
            rows,
            "share of those tokens",
            _of_controls(names, [f"{kind}_negative_share" for kind in TOKENS]),
        ),
        _lines("Strength of a control", rows, "weight or coefficient", _of_controls(names, STRENGTHS)),
        _lines(
            "Entropy on the prompts of the evaluation sets",
            rows,
            "share of that at the start",
            _of_sets(names, "prompt_entropy_ratio"),
        ),
        _lines(
            "Change of entropy by an update",
            rows,
            "change (nats per token)",
            [
                ("observed", "dynamics/entropy_change_observed", BLUE),
                ("Lemma 1", "dynamics/entropy_change_lemma1", ORANGE),
            ],
            scale="signed",
        ),
        _lines(
            "Covariance of log-probability and advantage",
            rows,
            "covariance (nats)",
            [("mean over tokens", "covariance/mean", BLUE)],
            scale="signed",
        ),
        _lines(
            "Diversity of the responses to a prompt",
            rows,
            "share, 0 to 1",
            [
                ("unique n-grams, 1 to 5", "diversity/ngram", BLUE),
                ("Self-BLEU", "diversity/self_bleu", ORANGE),
            ],
        ),
        _lines(
            "Answers to a prompt", rows, "different answers (count)", [("mean", "diversity/distinct_answers", BLUE)]
        ),
        _lines(
            "Calibration error",
            rows,
            "expected calibration error",
            [("likelihood", "calibration/likelihood_ece", BLUE), ("agreement", "calibration/agreement_ece", ORANGE)],
        ),
        _lines(
            "Response length",
            rows,
            "length (tokens)",
            [("mean", "response/length_mean", BLUE), ("longest", "response/length_max", GREY)],
        ),
        _lines("Truncated responses", rows, "share of responses", [("truncated", "response/truncated_share", RED)]),
        _stack(
            "Verdicts",
            rows,
            "responses (count)",
            {name: (f"reward/{name}", colour) for name, colour in verdicts.items()},
        ),
        _stack(
            "Groups",
            rows,
            "share of groups",
            {
                "all correct": ("groups/all_correct", SLATE),
                "mixed": ("groups/mixed", BLUE),
                "all wrong": ("groups/all_wrong", GREY),
            },
        ),
        _lines(
            "Clipped tokens",
            rows,
            "share of tokens",
            [("low side", "policy/clip_low_share", BLUE), ("high side", "policy/clip_high_share", ORANGE)],
        ),
        _lines("Gradient norm", rows, "norm before clipping", [("gradient norm", "policy/grad_norm", BLUE)]),
        _lines(
            "KL to the old policy",
            rows,
            "KL (nats per token)",
            [("k1", "policy/kl_k1", BLUE), ("k3", "policy/kl_k3", ORANGE)],
            scale="signed",
        ),
        _lines(
            "Engine against learner",
            rows,
            "|Δ log p| > 0 (nats, log scale)",
            [
                ("mean", "mismatch/logprob_abs_mean", BLUE),
                ("largest", "mismatch/logprob_abs_max", GREY),
                ("canary mean", "sync/canary_abs_mean", ORANGE),
            ],
            scale="log",
        ),
        _stack(
            "Time by phase",
            rows,
            "time (s)",
            {name.replace("_", " "): (f"time/{name}_s", colour) for name, colour in phases.items()},
        ),
    ]


def _of_sets(names: Sequence[str], figure: str) -> Series:
    """The figure of each evaluation set as a series."""
    found = [name for name in names if name.startswith("eval/") and name.endswith(f"/{figure}")]
    return [(name.split("/")[1], name, colour) for name, colour in zip(found, itertools.cycle(PALETTE), strict=False)]


def _of_controls(names: Sequence[str], figures: Sequence[str]) -> Series:
    """Those figures of each entropy control as a series."""
    return [
        (control, name, colour)
        for (control, name), colour in zip(acting(names, figures), itertools.cycle(PALETTE), strict=False)
    ]


def _accuracy(axes: Axes, rows: Sequence[Row]) -> bool:
    drawn = _draw(axes, rows, "training", "reward/accuracy", GREY)
    looks = itertools.cycle(zip((BLUE, ORANGE, PURPLE, RED, SLATE), MARKERS, strict=False))
    for name, (colour, marker) in zip(evaluations(rows), looks, strict=False):
        metric = f"eval/{name}/avg_at_k"
        drawn |= _draw(axes, rows, name, metric, colour, marker=marker, linewidth=2)
        bounded = [row for row in rows if f"{metric}_low" in row]
        low, high = ([row[f"{metric}_{side}"] for row in bounded] for side in ("low", "high"))
        axes.fill_between([row["step"] for row in bounded], low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_ylabel("accuracy (share correct)")
    axes.set_ylim(bottom=0)
    return drawn


def _lines(title: str, rows: Sequence[Row], label: str, series: Series, scale: str = "from zero") -> Chart:
    """One line per series of (name, metric, colour).

    scale  from zero | signed | log, which leaves out what is not positive
    """

    def draw(axes: Axes, rows: Sequence[Row]) -> bool:
        above = 0.0 if scale == "log" else -math.inf
        drawn = [_draw(axes, rows, name, metric, colour, above) for name, metric, colour in series]
        axes.set_ylabel(label)
        if scale == "log" and any(drawn):
            axes.set_yscale("log")
        if scale == "from zero":
            axes.set_ylim(bottom=0)
        return any(drawn)

    return _chart(title, rows, draw)


def _draw(
    axes: Axes, rows: Sequence[Row], name: str, metric: str, colour: str, above: float = -math.inf, **style
) -> bool:
    points = [(row["step"], row[metric]) for row in rows if metric in row and row[metric] > above]
    if not points:
        return False
    # A line of one point is invisible, and markers on hundreds of points hide the line.
    style = {"marker": "o" if len(points) == 1 else None, "linewidth": 1.5, "markersize": 4} | style
    axes.plot(*zip(*thinned(points), strict=True), label=name, color=colour, **style)
    return True


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> Sequence[tuple[float, float]]:
    """At most about `most` of the points (x, y), in order, that draw the same line: of each run of neighbours the first
    and the last, the lowest and the highest (M4: Jugel et al. 2014), so that no spike is lost."""
    if len(points) <= most:
        return points
    length = math.ceil(4 * len(points) / most)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), length):
        run = range(start, min(start + length, len(points)))
        ends = {run[0], run[-1], min(run, key=lambda i: points[i][1]), max(run, key=lambda i: points[i][1])}
        kept += [points[i] for i in sorted(ends)]
    return kept


def _stack(title: str, rows: Sequence[Row], label: str, series: Mapping[str, tuple[str, str]]) -> Chart:
    def draw(axes: Axes, rows: Sequence[Row]) -> bool:
        # What never happened needs no entry in the legend.
        present = {name: entry for name, entry in series.items() if any(row.get(entry[0]) for row in rows)}
        rows = [row for row in rows if any(metric in row for metric, _ in present.values())]
        if not rows:
            return False
        # One flat piece a step, half a step to both sides, so that a run of one step shows as well.
        # A long run gets the mean of neighbours in one piece: more pieces than pixels only make a heavy page.
        length = math.ceil(len(rows) / MOST_PIECES)
        pieces = [rows[start : start + length] for start in range(0, len(rows), length)]
        edges = [rows[0]["step"] - 0.5, *(piece[-1]["step"] + 0.5 for piece in pieces)]
        heights = [
            [statistics.fmean(row.get(metric, 0.0) for row in piece) for piece in pieces]
            for metric, _ in present.values()
        ]
        axes.stackplot(
            edges,
            [[*height, height[-1]] for height in heights],
            step="post",
            labels=list(present),
            colors=[colour for _, colour in present.values()],
            # The palette begins again where there are more layers than colours.
            hatch=["" if number < len(PALETTE) else "////" for number in map(list(series).index, present)],
            linewidth=0,
        )
        axes.set_ylabel(label)
        return True

    return _chart(title, rows, draw)


def _chart(title: str, rows: Sequence[Row], draw: Callable[[Axes, Sequence[Row]], bool]) -> Chart:
    def over_steps(axes: Axes) -> bool:
        if not draw(axes, rows):
            return False
        axes.set_xlabel("training step")
        axes.set_xlim(rows[0]["step"] - 0.5, rows[-1]["step"] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        return True

    return drawing(title, over_steps)


def drawing(title: str, draw: Callable[[Axes], bool]) -> Chart:
    """What `draw` makes on empty axes; it returns whether there was anything to draw."""
    slug = re.sub(r"\W+", "-", title.lower())
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": slug}):
        figure = Figure(figsize=(4.6, 3.0), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.8)
        axes.set_axisbelow(True)
        if not draw(axes):
            return Chart(title, None)
        if len(axes.get_legend_handles_labels()[1]) > 1:
            _add_legend(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Chart(title, _inline(buffer.getvalue(), slug, title))


def _add_legend(figure: Figure) -> None:
    """Above the axes, in as many columns as the width of the figure has room for."""
    for columns in range(MOST_COLUMNS, 0, -1):
        legend = figure.legend(loc="outside upper left", ncols=columns, columnspacing=1.2, handlelength=1.2)
        if legend.get_window_extent().width <= figure.bbox.width or columns == 1:
            return
        legend.remove()


def _inline(svg: str, slug: str, title: str) -> str:
    """The bare <svg> element, scaled by the page, its ids unique among the drawings of one page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Two decimals of a point are plenty, and the six that come make up most of the page.
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)
    svg = re.sub(r'\bid="', f'id="{slug}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\1{slug}-", svg)
    svg = svg.replace(INK, "currentColor")
    opening = re.sub(r' (width|height)="[^"]*"', "", svg[: svg.index(">")])
    return f'{opening} role="img" aria-label="{escape(title)}"{svg[svg.index(">") :]}'
