"""The factors of each denominator by hand, and sums over any split of an update."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.denominators import token_scales
from learner.types import TokenBatch

DENOMINATORS = {"tokens": None, "sequences": None, "prompts": None, "constant": 7}
# Six samples of three prompts; the last two hold a prompt without any trained token, one of them without a response.
LENGTHS = np.array([3, 1, 2, 4, 2, 0])
GROUPS = np.array([0, 0, 1, 1, 2, 2])
MASK = np.array([1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0], bool)


def batch_of(lengths=LENGTHS, groups=GROUPS, mask=MASK) -> TokenBatch:
    lengths = np.asarray(lengths, np.int32)
    zeros = np.zeros(lengths.sum(), np.float32)
    return TokenBatch(
        tokens=np.zeros(lengths.sum() + lengths.size, np.int32),
        lengths=lengths + 1,
        prompt_lengths=np.ones_like(lengths),
        groups=np.asarray(groups, np.int32),
        sample_keys=np.arange(len(groups), dtype=np.uint64),
        temperature=1.0,
        behaviour_logprobs=zeros,
        mask=np.asarray(mask, bool),
        versions=zeros.astype(np.int32),
        advantages=zeros,
        old_logprobs=None,
        old_entropies=None,
        reference_logprobs=None,
    )


@pytest.mark.parametrize(
    ("denominator", "expected"),
    [
        # Eight trained tokens.
        ("tokens", [1 / 8, 1 / 8, 0, 1 / 8, 1 / 8, 1 / 8, 1 / 8, 1 / 8, 1 / 8, 0, 0, 0]),
        # Four samples with a trained token, of 2, 1, 2 and 3 of them.
        ("sequences", [1 / 8, 1 / 8, 0, 1 / 4, 1 / 8, 1 / 8, 1 / 12, 1 / 12, 1 / 12, 0, 0, 0]),
        # Two prompts with a trained token, of 3 and 5 of them.
        ("prompts", [1 / 6, 1 / 6, 0, 1 / 6, *[1 / 10] * 5, 0, 0, 0]),
        # Six samples times 7, also those without a trained token.
        ("constant", [1 / 42, 1 / 42, 0, *[1 / 42] * 6, 0, 0, 0]),
    ],
)
def test_factors_by_hand(denominator, expected):
    scales = token_scales(batch_of(), np.arange(6), denominator, DENOMINATORS[denominator])
    assert scales.dtype == np.float64
    assert scales.tolist() == pytest.approx(expected, rel=1e-15)


def test_an_update_of_some_samples():
    # Samples 3 and 0: one of each prompt; 3 + 2 trained tokens.
    batch, samples = batch_of(), np.array([3, 0])
    outside = [3, 4, 5, 10, 11]
    for denominator, constant in DENOMINATORS.items():
        scales = token_scales(batch, samples, denominator, constant)
        assert not scales[outside].any()
    assert token_scales(batch, samples, "prompts", None)[[0, 1, 6, 7, 8]].tolist() == pytest.approx(
        [1 / 4, 1 / 4, 1 / 6, 1 / 6, 1 / 6]
    )
    assert token_scales(batch, samples, "constant", 7)[0] == pytest.approx(1 / 14)


@pytest.mark.parametrize("denominator", DENOMINATORS)
@pytest.mark.parametrize("samples", [np.array([4, 5]), np.zeros(0, np.int64)])
def test_an_update_without_a_trained_token_is_all_zeros(denominator, samples):
    assert not token_scales(batch_of(), samples, denominator, DENOMINATORS[denominator]).any()


@given(st.data())
def test_factors_of_a_mean_add_up_to_one_in_any_order(data):
    lengths = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=8))
    groups = data.draw(st.lists(st.integers(0, 3), min_size=len(lengths), max_size=len(lengths)))
    mask = data.draw(st.lists(st.booleans(), min_size=sum(lengths), max_size=sum(lengths)))
    samples = np.array(data.draw(st.permutations(range(len(lengths)))))
    batch = batch_of(lengths, groups, mask)
    for denominator in ("tokens", "sequences", "prompts"):
        scales = token_scales(batch, samples, denominator, None)
        assert scales.sum() == pytest.approx(float(any(mask)), rel=1e-12)
        assert np.array_equal(scales, token_scales(batch, np.sort(samples), denominator, None))
        assert not scales[~batch.mask].any()


@pytest.mark.parametrize(("denominator", "constant"), [("constant", None), ("tokens", 7)])
def test_the_constant_belongs_to_its_denominator(denominator, constant):
    with pytest.raises(ValueError, match=r"algorithm\.denominator_tokens"):
        token_scales(batch_of(), np.arange(6), denominator, constant)


def test_an_unknown_denominator_is_refused():
    with pytest.raises(ValueError, match=r"algorithm\.denominator = words is unknown"):
        token_scales(batch_of(), np.arange(6), "words", None)
