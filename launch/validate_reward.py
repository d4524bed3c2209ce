"""What the verifiers and the terms of a reward must satisfy."""

import math
from collections.abc import Iterator
from urllib.parse import urlsplit

from launch.config import RunConfig
from reward.config import RemoteConfig
from reward.verifiers import UnknownVerifier, import_path
from reward.verifiers.extraction import MATH_RULES


def reward_problems(config: RunConfig, training: bool) -> Iterator[str]:
    """Sentences about `config.reward`. Without `training` the terms are not looked at: accuracy has none."""
    sources = [*config.data.evaluation.values(), config.data.train, *config.data.mix.values()]
    yield from _extraction(config.reward.math.extraction)
    names = {source.verifier for source in sources} | set(config.reward.terms.verifiers)
    if "remote" in names:
        yield from _remote(config, training)
    if training:
        yield from _terms(config)


def _terms(config: RunConfig) -> Iterator[str]:
    terms, longest = config.reward.terms, config.rollout.max_new_tokens
    for name, weight in terms.verifiers.items():
        try:
            import_path(name)
        except UnknownVerifier as error:
            yield f"reward.terms.verifiers: {error}."
        if not math.isfinite(weight) or weight == 0:
            yield f"reward.terms.verifiers: the weight {weight} of {name} has to be finite and not 0."
    overlong = terms.overlong
    if overlong.cache_tokens is not None:
        if overlong.cache_tokens > overlong.max_tokens:
            yield (
                f"reward.terms.overlong.cache_tokens = {overlong.cache_tokens} is more than "
                f"reward.terms.overlong.max_tokens = {overlong.max_tokens}, so even an empty response would be charged."
            )
        elif overlong.max_tokens - overlong.cache_tokens >= longest:
            yield (
                f"reward.terms.overlong charges nothing up to max_tokens - cache_tokens = "
                f"{overlong.max_tokens - overlong.cache_tokens} tokens, and no response is longer than "
                f"rollout.max_new_tokens = {longest}."
            )
    is_on = bool(terms.verifiers) or overlong.cache_tokens is not None or terms.truncation_penalty > 0
    if is_on and config.algorithm.estimator == "pass_at_k":
        yield (
            "algorithm.estimator = pass_at_k counts right responses, and the terms of reward.terms make rewards that "
            "are neither 0 nor 1; choose another algorithm or no terms."
        )


def _remote(config: RunConfig, training: bool) -> Iterator[str]:
    reward, remote = config.reward, config.reward.remote
    if remote.url is None:
        yield "reward.remote.url is needed with the verifier remote."
    else:
        yield from _url(remote.url)
    if remote.timeout_s >= reward.timeout_s:
        yield (
            f"reward.remote.timeout_s = {remote.timeout_s} has to be shorter than reward.timeout_s = "
            f"{reward.timeout_s}, at which the process that waits for the server is killed."
        )
    yield from _pace(config, remote, training)


def _url(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        yield f"reward.remote.url = {parts.scheme}://... is no http or https address of a server."
    if parts.username is not None or parts.password is not None:
        yield "reward.remote.url holds a user or password; name a variable in reward.remote.token_variable instead."


def _pace(config: RunConfig, remote: RemoteConfig, training: bool) -> Iterator[str]:
    """A limit of requests that a step cannot keep is no limit but a failure of every late verdict."""
    if remote.requests_per_s is None:
        return
    reward, rollout = config.reward, config.rollout
    if (waiting_s := reward.children_per_worker / remote.requests_per_s) >= remote.timeout_s:
        yield (
            f"reward.remote.requests_per_s = {remote.requests_per_s} lets reward.children_per_worker = "
            f"{reward.children_per_worker} processes wait {waiting_s:g} s for their turn, and reward.remote.timeout_s "
            f"= {remote.timeout_s} ends before."
        )
    responses = rollout.prompts_per_step * rollout.samples_per_prompt
    taken_s = responses / (reward.workers * remote.requests_per_s)
    if training and taken_s >= reward.deadline_s:
        yield (
            f"reward.remote.requests_per_s = {remote.requests_per_s} takes {taken_s:g} s for the {responses} responses "
            f"of a step with reward.workers = {reward.workers}, and reward.deadline_s = {reward.deadline_s}."
        )


def _extraction(rules: list[str]) -> Iterator[str]:
    if not rules:
        yield f"reward.math.extraction is empty, so no answer would be found; give some of {', '.join(MATH_RULES)}."
    for rule in dict.fromkeys(rules):
        if rule not in MATH_RULES:
            yield f"reward.math.extraction names {rule}, which is not one of {', '.join(MATH_RULES)}."
        elif rules.count(rule) > 1:
            yield f"reward.math.extraction names {rule} more than once."
