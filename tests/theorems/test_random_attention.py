"""The statements of the chapter on random attention that no function of the package carries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad, trapezoid
from scipy.optimize import brentq
from scipy.sparse.linalg import svds
from scipy.special import xlogy
from scipy.stats import norm
from support.attention import softmax

from tempscale import (
    condensation_sigma,
    filter_rate,
    gaussian_floor,
    length_matched_temperature,
    random_markov_rate,
)


def rate(a):
    """σₐ, with an iterative solver for large matrices."""
    if len(a) < 200:
        return float(filter_rate(a))
    start = np.random.default_rng(0).normal(size=len(a))
    return svds(a - a.mean(0), k=1, return_singular_vectors=False, v0=start)[0]


def log_lead_of_the_largest_entry(log_n, sigma_s):
    """ln of the median of the largest of n² centred weights, over the scale ν of the bulk; the length by its logarithm.

    exp(logit) is divided by n times its mean and its own share, and loses the mean weight.
    """
    largest = sigma_s * norm.isf(np.log(2) * np.exp(-2 * log_n)) - sigma_s**2 / 2
    entry = largest + np.log1p(-np.exp(-largest)) - np.logaddexp(log_n, largest)
    return entry - (np.log(np.expm1(sigma_s**2)) - log_n) / 2


def rate_by_the_largest_weight(n, sigma_s):
    edge = random_markov_rate(n, sigma_s) / 2
    spike = edge * np.exp(log_lead_of_the_largest_entry(np.log(n), sigma_s))
    return spike + edge**2 / spike if spike > edge else 2 * edge


@pytest.mark.parametrize(
    ("n", "sigma_s"), [(256, 0.5), (256, 1.0), (256, 1.3), (1024, 0.5), (1024, 1.0), (1024, 1.3), (1024, 1.5)]
)
def test_the_largest_weight_predicts_the_rate_of_independent_logits(n, sigma_s):
    """Median of 15 draws against the closed form, to 12 %; the extreme of n² values spreads over several per cent."""
    rng = np.random.default_rng(0)
    rates = [rate(softmax(sigma_s * rng.normal(size=(n, n)))) for _ in range(15)]
    assert np.median(rates) == pytest.approx(rate_by_the_largest_weight(n, sigma_s), rel=0.12)


def test_the_rate_is_at_least_the_largest_centred_weight():
    """And equal to it where one row alone differs, in one weight and a common rest: n = 2."""
    rng = np.random.default_rng(1)
    for sigma_s in (0.5, 1, 2, 4):
        a = softmax(sigma_s * rng.normal(size=(100, 100)))
        assert rate(a) >= np.abs(a - a.mean(0)).max()
        pair = softmax(sigma_s * rng.normal(size=(2, 2)))
        assert rate(pair) == pytest.approx(2 * np.abs(pair - pair.mean(0)).max())


def test_tokens_that_the_law_of_random_markov_matrices_needs():
    """None at σₛ = 0.5, 400 at 0.7, 54 000 at 1; the exponent (2 + √2)² is that of ln n, for strong logits.

    The formula against the median of simulated entries, whose spread is below 30 %, so that the median is right to 3 %.
    """
    lengths = np.linspace(np.log(8), np.log(1e9), 300)
    assert max(log_lead_of_the_largest_entry(log_n, 0.5) for log_n in lengths) < 0
    needed = {
        s: brentq(log_lead_of_the_largest_entry, max(np.log(100), 6 * s**2), 330, args=(s,)) for s in (0.7, 1, 3, 5)
    }
    assert np.exp(needed[0.7]) == pytest.approx(401, abs=2)
    assert np.exp(needed[1]) == pytest.approx(53_700, abs=100)
    assert (needed[5] - needed[3]) / (5**2 - 3**2) == pytest.approx((2 + 2**0.5) ** 2, rel=0.01)
    rng = np.random.default_rng(10)
    for n, sigma_s, draws in [(32, 0.5, 400), (125, 0.5, 400), (64, 0.7, 400), (400, 0.7, 100)]:
        matrices = (softmax(sigma_s * rng.normal(size=(n, n))) for _ in range(draws))
        lead = np.median([(a - a.mean(0)).max() for a in matrices]) / (random_markov_rate(n, sigma_s) / 2)
        assert lead == pytest.approx(np.exp(log_lead_of_the_largest_entry(np.log(n), sigma_s)), rel=0.06)


def test_the_law_is_approached_as_tracy_and_widom_say():
    """n = 256: the mean of 100 draws within 4 standard errors, which tell it from no correction.

    σₘₐₓ² of n x n standard normal entries is 4n + 2^(4/3) n^(1/3) TW, TW of mean -1.2065; the mean token takes one of n.
    """
    rng = np.random.default_rng(11)
    n = 256
    ratios = [rate(softmax(0.1 * rng.normal(size=(n, n)))) / random_markov_rate(n, 0.1) for _ in range(100)]
    error = np.std(ratios, ddof=1) / 10
    expected = 2 ** (4 / 3) / 8 * -1.2065 * n ** (-2 / 3) - 1 / (2 * n)
    assert np.mean(ratios) - 1 == pytest.approx(expected, abs=4 * error)
    assert 4 * error < abs(expected) / 2


def sampling_factor(c):
    """The edge of the singular values of Q Kᵀ / n, Gaussian Q and K of n rows and c n columns."""
    z = (np.sqrt(c**2 + 8 * c) - c) / (4 * c)
    return np.sqrt((1 + z) * (1 + c * z) ** 2 / z)


@pytest.mark.parametrize(("n", "head_dim"), [(512, 64), (1024, 64), (1024, 16)])
def test_finite_samples_raise_the_rate_above_the_floor(n, head_dim):
    """QKᵀ/n itself to 3 %, and weak attention (σₛ = 0.1) likewise; means of 5 draws."""
    rng = np.random.default_rng(2)
    bare, attention = [], []
    for _ in range(5):
        q, k = rng.normal(size=(2, n, head_dim))
        bare.append(np.sqrt(np.linalg.eigvals(q.T @ q @ k.T @ k).real.max()) / n)
        attention.append(rate(softmax(0.1 * q @ k.T / np.sqrt(head_dim))) / gaussian_floor(0.1, head_dim))
    factor = sampling_factor(head_dim / n)
    assert np.mean(bare) == pytest.approx(factor, rel=0.03)
    assert np.mean(attention) == pytest.approx(factor, rel=0.03)
    assert factor == pytest.approx(1 + np.sqrt(2 * head_dim / n), rel=head_dim / n)


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60))
def test_rate_of_hard_attention_is_about_the_root_of_the_largest_in_degree(looks_at):
    """max (c - c²/n) ≤ σₐ² ≤ max c."""
    n = len(looks_at)
    looks_at = np.array(looks_at) % n
    counts = np.bincount(looks_at, minlength=n)
    squared = rate(np.eye(n)[looks_at]) ** 2
    assert (counts - counts**2 / n).max() - 1e-9 <= squared <= counts.max() + 1e-9


def test_products_have_larger_in_degrees_than_independent_logits():
    """Keys of large norm are hubs: n = 1024, dimension 32, in each of 5 draws."""
    rng = np.random.default_rng(3)
    n = 1024
    for _ in range(5):
        q, k = rng.normal(size=(2, n, 32))
        hubs = np.bincount((q @ k.T).argmax(-1), minlength=n).max()
        assert hubs > 1.4 * np.bincount(rng.integers(n, size=n), minlength=n).max()
        longest = np.argsort(-np.linalg.norm(k, axis=-1))[: n // 10]
        assert np.isin((q @ k.T).argmax(-1), longest).mean() > 0.3


def logits(rng, n, sigma_s, head_dim):
    q, k = rng.normal(size=(2, n, head_dim))
    return sigma_s * q @ k.T / np.sqrt(head_dim)


def test_strong_logits_need_more_than_the_factor_of_finite_samples():
    """d = 64, σₛ = 2, n = 2048: more than 1.8 times the floor with its samples (about .73 against .34), in 3 draws."""
    rng = np.random.default_rng(12)
    factored = gaussian_floor(2.0, 64) * sampling_factor(64 / 2048)
    assert factored == pytest.approx(0.34, abs=0.005)
    for _ in range(3):
        assert rate(softmax(logits(rng, 2048, 2.0, 64))) > 1.8 * factored


def linear_plus_noise(rng, n, sigma_s, head_dim):
    noise = np.sqrt(np.expm1(sigma_s**2) - sigma_s**2) * rng.normal(size=(n, n))
    return (logits(rng, n, sigma_s, head_dim) + noise) / n


def mean_and_error(draws):
    return np.mean(draws), np.std(draws, ddof=1) / np.sqrt(len(draws))


def test_linear_attention_with_noise():
    """Within 2 % of attention at σₛ = 0.3, n = 512, d = 128, closer than the linear part alone with strong logits.

    At σₛ = 1, n = 256, d = 64 the three estimates are apart: floor and samples, linear part and noise, attention.
    """
    rng = np.random.default_rng(13)
    weak = [rate(softmax(logits(rng, 512, 0.3, 128))) for _ in range(6)]
    assert np.mean(weak) == pytest.approx(
        np.mean([rate(linear_plus_noise(rng, 512, 0.3, 128)) for _ in range(6)]), rel=0.02
    )
    attention, error = mean_and_error([rate(softmax(logits(rng, 256, 1.0, 64))) for _ in range(80)])
    linear, linear_error = mean_and_error([rate(linear_plus_noise(rng, 256, 1.0, 64)) for _ in range(40)])
    factored = gaussian_floor(1.0, 64) * sampling_factor(64 / 256)
    assert factored == pytest.approx(0.221, abs=5e-4)
    assert linear == pytest.approx(0.23, abs=0.01)
    assert attention == pytest.approx(0.255, abs=0.012)
    assert factored < linear - 4 * linear_error < linear + 4 * np.hypot(error, linear_error) < attention


def test_the_rate_falls_if_the_head_grows_with_the_text():
    """√n σₐ is level with d = n/4 and grows with d = 16, from n = 256 to 1024; with d = 20 n it is the law's number."""
    rng = np.random.default_rng(14)

    def scaled(n, head_dim):
        return np.sqrt(n) * np.mean([rate(softmax(logits(rng, n, 0.3, head_dim))) for _ in range(4)])

    assert scaled(1024, 256) == pytest.approx(scaled(256, 64), rel=0.04)
    assert scaled(1024, 16) > 1.5 * scaled(256, 16)
    assert scaled(512, 10_240) == pytest.approx(2 * np.sqrt(np.expm1(0.3**2)), rel=0.04)


def test_the_even_part_overtakes_once():
    """Step 6 of the proof: its sum increases in r, passes 1 once for d ≥ 2, and there the floor leaves the odd part."""
    k = np.arange(1, 400)
    ratios = np.linspace(0.02, 0.98, 97)
    for head_dim in (1, 2, 8, 64):
        binomial = np.cumprod((head_dim / 2 + k - 1) / k)
        sums = np.array([(binomial * r ** (4 * k - 1) * (1 - r) / (1 - r ** (2 * k - 1))).sum() for r in ratios])
        assert (np.diff(sums) > 0).all()
        odd = (1 + ratios**2) ** (head_dim / 4) * np.sqrt(ratios)
        even_decides = gaussian_floor(np.sqrt(head_dim * ratios / (1 + ratios**2)), head_dim) > odd * (1 + 1e-9)
        np.testing.assert_array_equal(even_decides, sums > 1)
        assert even_decides.any() == (head_dim > 1)


def gauss_hermite(nodes=120):
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    return x, np.sqrt(w / w.sum())


def test_the_operator_is_not_that_of_ornstein_and_uhlenbeck():
    """Both by quadrature in one dimension: norms 1 and a without constants for that one, both larger for T."""
    x, root = gauss_hermite()
    for a in (0.3, 0.6):
        spread = 1 - a**2
        kernel = np.exp((a * np.outer(x, x) - a**2 * (x[:, None] ** 2 + x**2) / 2) / spread) / np.sqrt(spread)
        ornstein = root[:, None] * kernel * root
        ours = root[:, None] * np.exp(a * np.outer(x, x) - (a * x[:, None]) ** 2 / 2) * root
        np.testing.assert_allclose(ornstein, ornstein.T)
        assert np.linalg.norm(ornstein, 2) == pytest.approx(1)
        assert np.linalg.norm(ornstein - np.outer(root, root @ ornstein), 2) == pytest.approx(a)
        # the image of N(0, 1) has the variance 1 + a² under T, and 1 under the other: E T f = E f(√(1 + a²) ξ)
        assert root @ ours @ (root * x**2) == pytest.approx(1 + a**2)
        assert root @ ornstein @ (root * x**2) == pytest.approx(1)
        assert np.linalg.norm(ours, 2) > 1.001
        assert np.linalg.norm(ours - np.outer(root, root @ ours), 2) > a * 1.005


def best_gain(square, reach, nodes=300):
    """Largest gain of T, a² = square, on odd functions on [-reach, reach], by quadrature of the kernel of T* T."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    x, w = reach * (x + 1) / 2, reach * w / 2
    exponent = square / (2 + 4 * square)
    kernel = np.exp(exponent * (x[:, None] + x) ** 2) - np.exp(exponent * (x[:, None] - x) ** 2)
    root = np.sqrt(w * norm.pdf(x))
    return np.sqrt(np.linalg.eigvalsh(kernel * root[:, None] * root / np.sqrt(1 + 2 * square))[-1])


def test_the_gain_of_bounded_functions_is_unbounded_beyond_the_edge():
    """Below a² = 1/2 it ends at the floor; beyond, it grows like the square root of an exponential of the reach squared.

    The function of the proof is one of these: its gain, by quadrature over the closed form of its image, is below theirs.
    """
    for square in (0.2, 0.45):
        assert best_gain(square, 20) == pytest.approx(gaussian_floor(np.sqrt(square), 1), rel=1e-8)
    for square in (0.55, 1.0):
        gains = [best_gain(square, reach) for reach in (5, 10, 20)]
        assert gains[1] > 2 * gains[0]
        assert gains[2] > 20 * gains[1]
        zeta, a = (1 / (4 * square + 2) + 1 / 4) / 2, np.sqrt(square)
        previous = 0
        for reach in (5, 10, 20):
            q = np.linspace(0, 1.5 * reach, 600)
            x = np.linspace(-reach, reach, 1201)
            image = norm.pdf(x - a * q[:, None]) * x * np.exp(zeta * x**2)
            image = trapezoid(image, x, axis=1)
            size = trapezoid(norm.pdf(x) * x**2 * np.exp(2 * zeta * x**2), x)
            gain = np.sqrt(2 * trapezoid(norm.pdf(q) * image**2, q) / size)
            assert previous < gain < best_gain(square, reach) * (1 + 1e-3)
            previous = gain
            # inside, the image is what the proof says
            closed = a * q[:40] * (1 - 2 * zeta) ** -1.5 * np.exp(zeta * square * q[:40] ** 2 / (1 - 2 * zeta))
            assert reach < 20 or np.allclose(image[:40], closed, rtol=1e-3)


@pytest.mark.parametrize(("square", "head_dim"), [(0.3, 1), (1.0, 1), (1.0, 3)])
def test_attention_has_the_gain_of_the_operator_on_bounded_functions(square, head_dim):
    """f(k) = sign of the first coordinate, T f = 2 Φ(a q₁) - 1, on both sides of the edge: n = 4000, to 4 standard errors.

    The sample standard deviation of n values in [-1, 1] and the finite number of keys cost about 1/√n each.
    """
    rng = np.random.default_rng(15)
    a, n = np.sqrt(square), 4000
    exact = np.sqrt(2 * quad(lambda q: norm.pdf(q) * (2 * norm.cdf(a * q) - 1) ** 2, 0, 12)[0])
    q, k = rng.normal(size=(2, n, head_dim))
    attention = softmax(a * q @ k.T)
    signal = np.sign(k[:, 0])
    gain = np.std(attention @ signal) / np.std(signal)
    assert gain == pytest.approx(exact, abs=4 / np.sqrt(n))
    assert rate(attention) >= gain


def test_below_condensation_the_largest_weight_of_a_row_vanishes():
    rng = np.random.default_rng(4)
    sizes = [100, 1000, 10_000, 100_000]
    largest = [
        np.mean([softmax(0.4 * condensation_sigma(n) * rng.normal(size=n)).max() for _ in range(50)]) for n in sizes
    ]
    assert (np.diff(largest) < 0).all()
    assert largest[-1] < 0.02


def row_by_quadrature(log_n, sigma_s):
    """E ln Z and κ = E Σ p² of n independent N(0, σₛ²) logits, without simulation, for any n.

    E ln Z = ∫ (exp(-t) - φ(t)ⁿ) dt/t and κ = n ∫ t E[y² exp(-t y)] φ(t)ⁿ⁻¹ dt, φ(t) = E exp(-t y), y = exp(logit).
    """
    g = np.linspace(-12, 45, 5701)
    weight = norm.pdf(g) * (g[1] - g[0])
    u = np.linspace(-45 * sigma_s, 12 * sigma_s + 40, 3001)  # ln t
    missing, square = np.empty_like(u), np.empty_like(u)
    for i, log_t in enumerate(u):
        y = np.exp(np.minimum(log_t + sigma_s * g, 300))
        missing[i] = weight @ -np.expm1(-y)
        square[i] = weight @ (y**2 * np.exp(-y))
    log_phi = np.log1p(-np.minimum(missing, 1 - 1e-16))
    n, step = np.exp(log_n), u[1] - u[0]
    log_z = step * (np.exp(-np.exp(np.minimum(u, 300))) - np.exp(n * log_phi)).sum()
    return log_z, n * step * (square * np.exp((n - 1) * log_phi)).sum()


def test_the_slope_of_the_free_energy_counts_the_tokens():
    """d/dσₛ E ln Z = σₛ (1 - κ): by quadrature at n = 1000, and at n = 2, where E ln Z = E ln 2 cosh(σₛ D/2)."""
    log_n = np.log(1000)
    for sigma_s in (1.0, 3.0, 6.0):
        above, below = (row_by_quadrature(log_n, sigma_s + h)[0] for h in (1e-3, -1e-3))
        kappa = row_by_quadrature(log_n, sigma_s)[1]
        assert (above - below) / 2e-3 == pytest.approx(sigma_s * (1 - kappa), rel=1e-5)

    def half(function):
        return quad(lambda d: norm.pdf(d, scale=np.sqrt(2)) * function(d), -20, 20)[0]

    log_z = half(lambda d: np.logaddexp(d, -d))  # σₛ = 2
    kappa = half(lambda d: (1 + np.tanh(d) ** 2) / 2)
    np.testing.assert_allclose(row_by_quadrature(np.log(2), 2.0), [log_z, kappa], rtol=1e-6)
    rng = np.random.default_rng(16)
    squares = [(softmax(3 * rng.normal(size=1000)) ** 2).sum() for _ in range(2000)]
    mean, error = mean_and_error(squares)
    assert mean == pytest.approx(row_by_quadrature(log_n, 3.0)[1], abs=4 * error)


@pytest.mark.parametrize("chi", [0.5, 1.0, 2.0, 3.0])
def test_condensation_in_the_limit_of_long_rows(chi):
    """n = 10², 10⁵, 10²⁰, 10¹⁰⁰: κ and E ln Z / ln n approach their limits, within ln ln n / ln n."""
    frozen = chi > np.sqrt(2)
    limits = (np.sqrt(2) * chi, 1 - np.sqrt(2) / chi) if frozen else (1 + chi**2 / 2, 0)
    off = []
    for log_n in np.log(10) * np.array([2, 5, 20, 100]):
        log_z, kappa = row_by_quadrature(log_n, chi * np.sqrt(log_n))
        off.append([abs(log_z / log_n - limits[0]), abs(kappa - limits[1])])
        assert off[-1][0] < 1.5 * chi * np.log(log_n) / log_n
        assert off[-1][1] < 0.75 * np.log(log_n) / log_n
    assert (np.diff(off, axis=0) < 1e-9).all()
    assert max(off[-1]) < (0.03 if frozen else 1e-9)


def test_the_length_rule_keeps_about_the_root_of_the_tokens():
    """Effective tokens exp(entropy): n / √(1 + c n) by simulation at 4096, and in the limit √n, by quadrature."""
    rng = np.random.default_rng(17)
    n, sigma_s, reference = 4096, 0.5, 64
    growth = np.expm1(sigma_s**2) / reference
    cold = sigma_s / length_matched_temperature(n, sigma_s=sigma_s, reference_length=reference)
    rows = softmax(cold * rng.normal(size=(200, n)))
    mean, error = mean_and_error(np.exp(-xlogy(rows, rows).sum(-1)))
    expected = n / np.sqrt(1 + growth * n)
    assert mean == pytest.approx(expected, rel=0.02, abs=4 * error)
    assert expected < n * np.exp(-(sigma_s**2) / 2) / 2  # far fewer than at a constant temperature
    for log_n, tolerance in [(np.log(1e6), 0.03), (np.log(1e20), 1e-3), (np.log(1e100), 1e-6)]:
        strength = 1.0 / length_matched_temperature(np.exp(log_n), sigma_s=1.0, reference_length=1)
        log_z, kappa = row_by_quadrature(log_n, strength)
        entropy = log_z - strength**2 * (1 - kappa)
        assert entropy / log_n == pytest.approx(0.5 - np.log(np.expm1(1)) / 2 / log_n, abs=tolerance)


def test_a_shared_preference_has_no_rate_and_no_double_centred_strength():
    """Added to other logits it leaves their double-centred part as it is, but not the rate."""
    rng = np.random.default_rng(18)

    def strength(s):
        return np.std(s - s.mean(0) - s.mean(1, keepdims=True) + s.mean())

    s, shared, constants = rng.normal(size=(50, 50)), 3 * rng.normal(size=50), rng.normal(size=(50, 1))
    alone = np.broadcast_to(shared, s.shape)
    assert rate(softmax(alone)) == pytest.approx(0, abs=1e-12)
    assert strength(alone) == pytest.approx(0, abs=1e-12)
    assert strength(s + shared + constants) == pytest.approx(strength(s))
    assert np.std(s) == pytest.approx(strength(s), rel=0.03)
    np.testing.assert_allclose(softmax(s + constants), softmax(s))
    assert rate(softmax(s + shared)) > 2 * rate(softmax(s))


@pytest.mark.parametrize("sigma_s", [0.3, 1.0, 4.0])
def test_the_second_singular_value_is_below_the_filter_rate(sigma_s):
    """JA has rank one, and (I - J) A the norm σₐ; A1 = 1 makes the first at least 1. Both are attained."""
    rng = np.random.default_rng(5)
    for n in (2, 7, 60):
        a = softmax(sigma_s * rng.normal(size=(n, n)))
        first, second, *_ = np.linalg.svd(a, compute_uv=False)
        assert first >= 1 - 1e-12
        assert second <= filter_rate(a) + 1e-12
        # columns that sum to 1, too: A = J + (I - J) A is then an orthogonal sum
        doubly = sum(w * np.eye(n)[rng.permutation(n)] for w in rng.dirichlet(np.ones(3)))
        first, second, *_ = np.linalg.svd(doubly, compute_uv=False)
        assert first == pytest.approx(1)
        assert second == pytest.approx(filter_rate(doubly))
        # two columns that share all rows: σₐ above 1, and no gap
        hubs = np.eye(n)[np.arange(n) % 2]
        first, second, *_ = np.linalg.svd(hubs, compute_uv=False)
        assert second == pytest.approx(np.sqrt(n // 2))
        assert first - second <= 0.5 < second <= filter_rate(hubs) + 1e-12
