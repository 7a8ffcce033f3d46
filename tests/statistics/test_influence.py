"""Influence values against the derivative of a weighted Spearman correlation, written out by its definition."""

import numpy as np
import pytest

from tempscale.statistics.influence import spearman_influence


def weighted_spearman(weights, x, y):
    """Pearson's correlation of mid-distribution functions, of items with weights that sum to 1."""

    def mid(values):
        return np.array([weights[values < one].sum() + weights[values == one].sum() / 2 for one in values]) - 0.5

    u, v = mid(x), mid(y)
    return (weights * u * v).sum() / np.sqrt((weights * u**2).sum() * (weights * v**2).sum())


@pytest.mark.parametrize("ties", [False, True])
def test_influence_is_the_derivative_by_the_weight_of_an_item(ties):
    rng = np.random.default_rng(0)
    x = rng.normal(size=25)
    y = x + rng.normal(size=25)
    if ties:
        x, y = x.round(), y.round(1)
    equal, step = np.full(25, 1 / 25), 1e-5
    derivative = []
    for item in np.eye(25):
        up, down = (weighted_spearman((1 - s) * equal + s * item, x, y) for s in (step, -step))
        derivative.append((up - down) / (2 * step))
    assert np.allclose(spearman_influence(x, y), derivative, atol=1e-7)
    assert np.isclose(spearman_influence(x, y).sum(), 0)


def test_variance_of_the_correlation_of_independent_variables():
    """Without correlation the variance of Spearman's is 1 / (n - 1)."""
    x, y = np.random.default_rng(1).normal(size=(2, 3000))
    assert np.isclose((spearman_influence(x, y) ** 2).sum() / 3000**2, 1 / 2999, rtol=0.1)
