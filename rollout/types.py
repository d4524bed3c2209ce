"""Prompts in, responses out."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np


class FinishReason(StrEnum):
    """Why generation ended: an end-of-sequence token or a stop, the length limit, or an abort."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


@dataclass(frozen=True)
class Prompt:
    """One task for the policy.

    uid        unique within a run and stable over runs: "<set>/<row>"
    text       what the policy reads, template applied
    token_ids  int32 [prompt tokens] of `text`
    source     name of the data set, for metrics per source
    verifier   name of the verifier that judges responses
    gold       reference in the verifier's own form (JSON values); None where the row has none, and is to be dropped
    metadata   whatever the source attaches for its verifier (JSON values)
    identity   prompts with the same one are the same task, whatever their template, set and row
    """

    uid: str
    text: str
    token_ids: np.ndarray
    source: str
    verifier: str
    gold: Any
    metadata: Mapping[str, Any]
    identity: str


@dataclass(frozen=True)
class Sampling:
    """How to draw responses. The log-probs that come back are at this temperature, of what is left after the cuts.

    top_k           0 keeps the whole vocabulary
    min_p           least probability, as a share of the likeliest token's
    stop            texts at which a response ends; the token that completes one is its last, and nothing is cut off
    stop_token_ids  tokens at which it ends, besides the model's own end-of-sequence token
    """

    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int
    min_p: float = 0.0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()


# What a response that is drawn by itself is known by: the number of its group's admission, and its sample.
Key = tuple[int, int]


@dataclass(frozen=True)
class GenerationRequest:
    """One response to draw. `seed` makes it a function of (weights, prompt, seed)."""

    uid: str
    sample: int
    prompt_token_ids: np.ndarray  # int32 [prompt tokens]
    seed: int


@dataclass(frozen=True)
class VersionSpan:
    """Tokens from `start` (index into the response) to the next span were drawn from weights `version`."""

    start: int
    version: int


@dataclass(frozen=True)
class Response:
    """One sampled response.

    token_ids  int32 [response tokens], the end-of-sequence token or stop included where it was drawn
    logprobs   float32 [response tokens], log-probability of each drawn token at the sampling temperature
    text       decoded in the actor, special tokens left out
    versions   weight version of each span, first span at 0
    engine     index of the engine that drew it
    """

    uid: str
    sample: int
    token_ids: np.ndarray
    logprobs: np.ndarray
    text: str
    finish_reason: FinishReason
    versions: tuple[VersionSpan, ...]
    engine: int
