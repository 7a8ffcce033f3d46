"""The two theorems on which the proof of a patch rests: logits follow their sources, and powers of two do not round."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.attention import softmax

LOGITS = st.floats(-8, 8, width=32)
# far from overflow and from the subnormal numbers, also after products and with a factor
NORMAL = st.floats(2**-20, 2**20, width=32) | st.floats(-(2**20), -(2**-20), width=32)


def logits(query, key, bias, cap):
    """Return soft-capped logits with a bias; all of query, bias and cap are sources."""
    scores = query @ key.T + bias
    return cap * np.tanh(scores / cap)


@given(
    arrays(np.float64, (4, 3), elements=LOGITS),
    arrays(np.float64, (5, 3), elements=LOGITS),
    arrays(np.float64, (4, 5), elements=LOGITS),
    st.floats(0.05, 20),
)
def test_logits_follow_their_sources_and_a_missing_one_shows(query, key, bias, temperature):
    cap, mask = 30.0, np.zeros((4, 5))
    mask[:, -1] = -np.inf
    expected = softmax(logits(query, key, bias, cap) / temperature + mask)
    divided = logits(query / temperature, key, bias / temperature, cap / temperature)
    np.testing.assert_allclose(softmax(divided + mask), expected, rtol=1e-9, atol=1e-12)

    complete = (query @ key.T + bias) / temperature
    missing = softmax(query / temperature @ key.T + bias + mask)
    error = (1 - 1 / temperature) * bias
    np.testing.assert_allclose(missing, softmax(complete + error + mask), rtol=1e-9, atol=1e-12)
    # a bias that is constant on the visible tokens of a row does nothing
    constant = np.repeat(bias[:, :1], 5, axis=1)
    np.testing.assert_allclose(
        softmax(query / temperature @ key.T + constant + mask),
        softmax((query @ key.T + constant) / temperature + mask),
        rtol=1e-9,
        atol=1e-12,
    )


@given(arrays(np.float64, (4, 5), elements=st.floats(-3, 3)), st.floats(0.3, 3))
def test_a_missing_source_shows_in_every_row_in_which_it_is_not_constant(bias, temperature):
    """The weights change by factors whose range in a row is |1 - 1/tau| times that of the source: 0 if it is constant."""
    scores = np.random.default_rng(0).normal(size=(4, 5)) / temperature
    factors = softmax(scores + bias) / softmax(scores + bias / temperature)
    spread = np.abs(1 - 1 / temperature) * np.ptp(bias, axis=1)
    np.testing.assert_allclose(np.ptp(np.log(factors), axis=1), spread, rtol=1e-9, atol=1e-12)


def test_a_missing_source_changes_attention():
    query, key, bias = np.zeros((1, 2)), np.ones((2, 2)), np.array([[1.0, 0.0]])
    # only the bias speaks: softmax([1/tau, 0]), of which nothing is left if it is not divided
    assert softmax(bias / 0.5)[0, 0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert softmax(query / 0.5 @ key.T + bias)[0, 0] == pytest.approx(1 / (1 + np.exp(-1)))


@given(
    arrays(np.float32, (4, 3), elements=NORMAL),
    arrays(np.float32, (5, 3), elements=NORMAL),
    arrays(np.float32, (4, 5), elements=NORMAL),
    st.integers(-20, 20),
)
def test_powers_of_two_commute_with_rounding(query, key, bias, power):
    factor = np.float32(2.0**power)
    cap = np.float32(30)
    # sums in a fixed order, which a matrix product does not promise
    scores, scaled = bias, factor * bias
    for i in range(3):
        scores = scores + query[:, None, i] * key[None, :, i]
        scaled = scaled + (factor * query)[:, None, i] * key[None, :, i]
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, factor * scores)
    # a soft cap is a quotient, a function of it, and a product
    capped, both = cap * np.tanh(scores / cap), factor * cap * np.tanh(scaled / (factor * cap))
    np.testing.assert_array_equal(both, factor * capped)


@given(st.floats(1, 2), st.integers(-10, 10), st.integers(-10, 10), st.booleans())
@example(1 + 2**-11, 3, -5, False)  # ties in float16, one to each side
@example(1 + 3 * 2**-11, 3, -5, True)
def test_rounding_commutes_with_powers_of_two(x, exponent, power, negative):
    """fl(2^k x) = 2^k fl(x) for real x: rounding from float64, of numbers that stay normal in all three formats."""
    x *= (-1 if negative else 1) * 2.0 ** (exponent / 2.5)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        rounded, scaled = torch.tensor([x, 2.0**power * x], dtype=torch.float64).to(dtype).double()
        assert scaled == 2.0**power * rounded


def test_other_factors_and_subnormal_numbers_do_not_commute_with_rounding():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 1000)).astype(np.float32)
    factor = np.float32(1.25)
    assert (factor * x + factor * y != factor * (x + y)).mean() > 0.1
    smallest = np.finfo(np.float32).smallest_subnormal
    assert np.float32(0.25) * smallest == 0
    three = np.float32(3) * smallest
    assert np.float32(4) * (np.float32(0.25) * three) != three
    # and in float16 they begin where logits still are
    assert np.finfo(np.float16).tiny > 6e-5
