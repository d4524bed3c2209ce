"""`python -m launch.entropy_table`: write the table of entropy controls in docs/entropy/README.md.

What it says comes from `entropy.controls.REGISTRY`, the options in conf/entropy and the controls themselves.
"""

from collections.abc import Iterator
from functools import cache

from entropy.controls import REGISTRY, sections
from launch.config import CONF, compose

PATH = CONF.parent / "docs" / "entropy" / "README.md"
BEGIN = "<!-- written by python -m launch.entropy_table -->"
END = "<!-- end of the table -->"
NEEDS = {
    "current_logprobs": "a forward pass before each update",
    "entropies": "entropies before the updates",
    "discriminators": "the exact score",
    "several_updates": "several updates per rollout",
    "synchronous": "synchronous rollouts",
}
STEPS = 100  # of a run; the table does not depend on it


@cache
def options() -> dict[str, list[str]]:
    """Names of the options of conf/entropy by the section that they fill in."""
    found: dict[str, list[str]] = {name: [] for name in REGISTRY}
    for file in sorted((CONF / "entropy").glob("*.yaml")):
        if file.stem not in ("base", "none"):
            [section] = sections(compose([f"entropy={file.stem}"]).entropy)
            found[section].append(file.stem)
    return found


def rows() -> Iterator[str]:
    """Lines of the table."""
    yield "| control | options | acts on | entropy | looks at | needs | state | source |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, choices in options().items():
        entry = REGISTRY[name]
        # What several options need together: those of the reweighting differ.
        made = [entry.make(getattr(compose([f"entropy={choice}"]).entropy, name), 0, STEPS) for choice in choices]
        needs = [words for need, words in NEEDS.items() if any(getattr(control.needs, need) for control in made)]
        state = sorted({key for control in made for key in control.state_dict()})
        cells = [
            f"[`{name}`]({name}.md)",
            ", ".join(f"`{choice}`" for choice in choices),
            entry.acts_on,
            entry.entropy,
            f"one {made[0].scope}",
            ", ".join(needs) or "nothing",
            ", ".join(f"`{key}`" for key in state) or "none",
            entry.source,
        ]
        yield f"| {' | '.join(cells)} |"


def page(text: str) -> str:
    """`text` with the table between its marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return "\n".join([before + BEGIN, "", *rows(), "", END + after])


def main() -> None:
    PATH.write_text(page(PATH.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"written to {PATH}")


if __name__ == "__main__":
    main()
