"""The statements of the chapter on real models."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from tempscale import filter_rate, hc

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(2, 40), st.floats(0.1, 30))
def test_filter_rate_lies_between_spread_and_mass_of_a_column(seed, n, strength):
    A = softmax(strength * np.random.default_rng(seed).normal(size=(n, n)), axis=-1)
    rate = filter_rate(A)
    # Rounding of the entries, of size 1, is 1e-16.
    assert n / np.sqrt(n - 1) * A.std(0).max() <= rate + 1e-12
    assert rate <= np.sqrt(n * A.mean(0).max()) + 1e-12


@given(seeds, st.integers(2, 40), st.booleans())
def test_both_ends_are_attained(seed, n, moves):
    """Where only the weight of one token differs between rows, and where the rows take turns."""
    rng = np.random.default_rng(seed)
    weight = rng.uniform(size=n) if moves else np.full(n, 0.7)
    others = 1e-9 * rng.normal(size=n - 1) + 1 / (n - 1)
    sink = np.column_stack([weight, (1 - weight)[:, None] * others / others.sum()])
    exact = np.sqrt(n * weight.var() * (1 + 1 / (n - 1)))
    assert filter_rate(sink) == pytest.approx(exact, rel=1e-6, abs=1e-7)
    assert filter_rate(np.eye(n)) == pytest.approx(np.sqrt(n * np.eye(n).mean(0).max()))


def test_a_sink_that_rows_disagree_about_makes_the_rate_grow_like_the_root_of_the_length():
    def head(n, weights):
        A = np.full((n, n), 0.0)
        A[:, 0] = weights
        A[:, 1:] = (1 - A[:, :1]) / (n - 1)
        return A

    for n in (16, 64, 256, 1024):
        half = np.arange(n) % 2
        assert filter_rate(head(n, 0.3 + 0.4 * half)) == pytest.approx(0.2 * np.sqrt(n), rel=0.04)
        assert filter_rate(head(n, 0.9)) == pytest.approx(0, abs=1e-6)


@given(seeds, st.integers(2, 20), st.floats(0, 3))
def test_a_residual_keeps_high_frequencies(seed, n, gain):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n, 5))
    y *= gain * np.linalg.norm(hc(x)) / np.linalg.norm(hc(y))
    kept = np.linalg.norm(hc(x + y)) / np.linalg.norm(hc(x))
    cosine = (hc(x) * hc(y)).sum() / np.linalg.norm(hc(x)) / max(np.linalg.norm(hc(y)), 1e-300)
    assert kept == pytest.approx(np.sqrt(1 + gain**2 + 2 * gain * cosine))
    assert abs(1 - gain) - 1e-9 <= kept <= 1 + gain + 1e-9
