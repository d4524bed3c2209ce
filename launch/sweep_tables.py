"""A sweep as read from its folder, and its tables: of the arms, of their differences, of the law. CSV and LaTeX."""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from entropy.law import EXPONENTIAL, FORMS, Fit, Form, NoFit, fit
from launch.law_curves import points
from launch.points import FINISHED, Point, read_points
from launch.run_folder import read_metrics
from launch.sweep import ENTROPY, HELD_OUT
from launch.sweep_figures import LEVEL, Outcome, Paired, arm_of, by_arm, measured, paired, seed_of, spread, swept
from launch.wording import Row

NEEDED = ("step", ENTROPY, "reward/accuracy", "tokens/generated", "time/step_s")
# Heads of the columns by figure; those of the evaluation sets come first.
HEADS = {
    "entropy_first": "entropy, first step",
    "entropy_final": "entropy, final",
    "tokens": "tokens generated",
    "seconds": "seconds",
}


@dataclass(frozen=True)
class Found:
    """A sweep as read: its points, what the finished ones came to, and the rows of each of those by its name."""

    points: Sequence[Point]
    outcomes: Sequence[Outcome]
    rows: Mapping[str, Sequence[Row]]

    @property
    def figures(self) -> list[str]:
        """Names of the figures that any point has, in the order of the columns."""
        names = dict.fromkeys(name for outcome in self.outcomes for name in outcome.figures)
        return sorted(names, key=lambda name: (name in HEADS, name.startswith(("gain/", "gap/")), [*names].index(name)))

    @property
    def accuracy(self) -> str | None:
        """The figure that the arms are compared by: of the set called heldout, or the first."""
        sets = [name for name in self.figures if name.startswith("accuracy/")]
        return next((name for name in sets if name == f"accuracy/{HELD_OUT}"), sets[0] if sets else None)


def read(folder: Path) -> Found:
    """The sweep in `folder`. Raises ConfigError where it holds none."""
    known = read_points(folder)
    rows = {
        point.name: [_needed(row) for row in read_metrics(folder / point.name)]
        for point in known
        if point.status == FINISHED
    }
    outcomes = [
        Outcome(point.name, arm_of(point.overrides), seed_of(point.overrides), measured(rows[point.name]))
        for point in known
        if point.name in rows
    ]
    return Found(known, outcomes, rows)


def _needed(row: Row) -> Row:
    """Without what the report does not use: a long sweep has hundreds of figures a step."""
    return {name: value for name, value in row.items() if name in NEEDED or name.startswith("eval/")}


def names(arms: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """What each arm is called: the values of the keys that differ, with the key where there are several."""
    keys = list(swept(arms))
    called = {}
    for arm in arms:
        values = [each for each in arm if each.split("=", 1)[0] in keys]
        called[arm] = " ".join(each.split("=", 1)[-1] if len(keys) == 1 else each for each in values) or "the defaults"
    return called


def arms_table(found: Found) -> list[list[str]]:
    """A head, then a row for each arm: mean over its seeds ± their standard deviation."""
    arms = by_arm(found.outcomes)
    called = names(list(arms))
    rows = [["arm", "seeds", *(_head(figure) for figure in found.figures)]]
    for arm, group in arms.items():
        cells = [_cell(figure, [o.figures[figure] for o in group if figure in o.figures]) for figure in found.figures]
        rows.append([called[arm], str(len(group)), *cells])
    return rows


def comparisons(found: Found) -> list[tuple[str, str, Paired]]:
    """(A, B, the difference of B from A) of every two arms in every figure that a common seed has in both."""
    arms = by_arm(found.outcomes)
    called = names(list(arms))
    return [
        (called[a], called[b], difference)
        for a, b in itertools.combinations(arms, 2)
        for figure in found.figures
        if (difference := paired(arms[a], arms[b], figure))
    ]


def pairs_table(found: Found, baseline: str) -> list[list[str]]:
    """Of every other arm against `baseline`: accuracies and final entropy."""
    rows = [["arm", "figure", "seeds", "difference", f"{LEVEL:.0%} interval", "clear"]]
    for a, b, each in comparisons(found):
        if baseline not in (a, b) or not (each.figure.startswith("accuracy/") or each.figure == "entropy_final"):
            continue
        # The baseline may stand on either side of the pair.
        sign = 1 if a == baseline else -1
        between = "-"
        if each.low is not None and each.high is not None:
            low, high = sorted((sign * each.low, sign * each.high))
            between = f"{low:+.3f} to {high:+.3f}"
        other = b if a == baseline else a
        difference = f"{sign * each.difference:+.3f}"
        clear = "yes" if each.is_clear else "no"
        rows.append([other, _head(each.figure), str(each.seeds), difference, between, clear])
    return rows


def law_table(found: Found) -> list[list[str]]:
    """The law fitted to the training accuracy of all seeds of an arm together, with its rivals' R²."""
    arms = by_arm(found.outcomes)
    called = names(list(arms))
    rows = [["arm", "points", "a", "b", "ceiling at H = 0", "RMSE", *(f"R² of {form.text}" for form in FORMS)]]
    for arm, group in arms.items():
        runs = [found.rows[outcome.name] for outcome in group]
        explained = [f"{each.r_squared:.3f}" if (each := law(runs, form)) else "-" for form in FORMS]
        size = str(sum(points(rows, "train")[0].size for rows in runs))
        fitted = law(runs)
        if fitted is None or fitted.ceiling is None:
            rows.append([called[arm], size, "-", "-", "-", "-", *explained])
            continue
        ceiling = f"{fitted.ceiling.value:.3f} [{fitted.ceiling.low:.3f}, {fitted.ceiling.high:.3f}]"
        a, b = f"{-fitted.slope.value:.3f}", f"{fitted.intercept.value:.3f}"
        rows.append([called[arm], size, a, b, ceiling, f"{fitted.rmse:.3f}", *explained])
    return rows


def law(runs: Sequence[Sequence[Row]], form: Form = EXPONENTIAL) -> Fit | None:
    """`form` fitted to entropy and training accuracy of all steps of the runs; None where they do not determine it."""
    pairs = [points(rows, "train") for rows in runs]
    try:
        return fit(np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs]), form)
    except NoFit:
        return None


def arms_csv(found: Found) -> str:
    """A row for each arm and figure, full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["arm", "overrides", "figure", "mean", "std", "lowest", "highest", "seeds"])
    arms = by_arm(found.outcomes)
    called = names(list(arms))
    for arm, group in arms.items():
        for figure in found.figures:
            if of := spread([o.figures[figure] for o in group if figure in o.figures]):
                writer.writerow([called[arm], " ".join(arm), figure, of.mean, of.std, of.low, of.high, of.seeds])
    return out.getvalue()


def pairs_csv(found: Found) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["a", "b", "figure", "b_minus_a", "low", "high", "seeds"])
    for a, b, each in comparisons(found):
        writer.writerow([a, b, each.figure, each.difference, each.low, each.high, each.seeds])
    return out.getvalue()


def latex(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its head, for the package booktabs."""
    head, *body = [[_tex(cell) for cell in row] for row in rows]
    lines = [" & ".join(row) + r" \\" for row in body]
    columns = "l" + "r" * (len(head) - 1)
    top = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    return "\n".join([*top, *lines, r"\bottomrule", r"\end{tabular}", ""])


def _tex(text: str) -> str:
    for plain, escaped in (("\\", r"\textbackslash "), *((char, rf"\{char}") for char in "&%$#_{}"), ("±", r"$\pm$")):
        # The backslash comes first, and what it becomes has no character of the others.
        text = text.replace(plain, escaped)
    return text.replace("~", r"\textasciitilde ").replace("^", r"\textasciicircum ")


def _head(figure: str) -> str:
    kind, _, name = figure.partition("/")
    return (
        HEADS.get(figure) or {"accuracy": f"{name}, final", "gain": f"{name}, gain", "gap": f"train above {name}"}[kind]
    )


def _cell(figure: str, values: Sequence[float]) -> str:
    if (of := spread(values)) is None:
        return "-"
    digits = 0 if figure in ("tokens", "seconds") else 3
    return f"{of.mean:,.{digits}f}" + (f" ± {of.std:,.{digits}f}" if of.std is not None else "")
