"""How different the responses to one prompt are. Pure."""

from collections.abc import Hashable, Sequence

import numpy as np
from sacrebleu.metrics import BLEU

from entropy.estimators import answer_entropy
from entropy.keyed import sample_key
from launch.ngrams import NGrams

LONGEST = 5
LONGEST_OF_BLEU = 4
# Tokens whose n-grams are counted: about 1 s at most, whatever the size of a batch.
MOST_TOKENS = 200_000


def diversity(
    uids: Sequence[str], responses: Sequence[Sequence[Sequence[int]]], answers: Sequence[Sequence[Hashable]]
) -> dict[str, float]:
    """Means over prompts, those that have no meaning missing.

    ngram             `ngram_diversity`, over a sample of the prompts
    self_bleu         `self_bleu`, over the same sample
    distinct_answers  different answers among the responses to a prompt
    answer_entropy    nats

    The sample is drawn by hash of the uids, so it does not depend on how the responses were laid out: prompts until
    they have `MOST_TOKENS`.

    uids       of the prompts
    responses  token ids of the responses to each
    answers    of those, each way to have none as one answer
    """
    row = {
        "distinct_answers": float(np.mean([len(set(group)) for group in answers])),
        "answer_entropy": float(np.mean([answer_entropy(group) for group in answers])),
    }
    chosen = _sampled(uids, [sum(map(len, group)) for group in responses])
    grams = NGrams.of([responses[i] for i in chosen], LONGEST)
    for name, values in (("ngram", ngram_diversity(grams)), ("self_bleu", self_bleu(grams))):
        known = values[~np.isnan(values)]
        if known.size:
            row[name] = float(known.mean())
    return row


def ngram_diversity(grams: NGrams) -> np.ndarray:
    """Product over n = 1 to 5 of the unique n-grams' share of all n-grams of the responses to a prompt.

    Jin et al. (arXiv 2511.05993, eq. 8), over token ids and pooled over the responses.

    returns  float64 [prompts], NaN where no response has five tokens
    """
    product = np.ones(grams.prompts)
    for n in range(1, LONGEST + 1):
        kinds = grams.kinds(n)
        with np.errstate(invalid="ignore"):
            product *= np.bincount(kinds.prompt, minlength=grams.prompts) / grams.per_prompt(n)
    return product


def self_bleu(grams: NGrams) -> np.ndarray:
    """Mean over the responses to a prompt of the BLEU of each against all others, in [0, 1]; 1 where all are equal.

    Zhu et al. (arXiv 1802.01886), over token ids: sentence BLEU of 1- to 4-grams as sacrebleu has it, its smoothing
    `exp` and its effective order, under which a response of fewer than four tokens has a BLEU too. n-grams are counted
    once per response rather than once per pair.

    returns  float64 [prompts], NaN where there is one response only
    """
    orders = range(1, LONGEST_OF_BLEU + 1)
    correct = np.stack([grams.shared(n) for n in orders], -1)
    of_all = np.maximum(grams.lengths[:, None] - np.arange(LONGEST_OF_BLEU), 0)
    scores = np.full(grams.prompts, np.nan)
    for prompt, responses in enumerate(grams.responses()):
        lengths = grams.lengths[responses].tolist()
        if len(lengths) < 2:
            continue
        found = [
            BLEU.compute_bleu(
                right,
                total,
                sys_len=length,
                ref_len=min(lengths[:i] + lengths[i + 1 :], key=lambda other: (abs(other - length), other)),
                smooth_method="exp",
                effective_order=True,
            ).score
            for i, (right, total, length) in enumerate(
                zip(correct[responses].tolist(), of_all[responses].tolist(), lengths, strict=True)
            )
        ]
        scores[prompt] = np.mean(found) / 100
    return scores


def _sampled(uids: Sequence[str], tokens: Sequence[int]) -> list[int]:
    """Indices of prompts in an order of their own until they have `MOST_TOKENS`; of one at least."""
    order = sorted(range(len(uids)), key=lambda i: sample_key(uids[i], 0))
    before = np.cumsum([0, *(tokens[i] for i in order)])[:-1]
    return [i for i, so_far in zip(order, before.tolist(), strict=True) if so_far < MOST_TOKENS]
