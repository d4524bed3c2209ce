from dataclasses import replace

import pytest

from launch.config import compose
from reward.composition import ResponseFacts, Reward, compose_rewards, overlong_penalty, term_metrics
from reward.policy import TooManyFailures
from reward.types import FailureKind, Verdict

PLAIN = replace(compose([]).reward, max_failure_share=1.0)


def scored(score):
    return Verdict(score=score, failure=None, answer="7", rule="boxed", detail="", seconds=0.1)


FAILED = Verdict.failed(FailureKind.TIMEOUT, "too slow", 0.1)
SHORT, LONG, CUT = ResponseFacts(10, False), ResponseFacts(60, False), ResponseFacts(100, True)


def with_terms(reward=PLAIN, **terms):
    return replace(reward, terms=replace(reward.terms, **terms))


def with_overlong(weight=1.0, max_tokens=100, cache_tokens=80):
    overlong = replace(PLAIN.terms.overlong, weight=weight, max_tokens=max_tokens, cache_tokens=cache_tokens)
    return with_terms(overlong=overlong)


@pytest.mark.parametrize(
    ("tokens", "penalty"),
    [
        (0, 0.0),
        (16384, 0.0),
        (16385, -1 / 4096),
        (17408, -0.25),
        (18432, -0.5),
        (20480, -1.0),
        (20481, -1.0),
        (40960, -1.0),
    ],
)
def test_the_penalty_of_dapo(tokens, penalty):
    """Their numbers: expected length 16,384 and cache 4,096, so at most 20,480 tokens."""
    assert overlong_penalty(tokens, max_tokens=20480, cache_tokens=4096) == penalty


def test_a_cache_as_long_as_the_longest_response():
    assert [overlong_penalty(n, max_tokens=4, cache_tokens=4) for n in range(6)] == [
        0.0,
        -0.25,
        -0.5,
        -0.75,
        -1.0,
        -1.0,
    ]


def test_without_terms_the_reward_is_the_score():
    rewards = compose_rewards([scored(1.0), scored(0.25), FAILED], {}, [SHORT, LONG, CUT], PLAIN)
    assert rewards == [Reward(1.0, {}), Reward(0.25, {}), None]
    assert [reward and reward.total for reward in rewards] == [1.0, 0.25, None]
    assert term_metrics(rewards, {}) == {"reward/score_mean": 0.625}


def test_the_overlong_penalty_is_weighted_and_added():
    rewards = compose_rewards([scored(1.0), scored(1.0), scored(0.0)], {}, [SHORT, LONG, CUT], with_overlong(0.5))
    assert [reward.total for reward in rewards] == [1.0, 0.75, -0.5]
    assert [reward.score for reward in rewards] == [1.0, 1.0, 0.0]
    row = term_metrics(rewards, {})
    assert row == {"reward/score_mean": pytest.approx(2 / 3), "reward/term.overlong_mean": pytest.approx(-0.25)}


def test_truncation():
    rewards = compose_rewards([scored(1.0), scored(1.0)], {}, [LONG, CUT], with_terms(truncation_penalty=0.3))
    assert rewards == [Reward(1.0, {"truncation": 0.0}), Reward(1.0, {"truncation": -0.3})]


def test_several_verifiers_with_weights():
    config = with_terms(verifiers={"think_answer": 0.2, "mine:length": -0.5}, truncation_penalty=1.0)
    further = {"mine:length": [scored(0.5), scored(1.0)], "think_answer": [scored(1.0), scored(0.0)]}
    rewards = compose_rewards([scored(1.0), scored(0.0)], further, [SHORT, CUT], config)
    assert [reward.total for reward in rewards] == pytest.approx([1.0 + 0.2 - 0.25, -0.5 - 1.0])
    assert rewards[0].terms == {"think_answer": 0.2, "mine:length": -0.25, "truncation": 0.0}
    assert term_metrics(rewards, further) == {
        "reward/score_mean": 0.5,
        "reward/term.think_answer_mean": pytest.approx(0.1),
        "reward/term.think_answer_failed": 0,
        "reward/term.mine:length_mean": -0.375,
        "reward/term.mine:length_failed": 0,
        "reward/term.truncation_mean": -0.5,
    }


def test_the_failure_of_any_verifier_excludes_and_is_no_zero():
    config = with_terms(verifiers={"think_answer": 0.2})
    further = {"think_answer": [FAILED, scored(1.0), FAILED]}
    own = [scored(1.0), FAILED, FAILED]
    assert compose_rewards(own, further, [SHORT] * 3, config) == [None, None, None]
    charged = compose_rewards(own, further, [SHORT] * 3, replace(config, on_failure="wrong"))
    assert charged == [
        Reward(1.0, {"think_answer": 0.0}),
        Reward(0.0, {"think_answer": 0.2}),
        Reward(0.0, {"think_answer": 0.0}),
    ]
    assert term_metrics(charged, further)["reward/term.think_answer_failed"] == 2
    assert term_metrics([None], {"think_answer": [FAILED]}) == {"reward/term.think_answer_failed": 1}
    with pytest.raises(TooManyFailures, match="2 of 3"):
        compose_rewards([scored(1.0)] * 3, further, [SHORT] * 3, replace(config, max_failure_share=0.5))
    with pytest.raises(TooManyFailures, match="abort"):
        compose_rewards([scored(1.0)] * 3, further, [SHORT] * 3, replace(config, on_failure="abort"))
