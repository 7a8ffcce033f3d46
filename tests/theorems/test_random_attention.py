"""The statements of the chapter on random attention that no function of the package carries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import svds
from scipy.stats import norm
from support.attention import softmax

from tempscale import condensation_sigma, filter_rate, gaussian_floor, random_markov_rate


def rate(a):
    if len(a) < 200:
        return float(filter_rate(a))
    start = np.random.default_rng(0).normal(size=len(a))
    return svds(a - a.mean(0), k=1, return_singular_vectors=False, v0=start)[0]


def largest_weight(n, sigma_s):
    """The median of the largest of n² weights, if exp(logit) is divided by n times its mean and its own share."""
    largest = np.exp(sigma_s * norm.isf(np.log(2) / n**2) - sigma_s**2 / 2)
    return largest / (n + largest)


def rate_by_the_largest_weight(n, sigma_s):
    edge, spike = random_markov_rate(n, sigma_s) / 2, largest_weight(n, sigma_s)
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
    rng = np.random.default_rng(1)
    for sigma_s in (0.5, 1, 2, 4):
        a = softmax(sigma_s * rng.normal(size=(100, 100)))
        assert rate(a) >= np.abs(a - a.mean(0)).max()


def sampling_factor(c):
    """The edge of the singular values of Q Kᵀ / n, Gaussian Q and K of n rows and c n columns."""
    z = (np.sqrt(c**2 + 8 * c) - c) / (4 * c)
    return np.sqrt((1 + z) * (1 + c * z) ** 2 / z)


@pytest.mark.parametrize(("n", "head_dim"), [(512, 64), (1024, 64), (1024, 16)])
def test_finite_samples_raise_the_rate_above_the_floor(n, head_dim):
    """QKᵀ/n itself to 3 %, and weak attention (beta = 0.1) likewise; means of 5 draws."""
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


def test_the_operator_is_unbounded_beyond_half():
    """T exp(δ x²) is exp(δ a² q² / (1 - 2δ)) up to a factor, by quadrature: not in L² if a² > 1/2, δ near 1/4."""
    x, w = np.polynomial.hermite_e.hermegauss(150)
    w = w / w.sum()
    for square, integrable in [(0.45, True), (0.55, False)]:
        delta, q = 0.24, np.linspace(0, 2, 5)
        image = np.array([w @ np.exp(delta * (np.sqrt(square) * point + x) ** 2) for point in q])
        exponent = np.polyfit(q**2, np.log(image), 1)[0]
        assert exponent == pytest.approx(delta * square / (1 - 2 * delta), rel=1e-4)
        assert (exponent < 0.25) == integrable


def test_below_condensation_the_largest_weight_of_a_row_vanishes():
    rng = np.random.default_rng(4)
    sizes = [100, 1000, 10_000, 100_000]
    largest = [
        np.mean([softmax(0.4 * condensation_sigma(n) * rng.normal(size=n)).max() for _ in range(50)]) for n in sizes
    ]
    assert (np.diff(largest) < 0).all()
    assert largest[-1] < 0.02


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
