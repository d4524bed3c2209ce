"""Rows of `rollouts/*.parquet` and `responses/*.parquet`."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from launch.batch import Sample, Trainable
from reward.types import Verdict
from rollout.types import Prompt, Response


def rollout_records(
    samples: Sequence[Sample], verdicts: Sequence[Verdict], trainable: Trainable, entropies: np.ndarray
) -> Iterator[dict[str, Any]]:
    """One record per response, columns as in `run_folder.ROLLOUT_SCHEMA`.

    entropies  float32 over the response tokens of the batch; a sample that was left out has none
    """
    starts = dict(zip(trainable.kept.tolist(), trainable.batch.response_offsets, strict=False))
    for index, (sample, verdict) in enumerate(zip(samples, verdicts, strict=True)):
        response, start = sample.response, starts.get(index)
        yield _record(sample.prompt, response, verdict) | {
            "entropies": None if start is None else entropies[start : start + len(response.token_ids)],
            "reward": None if sample.reward is None else sample.reward.total,
            "advantage": None if start is None else float(trainable.advantages[index]),
        }


def response_records(
    prompts: Sequence[Prompt], groups: Sequence[Sequence[Response]], verdicts: Sequence[Verdict]
) -> Iterator[dict[str, Any]]:
    """One record per response of an evaluation set, in the same columns; what only training knows is null.

    verdicts  one per response, group after group
    """
    flat = [(prompt, response) for prompt, group in zip(prompts, groups, strict=True) for response in group]
    for (prompt, response), verdict in zip(flat, verdicts, strict=True):
        yield _record(prompt, response, verdict) | {"entropies": None, "reward": None, "advantage": None}


def _record(prompt: Prompt, response: Response, verdict: Verdict) -> dict[str, Any]:
    return {
        "uid": prompt.uid,
        "sample": response.sample,
        "source": prompt.source,
        "prompt": prompt.text,
        "response": response.text,
        "token_ids": response.token_ids,
        "logprobs": response.logprobs,
        "finish_reason": response.finish_reason.value,
        "score": verdict.score,
        "failure": verdict.failure,
        "answer": verdict.answer,
        "rule": verdict.rule,
        "first_weight_version": response.versions[0].version,
        "weight_version": response.versions[-1].version,
    }
