"""Rows of `rollouts/*.parquet`."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from launch.batch import Sample, Trainable
from reward.types import Verdict


def rollout_records(
    samples: Sequence[Sample], verdicts: Sequence[Verdict], trainable: Trainable, entropies: np.ndarray
) -> Iterator[dict[str, Any]]:
    """One record per response, columns as in `run_folder.ROLLOUT_SCHEMA`.

    entropies  float32 over the response tokens of the batch; a sample that was left out has none
    """
    starts = dict(zip(trainable.kept.tolist(), trainable.batch.response_offsets, strict=False))
    for index, (sample, verdict) in enumerate(zip(samples, verdicts, strict=True)):
        response, start = sample.response, starts.get(index)
        yield {
            "uid": sample.prompt.uid,
            "sample": response.sample,
            "source": sample.prompt.source,
            "prompt": sample.prompt.text,
            "response": response.text,
            "token_ids": response.token_ids,
            "logprobs": response.logprobs,
            "entropies": None if start is None else entropies[start : start + len(response.token_ids)],
            "finish_reason": response.finish_reason.value,
            "score": verdict.score,
            "failure": verdict.failure,
            "answer": verdict.answer,
            "rule": verdict.rule,
            "reward": None if sample.reward is None else sample.reward.total,
            "advantage": None if start is None else float(trainable.advantages[index]),
            "first_weight_version": response.versions[0].version,
            "weight_version": response.versions[-1].version,
        }
