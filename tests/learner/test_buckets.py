"""Buckets keep the order, stay within their bytes, and a parameter larger than that travels alone."""

from hypothesis import given
from hypothesis import strategies as st

from learner.buckets import ParameterSpec, plan_buckets


def specs(sizes):
    return [ParameterSpec(f"p{i}", (size,), "uint8", size) for i, size in enumerate(sizes)]


@given(st.lists(st.integers(0, 30), max_size=30), st.integers(1, 40))
def test_invariants(sizes, limit):
    buckets = plan_buckets(specs(sizes), limit)
    assert [i for bucket in buckets for i in bucket] == list(range(len(sizes)))
    totals = [sum(sizes[i] for i in bucket) for bucket in buckets]
    for bucket, total in zip(buckets, totals, strict=True):
        assert bucket
        assert total <= limit or [i for i in bucket if sizes[i]] == bucket[:1]
    # No bucket could have taken the parameter that opens the next one.
    for total, follower in zip(totals, buckets[1:], strict=False):
        assert total + sizes[follower[0]] > limit


def test_by_hand():
    assert plan_buckets(specs([4, 4, 4, 11, 1, 9, 1]), bucket_bytes=10) == [[0, 1], [2], [3], [4, 5], [6]]


def test_no_parameters():
    assert plan_buckets([], 10) == []
