"""The statements of the chapter on a temperature in softmax, on random logits and against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from scipy.stats import entropy

from tempscale import filter_rate, hc

# small integers, too: then several logits share the maximum
logits = st.floats(-5, 5) | st.integers(-2, 2).map(float)
rows = st.integers(2, 12).flatmap(lambda n: arrays(np.float64, n, elements=logits))
matrices = st.integers(2, 10).flatmap(lambda n: arrays(np.float64, (n, n), elements=logits))


@given(rows, st.floats(0.01, 100))
def test_limits_of_softmax(s, temperature):
    """Mass off the maximum is at most (n/m - 1) exp(-gap/τ); the distance to 1/n at most (exp(range/τ) - 1) / n."""
    p = softmax(s / temperature)
    n, top = len(s), s == s.max()
    gap = s.max() - s[~top].max() if not top.all() else np.inf
    assert p[~top].sum() <= (n / top.sum() - 1) * np.exp(-gap / temperature) * (1 + 1e-9) + 1e-12
    with np.errstate(over="ignore"):  # an infinite bound holds
        assert np.abs(p - 1 / n).max() <= np.expm1(np.ptp(s) / temperature) / n + 1e-12
    # uniform on the largest logits when cold, on all when hot
    assert softmax(s / 1e-9)[top] == pytest.approx(1 / top.sum()) or gap < 1e-7
    assert softmax(s / 1e9) == pytest.approx(1 / n)


@pytest.mark.parametrize(("n", "m"), [(2, 1), (10, 1), (10, 9)])
def test_the_bound_at_low_temperature_is_sharp(n, m):
    """If all smaller logits are g below the maximum, the mass off it is the bound, to first order in the bound."""
    s = np.where(np.arange(n) < m, 0.0, -1.0)
    bound = (n / m - 1) * np.exp(-1 / 0.05)
    assert softmax(s / 0.05)[m:].sum() == pytest.approx(bound / (1 + bound), rel=1e-12)


@given(rows, st.floats(0.3, 10))
def test_entropy_grows_with_temperature_at_the_rate_of_the_variance(s, temperature):
    """dH/dτ = Var_p(s) / τ³, by central differences; 0 for constant logits only."""
    step = 1e-4 * temperature
    slope = (entropy(softmax(s / (temperature + step))) - entropy(softmax(s / (temperature - step)))) / (2 * step)
    p = softmax(s / temperature)
    variance = p @ (s - p @ s) ** 2
    # the third derivative makes a relative error of the order of step², rounding one of eps / step
    np.testing.assert_allclose(slope, variance / temperature**3, rtol=1e-5, atol=1e-9)
    if np.ptp(s) > 0.1:
        assert entropy(softmax(s / (1.1 * temperature))) > entropy(p)


@pytest.mark.parametrize("ratio", [0.25, 0.5, 1.0, 1.5])
def test_entropy_of_gaussian_logits(ratio):
    """ln n - σ²/2τ² while σ/τ is well below sqrt(2 ln n).

    Over 100 rows of 20000 logits the mean has a standard error of at most 0.005, at 1.5, so 0.02 are four of them.
    """
    n, count = 20_000, 100
    rng = np.random.default_rng(0)
    entropies = entropy(softmax(ratio * rng.normal(size=(count, n)), axis=-1), axis=-1)
    error = entropies.std(ddof=1) / np.sqrt(count)
    assert error < 0.005
    assert entropies.mean() == pytest.approx(np.log(n) - ratio**2 / 2, abs=min(0.02, 4 * error))
    # the logits have an effect that the test can tell from none
    assert ratio**2 / 2 > 4 * error


@pytest.mark.parametrize("n", [100, 1000, 10_000])
def test_the_formula_promises_ten_tokens_and_gives_more(n):
    """At τ = σ / sqrt(2 ln(n/10)) the mean entropy is far above ln 10, by more than five standard errors."""
    logits = np.sqrt(2 * np.log(n / 10)) * np.random.default_rng(0).normal(size=(200, n))
    entropies = entropy(softmax(logits, axis=-1), axis=-1)
    excess = entropies.mean() - np.log(10)
    assert excess > 5 * entropies.std(ddof=1) / np.sqrt(len(entropies))
    assert excess > np.log(1.5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_with_a_mask_the_hot_limit_is_uniform_on_the_visible_tokens(causal, seed):
    """And not 0: causal attention on 64 tokens ends at the rate of running means, 1.235."""
    n = 64
    rng = np.random.default_rng(seed)
    visible = np.tri(n, dtype=bool) if causal else (rng.random((n, n)) < 0.3) | np.eye(n, dtype=bool)
    s = np.where(visible, rng.normal(size=(n, n)), -np.inf)
    uniform = visible / visible.sum(1, keepdims=True)
    spread = np.ptp(np.where(visible, s, 0), axis=1).max()
    for temperature in (10, 1e3, 1e6):
        a = softmax(s / temperature, axis=-1)
        # the theorem, row by row among the visible tokens
        error = np.expm1(spread / temperature) * uniform
        assert (np.abs(a - uniform) <= error + 1e-15).all()
        assert filter_rate(a) == pytest.approx(filter_rate(uniform), abs=np.linalg.norm(error) + 1e-12)
    assert filter_rate(uniform) > 0.1
    if causal:
        assert filter_rate(uniform) == pytest.approx(1.2354, abs=1e-4)
    # cold: all weight on the largest visible logit
    np.testing.assert_allclose(softmax(s / 1e-6, axis=-1), np.eye(n)[s.argmax(1)], atol=1e-9)


@given(rows, st.integers(0, 1000), st.floats(0.1, 1e3))
def test_the_rate_is_zero_at_every_temperature_for_a_sum_of_a_row_and_a_column(columns, seed, temperature):
    s = columns + np.random.default_rng(seed).normal(size=(len(columns), 1))
    assert filter_rate(softmax(s / temperature, axis=-1)) == pytest.approx(0, abs=1e-12)


@given(matrices, st.floats(0.5, 1e5))
def test_filter_rate_at_high_temperature(s, temperature):
    """‖(I-J) S (I-J)‖₂ / (n τ), to (range/τ)² exp(range/τ) / 2; and τ σₐ(τ) tends to ‖(I-J) S (I-J)‖₂ / n."""
    first = np.linalg.norm(hc(hc(s).T), 2) / len(s)
    x = np.ptp(s, axis=1).max() / temperature
    rate = filter_rate(softmax(s / temperature, axis=-1))
    assert abs(rate - first / temperature) <= x**2 * np.exp(x) / 2 + 1e-13
    # logits within 10: the bound times τ is 5e-4 here, and rounding below 1e-9
    np.testing.assert_allclose(1e5 * filter_rate(softmax(s / 1e5, axis=-1)), first, atol=5.1e-4)


@given(st.lists(st.integers(0, 7), min_size=8, max_size=8), st.floats(0.01, 0.05), st.integers(0, 1000))
def test_filter_rate_at_low_temperature(largest, temperature, seed):
    """The rate of hard attention, from the counts of the rows' maxima; off by at most the mass off the maxima."""
    s = np.random.default_rng(seed).uniform(-1, 0, size=(8, 8))
    s[np.arange(8), largest] = 1
    counts = np.bincount(largest, minlength=8)
    hard = np.linalg.eigvalsh(np.diag(counts) - np.outer(counts, counts) / 8)[-1]
    # at most 7 exp(-1/τ) of each row's weight is off its maximum, and misses there: sqrt(2) times that, in 8 rows
    error = np.sqrt(8) * np.sqrt(2) * 7 * np.exp(-1 / temperature)
    rate = filter_rate(softmax(s / temperature, axis=-1))
    assert rate == pytest.approx(np.sqrt(max(0, hard)), abs=error + 1e-7)
    assert hard <= 8 / 2 + 1e-9  # two tokens that share all rows have the largest


def test_filter_rate_is_not_monotone_in_temperature():
    """Rows that agree on their maximum: hard attention has rate 0, and so has uniform attention."""
    s = np.array([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.0, 0.0]])
    cold, warm, hot = (filter_rate(softmax(s / t, axis=-1)) for t in (0.01, 1.0, 1e4))
    # the mass off the maxima of the cold rows, and the first order of the hot ones
    assert cold < 6 * np.exp(-0.5 / 0.01)
    assert warm > 0.1
    assert hot < 1e-4
