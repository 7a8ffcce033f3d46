"""The statements of the chapter on attention as a low-pass filter, in plain NumPy and by symbols."""

import itertools

import mpmath
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


def with_zeros(n, seed, density=0.5):
    """Row-stochastic, with about half of its weights zero and the others at least 0.2 / n; often reducible or periodic."""
    rng = np.random.default_rng(seed)
    keep = rng.random((n, n)) < density
    keep[np.arange(n), rng.integers(n, size=n)] = True
    weights = keep * rng.uniform(0.2, 1, size=(n, n))
    return weights / weights.sum(1, keepdims=True)


attention = logits.map(softmax) | st.builds(with_zeros, st.integers(2, 7), seeds, st.floats(0, 1))


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


def centred(a):
    """(I - J) A."""
    return a - a.mean(0)


def diameter(x):
    """The largest Euclidean distance of two rows."""
    return np.linalg.norm(x[:, None] - x, axis=-1).max()


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
    y = x - pi @ x
    # the direction of the stationary mean is free, its length is 1
    x = y + np.array([0.6, -0.8])
    high, low = norms(np.linalg.matrix_power(a, 2**20) @ x)
    np.testing.assert_allclose(low, np.sqrt(n), atol=1e-6)
    assert high < 1e-6 * low
    spread = np.sqrt(n) * np.linalg.norm(pi - 1 / n)
    for _ in range(5):
        high, low = norms(y)
        assert low <= spread * high + 1e-9
        y = a @ y
        y = y - pi @ y
        y = y / max(np.linalg.norm(y), 1e-6)  # a matrix of rank one maps y to zero, and rounding is left


@pytest.mark.parametrize("seed", range(20))
def test_the_bound_on_the_ratio_is_attained(seed):
    """HC[y] = π - 1/n, with π far from uniform, so that the bound is not the empty one."""
    a = softmax(np.random.default_rng(seed).normal(size=(5, 5)) + np.arange(5))
    pi = stationary(a)
    y = (pi - 1 / 5 - pi @ (pi - 1 / 5))[:, None]
    high, low = norms(y)
    assert pi @ y == pytest.approx(0, abs=1e-12)
    assert high / low == pytest.approx(1 / np.sqrt(5 * pi @ pi - 1))
    assert high / low < 3


@given(st.integers(2, 7), seeds)
def test_the_ratio_is_infinite_for_uniform_stationary_weights(n, seed):
    """Doubly stochastic and positive: πᵀx = 0 makes the mean of x, of A x, ... zero, and the differences do not vanish."""
    rng = np.random.default_rng(seed)
    permutations = sum(w * np.eye(n)[rng.permutation(n)] for w in rng.dirichlet(np.ones(3)))
    a = 0.9 * permutations + 0.1 * mean_matrix(n)
    np.testing.assert_allclose(stationary(a), 1 / n, atol=1e-12)
    x = rng.normal(size=(n, 1))
    x = (x - x.mean()) / np.linalg.norm(x - x.mean())
    high, low = norms(x)
    assert high == pytest.approx(1)
    assert low < 1e-12
    high, low = norms(a @ x)
    assert low < 1e-12


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


def two_hubs(n, seed):
    """Half of the rows look at token 0 and half at token 1, which both look at token 0: one step amplifies."""
    hard = np.eye(n)[np.arange(n) % 2 * (np.arange(n) > 1)]
    return 0.8 * hard + 0.2 * softmax(np.random.default_rng(seed).normal(size=(n, n)))


heads = [two_hubs(12, seed) for seed in range(6)]
heads += [softmax(2 * np.random.default_rng(seed).normal(size=(6, 6))) for seed in range(6)]


@pytest.mark.parametrize("a", heads)
def test_filter_rates_of_powers_approach_the_eigenvalue(a):
    """σₐ(Aᵗ)^(1/t) → |λ₂|: with B = (I - J) A = V Λ V⁻¹ it lies between |λ₂| and |λ₂| cond(V)^(1/t)."""
    values, vectors = np.linalg.eig(centred(a))
    second, condition = np.abs(values).max(), np.linalg.cond(vectors)
    assert second == pytest.approx(second_modulus(a))
    for t in (1, 10, 100, 1000):
        power, scale = np.eye(len(a)), 0.0
        for _ in range(t):
            power = a @ power
            power = power - power.mean(0)
            size = np.linalg.norm(power, 2)
            power, scale = power / size, scale + np.log(size)
        # scale is ln σₐ(Aᵗ), however small
        if t == 10:
            np.testing.assert_allclose(np.exp(scale), filter_rate(np.linalg.matrix_power(a, t)), rtol=1e-6, atol=1e-13)
        assert -1e-9 <= scale / t - np.log(second) <= np.log(condition) / t + 1e-9
    # at t = 1000 the band tells |λ₂| from σₐ: the limit is the eigenvalue, not the rate of one step
    assert np.log(condition) / t < 0.1 * np.log(filter_rate(a) / second)


@pytest.mark.parametrize("a", heads)
def test_the_ratio_falls_with_the_slope_of_the_second_eigenvalue(a):
    """ln ratio = t ln|λ₂| + b(t), with b in a band that the proof gives; then a fitted slope is off by 3/2 band / t."""
    n, t = len(a), 4000
    values, left, right = scipy.linalg.eig(centred(a), left=True)
    which = np.argmax(np.abs(values))
    pi = stationary(a)
    x = np.random.default_rng(n).normal(size=n)
    x = x + 3 * np.sign(pi @ x)  # a stationary mean away from 0
    h = x - x.mean()
    below = abs(left[:, which].conj() @ x)
    above = np.linalg.cond(right) * np.linalg.norm(h)
    logarithms = np.empty(t)
    state, size = x, 0.0
    means = []
    for step in range(t):
        state = a @ state
        h = centred((a @ h)[:, None])[:, 0]
        norm = np.linalg.norm(h)
        h, size = h / norm, size + np.log(norm)
        means.append(np.sqrt(n) * abs(state.mean()))
        logarithms[step] = size - np.log(means[-1])
    times = np.arange(1, t + 1)
    deviation = logarithms - times * np.log(abs(values[which]))
    low, high = np.log(below / max(means)), np.log(above / min(means))
    assert low - 1e-6 <= deviation.min()
    assert deviation.max() <= high + 1e-6
    slope = np.polyfit(times, logarithms, 1)[0]
    tolerance = 1.5 * (high - low) / t
    assert abs(slope - np.log(second_modulus(a))) <= tolerance
    # what else the slope might have been is further away
    third = np.sort(np.abs(values))[-2]
    for other in (filter_rate(a), dobrushin(a), *([third] if third < 0.99 * abs(values[which]) else [])):
        assert abs(np.log(other) - np.log(abs(values[which]))) > 2 * tolerance


@given(logits, seeds)
def test_the_second_singular_value_is_at_most_the_filter_rate(s, seed):
    n = len(s)
    rng = np.random.default_rng(seed)
    for a in (softmax(s), rng.normal(size=(n, n))):  # any matrix, stochastic or not
        first, second, *_ = np.linalg.svd(a, compute_uv=False)
        rate = np.linalg.norm(centred(a), 2)
        assert second <= rate + 1e-12 <= first + 2e-12
    doubly = sum(w * np.eye(n)[rng.permutation(n)] for w in rng.dirichlet(np.ones(4)))
    first, second, *_ = np.linalg.svd(doubly, compute_uv=False)
    np.testing.assert_allclose((first, second), (1, filter_rate(doubly)), atol=1e-7)


@given(attention, seeds)
def test_dobrushin_contracts_the_oscillation_and_is_attained(a, seed):
    delta = dobrushin(a)
    overlap = min(np.minimum(p, q).sum() for p, q in itertools.product(a, a))
    np.testing.assert_allclose(delta, 1 - overlap, atol=1e-12)
    real, imaginary = np.random.default_rng(seed).normal(size=(2, len(a)))
    for x in (real, real + 1j * imaginary):
        assert oscillation(a @ x) <= delta * oscillation(x) + 1e-12
    states = np.stack([real, imaginary, real * imaginary], 1)
    assert diameter(a @ states) <= delta * diameter(states) + 1e-12
    subsets = itertools.product([0.0, 1.0], repeat=len(a))
    best = max(oscillation(a @ np.array(indicator)) for indicator in subsets)
    np.testing.assert_allclose(best, delta, atol=1e-12)


def largest_quotient(n):
    """Of σₐ and δ, either by the other: sqrt(n/2) for even n, and a little less for odd n."""
    return np.sqrt(n / 2) if n % 2 == 0 else np.sqrt((n * n - 1) / (2 * n))


@given(attention, seeds)
def test_dobrushin_against_eigenvalue_and_filter_rate(a, seed):
    n = len(a)
    delta = dobrushin(a)
    assert delta < 1 or a.min() == 0
    for b in (softmax(np.random.default_rng(seed).normal(size=(n, n), scale=3)), with_zeros(n, seed)):
        assert dobrushin(a @ b) <= delta * dobrushin(b) + 1e-12
    assert second_modulus(a) <= delta + 1e-6
    assert filter_rate(a) <= largest_quotient(n) * delta + 1e-12
    assert delta <= largest_quotient(n) * filter_rate(a) + 1e-12


@pytest.mark.parametrize("n", [2, 3, 4, 5, 20, 21])
def test_dobrushin_and_the_filter_rate_at_their_largest_ratios(n):
    first = np.arange(n) < n // 2
    hubs = np.eye(n)[first.astype(int)]
    assert dobrushin(hubs) == 1
    assert filter_rate(hubs) == pytest.approx(largest_quotient(n))
    difference = np.where(first, 1 / (n // 2), -1 / (n - n // 2)) / n
    two_rows = mean_matrix(n)
    two_rows[0] += difference
    two_rows[1] -= difference
    assert two_rows.min() >= 0
    assert dobrushin(two_rows) == pytest.approx(largest_quotient(n) * filter_rate(two_rows))


def test_what_the_three_numbers_can_exceed():
    """The table of the chapter: σₐ exceeds 1 and δ in one matrix, δ exceeds σₐ in another, |λ₂| is last in both."""
    n = 20
    hubs = 0.99 * np.eye(n)[np.arange(n) % 2] + 0.01 / n
    assert second_modulus(hubs) <= dobrushin(hubs) + 1e-12 < 1 < 3 < filter_rate(hubs) < np.sqrt(n / 2)
    odd = mean_matrix(n)
    odd[0] = 0.99 * np.eye(n)[1] + 0.01 / n  # one row differs from all others, and in its favour
    assert second_modulus(odd) <= filter_rate(odd) + 1e-12
    assert dobrushin(odd) == pytest.approx(0.99 * (1 - 1 / n))
    odd[0] = np.arange(n) < n // 2
    odd[0] *= 2 / n  # a flat row, but on half of the tokens
    assert dobrushin(odd) == pytest.approx(0.5)
    assert filter_rate(odd) == pytest.approx(np.sqrt((1 - 1 / n) / n))
    assert second_modulus(odd) <= filter_rate(odd) < 0.5 * dobrushin(odd)


@given(logits, st.floats(0.2, 5))
def test_rate_from_the_range_of_the_logits(s, temperature):
    a, n = softmax(s / temperature), len(s)
    delta = dobrushin(a)
    spread, size = np.ptp(s, axis=1).max(), np.abs(s).max()
    bound = np.tanh(interaction(s) / (4 * temperature))
    assert second_modulus(a) - 1e-6 <= delta <= bound + 1e-12
    assert filter_rate(a) <= np.sqrt(n / 2) * bound + 1e-12
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
    # logits of both signs, where the bound by the largest of them is attained, too
    signed = s - spread / 2
    assert 1 - dobrushin(softmax(signed)) == pytest.approx(2 / (1 + np.exp(2 * np.abs(signed).max())))
    # with half of the rows at each of two hubs the bound of the rate is exact for n = 2, and for all even n when it is cold
    hubs = spread * np.eye(n)[np.arange(n) % 2]
    rate_bound = np.sqrt(n / 2) * np.tanh(interaction(hubs) / 4)
    assert filter_rate(softmax(hubs)) == pytest.approx(rate_bound) or n > 2
    cold = hubs / (spread / 50)
    assert filter_rate(softmax(cold)) == pytest.approx(np.sqrt(n / 2) * np.tanh(interaction(cold) / 4))


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
    assert product.min() >= 0
    # a start whose stationary mean is 1: its differences vanish and its mean does not
    start = rng.normal(size=(n, 1))
    start += 1 - product[0] @ start
    high, low = norms(product @ start)
    assert high < 1e-7
    assert low == pytest.approx(np.sqrt(n))


def test_second_eigenvalues_of_two_matrices_do_not_bound_that_of_their_product():
    """Both square to a matrix of equal rows, and their product leaves two tokens where they are."""
    first, then = np.eye(3)[[0, 0, 1]], np.eye(3)[[1, 2, 2]]
    for share in (0, 0.01):  # with a little of uniform attention they are positive
        a, b = ((1 - share) * hard + share * mean_matrix(3) for hard in (first, then))
        # a defective eigenvalue 0 is known to the root of rounding
        np.testing.assert_allclose([second_modulus(a), second_modulus(b)], 0, atol=1e-6)
        assert second_modulus(b @ a) == pytest.approx((1 - share) ** 2)


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


@given(st.integers(2, 6), seeds, st.floats(0, 0.6))
def test_which_soft_attention_with_zeros_is_low_pass(n, seed, density):
    """Zeros alone decide: low-pass if and only if some power has a column without any (one class, not periodic)."""
    a = with_zeros(n, seed, density)
    pattern = a > 0
    for _ in range(8):
        pattern = pattern @ pattern
    low_pass = pattern.all(0).any()
    assert (np.sum(np.abs(np.linalg.eigvals(a)) > 1 - 1e-6) == 1) == low_pass
    # a seed of its own: with that of the matrix the signal would not be a generic one
    x = np.random.default_rng([seed, 1]).normal(size=(n, 2))
    high, low = norms(np.linalg.matrix_power(a, 2**20) @ x)
    assert (high < 1e-7 * low) == low_pass


@pytest.mark.parametrize(
    ("visible", "low_pass"),
    [
        (np.tri(6), True),  # causal
        (np.tri(6) * (np.arange(6)[:, None] - np.arange(6) < 3), True),  # causal, in a window
        (np.kron(np.eye(2), np.ones((3, 3))), False),  # two texts, each hidden from the other
        (np.kron(np.eye(2), np.tri(3)), False),
        (np.array([[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 0], [1, 1, 1, 1, 1]]), False),
        (np.kron(1 - np.eye(2), np.ones((3, 3))), False),  # each half looks at the other one only
        (np.roll(np.eye(6), 1, axis=1), False),  # everyone looks at the next token
        (np.roll(np.eye(6), 1, axis=1) + np.eye(6)[:, :1] * np.eye(6)[0], True),  # and the first at itself, too
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_masked_attention_that_is_low_pass_and_that_is_not(visible, low_pass, seed):
    n = len(visible)
    rng = np.random.default_rng(seed)
    a = softmax(np.where(visible > 0, rng.normal(size=(n, n)), -np.inf))
    second = second_modulus(a)
    assert second < 1 - 1e-3 if low_pass else second == pytest.approx(1)
    high, low = norms(np.linalg.matrix_power(a, 2**20) @ rng.normal(size=(n, 2)))
    assert (high < 1e-7 * low) == low_pass
    if (np.triu(visible, 1) == 0).all():
        np.testing.assert_allclose(np.sort(np.linalg.eigvals(a).real), np.sort(a.diagonal()), atol=1e-9)


@given(logits)
def test_complex_waves_gain_at_most_one(s):
    a, n = softmax(s), len(s)
    f = scipy.linalg.dft(n, scale="sqrtn")
    gains = np.linalg.norm((f @ a @ f.conj().T)[1:, 1:], axis=0)
    rate = filter_rate(a)
    assert gains.max() <= min(1, rate) + 1e-9
    assert rate <= np.linalg.norm(gains) + 1e-9
    permutation = np.eye(n)[np.random.default_rng(n).permutation(n)]
    np.testing.assert_allclose(np.linalg.norm((f @ permutation @ f.conj().T)[1:, 1:], axis=0), 1)  # attained
    weights = a[0]
    circulant = scipy.linalg.circulant(weights)
    in_frequency = f @ circulant @ f.conj().T
    diagonal = np.abs(in_frequency.diagonal()[1:])
    np.testing.assert_allclose(np.linalg.norm(in_frequency[1:, 1:], axis=0), diagonal, atol=1e-12)
    np.testing.assert_allclose(filter_rate(circulant), np.abs(np.fft.fft(weights)[1:]).max(), atol=1e-9)


def sinusoid_gain(a, k, phase):
    """‖HC[A x]‖ / ‖x‖ for x_j = cos(2πjk/n + phase), straight from the definition."""
    x = np.cos(2 * np.pi * k * np.arange(len(a)) / len(a) + phase)[:, None]
    return norms(a @ x)[0] / np.linalg.norm(x)


@given(st.integers(3, 9), seeds, st.floats(0.1, 30))
def test_real_sinusoids_gain_at_most_the_square_root_of_two(n, seed, scale):
    a = softmax(scale * np.random.default_rng(seed).normal(size=(n, n)))
    f = scipy.linalg.dft(n, scale="sqrtn")
    phases = 2 * np.pi * np.arange(16) / 16
    for k in range(1, (n + 1) // 2):
        complex_gain = np.linalg.norm((f @ a @ f.conj().T)[1:, k])
        gains = np.array([sinusoid_gain(a, k, phase) for phase in phases])
        assert gains.max() <= np.sqrt(2) * complex_gain + 1e-12 <= np.sqrt(2) + 1e-9
        # the squared gain is a constant and one cosine of twice the phase: sixteen phases average it exactly
        assert np.mean(gains**2) == pytest.approx(complex_gain**2, abs=1e-12)


@pytest.mark.parametrize("n", [4, 6, 8, 50])
def test_a_real_sinusoid_that_gains_the_square_root_of_two(n):
    """Half of the rows look at the crest and half at the trough; and no softmax is needed to be that hard."""
    attention = np.eye(n)[np.arange(n) % 2 * (n // 2)]
    assert sinusoid_gain(attention, 1, 0) == pytest.approx(np.sqrt(2))
    assert sinusoid_gain(softmax(9 * attention), 1, 0) > np.sqrt(2) * (1 - 2 * n * np.exp(-9))
    f = scipy.linalg.dft(n, scale="sqrtn")
    assert np.linalg.norm((f @ attention @ f.conj().T)[1:, 1]) == pytest.approx(1)


@given(logits)
def test_amplification_needs_a_column_sum_above_one(s):
    a, n = softmax(s), len(s)
    assert filter_rate(a) ** 2 <= a.sum(0).max() + 1e-9
    rng = np.random.default_rng(n)
    weights = rng.dirichlet(np.ones(4))
    doubly = sum(w * np.eye(n)[rng.permutation(n)] for w in weights)
    assert filter_rate(doubly) <= 1 + 1e-9
    if n % 2 == 0:  # two hubs attain the bound
        hubs = np.eye(n)[np.arange(n) % 2]
        assert filter_rate(hubs) ** 2 == pytest.approx(hubs.sum(0).max())


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
    # two polynomials of degree 3n that agree at 3n + 1 points are one; at this radius no value is near 0
    radius = 2 * np.linalg.norm(full, 2)
    for point in radius * np.exp(2j * np.pi * np.arange(3 * n + 1) / (3 * n + 1)):
        value = np.linalg.det(np.eye(3 * n) - full / point)
        np.testing.assert_allclose(value, np.prod(1 - predicted / point), rtol=1e-6)


def residual(seed):
    """A random layer with its states, and the radii of DC and HC that the theorem computes from eigenvalues."""
    rng = np.random.default_rng(seed)
    a, w, x = softmax(2 * rng.normal(size=(5, 5))), rng.normal(size=(2, 2)), rng.normal(size=(5, 2))
    omega, values = np.linalg.eigvals(w), np.linalg.eigvals(a)
    others = np.delete(values, np.argmin(np.abs(values - 1)))
    return a, w, x, np.abs(1 + omega).max(), np.abs(1 + np.outer(others, omega)).max()


@pytest.mark.parametrize("seed", range(40))
def test_residual_decides_by_the_larger_radius(seed):
    a, w, x, radius_dc, radius_hc = residual(seed)
    pi = stationary(a)
    # after so many steps the smaller part is e^(-40) of the larger, up to the condition of the eigenvectors
    for _ in range(int(40 / abs(np.log(radius_hc / radius_dc))) + 1):
        x = x + a @ x @ w
        x = x / np.linalg.norm(x)
    high, low = norms(x)
    if radius_hc < radius_dc:
        assert high < 1e-9 * low
    else:
        assert high >= low / np.sqrt(5 * pi @ pi - 1) * (1 - 1e-6)


def test_both_cases_of_the_residual_occur():
    """The forty layers of the test above are not all of one kind."""
    kinds = [radius_hc < radius_dc for *_, radius_dc, radius_hc in map(residual, range(40))]
    assert 5 < sum(kinds) < 35


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
    x = x - pi @ x + 1  # the stationary mean is 1 in both channels
    identity = np.eye(n)
    high, low = norms(np.linalg.matrix_power((identity + weight * a) / (1 + weight), 4096) @ x)
    assert high < 1e-6 * low
    radius = np.abs(1 - weight * others).max()
    rising = np.linalg.matrix_power((identity - weight * a) / radius, 4096) @ x
    high, low = norms(rising / np.linalg.norm(rising))
    assert low <= np.sqrt(n) * np.linalg.norm(pi - 1 / n) * high + 1e-6


@pytest.mark.parametrize(
    ("w", "low_pass"), [(-3.0, True), (-2.5, True), (-1.5, False), (-0.5, False), (0.5, True), (9.0, True)]
)
def test_below_minus_one_the_sign_of_the_value_does_not_decide(w, low_pass):
    """Two tokens with λ₂ = 1/10: in each step the ratio of the parts with and without a stationary mean has one factor."""
    a = np.array([[0.6, 0.4], [0.5, 0.5]])
    assert second_modulus(a) == pytest.approx(0.1)
    factor = abs(1 + 0.1 * w) / abs(1 + w)
    assert (factor < 1) == low_pass
    x, ratios = np.array([[1.0], [-0.3]]), []
    for _ in range(100):
        x = x + w * a @ x
        x = x / np.linalg.norm(x)
        ratios.append(np.divide(*norms(x)))
    if low_pass:  # asymptotically the ratio itself falls by this factor; later than here rounding is left of it
        settled = np.array([ratio for ratio in ratios if 1e-10 < ratio < 1e-4])
        np.testing.assert_allclose(settled[1:] / settled[:-1], factor, rtol=1e-3)
        assert len(settled) > 2
        assert ratios[-1] < 1e-10
    else:
        pi = stationary(a)
        assert ratios[-1] == pytest.approx(1 / np.sqrt(2 * pi @ pi - 1))


def attend(x, m):
    """softmax(x M xᵀ)."""
    return softmax(x @ m @ x.T)


states = st.tuples(st.integers(2, 8), st.integers(1, 4), seeds, st.floats(0.05, 4), st.floats(0.05, 4))


def draw(n, d, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(d, d)), rng.normal(size=(d, d))


@given(states)
def test_rank_collapse_of_one_step(drawn):
    n, d, seed, size, strength = drawn
    x, m, w = draw(n, d, seed)
    x, m = size * x + 5, strength * m  # where the cloud lies does not matter
    a, diam, norm = attend(x, m), diameter(x), np.linalg.norm(m, 2)
    assert interaction(x @ m @ x.T) <= norm * diam**2 + 1e-9
    assert dobrushin(a) <= np.tanh(norm * diam**2 / 4) + 1e-9
    bound = np.linalg.norm(w, 2) * np.tanh(norm * diam**2 / 4) * diam
    assert diameter(a @ x @ w) <= bound + 1e-9
    assert bound <= np.linalg.norm(w, 2) * norm * diam**3 / 4 + 1e-9
    # biases of queries and keys cancel in Δ, so the first bound holds with them
    query, key = np.random.default_rng(seed + 1).normal(size=(2, d))
    biased = softmax((x @ m + query) @ x.T + (x @ m) @ key)
    assert diameter(biased @ x @ w) <= bound + 1e-9


@pytest.mark.parametrize("r", [1e-4, 0.1, 0.7, 2.0])
@pytest.mark.parametrize("m", [-1.5, 0.3, 2.0])
def test_rank_collapse_is_attained_by_two_tokens(r, m):
    """x = ±r: A x = tanh(m r²) x. A constant below 1/4 would be violated."""
    x, w = np.array([[r], [-r]]), np.array([[1.7]])
    stepped = attend(x, np.array([[m]])) @ x @ w
    np.testing.assert_allclose(stepped, 1.7 * np.tanh(m * r**2) * x, rtol=1e-7)
    bound = 1.7 * np.tanh(abs(m) * diameter(x) ** 2 / 4) * diameter(x)
    assert diameter(stepped) == pytest.approx(bound, rel=1e-7)
    if r == 0.1:
        cubic = abs(m) * 1.7 * diameter(x) ** 3 / 4
        assert diameter(stepped) == pytest.approx(cubic, rel=(m * r**2) ** 2)


@pytest.mark.parametrize("seed", range(5))
def test_rank_collapse_is_doubly_exponential(seed):
    """In 400 digits, with D* = 2: d(t)/2 ≤ (d(0)/2)^(3ᵗ); and the digits do triple, so 3 is the right power."""
    x, m, w = draw(6, 3, seed)
    m, w = m / np.linalg.norm(m, 2), w / np.linalg.norm(w, 2)
    x = 1.6 * x / diameter(x)
    with mpmath.workdps(400):
        x, m, w = (mpmath.matrix(matrix) for matrix in (x, m, w))
        found = []
        for _ in range(6):
            pairs = itertools.combinations(range(x.rows), 2)
            found.append(max(mpmath.norm(x[i, :] - x[k, :]) for i, k in pairs) / 2)
            weights = (x * m * x.T).apply(mpmath.exp)
            for i in range(weights.rows):
                weights[i, :] /= sum(weights[i, :])
            x = weights * x * w
        for t, q in enumerate(found):
            assert q <= found[0] ** (3**t)
        for before, after in itertools.pairwise(found):
            assert after <= before**3
        assert found[-1] < mpmath.mpf(10) ** -60
        assert 2.7 < mpmath.log(found[-1]) / mpmath.log(found[-2]) < 3.3


@given(states)
def test_a_residual_slows_rank_collapse_to_a_power(drawn):
    n, d, seed, size, strength = drawn
    x, m, w = draw(n, d, seed)
    x, m = size * x, strength * m
    diam, product = diameter(x), np.linalg.norm(m, 2) * np.linalg.norm(w, 2)
    after = diameter(x + attend(x, m) @ x @ w)
    assert after >= (1 - product * diam**2 / 4) * diam - 1e-9
    # closer together, so that the last sentence applies
    close = x * np.sqrt(2 / product) / diam * np.random.default_rng(seed).uniform()
    after = diameter(close + attend(close, m) @ close @ w)
    assert after**-2 <= diameter(close) ** -2 * (1 + 1e-9) + 1.5 * product


@pytest.mark.parametrize("small", [1e-2, 1e-3, 1e-4])
def test_no_smaller_constant_slows_rank_collapse_with_a_residual(small):
    """x = ±r, m r² → 0 and W = -1 / (2 m r²): then ‖M‖ ‖W‖ D² = 2, a step halves D, and 1/D² grows by 3/2 ‖M‖ ‖W‖."""
    x = np.array([[0.8], [-0.8]])
    m, w = np.array([[small / 0.64]]), np.array([[-0.5 / small]])
    product = abs(m * w).item()
    assert product * diameter(x) ** 2 == pytest.approx(2)
    added = diameter(x + attend(x, m) @ x @ w) ** -2 - diameter(x) ** -2
    assert added <= 1.5 * product * (1 + 1e-9)
    assert added == pytest.approx(1.5 * product, rel=2 * small**2 + 1e-9)


@pytest.mark.parametrize("w", [-2.0, -1.0, -0.5, 0.5, 1.0, 2.0])
def test_two_tokens_collapse_below_a_threshold_and_fly_apart_above_it(w):
    """The exercise on x = ±r: f(r) = w tanh(m r²) r, and |f(r)| = r at m r² = artanh(1 / |w|) if |w| > 1."""
    m = np.array([[1.5]])

    def end(r, steps):
        x = np.array([[r], [-r]])
        for _ in range(steps):
            x = w * attend(x, m) @ x
        return np.abs(x).max()

    if abs(w) <= 1:
        for r in (0.1, 1.0, 1.5):
            assert end(r, 1000) < 1e-12
    else:
        threshold = np.sqrt(np.arctanh(1 / abs(w)) / 1.5)
        assert 1 / np.sqrt(1.5 * abs(w)) < threshold
        assert end(0.99 * threshold, 20) < 1e-12
        assert end(1.01 * threshold, 20) > 1e3


def test_with_a_residual_two_tokens_fall_like_a_power():
    """x = ±r, W = -1: r falls for ever, like 1/sqrt(2 m t) and not faster; without the residual r falls below 1e-30."""
    r, alone, m = 0.4, 0.4, 1.0
    for _ in range(20_000):
        r -= np.tanh(m * r**2) * r
    for _ in range(5):
        alone *= np.tanh(m * alone**2)
    # dr/dt = -m r³ gives 1/r² = 1/r₀² + 2mt; the step is discrete, which adds O(ln t) / t
    assert r == pytest.approx((0.4**-2 + 2 * m * 20_000) ** -0.5, rel=1e-3)
    assert alone < 1e-30
