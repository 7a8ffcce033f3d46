"""Measures of embeddings against closed forms, SciPy, and the steps of the papers that define them; tests against
enumeration.
"""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import special, stats
from scipy.spatial.distance import cdist, pdist, squareform

from tempscale.embeddings import geometry
from tempscale.embeddings.geometry import (
    centroid_distance,
    directions,
    effective_rank,
    energy_distance,
    energy_test,
    hubness,
    isoscore,
    k_occurrence,
    mean_cosine,
    neighbours,
    uniformity,
)

MEASURES = [mean_cosine, centroid_distance, effective_rank, uniformity, isoscore, k_occurrence, hubness, neighbours]


def cloud(n=60, d=9, mean=0.5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)) * np.linspace(0.5, 2, d) + mean


def test_mean_cosine_is_that_of_all_pairs():
    x = cloud()
    np.testing.assert_allclose(mean_cosine(x), (1 - pdist(x, "cosine")).mean())


def test_orthogonal_and_equal_directions():
    n = 7
    np.testing.assert_allclose(mean_cosine(np.eye(n)), 0, atol=1e-15)
    np.testing.assert_allclose(centroid_distance(np.eye(n)), np.sqrt(1 + 1 / (n - 1)))
    np.testing.assert_allclose(effective_rank(np.eye(n)), n)
    np.testing.assert_allclose(uniformity(np.eye(n)), -4)
    same = np.ones((n, 3))
    np.testing.assert_allclose([mean_cosine(same), centroid_distance(same)], [1, 0], atol=1e-7)
    np.testing.assert_allclose([effective_rank(same), uniformity(same)], [1, 0], atol=1e-7)


@pytest.mark.parametrize(("first", "second"), [(5, 5), (9, 1), (3, 7)])
def test_effective_rank_of_two_orthogonal_directions(first, second):
    """Their singular values are the roots of how often they occur."""
    x = np.repeat(np.eye(4)[:2], [first, second], axis=0)
    expected = np.exp(stats.entropy([first**0.5, second**0.5]))
    np.testing.assert_allclose(effective_rank(x), expected)


@pytest.mark.parametrize("d", [2, 3, 8])
def test_uniformity_of_the_uniform_distribution(d):
    """E exp(-4 (1 - cos)) on the sphere, by the integral that defines a modified Bessel function."""
    x = np.random.default_rng(0).normal(size=(4000, d))
    order = d / 2 - 1
    expected = np.log(special.gamma(d / 2) * (2 / 4) ** order * special.ive(order, 4))
    if d == 3:
        np.testing.assert_allclose(expected, np.log((1 - np.exp(-8)) / 8))
    np.testing.assert_allclose(uniformity(x), expected, atol=0.01)


def isoscore_of_the_paper(x):
    """Steps 2 to 7 of Rudman et al. 2022, on points that are turned to their principal axes."""
    _, axes = np.linalg.eigh(np.cov(x.T))
    diagonal = np.diag(np.cov((x @ axes).T))
    d = len(diagonal)
    normed = np.sqrt(d) * diagonal / np.linalg.norm(diagonal)
    defect = np.linalg.norm(normed - 1) / np.sqrt(2 * (d - np.sqrt(d)))
    fraction = (d - defect**2 * (d - np.sqrt(d))) ** 2 / d**2
    return (d * fraction - 1) / (d - 1)


@pytest.mark.parametrize(("n", "d"), [(50, 4), (9, 20), (500, 30)])
def test_isoscore_is_that_of_the_paper(n, d):
    x = cloud(n, d)
    np.testing.assert_allclose(isoscore(x), isoscore_of_the_paper(directions(x)), rtol=1e-10)


def test_isoscore_at_its_ends():
    d = 6
    np.testing.assert_allclose(isoscore(np.concatenate([np.eye(d), -np.eye(d)])), 1)
    line = np.stack([np.linspace(-1, 1, 9), np.ones(9), np.zeros(9)], axis=1)
    assert isoscore(np.array([[1.0, 0, 0], [0, 1.0, 0], [1.0, 0, 0]])) == pytest.approx(0, abs=1e-12)
    assert 0 < isoscore(line) < 0.1  # on the sphere a line is bent


def test_neighbours_and_occurrences_by_sorting():
    x = cloud(40)
    cosine = 1 - squareform(pdist(x, "cosine"))
    np.fill_diagonal(cosine, -2)
    expected = np.argsort(-cosine, axis=1)[:, :5]
    np.testing.assert_array_equal(np.sort(neighbours(x, 5)), np.sort(expected))
    counts = k_occurrence(x, 5)
    np.testing.assert_array_equal(counts, [(expected == i).sum() for i in range(40)])
    assert counts.sum() == 40 * 5
    np.testing.assert_allclose(hubness(x, 5), stats.skew(counts))


def test_a_star_has_one_hub():
    """Leaves are orthogonal and the centre is their mean, so that it is the nearest of all of them."""
    n = 20
    x = np.concatenate([np.eye(n), np.full((1, n), 1 / n)])
    counts = k_occurrence(x, 1)
    assert counts[-1] == n
    assert sorted(counts[:-1]) == [0] * (n - 1) + [1]
    np.testing.assert_allclose(hubness(x, 1), stats.skew(counts))
    assert hubness(x, 1) > 4


def test_no_hub_on_a_ring():
    angle = np.arange(12) * 2 * np.pi / 12
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert set(k_occurrence(x, 2)) == {2}
    assert hubness(x, 2) == 0


def test_the_length_of_a_row_does_not_matter_nor_does_the_library():
    x = cloud(30)
    scale = np.exp(np.random.default_rng(1).normal(size=(30, 1)))
    for measure in MEASURES:
        np.testing.assert_allclose(measure(scale * x), measure(x), rtol=1e-9)
        np.testing.assert_array_equal(measure(torch.tensor(x)), measure(x))


def test_a_rotation_changes_nothing():
    x = cloud(30)
    rotation = stats.ortho_group.rvs(9, random_state=0)
    for measure in MEASURES[:-1]:
        np.testing.assert_allclose(measure(x @ rotation), measure(x), rtol=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (np.ones(3), r"shape \(n, d\) with n >= 2, not \(3,\)"),
        (np.ones((1, 3)), r"shape \(n, d\) with n >= 2, not \(1, 3\)"),
        (np.ones((3, 2), dtype=int), "floating-point embeddings, not int64"),
        (np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), "row 1 has norm 0 and so no direction: leave such rows out"),
        (np.array([[1.0, np.nan], [0.0, 1.0]]), "row 0 has norm nan"),
    ],
)
def test_refusals(measure, embeddings, message):
    with pytest.raises(ValueError, match=message):
        measure(embeddings)


def test_more_refusals():
    with pytest.raises(ValueError, match="k = 5 neighbours of 5 texts: expected 1 to 4"):
        geometry.hubness(np.eye(5), 5)
    with pytest.raises(ValueError, match="k = 0 neighbours of 5 texts"):
        geometry.neighbours(np.eye(5), 0)
    with pytest.raises(ValueError, match="all directions are the same: there is no axis along which they vary"):
        isoscore(np.ones((5, 3)))
    with pytest.raises(ValueError, match="in one dimension have no isotropy"):
        isoscore(np.ones((5, 1)))


def spread(n, mean=0.0, seed=0, d=4):
    return np.random.default_rng(seed).normal(size=(n, d)) + mean


def test_energy_distance_is_that_of_the_pairs():
    x, y = directions(spread(9)), directions(spread(7, 1.0, seed=1))
    expected = 2 * cdist(x, y).mean() - pdist(x).mean() - pdist(y).mean()
    np.testing.assert_allclose(energy_distance(x, y), expected)


def test_pairs_leave_out_a_text_and_itself():
    x, y = directions(spread(9)), directions(spread(9, 1.0, seed=1))
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
        x = spread(15, 0.3, seed=seed)
        noise = spread(15, seed=10_000 + seed)
        y = 0.3 + 0.8 * (x - 0.3) + 0.6 * noise if paired else noise + 0.3
        values.append(energy_distance(x, y, paired=paired))
    assert abs(np.mean(values)) < 4 * stats.sem(values)


def test_p_value_against_all_permutations():
    x, y = spread(5), spread(5, 0.6, seed=2)
    both = np.concatenate([x, y])
    splits = [list(chosen) for chosen in combinations(range(10), 5)]
    values = [energy_distance(both[chosen], np.delete(both, chosen, axis=0)) for chosen in splits]
    exact = np.mean(np.array(values) >= energy_distance(x, y) - 1e-12)
    assert 0.02 < exact < 0.9
    np.testing.assert_allclose(energy_test(x, y, permutations=20_000), exact, atol=0.015)


def test_paired_p_value_against_all_exchanges():
    x, y = spread(6, seed=0), spread(6, 0.5, seed=1)
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
        energy_test(spread(20, seed=seed), spread(20, seed=5000 + seed), paired=paired, permutations=99, seed=seed)
        for seed in range(300)
    ]
    assert stats.kstest(null, "uniform").pvalue > 0.01
    assert energy_test(spread(30), spread(30, 1.0, seed=1), paired=paired, permutations=499) == 1 / 500


def test_refusals_of_the_energy():
    with pytest.raises(ValueError, match=r"expected embeddings of one width, not \(5, 4\) and \(5, 3\)"):
        energy_distance(spread(5), spread(5, d=3))
    with pytest.raises(ValueError, match=r"expected embeddings of one width and number, not \(5, 4\) and \(6, 4\)"):
        energy_test(spread(5), spread(6), paired=True)
