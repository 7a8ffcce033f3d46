"""The statements of the chapter on the paper's theorem about length: exact enumeration, closed forms, simulation."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.attention import softmax

from tempscale import gaussian_floor, hc, paper_bound


def rate(a):
    return np.linalg.norm(a - a.mean(-2, keepdims=True), 2, axis=(-2, -1))


@given(st.integers(2, 10**6), st.floats(0, 20), st.floats(0.01, 5))
def test_the_bound_falls_with_length_and_hardly_moves_with_the_logits(n, sigma_s, step):
    """Against the formula itself, written out, and the quotient of its ends."""
    low, high = paper_bound(n, sigma_s), paper_bound(n, sigma_s + step)
    root = np.sqrt(1 + np.exp(-2 * sigma_s**2))
    np.testing.assert_allclose(low, np.sqrt(n / (2 * root * (n - 1) ** 1.5 + 1)), rtol=1e-12)
    assert paper_bound(n + 1, sigma_s) < low <= high
    ends = np.sqrt((2**1.5 * (n - 1) ** 1.5 + 1) / (2 * (n - 1) ** 1.5 + 1))
    np.testing.assert_allclose(paper_bound(n, 25.0) / paper_bound(n, 0.0), ends, rtol=1e-12)
    assert 1 < ends < 2**0.25
    assert high / low <= ends * (1 + 1e-12)


def test_the_bound_falls_like_the_fourth_root():
    for sigma_s in (0.0, 0.7, 3.0):
        factor = (2 * np.sqrt(1 + np.exp(-2 * sigma_s**2))) ** -0.5
        assert paper_bound(1e10, sigma_s) == pytest.approx(factor * 1e10**-0.25, rel=1e-6)


def test_logits_of_many_dimensions_are_nearly_independent():
    """Kurtosis 6/d of the logits, to 5 standard errors, and a mean rate that approaches that of independent ones."""
    rng = np.random.default_rng(0)
    for d in (2, 8, 32):
        q, k = rng.normal(size=(2, 200_000, d))
        s = (q * k).sum(-1) / np.sqrt(d)
        batches = (s**4).reshape(100, -1).mean(1)
        error = batches.std(ddof=1) / 10
        assert batches.mean() == pytest.approx(3 + 6 / d, abs=5 * error)
    draws = 4000
    independent = rate(softmax(2 * rng.normal(size=(draws, 6, 6))))
    gaps = []
    for d in (1, 1000):
        q, k = rng.normal(size=(2, draws, 6, d))
        products = rate(softmax(2 * q @ np.swapaxes(k, -1, -2) / np.sqrt(d)))
        gaps.append((products.mean() - independent.mean()) / np.sqrt((products.var() + independent.var()) / draws))
    assert abs(gaps[0]) > 5 > abs(gaps[1])


@pytest.mark.parametrize("n", [3, 4, 5])
def test_strong_logits_violate_the_bound(n):
    """All nⁿ equally likely hard matrices: P(σₐ ≥ 1) = 1 - n^(1-n), and the mean is above the largest bound."""
    rates = rate(np.eye(n)[list(itertools.product(range(n), repeat=n))])
    assert (rates > 1 - 1e-9).mean() == pytest.approx(1 - n ** (1.0 - n))
    assert rates.mean() >= 1 - n ** (1.0 - n) - 1e-9
    assert rates.mean() > paper_bound(n, 25.0)


def test_strong_logits_violate_the_bound_in_simulation_and_at_every_length():
    lengths = np.arange(3.0, 100)
    assert (1 - lengths ** (1 - lengths) > paper_bound(lengths, 25.0)).all()
    rates = rate(softmax(1e4 * np.random.default_rng(0).normal(size=(2000, 3, 3))))
    exact = rate(np.eye(3)[list(itertools.product(range(3), repeat=3))])
    assert rates.mean() == pytest.approx(exact.mean(), abs=5 * exact.std() / np.sqrt(2000))


@given(st.lists(st.integers(0, 9), min_size=2, max_size=30))
def test_filter_rate_of_hard_attention_lies_between_the_two_largest_counts(looks_at):
    n = len(looks_at)
    looks_at = np.array(looks_at) % n
    second, first = np.sort(np.bincount(looks_at, minlength=n))[-2:]
    squared = rate(np.eye(n)[looks_at]) ** 2
    assert second - 1e-9 <= squared <= first + 1e-9


@pytest.mark.parametrize(("head_dim", "sigma_s"), [(1, 0.3), (2, 0.6), (4, 0.8)])
def test_queries_and_keys_have_a_floor(head_dim, sigma_s):
    """The gain on the first coordinate of the keys tends to σₛ/sqrt(d): off by 20 % at 250 tokens at most, 6 % at 4000."""
    rng, a = np.random.default_rng(0), sigma_s / np.sqrt(head_dim)
    for n, tolerance in [(250, 0.2), (4000, 0.06)]:
        q, k = rng.normal(size=(2, n, head_dim))
        signal = k[:, :1]
        gain = np.linalg.norm(hc(softmax(a * q @ k.T) @ signal)) / np.linalg.norm(hc(signal))
        assert gain == pytest.approx(a, rel=tolerance)


@pytest.mark.parametrize("head_dim", [1, 4, 64])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_the_floor_is_above_the_bound_for_long_texts(head_dim, share):
    """The floor is at least σₛ/sqrt(d); the bound is there at the stated length and below it beyond."""
    sigma_s = share * np.sqrt(head_dim)
    floor = gaussian_floor(sigma_s, head_dim)
    assert floor >= share
    crossing = head_dim**2 / (4 * (1 + np.exp(-2 * sigma_s**2)) * sigma_s**4)
    assert paper_bound(4 * crossing + 100, sigma_s) < share
    assert paper_bound(1e6 * crossing + 1e6, sigma_s) < floor / 10
    if crossing > 1000:
        assert paper_bound(crossing, sigma_s) == pytest.approx(share, rel=0.01)


def test_one_row_bounds_the_filter_rate():
    """Logits 0 or c at random, all 2⁹ matrices of three tokens: exact expectations."""
    n = 3
    for c in (0.5, 2.0, 8.0):
        s = c * np.array(list(itertools.product([0.0, 1.0], repeat=n * n))).reshape(-1, n, n)
        a = softmax(s)
        kappa = (a[:, 0] ** 2).sum(-1).mean()
        frobenius = ((a - a.mean(-2, keepdims=True)) ** 2).sum((-1, -2)).mean()
        assert frobenius == pytest.approx((n - 1) * (kappa - 1 / n))
        square = (rate(a) ** 2).mean()
        assert kappa - 1 / n <= square <= (n - 1) * (kappa - 1 / n)


@given(arrays(np.float64, st.tuples(st.integers(2, 9), st.just(4)), elements=st.floats(-10, 10)), st.floats(-100, 100))
def test_pooled_embeddings_do_not_see_hc(x, scale):
    """Mean pooling: any multiple of HC may be added. Rows all alike: any embedding with HC = 0."""
    np.testing.assert_allclose((x + scale * hc(x)).mean(0), x.mean(0), atol=1e-9)
    u = x[0]
    attention = np.tile(softmax(x[:, 0]), (len(x), 1))
    pooled = attention @ np.tile(u, (len(x), 1))
    assert rate(attention) < 1e-12
    np.testing.assert_allclose(pooled, np.tile(u, (len(x), 1)), atol=1e-9)
