"""Weights that change while the real engine draws: which weights drew each token, checked against the model itself."""

import time
from collections import Counter

import numpy as np
import pytest
import ray
import torch

from rollout.seeds import request_seed
from rollout.types import GenerationRequest, Response, Sampling
from tests.rollout.test_engines import model, open_pool, reference, send

__all__ = ["model"]
SAMPLING = Sampling(temperature=0.7, top_p=1.0, top_k=0, max_new_tokens=40)
REQUESTS, AT_A_TIME = 400, 16


@pytest.fixture(
    scope="module",
    params=[pytest.param(True, id="recomputed"), pytest.param(False, id="kept", marks=pytest.mark.slow)],
)
def drawn(request, ray_session) -> tuple[bool, list[np.ndarray], dict[int, Response], dict[str, torch.Tensor]]:
    """Whether keys and values were recomputed, the prompts, the responses by request, and the new weights.

    Weights changed while requests ran and others waited. The last prompt is longer than a block of the cache.
    """
    recomputed: bool = request.param
    pool = open_pool(
        "rollout.mode=asynchronous",
        "rollout.engines=1",
        f"rollout.max_sequences={AT_A_TIME}",
        f"rollout.recompute_kv={recomputed}",
    )
    try:
        actor = pool.actors[0]
        rng = np.random.default_rng(0)
        prompts = [rng.integers(10, 200, size).astype(np.int32) for size in (5, 30, 180)]
        keys = [(number, 0) for number in range(REQUESTS)]
        requests = {
            key: GenerationRequest(f"p/{key[0] % 3}", 0, prompts[key[0] % 3], request_seed(0, 1, "p", key[0]))
            for key in keys
        }
        before = ray.get(actor.progress.remote(), timeout=30)
        ray.get(actor.submit.remote(requests, SAMPLING), timeout=30)
        deadline = time.monotonic() + 60
        while ray.get(actor.progress.remote(), timeout=30) < before + 60:
            assert time.monotonic() < deadline
        weights = perturbed()
        send(actor, weights, version=1)
        found: dict[int, Response] = {}
        while len(found) < REQUESTS:
            assert time.monotonic() < deadline + 60
            for (number, _), response in ray.get(actor.collect.remote(5.0), timeout=30):
                assert number not in found
                found[number] = response
    finally:
        pool.close()
    return recomputed, prompts, found, weights


def perturbed() -> dict[str, torch.Tensor]:
    from transformers import AutoModelForCausalLM

    from tests.rollout.test_engines import MODEL

    torch.manual_seed(1)
    other = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return {name: parameter.detach().clone() for name, parameter in other.named_parameters()}


def test_each_token_is_of_the_weights_its_span_names(drawn, model):
    recomputed, prompts, found, weights = drawn
    kinds = Counter(tuple(span.version for span in response.versions) for response in found.values())
    # Some had ended, some were in the middle, and the others had to begin.
    assert set(kinds) == {(0,), (0, 1), (1,)}
    assert 4 <= kinds[0, 1] <= AT_A_TIME
    chosen = [number for number, r in found.items() if len(r.versions) == 2]
    for version in (0, 1):
        chosen += [n for n, r in found.items() if [s.version for s in r.versions] == [version]][:8]
    old = {n: reference(model, prompts[n % 3], found[n].token_ids, 0.7) for n in chosen}
    model.load_state_dict(weights, strict=False)
    model.tie_weights()
    new = {n: reference(model, prompts[n % 3], found[n].token_ids, 0.7) for n in chosen}
    apart = []
    for number in chosen:
        response = found[number]
        starts = [span.start for span in response.versions] + [len(response.token_ids)]
        for span, end in zip(response.versions, starts[1:], strict=True):
            part = slice(span.start, end)
            gap = np.abs(response.logprobs[part] - (old, new)[span.version][number][part])
            if len(response.versions) == 2 and span.version == 1 and not recomputed:
                apart.append(gap[1:].mean() if gap.size > 1 else 0.0)
            else:
                assert gap.max() < 3e-5, (number, span)
        if len(response.versions) == 2:
            middle = response.versions[1].start
            assert 0 < middle < len(response.token_ids)
    # From kept keys and values it goes on, and is of neither policy.
    assert recomputed or np.mean(apart) > 1e-3
