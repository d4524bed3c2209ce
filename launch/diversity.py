"""How different the responses to one prompt are. Pure."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import chain

import numpy as np
from sacrebleu.metrics import BLEU

from entropy.keyed import sample_key

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
    chosen = [responses[i] for i in _sampled(uids, [sum(map(len, group)) for group in responses])]
    for name, measure in (("ngram", ngram_diversity), ("self_bleu", self_bleu)):
        measured = [value for value in map(measure, chosen) if value is not None]
        if measured:
            row[name] = float(np.mean(measured))
    return row


def ngram_diversity(responses: Sequence[Sequence[int]]) -> float | None:
    """Product over n = 1 to 5 of the unique n-grams' share of all n-grams of the responses to one prompt.

    Jin et al. (arXiv 2511.05993, eq. 8), over token ids and pooled over the responses. None where no response has five
    tokens.
    """
    product = 1.0
    for n in range(1, LONGEST + 1):
        grams = [gram for tokens in responses for gram in _ngrams(tokens, n)]
        if not grams:
            return None
        product *= len(set(grams)) / len(grams)
    return product


def self_bleu(responses: Sequence[Sequence[int]]) -> float | None:
    """Mean over the responses to one prompt of the BLEU of each against all others, in [0, 1]; 1 where all are equal.

    Zhu et al. (arXiv 1802.01886), over token ids: sentence BLEU of 1- to 4-grams as sacrebleu has it, its smoothing
    `exp` and its effective order, under which a response of fewer than four tokens has a BLEU too. n-grams are counted
    once per response rather than once per pair, so the time is linear in tokens. None where there is one response only.
    """
    if len(responses) < 2:
        return None
    orders = range(1, LONGEST_OF_BLEU + 1)
    counts = [Counter(chain.from_iterable(_ngrams(each, n) for n in orders)) for each in responses]
    lengths = [len(each) for each in responses]
    # Most occurrences in one response, that response, and most in any other.
    most: dict[Hashable, tuple[int, int, int]] = {}
    for owner, grams in enumerate(counts):
        for gram, count in grams.items():
            before = most.get(gram)
            if before is None:
                most[gram] = (count, owner, 0)
            elif count > before[0]:
                most[gram] = (count, owner, before[0])
            elif count > before[2]:
                most[gram] = (before[0], before[1], count)
    scores = []
    for owner, grams in enumerate(counts):
        correct = [0] * LONGEST_OF_BLEU
        for gram, count in grams.items():
            first, of, second = most[gram]
            if of_others := second if of == owner else first:
                correct[len(gram) - 1] += min(count, of_others)
        length, others = lengths[owner], lengths[:owner] + lengths[owner + 1 :]
        scores.append(
            BLEU.compute_bleu(
                correct,
                [max(length - n, 0) for n in range(LONGEST_OF_BLEU)],
                sys_len=length,
                ref_len=min(others, key=lambda other: (abs(other - length), other)),
                smooth_method="exp",
                effective_order=True,
            ).score
        )
    return float(np.mean(scores)) / 100


def answer_entropy(answers: Sequence[Hashable]) -> float:
    """Entropy in nats of the distribution of the answers to one prompt; every way to have none is one answer."""
    counts = np.array(list(Counter(answers).values()), float)
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _ngrams(tokens: Sequence[int], n: int) -> Iterable[tuple[int, ...]]:
    return zip(*(tokens[i:] for i in range(n)), strict=False)


def _sampled(uids: Sequence[str], tokens: Sequence[int]) -> list[int]:
    """Indices of prompts in an order of their own until they have `MOST_TOKENS`; of one at least."""
    order = sorted(range(len(uids)), key=lambda i: sample_key(uids[i], 0))
    before = np.cumsum([0, *(tokens[i] for i in order)])[:-1]
    return [i for i, so_far in zip(order, before.tolist(), strict=True) if so_far < MOST_TOKENS]
