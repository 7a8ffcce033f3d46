"""Signals and filter rates against NumPy, SciPy's SVD and closed forms."""

import itertools

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.attention import softmax

from tempscale import dc, filter_rate, frequency_matrix, hc

signals = arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.floats(-10, 10))
logits = st.integers(2, 9).flatmap(lambda n: arrays(np.float64, (n, n), elements=st.floats(-8, 8)))


def mean_matrix(n):
    return np.full((n, n), 1 / n)


@given(signals)
def test_dc_and_hc_are_the_projections_j_and_i_minus_j(x):
    n = len(x)
    np.testing.assert_allclose(dc(x), mean_matrix(n) @ x, atol=1e-12)
    np.testing.assert_allclose(hc(x), (np.eye(n) - mean_matrix(n)) @ x, atol=1e-12)


@given(signals)
def test_dc_keeps_frequency_zero_and_hc_the_others(x):
    spectrum = scipy.fft.fft(x, axis=0, norm="ortho")
    low, high = scipy.fft.fft(dc(x), axis=0, norm="ortho"), scipy.fft.fft(hc(x), axis=0, norm="ortho")
    np.testing.assert_allclose(low[0], spectrum[0], atol=1e-10)
    np.testing.assert_allclose(low[1:], 0, atol=1e-10)
    np.testing.assert_allclose(high[0], 0, atol=1e-10)
    np.testing.assert_allclose(high[1:], spectrum[1:], atol=1e-10)


@given(signals)
def test_parseval(x):
    """The energy of the signal is that of its spectrum: frequency 0 has that of DC, the others together that of HC."""
    energy = (np.abs(scipy.fft.fft(x, axis=0, norm="ortho")) ** 2).sum(1)
    np.testing.assert_allclose((dc(x) ** 2).sum(), energy[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose((hc(x) ** 2).sum(), energy[1:].sum(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose((x**2).sum(), energy.sum(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8])
def test_the_order_of_the_tokens_changes_energies_from_four_tokens_on(n):
    x = np.random.default_rng(n).normal(size=(n, 2))

    def energies(order):
        return (np.abs(scipy.fft.fft(x[list(order)], axis=0, norm="ortho")) ** 2).sum(1)

    orders = list(itertools.islice(itertools.permutations(range(n)), 24))
    moved = np.array([energies(order) for order in orders])
    np.testing.assert_allclose(moved[:, 0], moved[0, 0])
    np.testing.assert_allclose(moved[:, 1:].sum(1), moved[0, 1:].sum())
    assert np.allclose(moved, moved[0]) == (n < 4)


@given(logits)
def test_frequency_matrix_is_f_a_f_hermitian(x):
    a = softmax(x)
    f = scipy.linalg.dft(len(a), scale="sqrtn")
    np.testing.assert_allclose(frequency_matrix(a), f @ a @ f.conj().T, atol=1e-12)


@given(logits)
def test_first_column_of_the_frequency_matrix_is_a_unit_vector(x):
    """A1 = 1: a constant signal comes out as it went in."""
    column = frequency_matrix(softmax(x))[:, 0]
    np.testing.assert_allclose(column, np.eye(len(column))[0], atol=1e-12)


@given(logits)
def test_filter_rate_is_the_largest_singular_value_of_hc_a(x):
    a = softmax(x)
    expected = scipy.linalg.svdvals((np.eye(len(a)) - mean_matrix(len(a))) @ a)[0]
    np.testing.assert_allclose(filter_rate(a), expected, atol=1e-12)


@given(logits)
def test_filter_rate_is_the_norm_of_all_frequency_rows_but_the_first(x):
    a = softmax(x)
    np.testing.assert_allclose(filter_rate(a), scipy.linalg.svdvals(frequency_matrix(a)[1:])[0], atol=1e-10)


@given(logits, st.integers(0, 2**32 - 1))
def test_filter_rate_bounds_one_step_and_is_attained(x, seed):
    """‖HC[A x]‖ ≤ σₐ ‖HC[x]‖ for every x (Theorem 2 with W = I), with equality for some x that is not constant."""
    a = softmax(x)
    signal = np.random.default_rng(seed).normal(size=(len(a), 3))
    rate = filter_rate(a)
    assert np.linalg.norm(hc(a @ signal)) <= rate * np.linalg.norm(hc(signal)) + 1e-9
    differences = scipy.linalg.null_space(np.ones((1, len(a))))  # the signals without a mean
    top = differences @ scipy.linalg.svd(hc(a) @ differences)[2][:1].T
    np.testing.assert_allclose(np.linalg.norm(hc(top)), 1)
    np.testing.assert_allclose(np.linalg.norm(hc(a @ top)), rate, atol=1e-9)


@given(logits, st.floats(-50, 50))
def test_filter_rate_ignores_a_shift_of_the_logits_and_a_permutation_of_the_tokens(x, shift):
    order = np.random.default_rng(len(x)).permutation(len(x))
    rate = filter_rate(softmax(x))
    np.testing.assert_allclose(filter_rate(softmax(x + shift)), rate, atol=1e-8)
    np.testing.assert_allclose(filter_rate(softmax(x[np.ix_(order, order)])), rate, atol=1e-10)


@pytest.mark.parametrize("n", [2, 3, 8, 65])
def test_closed_forms_of_the_filter_rate(n):
    identity = np.eye(n)
    assert filter_rate(mean_matrix(n)) == pytest.approx(0, abs=1e-12)
    assert filter_rate(identity) == pytest.approx(1)
    assert filter_rate(identity[np.random.default_rng(0).permutation(n)]) == pytest.approx(1)
    assert filter_rate(identity[np.zeros(n, dtype=int)]) == pytest.approx(0, abs=1e-12)  # all rows look at token 0
    # Half of the rows look at token 0, the others at token 1: the rate is sqrt(n / 2) for even n.
    halves = identity[np.arange(n) % 2]
    ones, zeros = (n + 1) // 2, n // 2
    assert filter_rate(halves) == pytest.approx(np.sqrt(2 * ones * zeros / n))


def test_filter_rate_of_two_tokens_in_closed_form():
    """A = [[p, 1-p], [q, 1-q]] has rate |p - q|."""
    p, q = np.random.default_rng(0).uniform(size=(2, 100))
    a = np.stack([np.stack([p, 1 - p], -1), np.stack([q, 1 - q], -1)], -2)
    np.testing.assert_allclose(filter_rate(a), np.abs(p - q), atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)],
)
def test_tensors_of_any_float_dtype_and_batch_shape(dtype, tolerance):
    exact = torch.randn(2, 3, 16, 16, dtype=torch.float64).softmax(-1)
    a = exact.to(dtype)
    assert dc(a).dtype == dtype
    assert hc(a).shape == a.shape
    assert filter_rate(a).shape == (2, 3)
    assert frequency_matrix(a).shape == (2, 3, 16, 16)
    torch.testing.assert_close(filter_rate(a).double(), filter_rate(exact), atol=tolerance, rtol=0)
    torch.testing.assert_close(
        frequency_matrix(a).to(torch.complex128), frequency_matrix(exact), atol=tolerance, rtol=0
    )


def test_numpy_gives_numpy_and_the_input_is_left_alone():
    x = np.random.default_rng(0).dirichlet(np.ones(5), size=5)
    before = x.copy()
    for function in (dc, hc, frequency_matrix):
        result = function(x)
        assert isinstance(result, np.ndarray)
        result[...] = 0
    assert isinstance(filter_rate(x), (np.ndarray, np.floating))
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("function", [dc, hc, frequency_matrix, filter_rate])
def test_refusals_name_the_value_and_the_remedy(function):
    with pytest.raises(ValueError, match=r"expected floating-point values, not torch.int64: convert them first"):
        function(torch.eye(3).long())
    with pytest.raises(ValueError, match=r"expected shape \(..., n, d\) with n >= 1 tokens on axis -2, not \(3,\)"):
        function(torch.ones(3))


def test_attention_must_be_square_with_rows_that_sum_to_one():
    with pytest.raises(ValueError, match=r"expected attention of shape \(..., n, n\), not \(2, 3\)"):
        frequency_matrix(torch.ones(2, 3))
    with pytest.raises(ValueError, match="a row is off by 1: apply softmax over the last axis first"):
        filter_rate(2 * torch.eye(3))
    with pytest.raises(ValueError, match="a row is off by nan"):
        filter_rate(torch.full((3, 3), torch.nan))


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40))
def test_filter_rate_of_hard_attention(looks_at):
    """Rows are unit vectors: the squared rate is the top eigenvalue of diag(c) - c cᵀ / n, c the column counts."""
    n = len(looks_at)
    looks_at = np.array(looks_at) % n
    counts = np.bincount(looks_at, minlength=n)
    squared = scipy.linalg.eigvalsh(np.diag(counts) - np.outer(counts, counts) / n)[-1]
    rate = filter_rate(np.eye(n)[looks_at])
    np.testing.assert_allclose(rate, np.sqrt(max(squared, 0)), atol=1e-7)
    assert rate <= np.sqrt(counts.max()) + 1e-12
