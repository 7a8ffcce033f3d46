"""The energy distance against SciPy's distances and closed forms; its test against all permutations."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist, pdist

from tempscale.embeddings.geometry import directions, energy_distance, energy_test


def cloud(n, mean=0.0, seed=0, d=4):
    return np.random.default_rng(seed).normal(size=(n, d)) + mean


def test_energy_distance_is_that_of_the_pairs():
    x, y = directions(cloud(9)), directions(cloud(7, 1.0, seed=1))
    expected = 2 * cdist(x, y).mean() - pdist(x).mean() - pdist(y).mean()
    np.testing.assert_allclose(energy_distance(x, y), expected)


def test_pairs_leave_out_a_text_and_itself():
    x, y = directions(cloud(9)), directions(cloud(9, 1.0, seed=1))
    cross = cdist(x, y)[~np.eye(9, dtype=bool)].mean()
    np.testing.assert_allclose(energy_distance(x, y, paired=True), 2 * cross - pdist(x).mean() - pdist(y).mean())


def test_two_points_and_a_mixture_of_them():
    """On a circle, all mass at one end against a share p at the other: 2 p · 2 - 2 p (1 - p) · 2 = 4 p²."""
    right, left = np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0]])
    share, n = 0.25, 4000
    x = np.repeat(right, n, axis=0)
    y = np.concatenate([np.repeat(left, n * share, axis=0), np.repeat(right, n * (1 - share), axis=0)])
    np.testing.assert_allclose(energy_distance(x, y), 4 * share**2, atol=1e-3)


@pytest.mark.parametrize("paired", [False, True])
def test_no_bias(paired):
    """Of equal populations the mean over many samples is 0, also where the pairs are strongly correlated."""
    values = []
    for seed in range(400):
        x = cloud(15, 0.3, seed=seed)
        noise = cloud(15, seed=10_000 + seed)
        y = 0.3 + 0.8 * (x - 0.3) + 0.6 * noise if paired else noise + 0.3
        values.append(energy_distance(x, y, paired=paired))
    assert abs(np.mean(values)) < 4 * stats.sem(values)


def test_p_value_against_all_permutations():
    x, y = cloud(5), cloud(5, 0.6, seed=2)
    both = np.concatenate([x, y])
    splits = [list(chosen) for chosen in combinations(range(10), 5)]
    values = [energy_distance(both[chosen], np.delete(both, chosen, axis=0)) for chosen in splits]
    exact = np.mean(np.array(values) >= energy_distance(x, y) - 1e-12)
    assert 0.02 < exact < 0.9
    np.testing.assert_allclose(energy_test(x, y, permutations=20_000), exact, atol=0.015)


def test_paired_p_value_against_all_exchanges():
    x, y = cloud(6, seed=0), cloud(6, 0.5, seed=1)
    values = []
    for exchange in range(2**6):
        swap = (exchange >> np.arange(6) & 1).astype(bool)[:, None]
        values.append(energy_distance(np.where(swap, y, x), np.where(swap, x, y), paired=True))
    exact = np.mean(np.array(values) >= values[0] - 1e-12)
    assert 0.02 < exact < 0.9
    np.testing.assert_allclose(energy_test(x, y, paired=True, permutations=20_000), exact, atol=0.015)


@pytest.mark.parametrize("paired", [False, True])
def test_p_values_are_uniform_where_length_does_not_matter_and_small_where_it_does(paired):
    null = [
        energy_test(cloud(20, seed=seed), cloud(20, seed=5000 + seed), paired=paired, permutations=99, seed=seed)
        for seed in range(300)
    ]
    assert stats.kstest(null, "uniform").pvalue > 0.01
    assert energy_test(cloud(30), cloud(30, 1.0, seed=1), paired=paired, permutations=499) == 1 / 500


def test_refusals():
    with pytest.raises(ValueError, match=r"expected embeddings of one width, not \(5, 4\) and \(5, 3\)"):
        energy_distance(cloud(5), cloud(5, d=3))
    with pytest.raises(ValueError, match=r"expected embeddings of one width and number, not \(5, 4\) and \(6, 4\)"):
        energy_test(cloud(5), cloud(6), paired=True)
