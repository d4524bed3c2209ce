"""Entropy of the policy on the prompts of the evaluation sets, and what is left of it since the start of the run.

Jin et al. (arXiv 2511.05993, section 4): it falls on prompts like the training ones, and on others too. A prompt is
scored as it stands, so nothing is drawn, and a forward pass over the sets is all it costs.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from entropy.keyed import sample_key
from learner.types import TokenBatch
from rollout.types import Prompt

# Of the learner: log-probabilities and exact entropies float32 [response tokens] of a batch.
Score = Callable[[TokenBatch], tuple[np.ndarray, np.ndarray]]


def prompt_batch(prompts: Sequence[Prompt], temperature: float) -> TokenBatch:
    """Every prompt as the response to its own first token, drawn at `temperature`; each has at least two tokens."""
    lengths = np.array([len(prompt.token_ids) for prompt in prompts], np.int32)
    scored = int((lengths - 1).sum())
    return TokenBatch(
        tokens=np.concatenate([prompt.token_ids for prompt in prompts]).astype(np.int32),
        lengths=lengths,
        prompt_lengths=np.ones_like(lengths),
        groups=np.arange(lengths.size, dtype=np.int32),
        sample_keys=np.array([sample_key(prompt.uid, 0) for prompt in prompts], np.uint64),
        temperature=temperature,
        behaviour_logprobs=np.zeros(scored, np.float32),
        mask=np.zeros(scored, bool),
        versions=np.zeros(scored, np.int32),
        advantages=None,
        old_logprobs=None,
        old_entropies=None,
        reference_logprobs=None,
    )


def prompt_entropy(
    score: Score, sets: Mapping[str, Sequence[Prompt]], first: Mapping[str, float], temperature: float
) -> dict[str, float]:
    """`eval/<set>/prompt_entropy` in nats and `prompt_entropy_ratio` to that of `first`, the first row of the run.

    Means over the tokens of a set's prompts, template included, but for the first of each. All of a run are at one
    `temperature`, so that they can be compared. Of prompts of one token there is nothing to predict; a set of such
    alone is left out.
    """
    chosen = {name: [p for p in prompts if len(p.token_ids) > 1] for name, prompts in sets.items()}
    chosen = {name: prompts for name, prompts in chosen.items() if prompts}
    if not chosen:
        return {}
    _, entropies = score(prompt_batch([prompt for prompts in chosen.values() for prompt in prompts], temperature))
    row, start = {}, 0
    for name, prompts in chosen.items():
        key, end = f"eval/{name}/prompt_entropy", start + sum(len(p.token_ids) - 1 for p in prompts)
        row[key] = float(entropies[start:end].astype(np.float64).mean())
        if base := first.get(key, row[key]):
            row[f"eval/{name}/prompt_entropy_ratio"] = row[key] / base
        start = end
    return row
