"""The drawings of the report of a sweep. An arm looks the same in all of them; the page has the legend."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from entropy.law import Fit
from launch.charts import GREY, MARKERS, PALETTE, Chart, drawing, thinned
from launch.law_curves import points
from launch.sweep_figures import Outcome, front, spread
from launch.wording import Row

GLYPHS = dict(zip(MARKERS, "●■◆▲▼✚", strict=True))
DASHES = ("solid", "dashed", "dotted", "dashdot")
MOST_DOTS = 200


@dataclass(frozen=True)
class Look:
    colour: str
    marker: str
    dash: str


@dataclass(frozen=True)
class Drawn:
    """An arm and what is drawn of it.

    outcomes  of its finished points; rows  of each of them, in the same order
    law       fitted to all their points together; None where they do not determine it
    """

    name: str
    values: Mapping[str, str]
    outcomes: Sequence[Outcome]
    rows: Sequence[Sequence[Row]]
    law: Fit | None


def look(number: int) -> Look:
    """Of the arm of that number: colour is never the only thing that tells it from another."""
    again = number // len(PALETTE)
    return Look(
        PALETTE[number % len(PALETTE)], MARKERS[(number + again) % len(MARKERS)], DASHES[(number + again) % len(DASHES)]
    )


def legend(names: Sequence[str]) -> str:
    """HTML: each arm with its line, its marker and its colour."""
    dashes = {"solid": "", "dashed": "5 3", "dotted": "1 3", "dashdot": "6 3 1 3"}
    entries = []
    for number, name in enumerate(names):
        of = look(number)
        line = f'<line x1="0" y1="6" x2="28" y2="6" stroke="{of.colour}" stroke-width="3"'
        line += f' stroke-dasharray="{dashes[of.dash]}"/>' if dashes[of.dash] else "/>"
        swatch = f'<svg viewBox="0 0 28 12" aria-hidden="true">{line}</svg>'
        glyph = f'<span style="color: {of.colour}" aria-hidden="true">{GLYPHS[of.marker]}</span>'
        entries.append(f"<span>{swatch} {glyph} {escape(name)}</span>")
    return f'<p class="legend">{" ".join(entries)}</p>'


def over_steps(title: str, label: str, metric: str, arms: Sequence[Drawn]) -> Chart:
    """Mean over the seeds at the steps that all of them have, and the band from the lowest to the highest."""

    def draw(axes: Axes) -> bool:
        drawn = False
        for number, arm in enumerate(arms):
            of, series = (
                look(number),
                [{row["step"]: row[metric] for row in rows if metric in row} for rows in arm.rows],
            )
            steps = sorted(set.intersection(*map(set, series))) if series else []
            if not steps:
                continue
            table = np.array([[one[step] for step in steps] for one in series])
            drawn = True
            mean = thinned(list(zip(steps, table.mean(0).tolist(), strict=True)))
            marker = of.marker if len(steps) <= 30 else None
            axes.plot(*zip(*mean, strict=True), color=of.colour, linestyle=of.dash, marker=marker, markersize=4)
            if len(series) > 1:
                kept = np.isin(steps, [x for x, _ in mean])
                low, high = table.min(0)[kept], table.max(0)[kept]
                axes.fill_between(np.array(steps)[kept], low, high, color=of.colour, alpha=0.15, linewidth=0)
        axes.set_xlabel("training step")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        return drawn

    return drawing(title, draw)


def law(arms: Sequence[Drawn]) -> Chart:
    """Points (entropy, training accuracy) of all seeds of each arm, and the arm's fit."""

    def draw(axes: Axes) -> bool:
        drawn = False
        for number, arm in enumerate(arms):
            of, pairs = look(number), [points(rows, "train") for rows in arm.rows]
            entropies, scores = (np.concatenate([pair[i] for pair in pairs] or [np.zeros(0)]) for i in (0, 1))
            if not entropies.size:
                continue
            drawn = True
            every = math.ceil(entropies.size / MOST_DOTS)
            entropies, scores = entropies[::every], scores[::every]
            axes.scatter(entropies, scores, s=9, color=of.colour, marker=of.marker, alpha=0.45, linewidths=0)
            if arm.law:
                grid = np.linspace(entropies.min(), entropies.max(), 100)
                axes.plot(grid, arm.law.predict(grid), color=of.colour, linestyle=of.dash, linewidth=2)
        axes.set_xlabel("mean token entropy H (nats)")
        axes.set_ylabel("training accuracy R (share correct)")
        return drawn

    return drawing("Entropy against accuracy", draw)


def pareto(title: str, arms: Sequence[Drawn], x: str, y: str, label: str, more_is_better: bool) -> Chart:
    """Every seed small, the mean of an arm large, and a line through the arms that no other one beats in both."""

    def draw(axes: Axes) -> bool:
        means = []
        for number, arm in enumerate(arms):
            found = [(o.figures[x], o.figures[y]) for o in arm.outcomes if x in o.figures and y in o.figures]
            if not found:
                continue
            of, table = look(number), np.array(found)
            axes.scatter(table[:, 0], table[:, 1], s=14, color=of.colour, marker=of.marker, alpha=0.5, linewidths=0)
            mean = table.mean(0)
            axes.scatter(mean[0], mean[1], s=70, color=of.colour, marker=of.marker, linewidths=0)
            means.append(mean)
        if not means:
            return False
        table = np.array(means)
        best = table[front(table * [1 if more_is_better else -1, 1])]
        best = best[np.argsort(best[:, 0])]
        axes.plot(*best.T, color=GREY, linewidth=1, linestyle="dashed", zorder=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        if table[:, 0].max() >= 1000:
            axes.xaxis.set_major_formatter(EngFormatter())
        axes.set_xlabel(label)
        axes.set_ylabel("final accuracy (share correct)")
        return True

    return drawing(title, draw)


def by_value(title: str, key: str, arms: Sequence[Drawn], figure: str, label: str) -> Chart:
    """A figure by the value of a swept key: every point small, the mean of a value large, its deviation as a bar."""

    def draw(axes: Axes) -> bool:
        found: dict[str, list[float]] = {}
        for arm in arms:
            for outcome in arm.outcomes:
                if figure in outcome.figures:
                    found.setdefault(arm.values.get(key, "-"), []).append(outcome.figures[figure])
        if not found:
            return False
        numbers = _numbers(list(found))
        places = numbers or [float(place) for place in range(len(found))]
        for place, values in zip(places, found.values(), strict=True):
            of = spread(values)
            assert of is not None
            axes.scatter([place] * len(values), values, s=14, color=GREY, linewidths=0)
            axes.errorbar(place, of.mean, yerr=of.std or 0, fmt="o", color=PALETTE[0], markersize=7, capsize=4)
        if numbers:
            if min(numbers) > 0 and max(numbers) / min(numbers) > 20:
                axes.set_xscale("log")
            axes.set_xticks(numbers, list(found))
            axes.minorticks_off()
        else:
            axes.set_xticks(places, list(found), rotation=30, ha="right", fontsize=8)
        axes.set_xlabel(key)
        axes.set_ylabel(label)
        return True

    return drawing(title, draw)


def _numbers(values: Sequence[str]) -> list[float]:
    """The values as numbers; empty where one is none."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return []
