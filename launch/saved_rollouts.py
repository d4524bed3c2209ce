"""Groups that wait for their batch, as a checkpoint holds them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from launch.verdicts import GroupVerdicts
from reward.types import FailureKind, Verdict
from rollout.groups import Drawn
from rollout.types import FinishReason, Prompt, Response, VersionSpan


def pack(kept: Sequence[Drawn]) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """JSON values of each group, and the tokens of all their responses one after another: token_ids int32, logprobs
    float32, both [tokens]; nothing without groups."""
    groups = [
        {
            "uid": group.prompt.uid,
            "responses": [_response(response) for response in group.responses],
            "verdicts": [asdict(verdict) for verdict in group.payload.own],
            "further": {name: [asdict(verdict) for verdict in found] for name, found in group.payload.further.items()},
        }
        for group in kept
    ]
    responses = [response for group in kept for response in group.responses]
    if not responses:
        return [], {}
    return groups, {
        "token_ids": np.concatenate([response.token_ids for response in responses]),
        "logprobs": np.concatenate([response.logprobs for response in responses]),
    }


def unpack(
    groups: Sequence[Mapping[str, Any]], arrays: Mapping[str, np.ndarray], prompt: Callable[[str], Prompt]
) -> list[Drawn]:
    """What was packed; `prompt` of a uid."""
    found, start = [], 0
    for group in groups:
        responses = []
        for entry in group["responses"]:
            end = start + entry["tokens"]
            responses.append(
                Response(
                    group["uid"],
                    entry["sample"],
                    arrays["token_ids"][start:end],
                    arrays["logprobs"][start:end],
                    entry["text"],
                    FinishReason(entry["finish_reason"]),
                    tuple(VersionSpan(*span) for span in entry["versions"]),
                    entry["engine"],
                )
            )
            start = end
        further = {name: [_verdict(entry) for entry in entries] for name, entries in group["further"].items()}
        verdicts = GroupVerdicts([_verdict(entry) for entry in group["verdicts"]], further)
        found.append(Drawn(prompt(group["uid"]), responses, verdicts))
    return found


def _response(response: Response) -> dict[str, Any]:
    return {
        "sample": response.sample,
        "tokens": len(response.token_ids),
        "text": response.text,
        "finish_reason": response.finish_reason.value,
        "versions": [[span.start, span.version] for span in response.versions],
        "engine": response.engine,
    }


def _verdict(entry: Mapping[str, Any]) -> Verdict:
    kind = entry["failure"]
    return Verdict(**{**entry, "failure": None if kind is None else FailureKind(kind)})
