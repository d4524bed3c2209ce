"""One contract over both engines, through the actor that training uses."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from launch.config import compose
from rollout.failures import RolloutFailed
from rollout.pool import RolloutPool
from rollout.seeds import request_seed
from rollout.types import FinishReason, GenerationRequest, Prompt, Sampling

MODEL = str(Path(__file__).parents[2] / "launch/assets/laboratory/96")
SAMPLING = Sampling(temperature=0.7, top_p=1.0, top_k=0, max_new_tokens=24)


def open_pool(*overrides: str) -> RolloutPool:
    config = compose(["output.folder=unused", *overrides]).rollout
    pool = RolloutPool(config, "cpu", threads=1)
    ray.get(pool.begin_start(MODEL, "float32", 256, False), timeout=180)
    return pool


@pytest.fixture(scope="module")
def in_process(ray_session):
    pool = open_pool("rollout.adapter=in_process", "rollout.engines=1")
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def separate(ray_session):
    pool = open_pool("rollout.adapter=async", "rollout.engines=1")
    yield pool
    pool.close()


@pytest.fixture(params=["in_process", "separate"])
def pool(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    rng = np.random.default_rng(0)
    ids = [rng.integers(10, 200, size).astype(np.int32) for size in (5, 12, 30)]
    return [Prompt(f"p/{i}", "", tokens, "p", "none", None, {}, "") for i, tokens in enumerate(ids)]


@pytest.fixture
def model():
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)


def reference(model, prompt: np.ndarray, response: np.ndarray, temperature: float) -> np.ndarray:
    tokens = torch.tensor(np.concatenate([prompt, response])).long()
    with torch.no_grad():
        logp = (model(tokens[None]).logits[0].double() / temperature).log_softmax(-1)
    return logp[len(prompt) - 1 : -1].gather(-1, tokens[len(prompt) :, None])[:, 0].numpy()


def test_logprobs_are_the_models_at_the_sampling_temperature(pool, prompts, model):
    groups = pool.generate(prompts, 3, SAMPLING, seed=0, step=0)
    assert [[(r.uid, r.sample) for r in group] for group in groups] == [[(p.uid, s) for s in range(3)] for p in prompts]
    for prompt, group in zip(prompts, groups, strict=True):
        for response in group:
            expected = reference(model, prompt.token_ids, response.token_ids, 0.7)
            np.testing.assert_allclose(response.logprobs, expected, atol=2e-5)
            assert len(response.token_ids) <= 24
            ended = response.token_ids[-1] == model.config.eos_token_id
            assert response.finish_reason is (FinishReason.STOP if ended else FinishReason.LENGTH)


def test_both_engines_draw_the_same_bits(in_process, separate, prompts):
    ours, theirs = (pool.generate(prompts, 4, SAMPLING, seed=5, step=2) for pool in (in_process, separate))
    for a, b in zip(chain(*ours), chain(*theirs), strict=True):
        assert a.token_ids.tolist() == b.token_ids.tolist()
        assert a.logprobs.tolist() == b.logprobs.tolist()
        assert a.text == b.text


def test_a_response_depends_on_its_seed_and_not_on_its_company(pool, prompts):
    together = pool.generate(prompts, 4, SAMPLING, seed=5, step=2)
    alone = GenerationRequest("p/1", 2, prompts[1].token_ids, request_seed(5, 2, "p/1", 2))
    again = ray.get(pool.actors[0].generate.remote([alone], SAMPLING, 60.0), timeout=70)[0]
    assert again.token_ids.tolist() == together[1][2].token_ids.tolist()
    assert again.logprobs.tolist() == together[1][2].logprobs.tolist()
    assert len({tuple(r.token_ids) for r in together[1]}) > 1


def test_scores_are_the_models_at_temperature_one(pool, prompts, model):
    (scores,) = pool.score([p.token_ids for p in prompts])
    for prompt, found in zip(prompts, scores, strict=True):
        expected = reference(model, prompt.token_ids[:1], prompt.token_ids[1:], 1.0)
        np.testing.assert_allclose(found, expected, atol=3e-5)


def test_new_weights_arrive_in_buckets_with_their_version(pool, prompts, model):
    shipped = {name: p.detach().clone() for name, p in model.named_parameters()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    send(pool.actors[0], dict(model.named_parameters()), version=7)
    try:
        assert pool.weight_versions() == [7]
        (scores,) = pool.score([p.token_ids for p in prompts])
        for prompt, found in zip(prompts, scores, strict=True):
            expected = reference(model, prompt.token_ids[:1], prompt.token_ids[1:], 1.0)
            np.testing.assert_allclose(found, expected, atol=3e-5)
        response = pool.generate(prompts[:1], 1, SAMPLING, seed=0, step=0)[0][0]
        assert [span.version for span in response.versions] == [7]
        expected = reference(model, prompts[0].token_ids, response.token_ids, 0.7)
        np.testing.assert_allclose(response.logprobs, expected, atol=2e-5)
    finally:
        send(pool.actors[0], shipped, version=0)


def send(actor, parameters: dict[str, torch.Tensor], version: int) -> None:
    def call(method: str, *arguments) -> None:
        ray.get(getattr(actor, method).remote(*arguments, 30.0), timeout=40)

    call("init_weight_transfer_engine", {})
    names = list(parameters)
    for chunk in (names[:11], names[11:]):
        tensors = [parameters[name].detach() for name in chunk]
        bucket = {
            "names": chunk,
            "dtypes": ["float32"] * len(chunk),
            "shapes": [list(t.shape) for t in tensors],
        }
        data = ray.put([t.contiguous().view(-1).view(torch.uint8).numpy() for t in tensors])
        call("load_bucket", bucket, data, chunk[0] == names[0], version if chunk[-1] == names[-1] else None)


def test_on_cpu_the_engine_loads_into_packed_layers(in_process):
    def loader(actor) -> str:
        def of(worker) -> str:
            return type(worker.weight_transfer_engine._packed).__name__

        return actor._engine._engine.collective_rpc(of)[0]

    ray.get(in_process.actors[0].init_weight_transfer_engine.remote({}, 30.0), timeout=40)
    assert ray.get(in_process.actors[0].__ray_call__.remote(loader), timeout=40) == "PackedLayers"


def test_an_engine_that_slept_draws_with_the_weights_that_came_meanwhile(pool, prompts, model):
    """vLLM's scheduler and executor sleep on CPU too; only the memory stays."""
    shipped = {name: p.detach().clone() for name, p in model.named_parameters()}
    before = pool.generate(prompts, 2, SAMPLING, seed=5, step=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    for parameters, version in ((dict(model.named_parameters()), 4), (shipped, 0)):
        pool.sleep()
        assert pool.lost() == {}
        with pytest.raises(ray.exceptions.RayTaskError, match="an engine that sleeps was asked to draw"):
            pool.generate(prompts[:1], 1, SAMPLING, seed=0, step=0)
        pool.wake_weights()
        send(pool.actors[0], parameters, version)
        pool.wake_cache()
        assert pool.weight_versions() == [version]
        if version:
            (scores,) = pool.score([p.token_ids for p in prompts])
            for prompt, found in zip(prompts, scores, strict=True):
                expected = reference(model, prompt.token_ids[:1], prompt.token_ids[1:], 1.0)
                np.testing.assert_allclose(found, expected, atol=3e-5)
    again = pool.generate(prompts, 2, SAMPLING, seed=5, step=2)
    assert [r.token_ids.tolist() for r in chain(*again)] == [r.token_ids.tolist() for r in chain(*before)]


def test_an_engine_does_not_sleep_while_it_draws(pool, prompts):
    """vLLM would abort what runs, and say nothing."""
    actor = pool.actors[0]
    requests = {(0, s): GenerationRequest("p/0", s, prompts[0].token_ids, s) for s in range(24)}
    ray.get(actor.submit.remote(requests, replace(SAMPLING, max_new_tokens=200)), timeout=30)
    with pytest.raises(ray.exceptions.RayTaskError, match=r"the engine cannot sleep while \d+ requests run"):
        ray.get(actor.sleep.remote(1, 30.0), timeout=40)
    found: dict = {}
    while len(found) < len(requests):
        found |= ray.get(actor.collect.remote(20.0), timeout=30)
    assert None not in found.values()


def test_no_key_or_value_of_old_weights_is_left_after_a_sync(pool, model):
    """The prompt fills a block of the prefix cache (128 tokens on CPU), which vLLM keeps by its tokens alone."""
    long = Prompt(
        "p/9", "", np.random.default_rng(3).integers(10, 200, 140).astype(np.int32), "p", "none", None, {}, ""
    )
    shipped = {name: p.detach().clone() for name, p in model.named_parameters()}
    before = pool.generate([long], 2, SAMPLING, seed=0, step=0)[0][1]
    np.testing.assert_allclose(before.logprobs, reference(model, long.token_ids, before.token_ids, 0.7), atol=2e-5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    send(pool.actors[0], dict(model.named_parameters()), version=3)
    try:
        after = pool.generate([long], 1, SAMPLING, seed=0, step=0)[0][0]
        np.testing.assert_allclose(after.logprobs, reference(model, long.token_ids, after.token_ids, 0.7), atol=2e-5)
    finally:
        send(pool.actors[0], shipped, version=0)


def test_min_p_cuts_the_tail_and_the_logprobs_are_of_what_is_left(in_process, prompts, model):
    cut = replace(SAMPLING, temperature=1.5, min_p=0.3)
    for prompt, group in zip(prompts, in_process.generate(prompts, 4, cut, seed=0, step=0), strict=True):
        for response in group:
            tokens = torch.tensor(np.concatenate([prompt.token_ids, response.token_ids])).long()
            with torch.no_grad():
                # The log-probs come at the temperature, after the cut.
                p = (model(tokens[None]).logits[0, len(prompt.token_ids) - 1 : -1].double() / 1.5).softmax(-1)
            kept = torch.where(p >= 0.3 * p.amax(-1, keepdim=True), p, 0.0)
            drawn = kept.gather(-1, tokens[len(prompt.token_ids) :, None])[:, 0] / kept.sum(-1)
            np.testing.assert_allclose(response.logprobs, drawn.log().numpy(), atol=3e-5)


def test_a_stop_ends_a_response_with_the_token_that_completes_it(in_process, prompts):
    whole = in_process.generate(prompts, 4, SAMPLING, seed=5, step=2)
    longest = max(chain(*whole), key=lambda response: len(response.text))
    stop, tokenizer = longest.text[7:10], AutoTokenizer.from_pretrained(MODEL)
    stopped = in_process.generate(prompts, 4, replace(SAMPLING, stop=(stop,)), seed=5, step=2)
    ended = 0
    for free, found in zip(chain(*whole), chain(*stopped), strict=True):
        size = len(found.token_ids)
        assert found.token_ids.tolist() == free.token_ids[:size].tolist()
        assert found.logprobs.tolist() == free.logprobs[:size].tolist()
        assert free.text.startswith(found.text)
        assert (stop in found.text) == (stop in free.text)
        if stop in free.text:
            ended += 1
            assert found.finish_reason is FinishReason.STOP
            assert stop not in tokenizer.decode(found.token_ids[:-1].tolist(), skip_special_tokens=True)
        else:
            assert size == len(free.token_ids)
    assert ended


def test_a_stop_token_ends_a_response_and_stays_in_it(in_process, prompts):
    whole = in_process.generate(prompts, 4, SAMPLING, seed=5, step=2)
    stop = int(whole[0][0].token_ids[6])
    stopped = in_process.generate(prompts, 4, replace(SAMPLING, stop_token_ids=(stop,)), seed=5, step=2)
    for free, found in zip(chain(*whole), chain(*stopped), strict=True):
        places = np.flatnonzero(free.token_ids == stop)
        size = places[0] + 1 if len(places) else len(free.token_ids)
        assert found.token_ids.tolist() == free.token_ids[:size].tolist()
        assert found.logprobs.tolist() == free.logprobs[:size].tolist()
        assert not len(places) or found.finish_reason is FinishReason.STOP


def test_a_prompt_past_the_context_is_refused_and_the_engine_goes_on(pool, prompts):
    long = Prompt("long", "", np.full(300, 20, np.int32), "p", "none", None, {}, "")
    with pytest.raises(ray.exceptions.RayTaskError, match="256"):
        pool.generate([long, prompts[0]], 1, SAMPLING, seed=0, step=0)
    assert pool.generate(prompts[:1], 1, SAMPLING, seed=0, step=0)[0][0].token_ids.size


def test_a_late_rollout_is_aborted_in_words_and_the_engine_goes_on(pool, prompts):
    requests = [GenerationRequest("p/0", i, prompts[0].token_ids, i) for i in range(64)]
    with pytest.raises(ray.exceptions.RayTaskError, match=r"did not finish in .* rollout.deadline_s"):
        ray.get(pool.actors[0].generate.remote(requests, SAMPLING, 0.001), timeout=60)
    assert pool.generate(prompts[:1], 1, SAMPLING, seed=0, step=0)[0][0].token_ids.size


def test_what_is_called_off_ends_at_once_and_weights_can_change(pool, prompts, model):
    """A response of 200 tokens is drawn on; another one is given up."""
    actor, sampling = pool.actors[0], replace(SAMPLING, max_new_tokens=200)
    requests = {(0, s): GenerationRequest("p/0", s, prompts[0].token_ids, s) for s in range(24)}
    alone = [requests[0, 0], requests[0, 1]]
    whole = ray.get(actor.generate.remote(alone, sampling, 60.0), timeout=70)
    ray.get(actor.submit.remote(requests, sampling), timeout=30)
    ray.get(actor.call_off.remote(list(requests)[1:]), timeout=30)
    found: dict = {}
    while len(found) < len(requests):
        new = ray.get(actor.collect.remote(20.0), timeout=30)
        assert new
        assert not set(dict(new)) & set(found)
        found |= new
    assert found[0, 0].token_ids.tolist() == whole[0].token_ids.tolist()
    # Those that have ended before are whole, and the others are not there.
    there = [key for key, response in found.items() if response is not None]
    assert len(there) < len(requests)
    assert (0, 1) not in there or found[0, 1].token_ids.tolist() == whole[1].token_ids.tolist()
    send(actor, dict(model.named_parameters()), version=0)
    assert pool.generate(prompts[:1], 1, SAMPLING, seed=0, step=0)[0][0].token_ids.size


def test_a_dead_engine_is_named(ray_session):
    pool = RolloutPool(compose(["output.folder=unused", "rollout.engines=2"]).rollout, "cpu", threads=1)
    ray.kill(pool.actors[1])
    with pytest.raises(RolloutFailed, match=r"engine 1 died: .*logs/engine-1.log"):
        pool.weight_versions()
    pool.close()
