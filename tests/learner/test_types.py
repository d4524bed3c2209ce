"""Offsets and indices of a ragged batch by hand, and batches that do not fit together."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.types import TokenBatch, ragged_index

# Three samples: prompts of 2, 1 and 3 tokens with responses of 1, 2 and 0.
BATCH = TokenBatch(
    tokens=np.arange(9, dtype=np.int32),
    lengths=np.array([3, 3, 3], np.int32),
    prompt_lengths=np.array([2, 1, 3], np.int32),
    groups=np.array([0, 0, 1], np.int32),
    sample_keys=np.arange(3, dtype=np.uint64),
    temperature=1.0,
    behaviour_logprobs=np.zeros(3, np.float32),
    mask=np.ones(3, bool),
    versions=np.zeros(3, np.int32),
    advantages=np.zeros(3, np.float32),
    old_logprobs=None,
    old_entropies=None,
    reference_logprobs=None,
)


def test_offsets():
    np.testing.assert_array_equal(BATCH.offsets, [0, 3, 6, 9])
    np.testing.assert_array_equal(BATCH.response_lengths, [1, 2, 0])
    np.testing.assert_array_equal(BATCH.response_offsets, [0, 1, 3, 3])


@pytest.mark.parametrize(("samples", "wanted"), [([0, 1, 2], [0, 1, 2]), ([1, 0], [1, 2, 0]), ([2], []), ([], [])])
def test_response_index_follows_the_order_of_the_samples(samples, wanted):
    index = BATCH.response_index(np.array(samples, np.int64))
    np.testing.assert_array_equal(index, wanted)
    assert index.dtype == np.int64


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 6)), max_size=8))
def test_ragged_index_is_the_concatenation_of_ranges(pairs):
    starts, lengths = np.array(pairs, np.int64).reshape(-1, 2).T
    wanted = [i for start, length in pairs for i in range(start, start + length)]
    assert ragged_index(starts, lengths).tolist() == wanted


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokens": np.zeros(8, np.int32)}, "8 tokens, but the lengths add up to 9"),
        ({"prompt_lengths": np.array([0, 1, 3])}, "at least one prompt token"),
        ({"prompt_lengths": np.array([2, 1, 4])}, "shorter than its prompt"),
        ({"prompt_lengths": np.array([2])}, "one value per sample"),
        ({"groups": np.array([0, 0])}, "one value per sample"),
        ({"temperature": 0.0}, r"the temperature is 0\.0; nothing can be drawn"),
        ({"temperature": float("nan")}, "the temperature is nan"),
        ({"advantages": np.zeros(4)}, r"advantages has shape \(4,\), but there are 3"),
        ({"mask": np.ones(9, bool)}, r"mask has shape \(9,\), but there are 3"),
        ({"reference_logprobs": np.zeros(2)}, r"reference_logprobs has shape \(2,\), but there are 3"),
        ({"old_logprobs": np.zeros(2)}, r"old_logprobs has shape \(2,\), but there are 3"),
    ],
)
def test_what_does_not_fit_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(BATCH, **changes)


def test_an_empty_batch_is_a_batch():
    empty = {field.name: np.zeros(0, np.int32) for field in fields(TokenBatch)}
    np.testing.assert_array_equal(TokenBatch(**empty | {"temperature": 1.0}).offsets, [0])
