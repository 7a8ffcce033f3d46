"""The statements of the chapter on a temperature in softmax, on random logits and against closed forms."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from scipy.stats import entropy

from tempscale import filter_rate, hc

rows = st.integers(2, 12).flatmap(lambda n: arrays(np.float64, n, elements=st.floats(-5, 5)))
matrices = st.integers(2, 10).flatmap(lambda n: arrays(np.float64, (n, n), elements=st.floats(-5, 5)))


@given(rows, st.floats(0.01, 100))
def test_limits_of_softmax(s, temperature):
    """Mass off the maximum is at most (n/m - 1) exp(-gap/τ); the distance to 1/n at most (exp(range/τ) - 1) / n."""
    p = softmax(s / temperature)
    n, top = len(s), s == s.max()
    gap = s.max() - s[~top].max() if not top.all() else np.inf
    assert p[~top].sum() <= (n / top.sum() - 1) * np.exp(-gap / temperature) * (1 + 1e-9) + 1e-12
    with np.errstate(over="ignore"):  # an infinite bound holds
        assert np.abs(p - 1 / n).max() <= np.expm1(np.ptp(s) / temperature) / n + 1e-12


@given(rows, st.floats(0.3, 10))
def test_entropy_grows_with_temperature_at_the_rate_of_the_variance(s, temperature):
    """dH/dτ = Var_p(s) / τ³, by central differences."""
    step = 1e-4 * temperature
    slope = (entropy(softmax(s / (temperature + step))) - entropy(softmax(s / (temperature - step)))) / (2 * step)
    p = softmax(s / temperature)
    variance = p @ s**2 - (p @ s) ** 2
    np.testing.assert_allclose(slope, variance / temperature**3, rtol=1e-4, atol=1e-5)
    assert variance >= -1e-12


def test_entropy_of_gaussian_logits():
    """ln n - s²/2τ² while s/τ is well below sqrt(2 ln n): the mean over 20 rows of 20000 logits, to 2 %."""
    rng = np.random.default_rng(0)
    n = 20_000
    for ratio in (0.25, 0.5, 1.0, 1.5):
        p = softmax(ratio * rng.normal(size=(20, n)), axis=-1)
        np.testing.assert_allclose(entropy(p, axis=-1).mean(), np.log(n) - ratio**2 / 2, rtol=0.02)


@given(matrices)
def test_filter_rate_at_high_temperature(s):
    """τ σₐ(τ) tends to ‖(I-J) S (I-J)‖₂ / n."""
    n, temperature = len(s), 1e5
    limit = np.linalg.norm(hc(hc(s).T), 2) / n
    np.testing.assert_allclose(temperature * filter_rate(softmax(s / temperature, axis=-1)), limit, atol=1e-2)


def test_filter_rate_is_not_monotone_in_temperature():
    """Rows that agree on their maximum: hard attention has rate 0, and so has uniform attention."""
    s = np.array([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.0, 0.0]])
    rates = [float(filter_rate(softmax(s / t, axis=-1))) for t in (0.01, 1.0, 100.0)]
    assert rates[0] < 1e-6 < 0.1 < rates[1] > 0.1 > rates[2]
