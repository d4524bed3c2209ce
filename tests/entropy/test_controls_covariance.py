"""Clip-Cov and KL-Cov on vectors worked by hand, and in scope microbatch against a reading of the reference rule."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from entropy.controls.covariance import ClipCov, KlCov
from entropy.plan import NEUTRAL
from tests.entropy.control_tokens import CLIP_COV, KL_COV, dropped, penalised, random_tokens, tokens_of

# Mean log-probability -4 and mean advantage 0.5, so the scores are 4.5, 3, -3 and -4.5, 0, 9.
HAND = {"logprobs": [-1, -2, -6, -1, -4, -10], "advantages": [2, 2, 2, -1, -1, -1], "lengths": [3, 3]}


def clip_cov(seed: int = 0, **settings) -> ClipCov:
    return ClipCov(replace(CLIP_COV, **settings), seed)


def kl_cov(seed: int = 0, **settings) -> KlCov:
    return KlCov(replace(KL_COV, **settings), seed)


@pytest.mark.parametrize("scope", ["update", "rollout", "microbatch"])
def test_clip_cov_drops_what_lies_in_the_band(scope):
    assert dropped(clip_cov(scope=scope).plan(tokens_of(**HAND))) == [0, 1]


def test_absolute_bounds_are_open():
    assert dropped(clip_cov(low=3.0, high=9.0).plan(tokens_of(**HAND))) == [0]
    assert dropped(clip_cov(low=2.999, high=9.001).plan(tokens_of(**HAND))) == [0, 1, 5]


def test_quantile_bounds_are_closed():
    # Scores in order: -4.5, -3, 0, 3, 4.5, 9; the quantile 0.6 is the fourth of them and 1 the last.
    assert dropped(clip_cov(bounds="quantile", low=0.6, high=1.0).plan(tokens_of(**HAND))) == [0, 1, 5]
    assert dropped(clip_cov(bounds="quantile", low=0.6, high=0.9).plan(tokens_of(**HAND))) == [0, 1]


def test_quantiles_are_those_of_the_tokens_that_are_not_clipped():
    tokens = tokens_of(**HAND, clipped=[0, 0, 0, 0, 0, 1])
    assert dropped(clip_cov(bounds="quantile", low=0.75, high=1.0).plan(tokens)) == [0, 1]


def test_clipped_tokens_are_never_chosen_but_count():
    tokens = tokens_of(**HAND, clipped=[1, 0, 0, 0, 0, 0])
    decision = clip_cov(rate=1.0).plan(tokens)
    assert dropped(decision) == [1]
    assert decision.metrics["clip_cov/candidate_share"] == (1, 6)
    assert decision.metrics["clip_cov/selected_share"] == (1, 6)
    for seed in range(20):
        tokens = random_tokens(seed)
        for settings in (
            {"low": -math.inf, "high": math.inf},
            {"choice": "random", "low": -math.inf, "high": math.inf},
        ):
            chosen = dropped(clip_cov(seed, rate=1.0, **settings).plan(tokens))
            assert chosen == np.flatnonzero(~tokens.clipped).tolist()[: len(chosen)]


def test_what_is_reported_of_the_chosen():
    metrics = clip_cov(high=9.5).plan(tokens_of(**HAND)).metrics
    assert metrics == {
        "clip_cov/selected_share": (3, 6),
        "clip_cov/candidate_share": (3, 6),
        "clip_cov/score_mean": (9, 6),
        "clip_cov/selected_score_mean": (16.5, 3),
        "clip_cov/selected_negative_share": (1, 3),
        "clip_cov/selected_logprob_mean": (-13, 3),
    }


@pytest.mark.parametrize("choice", ["covariance", "random"])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4, 1.0])
def test_as_many_as_the_quota_and_the_candidates_allow(choice, rate):
    for seed in range(10):
        tokens = random_tokens(seed)
        candidates = dropped(clip_cov(rate=1.0, low=0.2).plan(tokens))
        chosen = dropped(clip_cov(seed, rate=rate, low=0.2, choice=choice).plan(tokens))
        assert len(chosen) == min(math.floor(rate * tokens.size + 1e-9), len(candidates))
        assert choice == "random" or set(chosen) <= set(candidates)


def test_a_random_choice_is_not_of_the_band_and_differs_by_update_and_seed():
    plans = [
        dropped(clip_cov(seed, rate=0.3, low=0.2, choice="random").plan(random_tokens(3, update=update)))
        for seed, update in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert plans[0] == plans[1]
    assert len({tuple(plan) for plan in plans}) == 3
    candidates = dropped(clip_cov(rate=1.0, low=0.2).plan(random_tokens(3)))
    assert not set(plans[0]) <= set(candidates)


def test_quota_is_exact_in_the_long_run_where_the_reference_rounds_up():
    tokens = tokens_of(**HAND)
    exact, reference = clip_cov(rate=0.01), clip_cov(rate=0.01, scope="microbatch")
    assert sum(len(dropped(exact.plan(tokens))) for _ in range(100)) == 6
    assert sum(len(dropped(reference.plan(tokens))) for _ in range(100)) == 100


def test_kl_cov_penalises_the_largest_scores():
    decision = kl_cov().plan(tokens_of(**HAND))
    assert decision.plan.kl_coef.tolist() == [2, 2, 0, 0, 0, 2]
    assert (decision.plan.kl_penalty, decision.plan.weight) == ("abs", 1.0)
    assert penalised(kl_cov(rate=0.17).plan(tokens_of(**HAND))) == [5]
    # Largest, not largest by absolute value: the token with -4.5 comes last.
    assert penalised(kl_cov(rate=5 / 6).plan(tokens_of(**HAND))) == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("penalty", ["abs", "k2", "k3"])
def test_the_kind_of_penalty_is_handed_on(penalty):
    assert kl_cov(penalty=penalty).plan(tokens_of(**HAND)).plan.kl_penalty == penalty


def test_kl_cov_does_not_look_at_the_clip():
    assert penalised(kl_cov().plan(tokens_of(**HAND, clipped=[1] * 6))) == [0, 1, 5]


@pytest.mark.parametrize("scope", ["update", "microbatch"])
def test_random_kl_penalises_as_many(scope):
    for seed in range(5):
        tokens = random_tokens(seed)
        largest = penalised(kl_cov(seed, rate=0.2, scope=scope).plan(tokens))
        drawn = penalised(kl_cov(seed, rate=0.2, scope=scope, choice="random").plan(tokens))
        assert len(drawn) == len(largest) == math.floor(0.2 * tokens.size)
        assert drawn != largest


def test_the_exact_score_is_advantage_times_discriminator():
    tokens = tokens_of(**HAND, discriminators=[0.1, 0.2, -0.3, 0.4, -0.5, 0.6])
    # 0.2, 0.4, -0.6 and -0.4, 0.5, -0.6.
    assert dropped(clip_cov(score="first_order", low=0.3, high=0.45).plan(tokens)) == [1]
    assert penalised(kl_cov(score="first_order", rate=1 / 3).plan(tokens)) == [1, 4]
    with pytest.raises(ValueError, match="discriminators"):
        kl_cov(score="first_order").plan(tokens_of(**HAND))


@pytest.mark.parametrize("scope", ["update", "microbatch"])
def test_more_than_all_tokens_are_all_of_them(scope):
    assert penalised(kl_cov(rate=3.0, scope=scope).plan(tokens_of(**HAND))) == [0, 1, 2, 3, 4, 5]
    assert dropped(clip_cov(rate=3.0, scope=scope).plan(tokens_of(**HAND))) == [0, 1]


@pytest.mark.parametrize("scope", ["update", "rollout", "microbatch"])
@pytest.mark.parametrize(
    "tokens",
    [tokens_of([], [], []), tokens_of([-3.0], [2.0]), tokens_of([-1, -2, -9], [0.5] * 3)],
    ids=["none", "one", "equal"],
)
@pytest.mark.parametrize("bounds", [("absolute", 1.0, 5.0), ("quantile", 0.0, 1.0)])
def test_without_tokens_or_spread_clip_cov_chooses_nobody(tokens, scope, bounds):
    kind, low, high = bounds
    for choice in ("covariance", "random"):
        control = clip_cov(rate=1.0, scope=scope, bounds=kind, low=low, high=high, choice=choice)
        assert control.plan(tokens).plan == NEUTRAL


@pytest.mark.parametrize("scope", ["update", "microbatch"])
def test_one_token_or_none_under_kl_cov(scope):
    assert kl_cov(rate=1.0, scope=scope).plan(tokens_of([], [], [])).plan == NEUTRAL
    assert penalised(kl_cov(rate=1.0, scope=scope).plan(tokens_of([-3.0], [2.0]))) == [0]


@pytest.mark.parametrize("scope", ["update", "rollout", "microbatch"])
def test_a_share_or_a_coefficient_of_zero_is_the_neutral_plan(scope):
    tokens = tokens_of(**HAND)
    assert clip_cov(rate=0.0, scope=scope).plan(tokens).plan == NEUTRAL
    assert kl_cov(rate=0.0, scope=scope).plan(tokens).plan == NEUTRAL
    assert kl_cov(coef=0.0, penalty="k3", scope=scope).plan(tokens).plan == NEUTRAL


@pytest.mark.parametrize("control", [clip_cov, kl_cov])
def test_restored_in_mid_run_it_goes_on_the_same(control):
    steps = [random_tokens(seed, update=seed) for seed in range(12)]
    settings, chosen = ({"low": 0.1}, dropped) if control is clip_cov else ({}, penalised)
    whole, halfway, restored = (control(rate=0.037, **settings) for _ in range(3))
    expected = [chosen(whole.plan(tokens)) for tokens in steps]
    for tokens in steps[:5]:
        halfway.plan(tokens)
    restored.load_state_dict(halfway.state_dict())
    assert [chosen(restored.plan(tokens)) for tokens in steps[5:]] == expected[5:]


def test_needs_follow_the_scope_and_the_score():
    assert clip_cov().needs.current_logprobs
    assert not clip_cov(scope="rollout").needs.current_logprobs
    assert not clip_cov(scope="microbatch").needs.current_logprobs
    assert clip_cov(score="first_order").needs.discriminators
    assert not clip_cov().needs.several_updates
    assert kl_cov().needs.several_updates


class Reference:
    """A reading of the rule of the authors' code for one micro-batch, with padding, token by token."""

    def __init__(self, rows: list[list[tuple[float, float, float] | None]]):
        """Rows of (log-probability, old log-probability, advantage); None is padding."""
        self.valid = [(r, c) for r, row in enumerate(rows) for c, token in enumerate(row) if token is not None]
        self.token = {(r, c): rows[r][c] for r, c in self.valid}
        count = len(self.valid)
        mean_logp = sum(token[0] for token in self.token.values()) / count
        mean_adv = sum(token[2] for token in self.token.values()) / count
        self.score = {at: (token[0] - mean_logp) * (token[2] - mean_adv) for at, token in self.token.items()}

    def clipped(self, low: float, high: float) -> list[bool]:
        found = []
        for at in self.valid:
            logp, old, advantage = self.token[at]
            ratio = math.exp(logp - old)
            plain, bounded = -advantage * ratio, -advantage * min(max(ratio, 1 - low), 1 + high)
            found.append(bounded > plain)
        return found

    def clip_cov(self, share: float, lower: float, upper: float, clipped: list[bool]) -> tuple[int, list[int]]:
        """The budget and the candidates, as numbers of valid tokens."""
        budget = max(int(share * len(self.valid)), 1)
        inside = [
            number
            for number, at in enumerate(self.valid)
            if not clipped[number] and self.score[at] < upper and self.score[at] > lower
        ]
        return budget, inside

    def kl_cov(self, share: float) -> list[int]:
        ranked = sorted(range(len(self.valid)), key=lambda number: self.score[self.valid[number]], reverse=True)
        return sorted(ranked[: max(1, int(len(self.valid) * share))])


def microbatch(rng: np.random.Generator) -> list:
    rows = []
    for _ in range(rng.integers(1, 5)):
        advantage, length = float(rng.choice([-1.5, -0.4, 0.9, 2.1])), int(rng.integers(1, 30))
        row = [(-float(rng.exponential(1.5)), 0.0, advantage) for _ in range(length)]
        row = [(logp, logp + float(rng.normal(0, 0.4)), adv) for logp, _, adv in row]
        rows.append(row + [None] * (30 - length))
    return rows


def flat_tokens(rows: list, clipped: list[bool]):
    flat = [token for row in rows for token in row if token is not None]
    lengths = [sum(token is not None for token in row) for row in rows]
    return tokens_of([t[0] for t in flat], [t[2] for t in flat], lengths, clipped)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("share", [2e-4, 0.05, 0.29, 1.0])
def test_scope_microbatch_is_the_reference_rule(seed, share):
    rows = microbatch(np.random.default_rng(seed))
    reference = Reference(rows)
    clipped = reference.clipped(0.2, 0.3)
    tokens = flat_tokens(rows, clipped)
    budget, candidates = reference.clip_cov(share, 0.3, 2.0, clipped)
    decision = clip_cov(rate=share, low=0.3, high=2.0, scope="microbatch").plan(tokens)
    assert len(dropped(decision)) == min(budget, len(candidates))
    assert set(dropped(decision)) <= set(candidates)
    assert decision.metrics["clip_cov/candidate_share"] == (len(candidates), tokens.size)
    if np.ptp(tokens.advantages):  # with equal ones, the reference ranks round-off
        assert penalised(kl_cov(rate=share, scope="microbatch").plan(tokens)) == reference.kl_cov(share)


def test_the_reference_rule_by_hand():
    """The scores of HAND: 4.5, 3, -3 and -4.5, 0, 9; one column of padding."""
    rows = [[(-1, -1, 2), (-2, -3, 2), (-6, -6, 2), None], [(-1, -1, -1), (-4, -4, -1), (-10, -10, -1), None]]
    reference = Reference(rows)
    assert list(reference.score.values()) == [4.5, 3, -3, -4.5, 0, 9]
    assert reference.clipped(0.2, 0.2) == [False, True, False, False, False, False]
    assert reference.clip_cov(0.5, 1, 5, [False] * 6) == (3, [0, 1])
    assert reference.kl_cov(0.5) == [0, 1, 5]


def test_weights_are_zero_and_one():
    weight = clip_cov().plan(tokens_of(**HAND)).plan.weight
    assert torch.equal(weight, torch.tensor([0.0, 0, 1, 1, 1, 1]))
