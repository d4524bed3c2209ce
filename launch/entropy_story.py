"""What moved the entropy of a run, in words: which tokens, which sign of the advantage, which control. Pure."""

from collections.abc import Sequence
from math import isfinite
from statistics import fmean, median

from launch.wording import Row, change, metric_names, share

# What a control calls the tokens that it acted on, and how strong it was.
TOKENS, STRENGTHS = ("selected", "dropped"), ("weight", "coef")


def acting(names: Sequence[str], figures: Sequence[str]) -> list[tuple[str, str]]:
    """(control, metric) of every metric `<control>/<figure>` among the names."""
    return [(name.split("/")[0], name) for name in names if name.count("/") == 1 and name.split("/")[1] in figures]


def story(rows: Sequence[Row]) -> list[str]:
    """Sentences over all steps that have the figures; shares of tokens are means over those steps."""
    names, found = metric_names(rows), []
    top = _values(rows, "entropy/top_fifth_mean")
    if top:
        found.append(f"The fifth of the tokens with most entropy: {change(top[0], top[-1])} nats per token.")
    signs = [_values(rows, f"entropy/update_{sign}_mean") for sign in ("positive", "negative")]
    if all(signs):
        positive, negative = (change(values[0], values[-1]) for values in signs)
        found.append(f"Tokens with an advantage above 0: {positive} nats; with one below 0: {negative}.")
    places = [_values(rows, f"entropy/{place}_quarter_mean") for place in ("first", "last")]
    if all(places):
        first, last = (change(values[0], values[-1]) for values in places)
        found.append(f"In the first quarter of the responses: {first} nats; in the last: {last}.")
    agreement = _values(rows, "dynamics/lemma1_agreement")
    if agreement:
        found.append(
            f"Lemma 1 and the change that an update made agree with a correlation of {median(agreement):.2f} over "
            "the probed states (median of the steps)."
        )
    for kind in TOKENS:
        for control, name in acting(names, [f"{kind}_share"]):
            if not (shares := _values(rows, name)):
                continue
            of = f"{control} acted on {share(fmean(shares))} of the tokens"
            below = _values(rows, f"{control}/{kind}_negative_share")
            signed = f", {share(fmean(below))} of them with an advantage below 0" if below else ""
            logprobs = _values(rows, f"{control}/{kind}_logprob_mean")
            likely = f", mean log-probability {fmean(logprobs):.2f}" if logprobs else ""
            found.append(f"{of}{signed}{likely}.")
    for control, name in acting(names, STRENGTHS):
        if not (values := _values(rows, name)):
            continue
        found.append(
            f"The {name.split('/')[1]} of {control}: {change(values[0], values[-1])}, between {min(values):.3f} and "
            f"{max(values):.3f}."
        )
    temperatures = _values(rows, "rollout/temperature")
    if temperatures and min(temperatures) < max(temperatures):
        found.append(
            f"The sampling temperature: {change(temperatures[0], temperatures[-1])}, between {min(temperatures):.3f} "
            f"and {max(temperatures):.3f}."
        )
    return found


def _values(rows: Sequence[Row], name: str) -> list[float]:
    """Of the steps that have it and a number in it."""
    return [row[name] for row in rows if name in row and isfinite(row[name])]
