"""Answers of an engine that cannot be what was asked for. Pure."""

import numpy as np

from rollout.types import GenerationRequest, Response


def garbage(request: GenerationRequest | None, response: Response | None) -> str:
    """Why `response` cannot be what was drawn for `request`, "" where it can."""
    if response is None:
        return "no response, where none was called off"
    if request is None:
        return f"a response to {response.uid}, sample {response.sample}, that nobody asked for"
    if (response.uid, response.sample) != (request.uid, request.sample):
        return f"a response to {response.uid} in the place of {request.uid}"
    if not len(response.token_ids) or len(response.logprobs) != len(response.token_ids):
        return f"{len(response.token_ids)} tokens with {len(response.logprobs)} log-probabilities for {request.uid}"
    # Round-off may lift a certainty a little above 0.
    if not np.all(response.logprobs < 1e-3):
        return f"log-probabilities for {request.uid} that are none"
    return ""
