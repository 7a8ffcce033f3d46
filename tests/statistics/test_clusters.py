"""The variance of items that share members, against its definition as a double loop, and against the truth."""

import numpy as np
import pytest

from tempscale.statistics.clusters import variance_inflation


def by_definition(psi, members):
    """Sum of products over all ordered pairs that share a member, over the sum of squares."""
    n = len(psi)
    shared = [(p, q) for p in range(n) for q in range(n) if p == q or set(members[p]) & set(members[q])]
    return sum(psi[p] * psi[q] for p, q in shared) / sum(psi**2)


def test_variance_inflation_by_definition():
    rng = np.random.default_rng(0)
    # none, one, or several members; an item may name one twice, and two items may share several
    members = [rng.integers(12, size=rng.integers(5)).tolist() for _ in range(40)]
    psi = rng.normal(size=(40, 6))
    expected = np.array([by_definition(column, members) for column in psi.T])
    assert expected.min() < 1 < expected.max()
    assert np.allclose(variance_inflation(psi, members), np.maximum(1, expected))


def test_variance_of_a_mean_of_pairs_that_share_a_sentence():
    """Each pair has the effects of its two sentences: its covariance with a pair that shares one is half its variance."""
    rng = np.random.default_rng(1)
    first = rng.integers(60, size=400)
    pairs = np.stack([first, np.arange(100, 500)], axis=1)
    effects = rng.normal(size=(500, 3000))
    psi = effects[pairs].sum(axis=1)
    counts = np.bincount(first)
    exact = 1 + (counts * (counts - 1)).sum() / 2 / 400
    # one draw is noisy, their mean is not
    assert np.isclose(psi.mean(axis=0).var() / (2 / 400), exact, rtol=0.1)
    assert np.isclose(variance_inflation(psi, pairs.tolist()).mean(), exact, rtol=0.03)


def test_a_setting_without_effect_and_one_whose_effects_cancel():
    psi = np.array([[0.0, 1.0], [0.0, -1.0], [0.0, 1.0], [0.0, -1.0]])
    assert variance_inflation(psi, [["a"], ["a"], ["b"], ["b"]]).tolist() == [1, 1]


def test_members_of_other_items():
    with pytest.raises(ValueError, match="expected members for each of 3 items, not for 2"):
        variance_inflation(np.ones((3, 1)), [["a"], ["b"]])
