"""Which prompts are the same task: repeats within the training prompts, and training prompts of an evaluation set."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from rollout.types import Prompt

NAMED_ROWS = 5


def normalised(question: str) -> str:
    """The letters and digits of `question`, case folded, after Unicode NFKC; the question where it has none.

    Spaces, punctuation and mathematical signs do not count, so 1 + 2 and 1 - 2 come out the same: fit for problems in
    words, which this errs on the safe side of, and not for bare sums.
    """
    folded = unicodedata.normalize("NFKC", question).casefold()
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", folded))) or question


def without_repeats(prompts: Iterable[Prompt]) -> list[Prompt]:
    """The first prompt of each identity, in order."""
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        first.setdefault(prompt.identity, prompt)
    return list(first.values())


def overlaps(train: Iterable[Prompt], evaluation: Mapping[str, Sequence[Prompt]]) -> dict[str, list[Prompt]]:
    """The training prompts that stand in each evaluation set; sets without any are left out."""
    identities = {name: {prompt.identity for prompt in prompts} for name, prompts in evaluation.items()}
    train = list(train)
    found = {name: [prompt for prompt in train if prompt.identity in held] for name, held in identities.items()}
    return {name: prompts for name, prompts in found.items() if prompts}


def refusal(found: Mapping[str, Sequence[Prompt]]) -> str:
    """A sentence that names the rows and the sets, for a run that must not train on them."""
    places = [f"{len(prompts)} of evaluation set {name} ({_names(prompts)})" for name, prompts in found.items()]
    return (
        f"Training prompts stand in evaluation sets: {'; '.join(places)}. Give data.overlap=drop to leave them out of "
        "training, or measure on other sets."
    )


def _names(prompts: Sequence[Prompt]) -> str:
    names = [prompt.uid for prompt in prompts[:NAMED_ROWS]]
    more = len(prompts) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
