"""The n-grams of the responses to many prompts, counted together. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np


class Kinds(NamedTuple):
    """The different n-grams of each prompt: int64 [kinds], the prompt and the number of the n-gram, ascending."""

    prompt: np.ndarray
    gram: np.ndarray


@dataclass(frozen=True)
class NGrams:
    """Of token ids, n-grams of n = 1 to `longest`; an n-gram never reaches over the end of a response.

    lengths  int64 [responses], in tokens, prompt after prompt
    prompt   int64 [responses], which of the `prompts` a response is to, ascending
    owners   of n = 1 to longest: int64 [n-grams], the response of each, ascending
    numbers  likewise: int64 [n-grams], equal where the n-grams are
    """

    prompts: int
    lengths: np.ndarray
    prompt: np.ndarray
    owners: list[np.ndarray]
    numbers: list[np.ndarray]

    @classmethod
    def of(cls, prompts: Sequence[Sequence[Sequence[int]]], longest: int) -> Self:
        """Of the responses to each prompt, as token ids."""
        responses = [np.asarray(each, np.int64) for group in prompts for each in group]
        lengths = np.array([each.size for each in responses], np.int64)
        tokens = np.concatenate([np.zeros(0, np.int64), *responses])
        owner = np.repeat(np.arange(lengths.size), lengths)
        _, first = np.unique(tokens, return_inverse=True)
        place, number = np.arange(tokens.size), first
        owners, numbers = [owner], [number]
        for n in range(2, longest + 1):
            fits = place + n - 1 < tokens.size
            place, number = place[fits], number[fits]
            fits = owner[place] == owner[place + n - 1]
            place, number = place[fits], number[fits]
            # An n-gram is the (n - 1)-gram at its start and its last token.
            _, number = np.unique(number * tokens.size + first[place + n - 1], return_inverse=True)
            owners.append(owner[place])
            numbers.append(number)
        prompt = np.repeat(np.arange(len(prompts)), [len(group) for group in prompts])
        return cls(len(prompts), lengths, prompt, owners, numbers)

    def responses(self) -> list[slice]:
        """Where the responses to each prompt are."""
        ends = np.cumsum(np.bincount(self.prompt, minlength=self.prompts)).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def per_prompt(self, n: int) -> np.ndarray:
        """How many n-grams the responses to each prompt have: int64 [prompts]."""
        return np.bincount(self.prompt[self.owners[n - 1]], minlength=self.prompts)

    def kinds(self, n: int) -> Kinds:
        """The different ones among them."""
        size = self._size(n)
        found = np.unique(self.prompt[self.owners[n - 1]] * size + self.numbers[n - 1])
        return Kinds(*np.divmod(found, size))

    def shared(self, n: int) -> np.ndarray:
        """How many n-grams of a response stand in another to its prompt: int64 [responses].

        Each counts as often as it stands in the other that has it most often, at most as often as in the response
        (the clipped count of BLEU against all the others).
        """
        size = self._size(n)
        found, count = np.unique(self.owners[n - 1] * size + self.numbers[n - 1], return_counts=True)
        owner, gram = np.divmod(found, size)
        kind = self.prompt[owner] * size + gram
        # By kind, and the response with most of it first.
        order = np.lexsort((-count, kind))
        owner, count, kind = owner[order], count[order], kind[order]
        is_first = np.ones(kind.size, bool)
        is_first[1:] = kind[1:] != kind[:-1]
        first = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
        # The most in any other response: of the first, what the second has, if there is one of this kind.
        second = np.append(count, 0)[first + 1] * ~np.append(is_first, True)[first + 1]
        others = np.where(is_first, second, count[first])
        return np.bincount(owner, np.minimum(count, others), minlength=self.lengths.size).astype(np.int64)

    def _size(self, n: int) -> int:
        return int(self.numbers[n - 1].max(initial=0)) + 1
