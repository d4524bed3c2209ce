"""Which tokens are chosen: by definition, and the same ones however the update is cut up and put together."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.selection import PLANS, peak_bytes_per_token, update
from entropy.covariance import token_covariance
from entropy.selection import Quota, draw, largest
from entropy.tokens import UpdateTokens
from tests.entropy.updates import joined, named, random_update, update_of

ROOT = Path(__file__).parents[2]
COUNT = 37


def selections(tokens: UpdateTokens) -> dict[str, list]:
    """What the covariance ranks highest, and a draw from those above a bound; sorted, so that lists compare."""
    scores, keys = token_covariance(tokens), tokens.keys(0, 1)
    everyone = np.ones(tokens.size, bool)
    chosen = {
        "largest": largest(scores, everyone, COUNT, keys),
        "draw": draw(scores > 0.1, COUNT, keys),
        "tied": largest(np.round(scores), everyone, COUNT, keys),
    }
    return {name: sorted(map(list, named(tokens, indices))) for name, indices in chosen.items()}


def brute_force(tokens: UpdateTokens) -> dict[str, list]:
    """The same by sorting every token in Python, with means by exactly rounded sums."""
    n = tokens.size
    logprobs, advantages = [float(x) for x in tokens.logprobs], [float(x) for x in tokens.advantages]
    mean_logprob, mean_advantage = math.fsum(logprobs) / n, math.fsum(advantages) / n
    # Rounded far above round-off, so that tokens that tie on paper tie here.
    scores = [round((a - mean_logprob) * (b - mean_advantage), 12) for a, b in zip(logprobs, advantages, strict=True)]
    keys = [int(key) for key in tokens.keys(0, 1)]
    by_score = sorted(range(n), key=lambda i: (-scores[i], keys[i]))[:COUNT]
    by_key = sorted((i for i in range(n) if scores[i] > 0.1), key=lambda i: keys[i])[:COUNT]
    tied = sorted(range(n), key=lambda i: (-round(scores[i]), keys[i]))[:COUNT]
    found = {"largest": by_score, "draw": by_key, "tied": tied}
    return {name: sorted(map(list, named(tokens, np.array(chosen)))) for name, chosen in found.items()}


@pytest.mark.parametrize("steps", [0.0, 0.25], ids=["distinct scores", "ties"])
@pytest.mark.parametrize("seed", range(5))
def test_any_cut_and_any_order_select_what_brute_force_selects(steps, seed):
    tokens = random_update(seed=seed, steps=steps)
    expected = brute_force(tokens)
    assert all(len(chosen) == COUNT for chosen in expected.values())
    rng = np.random.default_rng(seed)
    assert selections(tokens) == expected
    for samples in (1, 2, 4, 8):  # in a micro-batch, and the micro-batches in any order
        pieces = np.array_split(np.arange(24), 24 // samples)
        assert selections(joined(tokens, [pieces[i] for i in rng.permutation(len(pieces))])) == expected
    for _ in range(5):
        assert selections(joined(tokens, [rng.permutation(24)])) == expected


def test_gloo_ranks_select_what_one_process_selects(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, str(Path(__file__).with_name("gloo_selection.py")), str(tmp_path), "1", "2", "4"]
    subprocess.run(program, env=environment, cwd=ROOT, timeout=240, check=True)
    expected = selections(random_update(steps=0.25))
    found = {file.stem: json.loads(file.read_text()) for file in tmp_path.glob("*.json")}
    assert found == {f"{ranks}_{rank}": expected for ranks in (1, 2, 4) for rank in range(ranks)}


def test_scores_that_tie_are_chosen_by_key_alone():
    scores = np.array([1.0, 3.0, 1.0, 1.0, 0.0, 3.0])
    keys = np.array([9, 9, 2, 5, 0, 9], np.uint64)
    everyone = np.ones(6, bool)
    assert largest(scores, everyone, 1, np.array([9, 4, 2, 5, 0, 3], np.uint64)).tolist() == [5]
    assert largest(scores, everyone, 3, keys).tolist() == [1, 2, 5]
    assert largest(scores, everyone, 4, keys).tolist() == [1, 2, 3, 5]
    assert largest(scores, ~(scores == 3.0), 2, keys).tolist() == [2, 3]


def test_infinite_scores_have_a_rank():
    scores = np.array([-np.inf, 0.0, np.inf, -np.inf])
    keys = np.arange(4, dtype=np.uint64)
    assert [largest(scores, np.ones(4, bool), count, keys).tolist() for count in (1, 2, 3)] == [[2], [1, 2], [0, 1, 2]]


@pytest.mark.parametrize("count", [5, 6, 1000])
def test_more_than_there_are_gives_all_candidates(count):
    candidates = np.array([True, False, True, True, True, True])
    keys = np.arange(6, dtype=np.uint64)
    assert draw(candidates, count, keys).tolist() == [0, 2, 3, 4, 5]
    assert largest(np.arange(6.0), candidates, count, keys).tolist() == [0, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [0, -1, 3])
def test_nothing_is_chosen_of_nothing(count):
    none, keys = np.zeros(0, bool), np.zeros(0, np.uint64)
    assert draw(none, count, keys).tolist() == largest(np.zeros(0), none, count, keys).tolist() == []
    nobody = np.zeros(3, bool)
    assert draw(nobody, count, np.arange(3, dtype=np.uint64)).tolist() == []
    assert largest(np.zeros(3), nobody, count, np.arange(3, dtype=np.uint64)).tolist() == []


def test_zero_of_some_is_none():
    assert draw(np.ones(3, bool), 0, np.arange(3, dtype=np.uint64)).tolist() == []
    assert largest(np.ones(3), np.ones(3, bool), 0, np.arange(3, dtype=np.uint64)).tolist() == []


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_nan_score_is_refused_at_a_candidate_and_ignored_elsewhere(count):
    scores, keys = np.array([1.0, np.nan, 0.0]), np.arange(3, dtype=np.uint64)
    with pytest.raises(ValueError, match="scores of 1 of 3 candidates are NaN"):
        largest(scores, np.ones(3, bool), count, keys)
    assert 1 not in largest(scores, np.array([True, False, True]), count, keys)


def test_equal_advantages_score_exactly_zero_and_leave_the_choice_to_the_keys():
    """0.1 summed and divided is not 0.1: without care the tokens would be ranked by round-off."""
    logprobs = -np.random.default_rng(0).exponential(size=300)
    tokens = update_of([100] * 3, logprobs, np.full(300, 0.1))
    assert tokens.mean(tokens.advantages) != 0.1
    scores, keys = token_covariance(tokens), tokens.keys(0)
    assert not scores.any()
    chosen = largest(scores, np.ones(300, bool), 10, keys)
    assert chosen.tolist() == sorted(np.argsort(keys)[:10])


@pytest.mark.parametrize("rate", [2e-4, 0.02, 0.1, 1 / 3, 0.5, 1.0, 0.0])
def test_a_quota_is_exact_in_the_long_run(rate):
    quota, rng = Quota(rate), np.random.default_rng(0)
    taken = offered = 0
    for tokens in rng.integers(0, 3000, 500):
        taken, offered = taken + quota.take(int(tokens)), offered + int(tokens)
        assert abs(taken - rate * offered) < 1
    assert taken > 0 or rate == 0


@pytest.mark.parametrize(("rate", "tokens", "calls"), [(0.1, 3, 10), (0.1, 30, 1), (0.001, 1, 1000), (2e-4, 1, 50_000)])
def test_a_quota_of_whole_tokens_is_taken_to_the_last(rate, tokens, calls):
    quota = Quota(rate)
    assert sum(quota.take(tokens) for _ in range(calls)) == round(rate * tokens * calls)


def test_a_quota_has_no_floor_of_one_token():
    quota = Quota(0.005)
    assert [quota.take(100) for _ in range(6)] == [0, 1, 0, 1, 0, 1]
    assert Quota(0.5, carry=0.75).take(1) == 1
    assert Quota(0.5).take(0) == 0


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_memory_of_planning_is_linear_in_tokens(plan):
    small, large = (peak_bytes_per_token(plan, update(tokens)) for tokens in (50_000, 200_000))
    assert large == pytest.approx(small, rel=0.02)
    assert large < 48
