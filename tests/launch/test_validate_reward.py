"""What the reward section is refused for, in words."""

import pytest

from launch.config import compose
from launch.prepare import verifiers
from launch.validate import check

REMOTE = ["+reward.terms.verifiers={remote: 0.5}", "reward.remote.url=http://127.0.0.1:8000/judge"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["reward.terms.overlong.max_tokens=48", "reward.terms.overlong.cache_tokens=16"],
        ["reward.terms.overlong.max_tokens=48", "reward.terms.overlong.cache_tokens=48"],
        ["reward.terms.truncation_penalty=0.5", "algorithm=rloo"],
        ["+reward.terms.verifiers={think_answer: 0.1, my.module\\:short: -1}"],
        REMOTE,
        [*REMOTE, "reward.remote.requests_per_s=3"],
        ["algorithm=pass_at_k", "algorithm.pass_k=4"],
    ],
    ids=str,
)
def test_what_works(overrides):
    assert check(compose(overrides)) == []


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["reward.terms.overlong.max_tokens=48", "reward.terms.overlong.cache_tokens=49"],
            "reward.terms.overlong.cache_tokens = 49 is more than reward.terms.overlong.max_tokens = 48, so even an "
            "empty response would be charged.",
        ),
        (
            ["reward.terms.overlong.cache_tokens=16", "reward.terms.overlong.max_tokens=64"],
            "reward.terms.overlong charges nothing up to max_tokens - cache_tokens = 48 tokens, and no response is "
            "longer than rollout.max_new_tokens = 48.",
        ),
        (
            ["reward.terms.overlong.max_tokens=48"],
            "reward.terms.overlong.max_tokens = 48 and reward.terms.overlong.cache_tokens = null: the penalty needs "
            "both, and no penalty is both null.",
        ),
        (["reward.terms.overlong.cache_tokens=0"], "reward.terms.overlong.cache_tokens = 0 has to be at least 1."),
        (["reward.terms.truncation_penalty=-1"], "reward.terms.truncation_penalty = -1.0 must not be negative."),
        (
            ["+reward.terms.verifiers={think_answer: 0}"],
            "reward.terms.verifiers: the weight 0.0 of think_answer has to be finite and not 0.",
        ),
        (
            ["algorithm=pass_at_k", "algorithm.pass_k=4", "reward.terms.truncation_penalty=0.5"],
            "algorithm.estimator = pass_at_k counts right responses, and the terms of reward.terms make rewards that "
            "are neither 0 nor 1; choose another algorithm or no terms.",
        ),
        (REMOTE[:1], "reward.remote.url is needed with the verifier remote."),
        (
            [REMOTE[0], "reward.remote.url=ftp://there/judge"],
            "reward.remote.url = ftp://... is no http or https address of a server.",
        ),
        (
            [REMOTE[0], "reward.remote.url=http://me:hidden@there/judge"],
            "reward.remote.url holds a user or password; name a variable in reward.remote.token_variable instead.",
        ),
        (
            [*REMOTE, "reward.remote.timeout_s=5"],
            "reward.remote.timeout_s = 5.0 has to be shorter than reward.timeout_s = 5.0, at which the process that "
            "waits for the server is killed.",
        ),
        (
            [*REMOTE, "reward.remote.requests_per_s=4", "reward.children_per_worker=16"],
            "reward.remote.requests_per_s = 4.0 lets reward.children_per_worker = 16 processes wait 4 s for their "
            "turn, and reward.remote.timeout_s = 4.0 ends before.",
        ),
        (
            [*REMOTE, "reward.remote.requests_per_s=2"],
            "reward.remote.requests_per_s = 2.0 takes 128 s for the 256 responses of a step with reward.workers = 1, "
            "and reward.deadline_s = 120.0.",
        ),
    ],
    ids=str,
)
def test_what_does_not(overrides, sentence):
    assert check(compose(overrides)) == [sentence]


def test_an_unknown_verifier():
    [sentence] = check(compose(["+reward.terms.verifiers={maths: 0.1}"]))
    assert sentence.startswith("reward.terms.verifiers: unknown verifier 'maths'; known are ")


def test_terms_are_no_matter_of_an_evaluation():
    assert (
        check(compose(["reward.terms.overlong.max_tokens=48", "reward.terms.overlong.cache_tokens=49"]), training=False)
        == []
    )


def test_the_pool_is_made_for_the_verifiers_of_terms_too():
    config = compose(["+reward.terms.verifiers={think_answer: 0.1}"])
    assert verifiers(config) == {"reasoning_gym", "think_answer"}


RULES = "boxed, hash, answer_tag, the_answer_is, bare, last_number"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("extraction=[]", f"reward.math.extraction is empty, so no answer would be found; give some of {RULES}."),
        ("extraction=[boxd]", f"reward.math.extraction names boxd, which is not one of {RULES}."),
        ("extraction=[boxed,hash,boxed]", "reward.math.extraction names boxed more than once."),
        ("percent=half", "reward.math.percent = half is not one of either, value, ignore."),
        ("units=si", "reward.math.units = si is not one of ignore, agree, require."),
        ("tolerance=1", "reward.math.tolerance = 1.0 has to be from 0 to below 1."),
    ],
)
def test_a_policy_that_cannot_be(override, sentence):
    assert check(compose([f"reward.math.{override}"])) == [sentence]


@pytest.mark.parametrize("preset", ["lenient", "boxed", "strict"])
def test_presets_pass(preset):
    assert check(compose([f"reward/math={preset}"])) == []
