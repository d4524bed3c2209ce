"""Several presets to measure on at once: what `python -m launch.evaluate data=gsm8k,math500` means.

A comma between options of a group makes Hydra run one after another; an evaluation measures them all with one start.
"""

from collections.abc import Sequence
from difflib import get_close_matches

from launch.config import CONF, ConfigError

LABORATORY, SETS = "laboratory", "sets"
# Sources that are no set by themselves.
NO_SETS = ("base", "none", "reasoning_gym")


def presets() -> list[str]:
    """Names of all presets that may stand between commas."""
    return [
        LABORATORY,
        *sorted(file.stem for file in (CONF / "data/source").glob("*.yaml") if file.stem not in NO_SETS),
    ]


def with_sets(overrides: Sequence[str]) -> list[str]:
    """`overrides`, with `data=<preset>,<preset>` as the settings that add each preset as a set of its own name.

    All rows of its file, which is `data.evaluation.<preset>.path`; laboratory stands for its two sets. Raises
    ConfigError where a name is no preset, or comes twice.
    """
    found: list[str] = []
    for override in overrides:
        group, _, value = override.partition("=")
        found += _added(value.split(",")) if group == "data" and "," in value else [override]
    return found


def _added(names: Sequence[str]) -> list[str]:
    known = presets()
    problems = [_unknown(name, known) for name in names if name not in known]
    problems += [f"data={','.join(names)} names {name} twice." for name in known if names.count(name) > 1]
    if problems:
        raise ConfigError("\n".join(problems))
    files = [name for name in names if name != LABORATORY]
    return [
        f"data={LABORATORY if LABORATORY in names else SETS}",
        *(f"+data/source@data.evaluation.{name}={name}" for name in files),
    ]


def _unknown(name: str, known: Sequence[str]) -> str:
    nearest = get_close_matches(name, known, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else "."
    return f"data: there is no evaluation set {name or repr(name)}{hint} There are {', '.join(known)}."
