"""The laws against simulation, quadrature and limits. Sizes of samples and tolerances stand beside each comparison."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.sparse.linalg import svds
from scipy.special import gammaln, ive, roots_genlaguerre, roots_hermitenorm
from scipy.stats import norm
from support.attention import softmax

from tempscale import (
    condensation_sigma,
    gaussian_floor,
    gaussian_rate_bound,
    iid_rate_bound,
    length_matched_temperature,
    paper_bound,
    random_markov_rate,
    temperature_derivative,
)


def rate(a):
    """‖(I - J) a‖₂, with an iterative solver for large matrices."""
    centred = a - a.mean(0)
    if len(a) < 200:
        return np.linalg.norm(centred, 2)
    start = np.random.default_rng(0).normal(size=len(a))
    return svds(centred, k=1, return_singular_vectors=False, v0=start)[0]


def independent(rng, n, sigma_s):
    """Rate of softmax over n x n independent Gaussian logits."""
    return rate(softmax(rng.normal(size=(n, n)) * sigma_s))


def products(rng, n, beta, head_dim):
    """Rate of softmax over beta q·k / sqrt(head_dim) with Gaussian q and k."""
    q, k = rng.normal(size=(2, n, head_dim))
    return rate(softmax(beta * q @ k.T / np.sqrt(head_dim)))


def mean_and_error(draws):
    return np.mean(draws), np.std(draws, ddof=1) / np.sqrt(len(draws))


# --- the paper's bound ---

# sigma_s, n, bound, independent logits, q·k with d = 64; the last two are means of three draws of the authors' own
TABLE = [
    (0.25, 64, 0.216, 0.062, 0.072),
    (0.25, 1024, 0.107, 0.016, 0.043),
    (0.5, 64, 0.225, 0.139, 0.175),
    (0.5, 1024, 0.111, 0.033, 0.085),
    (1, 64, 0.245, 0.338, 0.422),
    (1, 256, 0.172, 0.218, 0.243),
    (1, 1024, 0.121, 0.094, 0.177),
    (2, 64, 0.253, 0.885, 0.932),
    (2, 1024, 0.125, 0.797, 0.856),
    (3, 64, 0.253, 1.14, 1.44),
    (3, 1024, 0.125, 1.16, 1.63),
]


@pytest.mark.parametrize(("sigma_s", "n", "bound", "independent_rate", "product_rate"), TABLE)
def test_the_table_of_bound_and_simulation(sigma_s, n, bound, independent_rate, product_rate):
    """The bound to its digits; the simulated means within 4 standard errors, of 3 draws there and of ours here."""
    assert paper_bound(n, sigma_s) == pytest.approx(bound, abs=5e-4)
    rng = np.random.default_rng(n)
    draws = 100 if n < 1000 else 8
    for measured, simulate in [
        (independent_rate, lambda: independent(rng, n, sigma_s)),
        (product_rate, lambda: products(rng, n, sigma_s, 64)),
    ]:
        sample = [simulate() for _ in range(draws)]
        spread = np.std(sample, ddof=1) * np.sqrt(1 / 3 + 1 / draws)
        assert measured == pytest.approx(np.mean(sample), abs=4 * spread + 5e-4)


@pytest.mark.parametrize(
    ("sigma_s", "n", "holds"), [(0.5, 64, True), (0.5, 1024, True), (1, 64, False), (2, 1024, False)]
)
def test_the_bound_as_read_holds_for_weak_logits_and_fails_for_strong_ones(sigma_s, n, holds):
    """In every one of 8 draws of Gaussian queries and keys, d = 64."""
    rng = np.random.default_rng(1)
    below = [products(rng, n, sigma_s, 64) <= paper_bound(n, sigma_s) for _ in range(8)]
    assert below == [holds] * 8


@given(st.floats(1, 1e9), st.floats(0, 1e6), st.floats(0, 1e6))
def test_paper_bound_changes_by_less_than_the_fourth_root_of_two_over_all_sigma(n, sigma_s, other):
    assert paper_bound(n, sigma_s) <= paper_bound(n, other) * 2**0.25 * (1 + 1e-12)


@given(st.floats(2, 1e9), st.floats(0, 30), st.floats(0.01, 1))
def test_paper_bound_falls_with_length_and_with_temperature(n, sigma_s, temperature):
    """A temperature below 1 makes the logits stronger, and the bound larger; both moves are monotone."""
    assert paper_bound(2 * n, sigma_s) < paper_bound(n, sigma_s)
    assert paper_bound(n, sigma_s / temperature) >= paper_bound(n, sigma_s)


# --- random Markov matrices ---


@pytest.mark.parametrize(("sigma_s", "n"), [(0.1, 512), (0.25, 512), (0.25, 2048), (0.5, 1024), (0.5, 2048)])
def test_random_markov_rate_against_simulation(sigma_s, n):
    """Five draws. The edge of a finite matrix lies inside by about n^(-2/3); that and 4 standard errors are granted."""
    rng = np.random.default_rng(2)
    mean, error = mean_and_error([independent(rng, n, sigma_s) for _ in range(5)])
    assert mean == pytest.approx(random_markov_rate(n, sigma_s), rel=1.5 * n ** (-2 / 3), abs=4 * error)


def test_random_markov_rate_falls_like_the_inverse_square_root_of_the_length():
    """The slope of ln σₐ over ln n from 128 to 2048 at σₛ = 0.25: -1/2, and far from the bound's -1/4."""
    rng = np.random.default_rng(3)
    sizes = [128, 256, 512, 1024, 2048]
    rates = [np.mean([independent(rng, n, 0.25) for _ in range(5)]) for n in sizes]
    slope = np.polyfit(np.log(sizes), np.log(rates), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.02)
    assert np.polyfit(np.log(sizes), np.log(paper_bound(np.array(sizes), 0.25)), 1)[0] == pytest.approx(-0.25, abs=0.01)


def test_random_markov_rate_is_exceeded_where_the_largest_entry_is():
    """A single entry p above the scale ν of the bulk brings the rate to p + ν²/p, as a rank-one perturbation does.

    σₛ = 1 would need about 54 000 tokens. Eight draws of 1024 tokens, each within 8 % (their spread is 2 %).
    """
    rng = np.random.default_rng(4)
    rates, law = [], random_markov_rate(1024, 1.0)
    for _ in range(8):
        a = softmax(rng.normal(size=(1024, 1024)))
        largest, edge = (a - a.mean(0)).max(), law / 2
        assert largest > edge
        rates.append(rate(a))
        assert rates[-1] == pytest.approx(largest + edge**2 / largest, rel=0.08)
    assert min(rates) > law
    assert np.mean(rates) > 1.05 * law


@given(st.floats(1, 1e9), st.floats(0, 13), st.floats(0.5, 1))
def test_random_markov_rate_grows_when_the_temperature_falls(n, sigma_s, temperature):
    assert random_markov_rate(n, sigma_s / temperature) >= random_markov_rate(n, sigma_s)
    assert random_markov_rate(4 * n, sigma_s) == pytest.approx(random_markov_rate(n, sigma_s) / 2)


# --- the Gaussian operator ---


def kernel_1d(a, nodes=120):
    """T on L²(N(0, 1)) by Gauss-Hermite quadrature, as a matrix in an orthonormal basis, and the constant function."""
    x, w = roots_hermitenorm(nodes)
    root = np.sqrt(w / w.sum())
    return root[:, None] * np.exp(a * np.outer(x, x) - (a * x[:, None]) ** 2 / 2) * root, root


def centred_norm(matrix, constant):
    return np.linalg.norm(matrix - np.outer(constant, constant @ matrix), 2)


def sector_norms(square, head_dim, nodes=100):
    """Norms of T on rotation-invariant functions without constants, and on linear functions times those.

    T T* has the kernel exp(a² q·q'). For functions of |q| it is averaged over the angle, a Bessel function, and
    |q|²/2 has a gamma distribution: generalised Gauss-Laguerre quadrature. Nothing here knows Mehler's formula.
    """
    t, w = roots_genlaguerre(nodes, head_dim / 2 - 1)
    radius, root = np.sqrt(2 * t), np.sqrt(w / w.sum())
    z = square * np.outer(radius, radius)
    order = head_dim / 2 - 1
    scale = np.exp(z + gammaln(head_dim / 2) + order * np.log(2 / z))
    invariant, linear = (root[:, None] * ive(order + degree, z) * scale * root for degree in (0, 1))
    project = np.eye(nodes) - np.outer(root, root)
    return np.sqrt(np.linalg.norm(project @ invariant @ project, 2)), np.sqrt(np.linalg.norm(linear, 2))


@pytest.mark.parametrize("beta", [0.05, 0.3, 0.5, 0.6, 0.65])
def test_gaussian_floor_in_one_dimension_against_quadrature(beta):
    assert gaussian_floor(beta, 1) == pytest.approx(centred_norm(*kernel_1d(beta)), rel=1e-10)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.8])
def test_gaussian_floor_in_two_dimensions_against_quadrature(beta):
    """The two-dimensional operator is a Kronecker product; only the projection on the constants mixes the factors."""
    matrix, constant = kernel_1d(beta / np.sqrt(2), nodes=30)
    plane = centred_norm(np.kron(matrix, matrix), np.kron(constant, constant))
    assert gaussian_floor(beta, 2) == pytest.approx(plane, rel=1e-8)


@pytest.mark.parametrize(
    ("beta", "head_dim", "decides"),
    [
        (0.9, 2, "odd"),
        (1.2, 4, "odd"),
        (1.0, 64, "odd"),
        (4.0, 64, "odd"),
        (4.3, 64, "even"),
        (5, 64, "even"),
        (6, 128, "even"),
    ],
)
def test_gaussian_floor_in_many_dimensions_against_quadrature(beta, head_dim, decides):
    """Both branches, on both sides of the point where the even one overtakes."""
    even, odd = sector_norms(beta**2 / head_dim, head_dim)
    assert (even > odd) == (decides == "even")
    assert gaussian_floor(beta, head_dim) == pytest.approx(max(even, odd), rel=1e-9)


def test_norms_of_the_operator_in_closed_form():
    """‖T‖² = (1 + r²)^(1/2), ‖T‖²_HS = (1 - 2a²)^(-1/2), eigenvalues of T T* geometric with ratio r, in one dimension."""
    for a in (0.2, 0.4, 0.6):
        matrix, constant = kernel_1d(a)
        r = 2 * a**2 / (1 + np.sqrt(1 - 4 * a**4))
        eigenvalues = np.linalg.svd(matrix, compute_uv=False) ** 2
        np.testing.assert_allclose(eigenvalues[:6], np.sqrt(1 + r**2) * r ** np.arange(6), rtol=1e-8)
        assert (matrix**2).sum() == pytest.approx((1 - 2 * a**2) ** -0.5, rel=1e-8)
        # the constant's weights on the eigenfunctions: negative binomial, on even ones only
        left = np.linalg.svd(matrix)[0]
        weights = (left.T @ constant)[:6] ** 2
        expected = np.sqrt(1 - r**4) * np.array([1, 0, r**4 / 2, 0, 3 * r**8 / 8, 0])
        np.testing.assert_allclose(weights, expected, atol=1e-9)


def test_the_operator_is_a_mean_over_a_shifted_gaussian():
    """E_k[exp(a q·k - a²|q|²/2) f(k)] = E f(a q + ξ), for f = cos, by numerical integration."""
    for a, q in [(0.3, 1.0), (0.6, -2.0)]:
        weighted = quad(lambda k, a=a, q=q: norm.pdf(k) * np.exp(a * q * k - (a * q) ** 2 / 2) * np.cos(k), -12, 12)[0]
        assert weighted == pytest.approx(np.cos(a * q) * np.exp(-0.5), abs=1e-9)


@pytest.mark.parametrize(
    ("beta", "head_dim", "n", "draws"), [(0.3, 1, 2000, 20), (0.2, 2, 2000, 10), (0.5, 1, 3000, 10)]
)
def test_gaussian_floor_against_simulation(beta, head_dim, n, draws):
    """Means over draws within 4 standard errors and the sampling error of the top of head_dim equal singular values.

    In one dimension that is of order 1/n and nothing is granted; in d it is about sqrt(2 d / n) of the floor.
    """
    rng = np.random.default_rng(5)
    mean, error = mean_and_error([products(rng, n, beta, head_dim) for _ in range(draws)])
    floor = gaussian_floor(beta, head_dim)
    assert -4 * error <= mean - floor <= 4 * error + (floor * np.sqrt(2 * head_dim / n) if head_dim > 1 else 0)


def test_the_filter_rate_falls_to_the_floor_and_not_to_zero():
    """d = 16, beta = 0.5: from 128 to 3072 tokens; 4 draws each, with a spread of at most 2 %."""
    rng = np.random.default_rng(6)
    floor = gaussian_floor(0.5, 16)
    rates = np.array([[products(rng, n, 0.5, 16) for _ in range(4)] for n in (128, 512, 3072)])
    assert (np.diff(rates.mean(1)) < 0).all()
    assert (rates > floor).all()
    assert rates[-1].mean() < 1.15 * floor
    # the law for independent logits is below a quarter of it by then
    assert random_markov_rate(3072, 0.5) < floor / 4


@given(st.floats(1e-6, 0.1), st.integers(1, 256))
def test_gaussian_floor_of_weak_logits(ratio, head_dim):
    """a (1 + (d + 2) a⁴ / 4), a = σₛ / √d, with a relative error below ((d + 2) a⁴)²."""
    second = (head_dim + 2) * ratio**4
    floor = gaussian_floor(ratio * np.sqrt(head_dim), head_dim)
    assert floor == pytest.approx(ratio * (1 + second / 4), rel=second**2 + 1e-12)


@given(st.floats(0, 0.706), st.integers(1, 128), st.floats(0.5, 1))
def test_gaussian_floor_grows_when_the_temperature_falls(a, head_dim, temperature):
    beta = a * np.sqrt(head_dim)
    assert gaussian_floor(temperature * beta, head_dim) <= gaussian_floor(beta, head_dim)


@given(st.floats(1e-3, 0.7071), st.integers(1, 128))
def test_gaussian_floor_lies_between_the_odd_part_and_the_whole_operator(a, head_dim):
    r = 2 * a**2 / (1 + np.sqrt(1 - 4 * a**4))
    whole = (1 + r**2) ** (head_dim / 4)
    floor = gaussian_floor(a * np.sqrt(head_dim), head_dim)
    assert whole * np.sqrt(r) * (1 - 1e-12) <= floor <= whole * (1 + 1e-12)
    if head_dim == 1:  # there the even part never decides
        assert floor == pytest.approx(whole * np.sqrt(r), rel=1e-12)


@pytest.mark.parametrize("head_dim", [1, 2, 64, 1024])
def test_gaussian_floor_at_the_ends_of_its_domain(head_dim):
    assert gaussian_floor(0, head_dim) == 0
    edge = np.sqrt(head_dim / 2) * (1 - 1e-12)
    assert gaussian_floor(edge, head_dim) == pytest.approx(2 ** (head_dim / 4), rel=1e-3)


# --- condensation ---


@pytest.mark.parametrize("share", [0.4, 2.0, 3.0])
def test_condensation_of_a_row(share):
    """Mean sum of squared weights of 400 rows of 100000 logits: 0 below √(2 ln n), 1 - √(2 ln n)/s above.

    The spread of one row is below 0.3, so the standard error is below 0.015; the limit itself is off by 1 / ln n.
    """
    n, rows = 100_000, 400
    s = share * condensation_sigma(n)
    rng = np.random.default_rng(7)
    squares = [(softmax(s * rng.normal(size=n)) ** 2).sum() for _ in range(rows)]
    assert np.std(squares) < 0.3
    assert np.mean(squares) == pytest.approx(max(0, 1 - 1 / share), abs=4 * 0.015)


def test_condensed_attention_has_a_rate_of_order_one():
    """At s = 20 sqrt(2 ln n) the rate is that of hard attention on the same logits; 5 draws, with a spread of 2 %."""
    rng = np.random.default_rng(8)
    for n in (128, 512):
        for _ in range(5):
            logits = 20 * condensation_sigma(n) * rng.normal(size=(n, n))
            hard = np.eye(n)[logits.argmax(-1)]
            assert rate(softmax(logits)) == pytest.approx(rate(hard), rel=0.08)
            assert 1 < rate(hard) <= np.sqrt(hard.sum(0).max()) * (1 + 1e-9)


# --- the rule for the temperature ---

RULE = {"n": st.floats(1, 1e6), "sigma_s": st.floats(0.01, 20), "temperature": st.floats(0.2, 5)}


@given(reference_length=st.floats(1, 1e6), **RULE)
def test_length_matched_temperature_keeps_the_rate_of_the_first_law(n, sigma_s, temperature, reference_length):
    matched = length_matched_temperature(n, sigma_s=sigma_s, reference_length=reference_length, temperature=temperature)
    assert matched > 0
    if max(sigma_s / matched, sigma_s / temperature) <= 26:
        expected = random_markov_rate(reference_length, sigma_s / temperature)
        assert random_markov_rate(n, sigma_s / matched) == pytest.approx(expected, rel=1e-9)


@given(**RULE)
def test_length_matched_temperature_at_the_reference_and_along_the_length(n, sigma_s, temperature):
    rule = {"sigma_s": sigma_s, "reference_length": n, "temperature": temperature}
    assert length_matched_temperature(n, **rule) == pytest.approx(temperature, rel=1e-9)
    assert length_matched_temperature(2 * n, **rule) < length_matched_temperature(n, **rule)


def test_length_matched_temperature_keeps_the_simulated_rate_where_the_law_holds():
    """σₛ = 0.2 at 256 tokens; at 2048 the logits are stronger, 0.53. Means of 5 draws agree to 3 %; constant τ: not."""
    rng = np.random.default_rng(9)
    reference = np.mean([independent(rng, 256, 0.2) for _ in range(5)])
    tau = length_matched_temperature(2048, sigma_s=0.2, reference_length=256)
    assert np.mean([independent(rng, 2048, 0.2 / tau) for _ in range(5)]) == pytest.approx(reference, rel=0.03)
    assert independent(rng, 2048, 0.2) < reference / 2


def test_length_matched_temperature_falls_like_one_over_the_root_of_the_logarithm():
    long = np.array([1e30, 1e120])
    first, second = length_matched_temperature(long, sigma_s=1.0, reference_length=1)
    assert first / second == pytest.approx(2, rel=0.01)


# --- proved bounds, and the derivative (their proofs are checked in tests/theorems/test_length.py) ---


@given(st.floats(2, 1e9), st.floats(0, 3), st.floats(0.4, 2))
def test_the_bounds_at_finite_length_know_a_temperature(n, sigma_s, temperature):
    """It divides the standard deviation; cooling raises both bounds; both are above the laws for many tokens."""
    bound = iid_rate_bound(n, sigma_s, temperature=temperature)
    assert bound == pytest.approx(iid_rate_bound(n, sigma_s / temperature), rel=1e-12)
    assert iid_rate_bound(n, sigma_s * 1.1) >= iid_rate_bound(n, sigma_s)
    assert iid_rate_bound(2 * n, sigma_s) <= iid_rate_bound(n, sigma_s)
    if n > 1000:
        assert iid_rate_bound(n, sigma_s) >= random_markov_rate(n, sigma_s)
    products = gaussian_rate_bound(n, sigma_s / 2, 64)
    assert products >= gaussian_floor(sigma_s / 2, 64)
    assert gaussian_rate_bound(n, sigma_s / 2.2, 64) <= products * (1 + 1e-9)


def test_equal_logits_have_the_rate_zero_and_the_bounds_say_so():
    assert iid_rate_bound(64, 0.0) == 0
    assert gaussian_rate_bound(64, 0.0, 8) == pytest.approx(0, abs=1e-6)


@given(st.floats(0.1, 5), st.floats(-3, 3))
def test_temperature_derivative_of_two_tokens_in_closed_form(temperature, logit):
    """σₐ = |tanh(x / (2τ))| for logits ((x, 0), (0, x))."""
    if abs(logit) < 1e-3:
        return
    x = logit / (2 * temperature)
    found = temperature_derivative([[logit, 0.0], [0.0, logit]], temperature=temperature)
    assert found == pytest.approx(-abs(x) / np.cosh(x) ** 2, rel=1e-9, abs=1e-12)


def test_temperature_derivative_of_masked_and_batched_logits():
    """A causal mask, against central differences; heads and temperatures broadcast; shifting a row changes nothing."""
    rng = np.random.default_rng(10)
    logits = np.where(np.tril(np.ones((9, 9), bool)), rng.normal(size=(3, 9, 9)), -np.inf)
    step = 1e-5
    found = temperature_derivative(logits, temperature=0.8)
    assert found.shape == (3,)
    for head, value in zip(logits, found, strict=True):
        up, down = (rate(softmax(head / (0.8 * np.exp(h)))) for h in (step, -step))
        assert value == pytest.approx((up - down) / (2 * step), rel=1e-5)
    shifted = logits + rng.normal(size=(3, 9, 1))
    np.testing.assert_allclose(temperature_derivative(shifted, temperature=0.8), found, rtol=1e-9)
    several = temperature_derivative(logits[0], temperature=np.array([0.8, 1.0]))
    np.testing.assert_allclose(several, [found[0], temperature_derivative(logits[0])], rtol=1e-12)


# --- all of them ---

CALLS = [
    lambda x: paper_bound(x, 0.5),
    lambda x: random_markov_rate(x, 0.5),
    lambda x: gaussian_floor(0.5, x),
    condensation_sigma,
    lambda x: length_matched_temperature(x, sigma_s=0.5, reference_length=4),
    lambda x: iid_rate_bound(x, 0.5),
    lambda x: gaussian_rate_bound(x, 0.5, 8),
]


@pytest.mark.parametrize("call", CALLS)
def test_numbers_and_arrays(call):
    single = call(16)
    assert type(single) is float
    for several in (np.array([[4, 16]]), np.array([[4, 16]], np.float32), [[4, 16]]):
        array = call(several)
        assert isinstance(array, np.ndarray)
        assert array.dtype == np.float64
        assert array.shape == (1, 2)
        assert array[0, 1] == single


def test_arguments_broadcast():
    n, s = np.array([64, 256, 1024])[:, None], np.array([0.25, 0.5])
    for function in (paper_bound, random_markov_rate):
        grid = function(n, s)
        assert grid.shape == (3, 2)
        assert grid[2, 1] == pytest.approx(function(1024, 0.5), rel=1e-14)  # vector units round otherwise
    assert gaussian_floor(np.array([0.1, 0.2])[:, None], np.array([1, 8, 64])).shape == (2, 3)


REFUSALS = [
    (lambda: paper_bound(0, 1.0), "n must be at least 1 token, not 0"),
    (lambda: paper_bound(np.array([8, 0.5]), 1.0), "n must be at least 1 token, not 0.5"),
    (lambda: paper_bound(8, -1.0), "sigma_s must not be negative, but it is -1: it is a standard deviation"),
    (lambda: paper_bound(8, np.nan), "sigma_s must be finite, not nan"),
    (lambda: random_markov_rate(0, 1.0), "n must be at least 1 token, not 0"),
    (
        lambda: random_markov_rate(8, 27.0),
        "between 0 and 26, not 27: the law is for weak logits, for strong ones see cond",
    ),
    (lambda: gaussian_floor(0.5, 2.5), "head_dim must be a whole number of at least 1, not 2.5"),
    (lambda: gaussian_floor(0.5, 0), "head_dim must be a whole number of at least 1, not 0"),
    (
        lambda: gaussian_floor(6.0, 64),
        r"below sqrt\(head_dim / 2\), not 6: beyond there is no limit; a temperature lowers",
    ),
    (lambda: gaussian_floor(-0.1, 64), "sigma_s must be at least 0 and below .*, not -0.1"),
    (
        lambda: gaussian_floor(70.7, 10_000),
        "sigma_s 70.7 gives a limit beyond the range of float64: take a smaller one",
    ),
    (lambda: iid_rate_bound(1, 0.5), "n must be at least 2 tokens, not 1: one token has no differences"),
    (lambda: iid_rate_bound(8, -0.5), "sigma_s must not be negative, but it is -0.5"),
    (lambda: iid_rate_bound(8, 0.5, temperature=0), "temperature must be positive, not 0; 1 changes nothing"),
    (
        lambda: iid_rate_bound(8, 5, temperature=0.5),
        "sigma_s / temperature must be at most 9, not 10: the bound is for",
    ),
    (lambda: gaussian_rate_bound(1, 0.5, 8), "n must be at least 2 tokens, not 1"),
    (lambda: gaussian_rate_bound(8, 2.0, 64), r"at least 0 and below sqrt\(head_dim\) / 4, not 2: beyond, the moments"),
    (lambda: gaussian_rate_bound(64, 15.9, 4096), "sigma_s 15.9 gives moments beyond the range of float64"),
    (lambda: gaussian_rate_bound(8, 0.1, 0.5), "head_dim must be a whole number of at least 1, not 0.5"),
    (lambda: temperature_derivative(np.ones((2, 3))), r"shape \(..., n, n\) with n of at least 2, not \(2, 3\)"),
    (lambda: temperature_derivative(np.ones((1, 1))), r"with n of at least 2, not \(1, 1\)"),
    (lambda: temperature_derivative(np.eye(2), temperature=-1), "temperature must be positive, not -1"),
    (lambda: temperature_derivative([[np.nan, 0], [0, 1]]), "finite, or -inf where masked, .* here one is NaN or inf"),
    (lambda: temperature_derivative([[np.inf, 0], [0, 1]]), "finite, or -inf where masked"),
    (lambda: temperature_derivative([[-np.inf, -np.inf], [0, 1]]), "a whole row is masked"),
    (lambda: temperature_derivative(np.ones((3, 3))), "largest singular value, 0, is zero or not simple"),
    (lambda: temperature_derivative(np.eye(3)), "is zero or not simple: the filter rate has no derivative there"),
    (lambda: condensation_sigma(0.5), "n must be at least 1 token, not 0.5"),
    (lambda: condensation_sigma(np.inf), "n must be finite, not inf"),
    (
        lambda: length_matched_temperature(8, sigma_s=0, reference_length=4),
        "sigma_s must be positive, not 0: equal logits have no temperature to match",
    ),
    (
        lambda: length_matched_temperature(8, sigma_s=1, reference_length=4, temperature=0),
        "temperature must be positive, not 0; 1 changes nothing",
    ),
    (
        lambda: length_matched_temperature(8, sigma_s=1, reference_length=0),
        "reference_length must be at least 1 token, not 0",
    ),
    (
        lambda: length_matched_temperature(8, sigma_s=1e-200, reference_length=4),
        "sigma_s / temperature is 1e-200: no logits are so weak or strong",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSALS)
def test_refusals_say_the_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()
