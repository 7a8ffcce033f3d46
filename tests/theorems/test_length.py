"""The statements of the chapter on the paper's theorem about length: exact enumeration, closed forms, simulation."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad
from scipy.stats import chi2, lognorm
from support.attention import softmax

from tempscale import (
    gaussian_floor,
    gaussian_rate_bound,
    hc,
    iid_rate_bound,
    paper_bound,
    random_markov_rate,
    temperature_derivative,
)


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


@given(arrays(np.float64, st.integers(2, 9).map(lambda n: (n, n)), elements=st.floats(-30, 30)))
def test_two_traces_bound_the_filter_rate(logits):
    """Of any attention matrix, from both sides."""
    n = len(logits)
    centred = hc(softmax(logits))
    gram = centred @ centred.T
    f, q, square = np.trace(gram), (gram**2).sum(), rate(softmax(logits)) ** 2
    if f > 1e-12:
        assert square >= q / f - 1e-9 * square
    spread = max(0, (n - 2) / (n - 1) * (q - f**2 / (n - 1)))
    # the root of a rounding error
    assert square <= f / (n - 1) + np.sqrt(spread) + 1e-7 * f + 1e-15


def test_two_traces_are_sharp():
    """All singular values alike: both sides are the value. One large, the rest alike: the upper side is."""
    n = 5
    shift = np.roll(np.eye(n), 1, axis=1)
    hub = np.tile([0.6, 0.1, 0.1, 0.1, 0.1], (n, 1))
    hub[0] = [0.1, 0.6, 0.1, 0.1, 0.1]
    for a, sides in [(shift, 2), (hub, 1)]:
        squares = np.linalg.svd(hc(a), compute_uv=False)[: n - 1] ** 2
        f, q = squares.sum(), (squares**2).sum()
        upper = f / (n - 1) + np.sqrt(max(0, (n - 2) / (n - 1) * (q - f**2 / (n - 1))))
        assert upper == pytest.approx(squares[0], rel=1e-6)
        assert sides == 1 or q / f == pytest.approx(squares[0], rel=1e-9)


def two_valued(n, c):
    """All matrices of n rows of softmax over logits 0 or c, equally likely, and the moments of one row."""
    rows = softmax(c * np.array(list(itertools.product([0.0, 1.0], repeat=n))))
    spread = (rows**2).sum(-1) - 1 / n
    return rows[np.array(list(itertools.product(range(len(rows)), repeat=n)))], spread.mean(), (spread**2).mean()


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("c", [0.5, 2.0, 6.0])
def test_one_row_bounds_the_filter_rate(n, c):
    """Logits 0 or c at random, up to 2¹⁶ matrices: the two traces have exactly the stated expectations."""
    a, k1, k2 = two_valued(n, c)
    centred = a - a.mean(-2, keepdims=True)
    gram = centred @ centred.swapaxes(1, 2)
    assert np.trace(gram, axis1=1, axis2=2).mean() == pytest.approx((n - 1) * k1, rel=1e-12)
    fourth = (n - 1) ** 2 / n * k2 + (n - 1 + 1 / n) * k1**2
    assert (gram**2).sum((1, 2)).mean() == pytest.approx(fourth, rel=1e-12)
    square = (rate(a) ** 2).mean()
    assert k1 <= square * (1 + 1e-12)
    assert square <= (k1 + np.sqrt((n - 2) * k2)) * (1 + 1e-12)
    assert square <= (n - 1) * k1 * (1 + 1e-12)
    if n == 2:
        assert square == pytest.approx(k1, rel=1e-12)


def lognormal_moments(s):
    """Variance and fourth central moment of exp(N(0, s²)), from scipy's distribution."""
    variance, excess = lognorm.stats(s, moments="vk")
    return float(variance), float((excess + 3) * variance**2)


@given(st.integers(2, 400), st.floats(0.01, 1.5))
def test_centred_lognormal_weights_have_small_moments(n, s):
    """W = (X - EX)² of X = exp(S - mean of S): its moments by the Gaussian formula, against v and m₄ of exp(N(0, s²)).

    The mixed moment of two of one row, whose logits have the correlation -1/(n - 1), is at most v² + m₄/(n - 1)².
    """
    v, m4 = lognormal_moments(s)
    variance, covariance = s**2 * (1 - 1 / n), -(s**2) / n

    def mixed(i, j):  # E X₁ⁱ X₂ʲ
        return np.exp((i**2 + j**2) * variance / 2 + i * j * covariance)

    m = mixed(1, 0)
    square = [(1.0, 2), (-2 * m, 1), (m**2, 0)]  # the terms of (X - m)²
    second = sum(c * mixed(i, 0) for c, i in square)
    fourth = sum(c * d * mixed(i + j, 0) for c, i in square for d, j in square)
    together = sum(c * d * mixed(i, j) for c, i in square for d, j in square)
    rounding = 1e-13 * mixed(2, 2)
    assert second <= v + rounding
    assert fourth <= m4 + 1e-13 * mixed(4, 0)
    assert together <= v**2 + m4 / (n - 1) ** 2 + rounding


@pytest.mark.parametrize(("s", "n", "draws"), [(0.25, 16, 400), (0.4, 64, 100), (0.5, 256, 20), (1.0, 64, 200)])
def test_the_rate_of_weak_independent_logits_is_bounded(s, n, draws):
    """Each step of the proof, in simulation, within 4 standard errors; and the bound is not idle: below 3 times."""
    rng = np.random.default_rng(0)
    a = softmax(s * rng.normal(size=(draws, n, n)))
    spread = (a**2).sum(-1) - 1 / n
    v, m4 = lognormal_moments(s)

    def at_most(values, bound):
        return values.mean() <= bound + 4 * values.std(ddof=1) / np.sqrt(values.size)

    squares = rate(a) ** 2
    assert at_most(spread, v / n)
    assert at_most(spread**2, (v**2 + m4 / (n - 1)) / n**2)
    assert at_most(spread.max(-1), (v + np.sqrt(m4)) / n)
    assert at_most(squares, iid_rate_bound(n, s) ** 2)
    assert at_most(squares, v / n + np.sqrt(v**2 / n + m4 / n**2))
    assert iid_rate_bound(n, s) < 3.2 * np.sqrt(squares.mean())


def counted(n, s):
    """Square of the first of the two bounds, from scipy's moments."""
    v, m4 = lognormal_moments(s)
    return v / n + np.sqrt(v**2 / n + m4 / n**2)


def test_the_papers_bound_is_a_theorem_for_weak_independent_logits():
    """The steps of the proof for σₛ = 0.4, its claim on a grid down to 0, and where this way to it ends."""
    few = np.arange(2.0, 8)
    assert (counted(few, 0.4) <= few / (2**1.5 * (few - 1) ** 1.5 + 1)).all()
    assert np.sqrt(8) * counted(8.0, 0.4) <= 2**-1.5
    many = np.unique(np.geomspace(2, 1e9, 3000).astype(int)).astype(float)
    assert (np.diff(np.sqrt(many) * counted(many, 0.4)) < 0).all()
    assert (many / (2**1.5 * (many - 1) ** 1.5 + 1) >= 1 / (2**1.5 * np.sqrt(many))).all()
    for s in np.linspace(0, 0.4, 41):
        assert (iid_rate_bound(many, s) <= paper_bound(many, s)).all()
        if s:
            assert (counted(many, s) <= counted(many, 0.4)).all()
    assert (counted(many, 0.437) <= paper_bound(many, 0.437) ** 2).all()
    assert not (counted(many, 0.438) <= paper_bound(many, 0.438) ** 2).all()


@given(st.integers(2, 10**9), st.floats(0.01, 3))
def test_the_second_bound_for_independent_logits_solves_its_inequality(n, s):
    """η² = n κ₁/(n - 1) + 2 sqrt(2 ln(2n) M) η with κ₁ = μ₂/n, M = (μ₂ + sqrt(μ₄))/n: scipy's moments, numpy's roots."""
    v, m4 = lognormal_moments(s)
    roots = np.roots([1, -2 * np.sqrt(2 * np.log(2 * n) * (v + np.sqrt(m4)) / n), -v / (n - 1)])
    assert iid_rate_bound(n, s) == pytest.approx(min(roots.real.max(), np.sqrt(counted(n, s))), rel=1e-5)


@pytest.mark.parametrize("s", [0.5, 1.0, 1.5])
def test_the_papers_bound_holds_for_independent_logits_of_any_strength_in_the_end(s):
    """From some length on the second bound is below it, and stays there; the ratio falls like sqrt(ln n) n^(-1/4)."""
    lengths = np.geomspace(8, 1e25, 200)
    below = iid_rate_bound(lengths, s) <= paper_bound(lengths, s)
    start = int(np.argmax(below))
    assert 0 < start < 150
    assert below[start:].all()
    assert not below[:start].any()
    v, m4 = lognormal_moments(s)
    leading = np.sqrt(8 * np.log(2 * lengths[-1]) * (v + np.sqrt(m4)) / lengths[-1])
    assert iid_rate_bound(lengths[-1], s) == pytest.approx(leading, rel=0.02)


@given(
    arrays(np.float64, st.integers(2, 8).map(lambda n: (n, n)), elements=st.floats(-6, 6)),
    st.integers(0, 2**32 - 1),
)
def test_the_rate_moves_less_than_the_largest_weight(logits, seed):
    """|σₐ(S + εD) - σₐ(S)| <= ε ‖D‖_F times the largest weight on the way, and at most half of it."""
    step = 1e-2 * np.random.default_rng(seed).normal(size=logits.shape)
    moved = abs(rate(softmax(logits + step)) - rate(softmax(logits)))
    largest = max(softmax(logits + t * step).max() for t in np.linspace(0, 1, 5))
    # between two of the five steps a weight changes by less than a factor 1 + max|step|
    assert moved <= np.linalg.norm(step) * min(0.5, largest * (1 + 2 * abs(step).max())) + 1e-12


@pytest.mark.parametrize(("s", "n", "draws"), [(0.25, 16, 600), (0.4, 64, 300), (1.0, 16, 600)])
def test_single_draws_are_near_their_mean(s, n, draws):
    """Variance of σₐ, below s² E (largest weight)², below its explicit bound; the sample variance has an error of 10 %."""
    a = softmax(s * np.random.default_rng(1).normal(size=(draws, n, n)))
    variance, largest = rate(a).var(ddof=1), (a.max((-1, -2)) ** 2).mean()
    assert 1.3 * variance <= s**2 * largest
    assert s * largest**0.5 <= s / n * np.exp(2 * s * np.sqrt(np.log(n)))


@given(
    arrays(np.float64, st.integers(2, 8).map(lambda n: (n, n)), elements=st.floats(-8, 8)),
    st.floats(0.3, 3),
)
def test_what_a_temperature_does_to_the_rate(logits, tau):
    """Against central differences where the largest singular value is well apart; the bound on its modulus, always."""
    a = softmax(logits / tau)
    values = np.linalg.svd(hc(a), compute_uv=False)
    if values[0] - values[1] < 1e-2:
        return
    derivative = temperature_derivative(logits, temperature=tau)
    step = 1e-5
    up, down = (rate(softmax(logits / (tau * np.exp(h)))) for h in (step, -step))
    # truncation: the third derivative is of order (range / tau)³ over the gap squared
    assert derivative == pytest.approx((up - down) / (2 * step), abs=1e-4, rel=1e-3)
    spread = np.sqrt((a * logits**2).sum(-1) - (a * logits).sum(-1) ** 2 + 1e-12)
    assert abs(derivative) <= spread.max() / tau * np.sqrt(a.sum(0).max()) + 1e-9


def test_cooling_weak_logits_raises_the_rate_in_proportion():
    """d ln σₐ / d ln τ tends to -1 for weak logits; strong ones that agree on a column lose their rate by cooling."""
    logits = np.random.default_rng(2).normal(size=(12, 12))
    slopes = [temperature_derivative(s * logits) / rate(softmax(s * logits)) for s in (1e-1, 1e-2, 1e-3)]
    errors = np.abs(np.array(slopes) + 1)
    assert errors[2] < 0.2 * errors[1] < 0.2 * errors[0]
    agreed = np.array([[4.0, 0.0, 0.0], [4.0, 1.0, 0.0], [4.0, 0.0, 1.0]])
    assert temperature_derivative(agreed) > 0


def over_queries(f, d):
    """E f(|q|²) for q ~ N(0, I_d), by quadrature."""
    # beyond, the density times any f below is under 1e-40
    parts = [(0, d), (d, 4 * d + 60), (4 * d + 60, 4 * d + 900)]
    return sum(quad(lambda z: f(z) * chi2.pdf(z, d), low, high, limit=200)[0] for low, high in parts)


@pytest.mark.parametrize(("d", "a2"), [(1, 0.04), (4, 0.03), (64, 0.004)])
def test_the_constants_of_gaussian_attention(d, a2):
    """The proof's three constants by quadrature over |q|² and |k|², put together, against the closed forms."""
    n, floor = 100, gaussian_floor(np.sqrt(a2 * d), d)
    mean = (1 - a2**2) ** (-d / 2)
    c1 = np.sqrt(over_queries(lambda z: (np.exp(a2 * z) - 2 * np.exp(a2**2 * z / 2) + mean) ** 2, d))

    def spread(z):  # E (t(q, k) - 1)² over q, at |k|² = z
        # q·k has the variance z; |q|² beside it d - 1 further ones
        square = (1 + 2 * a2) ** (-d / 2) * np.exp(2 * a2 * z / (1 + 2 * a2))
        return square - 2 * (1 + a2) ** (-d / 2) * np.exp(a2 * z / (2 * (1 + a2))) + 1

    def fourth(z):  # E (t - 1)⁴ over k, at |q|² = z
        return np.exp(6 * a2 * z) - 4 * np.exp(3 * a2 * z) + 6 * np.exp(a2 * z) - 3

    c2 = np.sqrt(over_queries(lambda z: spread(z) ** 2, d) + over_queries(fourth, d) / n)
    row = over_queries(lambda z: fourth(z) / n**3 + 3 * (n - 1) / n**3 * np.expm1(a2 * z) ** 2, d)
    weight = over_queries(lambda z: np.exp(8 * a2 * z) / n + np.exp(4 * a2 * z), d)
    expected = np.sqrt(floor**2 + (c1 + c2) / np.sqrt(n)) + (row * weight) ** 0.25
    assert gaussian_rate_bound(n, np.sqrt(a2 * d), d) == pytest.approx(expected, rel=1e-6)


def test_a_query_averages_the_shifted_weight():
    """E over q of (t(q, k) - 1)², by simulation, is what the test above takes for it; 5 standard errors."""
    rng, d, a2 = np.random.default_rng(3), 4, 0.03
    k = np.array([1.0, -0.5, 2.0, 0.3])
    q = rng.normal(size=(400_000, d))
    values = (np.exp(np.sqrt(a2) * q @ k - a2 * (q**2).sum(1) / 2) - 1) ** 2
    z = k @ k
    square = (1 + 2 * a2) ** (-d / 2) * np.exp(2 * a2 * z / (1 + 2 * a2))
    expected = square - 2 * (1 + a2) ** (-d / 2) * np.exp(a2 * z / (2 * (1 + a2))) + 1
    assert values.mean() == pytest.approx(expected, abs=5 * values.std() / np.sqrt(len(values)))


@pytest.mark.parametrize(
    ("d", "s", "n", "draws"), [(1, 0.2, 64, 40), (4, 0.4, 64, 40), (64, 0.25, 64, 40), (64, 1, 64, 40)]
)
def test_the_rate_of_gaussian_attention_is_bounded(d, s, n, draws):
    """The steps of the proof in simulation: centred M, rows off M, the rate; within 4 standard errors."""
    rng, found, off, product = np.random.default_rng(4), [], [], []
    a = s / np.sqrt(d)
    for _ in range(draws):
        q, k = rng.normal(size=(2, n, d))
        attention = softmax(a * q @ k.T)
        m = np.exp(a * q @ k.T - a**2 * (q**2).sum(1, keepdims=True) / 2) / n
        found.append(rate(attention))
        off.append(((attention - m) ** 2).sum())
        product.append(np.linalg.norm(hc(m), 2) ** 2)
        assert found[-1] <= np.sqrt(product[-1]) + np.sqrt(off[-1]) + 1e-12
    bound = gaussian_rate_bound(n, s, d)
    assert np.mean(found) <= bound
    assert np.sqrt(np.mean(product)) + np.sqrt(np.mean(off)) <= bound * (1 + 4 / np.sqrt(draws))


@pytest.mark.parametrize("d", [1, 8, 256])
@pytest.mark.parametrize("sigma_s", [1e-7, 3e-5, 1e-3, 0.2])
@pytest.mark.parametrize("n", [2, 64, 10**6])
def test_the_bound_on_gaussian_attention_survives_cancellation(d, sigma_s, n):
    """Never below the exact value in 60 digits; above it by less than 1e-5 from σₛ = 1e-3 on."""
    mp = pytest.importorskip("mpmath").mp
    with mp.workdps(60):
        a2 = mp.mpf(sigma_s) ** 2 / d

        def g(x):
            return (1 - 2 * x) ** (-mp.mpf(d) / 2)

        m = g(a2**2 / 2)
        c1 = g(2 * a2) + 4 * g(a2**2) + m**2 - 4 * g(a2 + a2**2 / 2) + 2 * m * g(a2) - 4 * m**2
        x, y = 2 * a2 / (1 + 2 * a2), a2 / (2 * (1 + a2))
        p, q = (1 + 2 * a2) ** (-mp.mpf(d) / 2), (1 + a2) ** (-mp.mpf(d) / 2)
        pairs = p**2 * g(2 * x) + 4 * q**2 * g(2 * y) + 1 - 4 * p * q * g(x + y) + 2 * p * g(x) - 4 * q * g(y)
        fourth = g(6 * a2) - 4 * g(3 * a2) + 6 * g(a2) - 3
        row = fourth / n**3 + 3 * mp.mpf(n - 1) / n**3 * (g(2 * a2) - 2 * g(a2) + 1)
        weight = g(8 * a2) / n + g(4 * a2)
        parts = mp.sqrt(c1) + mp.sqrt(pairs + fourth / n)
        floor = mp.mpf(gaussian_floor(sigma_s, d))
        exact = mp.sqrt(floor**2 + parts / mp.sqrt(n)) + mp.root(row * weight, 4)
    bound = gaussian_rate_bound(n, sigma_s, d)
    assert bound >= float(exact) * (1 - 1e-14)
    if sigma_s >= 1e-3:
        assert bound == pytest.approx(float(exact), rel=1e-5)


def test_strong_queries_and_keys_violate_the_bound():
    """Keys ±: given the keys, two tokens to choose from by a sign. d = 1, 3 and 64, 3 to 5 tokens; 5 standard errors."""
    rng = np.random.default_rng(6)
    for d, n in [(1, 3), (3, 4), (64, 5)]:
        q, k = rng.normal(size=(2, 4000, n, d))
        looks_at = (q @ k.swapaxes(1, 2)).argmax(-1)
        agreed = (looks_at == looks_at[:, :1]).all(-1)
        expected, error = 2.0 ** (1 - n), np.sqrt(2.0 ** (1 - n) / 4000)
        assert agreed.mean() <= expected + 5 * error
        if d == 1:
            assert agreed.mean() >= expected - 5 * error
        rates = rate(np.eye(n)[looks_at])
        assert (rates[~agreed] > 1 - 1e-9).all()
        assert rates.mean() > paper_bound(n, 25.0)


def test_the_bound_on_gaussian_attention_tends_to_the_floor():
    for d, s in [(1, 0.2), (4, 0.4), (64, 1.5)]:
        floor = gaussian_floor(s, d)
        gaps = gaussian_rate_bound(np.array([1e12, 1e16]), s, d) - floor
        assert gaps[1] == pytest.approx(gaps[0] / 100, rel=0.01)
        assert 0 < gaps[1] < 1e-4


def test_where_the_papers_bound_is_proved_and_where_refuted_for_queries_and_keys():
    """d = 64, σₛ = 1/4: proved at every length from 2 to 40000 tokens; the limit is above it beyond about 140000."""
    few = np.arange(2.0, 40_001)
    assert (gaussian_rate_bound(few, 0.25, 64) <= paper_bound(few, 0.25)).all()
    assert gaussian_floor(0.25, 64) > paper_bound(160_000, 0.25)
    assert random_markov_rate(160_000, 0.25) < paper_bound(160_000, 0.25) / 10


@given(arrays(np.float64, st.tuples(st.integers(2, 9), st.just(4)), elements=st.floats(-10, 10)), st.floats(-100, 100))
def test_pooled_embeddings_do_not_see_hc(x, scale):
    """Mean pooling: any multiple of HC may be added. Rows all alike: any embedding with HC = 0."""
    np.testing.assert_allclose((x + scale * hc(x)).mean(0), x.mean(0), atol=1e-9)
    u = x[0]
    attention = np.tile(softmax(x[:, 0]), (len(x), 1))
    pooled = attention @ np.tile(u, (len(x), 1))
    assert rate(attention) < 1e-12
    np.testing.assert_allclose(pooled, np.tile(u, (len(x), 1)), atol=1e-9)
