"""The statements of the chapter on attention as a low-pass filter, in plain NumPy and by symbols."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import sympy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.attention import softmax

from tempscale import filter_rate

logits = st.integers(2, 7).flatmap(lambda n: arrays(np.float64, (n, n), elements=st.floats(-4, 4)))
seeds = st.integers(0, 2**32 - 1)


def mean_matrix(n):
    return np.full((n, n), 1 / n)


def norms(x):
    """‖HC[x]‖ and ‖DC[x]‖."""
    dc = mean_matrix(len(x)) @ x
    return np.linalg.norm(x - dc), np.linalg.norm(dc)


def stationary(a):
    """Solve πᵀ(A - I) = 0, πᵀ1 = 1 as least squares."""
    n = len(a)
    system = np.vstack([a.T - np.eye(n), np.ones(n)])
    return np.linalg.lstsq(system, np.eye(n + 1)[n], rcond=None)[0]


def second_modulus(a):
    return np.sort(np.abs(np.linalg.eigvals(a)))[-2]


def dobrushin(a):
    return max(np.abs(p - q).sum() / 2 for p, q in itertools.product(a, a))


def interaction(s):
    return max(np.ptp(p - q) for p, q in itertools.product(s, s))


def oscillation(x):
    return np.abs(x[:, None] - x).max()


@given(logits)
def test_powers_tend_to_the_stationary_mean(s):
    a = softmax(s)
    pi = stationary(a)
    assert pi.min() > 0
    limit = np.outer(np.ones(len(a)), pi)
    np.testing.assert_allclose(np.linalg.matrix_power(a, 2**20), limit, atol=1e-7)


@given(logits, seeds)
def test_the_ratio_vanishes_exactly_if_the_stationary_mean_does_not(s, seed):
    """πᵀx ≠ 0: the ratio goes to 0. πᵀx = 0: it stays above (n‖π‖² - 1)^(-1/2), which one such x attains."""
    a, n = softmax(s), len(s)
    pi = stationary(a)
    x = np.random.default_rng(seed).normal(size=(n, 2))
    high, low = norms(np.linalg.matrix_power(a, 2**20) @ x)
    assert high < 1e-6
    np.testing.assert_allclose(low, np.sqrt(n) * np.linalg.norm(pi @ x), atol=1e-6)
    y = x - pi @ x
    spread = np.sqrt(n) * np.linalg.norm(pi - 1 / n)
    for _ in range(5):
        high, low = norms(y)
        assert low <= spread * high + 1e-9
        y = a @ y
        size = np.linalg.norm(y)
        if size < 1e-6:  # a rank-one matrix maps y to zero in one step
            break
        y = (y - pi @ y) / size
    tight = (pi - 1 / n - pi @ (pi - 1 / n))[:, None]
    high, low = norms(tight)
    np.testing.assert_allclose(low, spread * high, atol=1e-9)


def test_the_counterexample_with_two_tokens_is_exact():
    a, b = sympy.symbols("a b", positive=True)
    t = sympy.symbols("t", positive=True, integer=True)
    matrix = sympy.Matrix([[1 - a, a], [b, 1 - b]])
    x = sympy.Matrix([a, -b])
    pi = sympy.Matrix([[b, a]]) / (a + b)
    assert sympy.simplify(pi * matrix - pi) == sympy.zeros(1, 2)
    assert sympy.simplify(pi * x) == sympy.zeros(1, 1)
    assert sympy.simplify(matrix * x - (1 - a - b) * x) == sympy.zeros(2, 1)
    state = (1 - a - b) ** t * x
    mean = (state[0] + state[1]) / 2
    squared = ((state[0] - mean) ** 2 + (state[1] - mean) ** 2) / (2 * mean**2)
    assert sympy.simplify(squared - (a + b) ** 2 / (a - b) ** 2) == 0


@given(logits)
def test_filter_rates_of_powers_lie_between_eigenvalue_and_filter_rate(s):
    a = softmax(s)
    second, rate = second_modulus(a), filter_rate(a)
    for t in range(1, 8):
        power = filter_rate(np.linalg.matrix_power(a, t))
        assert second**t <= power * (1 + 1e-6) + 1e-7
        assert power <= rate**t * (1 + 1e-9) + 1e-12


def test_filter_rates_of_powers_approach_the_eigenvalue():
    """σₐ(Aᵗ)^(1/t) → |λ₂|, also where the first step amplifies: two hubs that both look at the first."""
    n = 20
    a = 0.8 * np.eye(n)[np.arange(n) % 2 * (np.arange(n) > 1)] + 0.2 * softmax(
        np.random.default_rng(0).normal(size=(n, n))
    )
    assert filter_rate(a) > 2 > 1 > second_modulus(a)
    root = filter_rate(np.linalg.matrix_power(a, 12)) ** (1 / 12)
    assert second_modulus(a) <= root < 0.5 * filter_rate(a)


@given(logits, seeds)
def test_dobrushin_contracts_the_oscillation_and_is_attained(s, seed):
    a = softmax(s)
    delta = dobrushin(a)
    overlap = min(np.minimum(p, q).sum() for p, q in itertools.product(a, a))
    np.testing.assert_allclose(delta, 1 - overlap, atol=1e-12)
    real, imaginary = np.random.default_rng(seed).normal(size=(2, len(a)))
    for x in (real, real + 1j * imaginary):
        assert oscillation(a @ x) <= delta * oscillation(x) + 1e-12
    subsets = itertools.product([0.0, 1.0], repeat=len(a))
    best = max(oscillation(a @ np.array(indicator)) for indicator in subsets)
    np.testing.assert_allclose(best, delta, atol=1e-12)


@given(logits, seeds)
def test_dobrushin_against_eigenvalue_and_filter_rate(s, seed):
    a, n = softmax(s), len(s)
    b = softmax(np.random.default_rng(seed).normal(size=(n, n), scale=3))
    delta = dobrushin(a)
    assert delta < 1
    assert dobrushin(a @ b) <= delta * dobrushin(b) + 1e-12
    assert second_modulus(a) <= delta + 1e-6
    assert filter_rate(a) <= np.sqrt(n / 2) * delta + 1e-12
    assert delta <= np.sqrt(n / 2) * filter_rate(a) + 1e-12


@given(logits, st.floats(0.2, 5))
def test_rate_from_the_range_of_the_logits(s, temperature):
    delta = dobrushin(softmax(s / temperature))
    spread, size = np.ptp(s, axis=1).max(), np.abs(s).max()
    assert delta <= np.tanh(interaction(s) / (4 * temperature)) + 1e-12
    assert interaction(s) <= 2 * spread + 1e-12
    assert 1 - delta >= 2 / (1 + np.exp(2 * size / temperature)) - 1e-12
    # what all rows share does not count, nor does what a row shares
    shared = s + np.arange(len(s)) + 3 * np.arange(len(s))[:, None]
    np.testing.assert_allclose(interaction(shared), interaction(s), atol=1e-9)


@pytest.mark.parametrize("n", [2, 4, 10])
@pytest.mark.parametrize("spread", [0.1, 1.0, 5.0])
def test_rate_from_the_range_is_attained(n, spread):
    side = np.arange(n) < n // 2
    s = spread * (side[:, None] == side)
    bound = np.tanh(spread / 2)
    assert interaction(s) == pytest.approx(2 * spread)
    assert dobrushin(softmax(s)) == pytest.approx(bound)
    assert second_modulus(softmax(s)) == pytest.approx(bound)
    hubs = 50.0 * np.eye(n)[np.arange(n) % 2]
    assert filter_rate(softmax(hubs)) == pytest.approx(np.sqrt(n / 2))
    if n == 2:
        assert filter_rate(softmax(s)) == pytest.approx(bound)


@given(st.integers(2, 6), seeds)
def test_products_of_different_matrices_contract(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    bound, largest, smallest = oscillation(x), x.max(), x.min()
    product = np.eye(n)
    for _ in range(200):
        a = softmax(rng.uniform(-1, 1, size=(n, n)))
        x, product, bound = a @ x, a @ product, bound * dobrushin(a)
        assert oscillation(x) <= bound + 1e-12
        assert x.max() <= largest + 1e-12
        assert x.min() >= smallest - 1e-12
        largest, smallest = x.max(), x.min()
    np.testing.assert_allclose(product, product[:1].repeat(n, 0), atol=1e-9)
    np.testing.assert_allclose(product[0].sum(), 1)


def test_products_need_not_contract_if_the_coefficients_tend_to_one():
    """A_s = (1 - ε_s) I + ε_s J with ε_s = 1/(s+1)²: the product of the 1 - ε_s tends to 1/2."""
    n = 5
    x = np.random.default_rng(0).normal(size=(n, 1))
    start = norms(x)
    for s in range(1, 20_000):
        share = 1 / (s + 1) ** 2
        x = ((1 - share) * np.eye(n) + share * mean_matrix(n)) @ x
    np.testing.assert_allclose(norms(x), (start[0] / 2, start[1]), rtol=1e-3)


@given(st.lists(st.integers(0, 5), min_size=6, max_size=6), seeds)
def test_which_stochastic_matrices_are_low_pass(looks_at, seed):
    """Hard attention is a map on 6 tokens: low-pass if and only if it has one cycle and that is a fixed point."""
    a = np.eye(6)[looks_at]
    cycles = set()
    for token in range(6):
        for _ in range(6):
            token = looks_at[token]
        cycles.add(token)
    moduli = np.abs(scipy.linalg.eigvals(a))
    assert (np.sum(moduli > 1 - 1e-6) == 1) == (len(cycles) == 1)
    x = np.random.default_rng(seed).normal(size=(6, 1))
    high, low = norms(np.linalg.matrix_power(a, 60) @ x)
    assert (high < 1e-9 * low) == (len(cycles) == 1)


@given(logits)
def test_pure_waves_are_never_amplified(s):
    a, n = softmax(s), len(s)
    f = scipy.linalg.dft(n, scale="sqrtn")
    gains = np.linalg.norm((f @ a @ f.conj().T)[1:, 1:], axis=0)
    rate = filter_rate(a)
    assert gains.max() <= min(1, rate) + 1e-9
    assert rate <= np.linalg.norm(gains) + 1e-9
    weights = a[0]
    circulant = scipy.linalg.circulant(weights)
    np.testing.assert_allclose(filter_rate(circulant), np.abs(np.fft.fft(weights)[1:]).max(), atol=1e-9)


@given(logits)
def test_amplification_needs_a_column_sum_above_one(s):
    a, n = softmax(s), len(s)
    assert filter_rate(a) ** 2 <= a.sum(0).max() + 1e-9
    rng = np.random.default_rng(n)
    weights = rng.dirichlet(np.ones(4))
    doubly = sum(w * np.eye(n)[rng.permutation(n)] for w in weights)
    assert filter_rate(doubly) <= 1 + 1e-9


def test_two_hubs_boost_high_frequencies_and_are_low_pass():
    """Response sin(πk/n), one-step gain sqrt(n/2) on the difference of the hubs, second eigenvalue below 1."""
    n = 16
    a = 0.99 * np.eye(n)[np.arange(n) % 2] + 0.01 / n
    f = scipy.linalg.dft(n, scale="sqrtn")
    gains = np.linalg.norm((f @ a @ f.conj().T)[1:, 1:], axis=0)
    np.testing.assert_allclose(gains, 0.99 * np.sin(np.pi * np.arange(1, n) / n), atol=1e-12)
    spike = np.eye(n)[:, :1] - np.eye(n)[:, 1:2]
    assert norms(a @ spike)[0] / norms(spike)[0] == pytest.approx(0.99 * np.sqrt(n / 2))
    assert second_modulus(a) == pytest.approx(0.99)


@given(logits, seeds)
def test_residual_map_has_the_stated_eigenvalues(s, seed):
    """The traces of the first powers of I + A ⊗ Wᵀ against the sums of powers of 1 + λ ω."""
    a, w = softmax(s), np.random.default_rng(seed).normal(size=(3, 3))
    n = len(a)
    full = np.eye(3 * n) + np.kron(a, w.T)
    x = np.random.default_rng(seed + 1).normal(size=(n, 3))
    np.testing.assert_allclose(full @ x.ravel(), (x + a @ x @ w).ravel(), atol=1e-9)
    predicted = 1 + np.outer(np.linalg.eigvals(a), np.linalg.eigvals(w)).ravel()
    for power in (1, 2, 3):
        expected = (predicted**power).sum()
        np.testing.assert_allclose(np.trace(np.linalg.matrix_power(full, power)), expected.real, atol=1e-6)


@given(logits, st.floats(0.05, 1), seeds)
def test_residual_decides_by_the_sign_of_the_value(s, weight, seed):
    """W = wI: positive w lets the ratio fall to 0, negative w keeps it above (n‖π‖² - 1)^(-1/2)."""
    a, n = softmax(s / 4), len(s)
    pi = stationary(a)
    values = np.linalg.eigvals(a)
    others = np.delete(values, np.argmin(np.abs(values - 1)))
    assert np.abs(1 + weight * others).max() < 1 + weight
    assert np.abs(1 - weight * others).max() > 1 - weight
    x = np.random.default_rng(seed).normal(size=(n, 2))
    falling, rising = x, x
    for _ in range(3000):
        falling = falling + weight * a @ falling
        rising = rising - weight * a @ rising
        falling, rising = falling / np.linalg.norm(falling), rising / np.linalg.norm(rising)
    high, low = norms(falling)
    assert high < 1e-6 * low
    high, low = norms(rising)
    assert low <= np.sqrt(n) * np.linalg.norm(pi - 1 / n) * high + 1e-6
