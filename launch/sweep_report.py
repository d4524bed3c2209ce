"""The report of a sweep: `python -m launch.sweep_report FOLDER` writes sweep.html, with its tables as CSV and LaTeX.

sweep_arms.csv has each figure of each arm over its seeds, sweep_pairs.csv the differences of every two arms over the
seeds that both have, sweep.tex the table of the page.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from launch import page
from launch.config import ConfigError
from launch.points import FINISHED
from launch.sweep import ENTROPY
from launch.sweep_figures import LEVEL, by_arm, spread, swept
from launch.sweep_tables import Found, arms_csv, arms_table, latex, law, law_table, names, pairs_csv, pairs_table, read
from launch.wording import counted

PAGE, ARMS, PAIRS, LATEX = "sweep.html", "sweep_arms.csv", "sweep_pairs.csv", "sweep.tex"
LEGEND = ".legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; } .legend svg { display: inline; width: 28px; }"
PAIRED_NOTE = (
    f"Differences over the seeds that both arms have; Student's t at {LEVEL:.0%}. Few seeds make wide intervals, and "
    "of many comparisons one in twenty is clear by chance."
)
LAW_NOTE = (
    "R = -a e^H + b on training accuracy and entropy of every step of all seeds of an arm together. Intervals are at "
    "95 % under independent errors, which the steps of a run do not have: the truth is less certain. A ceiling above 1 "
    "says that the law does not hold as far as H = 0."
)


def sentences(found: Found) -> Iterator[str]:
    """What came of the sweep, in words."""
    arms, accuracy = by_arm(found.outcomes), found.accuracy
    called = names(list(arms))
    finished = f"{len(found.outcomes)} of {counted(len(found.points), 'point')} finished"
    yield f"{finished}: {counted(len(arms), 'arm')}, {_seeds([len(group) for group in arms.values()])}."
    means = {
        called[arm]: of.mean
        for arm, group in arms.items()
        if (of := spread([o.figures[accuracy] for o in group if accuracy in o.figures] if accuracy else []))
    }
    if accuracy and means:
        best = max(means, key=lambda name: means[name])
        yield f"Highest accuracy on {accuracy.partition('/')[2]}: {best}, {means[best]:.3f} on average."
    for point in found.points:
        if point.status != FINISHED:
            yield f"Left out: {' '.join(point.overrides)} ({point.status})."


def _seeds(counts: Sequence[int]) -> str:
    if not counts:
        return "no seeds"
    low, high = min(counts), max(counts)
    return f"{counted(low, 'seed')} each" if low == high else f"{low} to {high} seeds"


def html(title: str, found: Found, baseline: str) -> str:
    """The page."""
    # Here, because matplotlib takes a second to import, and --help needs none of it.
    from launch import sweep_charts as charts

    arms = by_arm(found.outcomes)
    called, differing, accuracy = names(list(arms)), swept(list(arms)), found.accuracy
    drawn = []
    for arm, group in arms.items():
        rows = [found.rows[outcome.name] for outcome in group]
        values = dict(each.split("=", 1) for each in arm if "=" in each)
        drawn.append(charts.Drawn(called[arm], values, group, rows, law(rows)))
    sets = [name.partition("/")[2] for name in found.figures if name.startswith("accuracy/")]
    curves = [
        *(charts.over_steps(f"Accuracy on {s}", "avg@k (share correct)", f"eval/{s}/avg_at_k", drawn) for s in sets),
        charts.over_steps("Token entropy", "entropy (nats per token)", ENTROPY, drawn),
        charts.law(drawn),
    ]
    trade, keys = [], []
    if accuracy:
        at = f"Accuracy on {accuracy.partition('/')[2]}"
        trade = [
            charts.pareto(f"{at} against entropy", drawn, "entropy_final", accuracy, "final entropy (nats)", True),
            charts.pareto(f"{at} against tokens", drawn, "tokens", accuracy, "tokens generated", False),
            charts.pareto(f"{at} against time", drawn, "seconds", accuracy, "time of all steps (s)", False),
        ]
        for key in differing:
            keys.append(charts.by_value(f"{at} by {key}", key, drawn, accuracy, "final accuracy (share)"))
            keys.append(charts.by_value(f"Final entropy by {key}", key, drawn, "entropy_final", "entropy (nats)"))
    for figure in (name for name in found.figures if name.startswith("gap/")):
        above = f"Training accuracy above {figure.partition('/')[2]}"
        keys += [charts.by_value(f"{above} by {key}", key, drawn, figure, "difference (share)") for key in differing]
    legend = f"<style>{LEGEND}</style>{charts.legend([arm.name for arm in drawn])}"
    groups = ["".join(page.figure(each.title, each.svg) for each in some if each.svg) for some in (curves, trade, keys)]
    grids = [f'<div class="charts">{group}</div>' for group in groups]
    return page.page(
        f"{title}: Entrain sweep",
        f"<h1>{escape(title)}</h1>" + page.paragraphs(list(sentences(found)), "outcome"),
        {
            "Arms: mean over seeds ± standard deviation": page.table(arms_table(found)),
            f"Against {baseline}": page.table(pairs_table(found, baseline)) + page.paragraphs([PAIRED_NOTE], "soft"),
            "Curves: mean over seeds, lowest to highest": legend + grids[0],
            "What it costs": legend + grids[1],
            "By setting": grids[2],
            "The law between entropy and accuracy": page.table(law_table(found)) + page.paragraphs([LAW_NOTE], "soft"),
        },
    )


def write(folder: Path, baseline: str | None = None) -> Path:
    """Write the page and the tables into the folder of the sweep; returns the page's path.

    baseline  name of the arm that the others are held against; the first one by default

    Raises ConfigError where the folder holds no sweep, none of whose points is finished, or no such arm.
    """
    found = read(folder)
    called = list(names(list(by_arm(found.outcomes))).values())
    if not called:
        raise ConfigError(f"{folder}: no point of the sweep has finished, so there is nothing to report.")
    if baseline is not None and baseline not in called:
        raise ConfigError(f"--baseline={baseline} is not one of the arms: {', '.join(called)}.")
    page.write(folder / ARMS, arms_csv(found))
    page.write(folder / PAIRS, pairs_csv(found))
    page.write(folder / LATEX, latex(arms_table(found)))
    page.write(folder / PAGE, html(folder.resolve().name, found, baseline or called[0]))
    return folder / PAGE


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m launch.sweep_report", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="folder of a sweep, as given in hydra.sweep.dir")
    parser.add_argument("--baseline", help="arm that the others are held against; the first of the sweep by default")
    asked = parser.parse_args(arguments)
    try:
        path = write(asked.folder, asked.baseline)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(str(path.with_name(name)) for name in (PAGE, ARMS, PAIRS, LATEX)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
