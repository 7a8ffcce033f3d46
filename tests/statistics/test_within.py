"""Differences within groups against a loop over the groups."""

import re

import numpy as np
import pytest
from scipy import stats

from tempscale.statistics.paired import paired
from tempscale.statistics.within import paired_within


@pytest.fixture
def grouped():
    """Three groups, 60, 90 and 150 items, that differ in level; scores under a baseline and two settings."""
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(["a", "b", "c"], [60, 90, 150]))
    target = rng.normal(size=300) + 3 * (groups == "c")
    return groups, target, target + rng.normal(size=(3, 300)) * [[1], [1.5], [0.8]]


@pytest.mark.parametrize("ranked", [False, True])
def test_each_group_counts_once_and_is_resampled_by_itself(grouped, ranked):
    groups, target, (before, *after) = grouped
    found = paired_within(before, after, groups, target=target if ranked else None, resamples=3000, seed=5)
    statistic = (lambda x, t: stats.spearmanr(x, t)[0]) if ranked else (lambda x, _: x.mean())
    for k, scores in enumerate(after):
        parts, variance = [], 0
        for name in "abc":
            inside = groups == name
            first, second, gold = before[inside], scores[inside], target[inside]
            parts.append(statistic(second, gold) - statistic(first, gold))
            alone = paired(first, second, target=gold if ranked else None, resamples=3000, seed=9)
            variance += alone.bootstrap.var() / 9
        assert np.isclose(found.difference[k], np.mean(parts))
        assert np.isclose(found.bootstrap[:, k].var(), variance, rtol=0.15)
    assert np.isclose(
        found.baseline, np.mean([statistic(before[groups == name], target[groups == name]) for name in "abc"])
    )


def test_what_two_groups_share_widens_the_interval_of_their_mean():
    rng = np.random.default_rng(1)
    effect = rng.normal(size=100)  # of a member that one item in each group has
    change, groups = np.tile(effect, 2), np.repeat(["a", "b"], 100)
    apart, together = (
        paired_within(np.zeros(200), change, groups, members=members, seed=2)
        for members in (None, [[number] for number in np.tile(np.arange(100), 2)])
    )
    ratio = together.interval().half_width / apart.interval().half_width
    assert np.allclose(ratio, np.sqrt(2)), "every item has one that is equal to it"
    assert np.allclose(together.null, np.sqrt(2) * apart.null)


def test_an_item_of_a_small_group_weighs_more():
    """30 items share a member in a small group, which makes half of the mean; 270 in the other group share none."""
    rng = np.random.default_rng(3)
    change, groups = rng.normal(size=300), np.repeat(["a", "b"], [30, 270])
    change[:30] += 2 * np.repeat(rng.normal(size=6), 5)
    members = [[n // 5] if n < 30 else [f"own {n}"] for n in range(300)]
    apart, together = (paired_within(np.zeros(300), change, groups, members=shared) for shared in (None, members))
    small, large = (part - part.mean() for part in (change[:30], change[30:]))
    independent = (small**2).sum() / 30**2 + (large**2).sum() / 270**2
    shared = (small.reshape(6, 5).sum(axis=1) ** 2).sum() / 30**2 + (large**2).sum() / 270**2
    assert shared > 2 * independent
    assert np.allclose(together.null, np.sqrt(shared / independent) * apart.null)


def test_a_group_that_cannot_be_ranked():
    with pytest.raises(ValueError, match=re.escape("target: all values are equal, so they have no rank correlation")):
        paired_within([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 3.0, 4.0], list("aabb"), target=[1, 2, 3, 3])
