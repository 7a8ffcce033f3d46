"""Paired differences against SciPy on written-out resamples, exact enumeration, and the truth, by simulation."""

import re
from itertools import product

import numpy as np
import pytest
from scipy import stats

from tempscale.statistics.paired import Paired, bootstrap_weights, exchanged_correlations, paired, signs, spearman


def band(rate, repetitions):
    """Return three standard errors of a simulated rate."""
    return 3 * np.sqrt(rate * (1 - rate) / repetitions)


def correlated(rng, n, *correlations):
    """Return a normal target and one normal column for each correlation with it; the columns share noise."""
    target, shared = rng.normal(size=(2, n))
    columns = []
    for rho in correlations:
        noise = 0.8 * shared + 0.6 * rng.normal(size=n)
        columns.append(rho * target + np.sqrt(1 - rho**2) * noise)
    return target, *columns


def spearman_of_normal(rho):
    """Closed form for the bivariate normal distribution."""
    return 6 / np.pi * np.arcsin(rho / 2)


@pytest.mark.parametrize("samples", [30, 300])  # few and many are computed in different ways
@pytest.mark.parametrize("ties", [False, True])
def test_weighted_spearman_is_spearman_of_the_written_out_sample(ties, samples):
    rng = np.random.default_rng(0)
    target, *columns = rng.normal(size=(3, 40))
    if ties:
        target, columns = target.round(), [columns[0].round(), columns[1].round(1)]
    (weights,) = bootstrap_weights(40, samples, rng)
    ours = spearman(weights, target, columns)
    for row, counts in enumerate(weights.astype(int)):
        theirs = [stats.spearmanr(np.repeat(target, counts), np.repeat(c, counts))[0] for c in columns]
        assert np.allclose(ours[row], theirs, atol=1e-12)


def test_exchanges_against_writing_them_out():
    rng = np.random.default_rng(1)
    target, before, after = rng.normal(size=(3, 12)) + 5
    (flips,) = signs(12, 50, rng)
    for flip, ours in zip(flips, exchanged_correlations(flips, target, before, after), strict=True):
        second, first = np.where(flip > 0, (after, before), (before, after))
        assert np.isclose(ours, np.corrcoef(second, target)[0, 1] - np.corrcoef(first, target)[0, 1])
    several = exchanged_correlations(flips, target, before, np.stack([after, before, target], axis=1))
    each = [exchanged_correlations(flips, target, before, one) for one in (after, before, target)]
    assert np.allclose(several, np.stack(each, axis=1), atol=1e-12)


def test_samples_without_information_correlate_with_nothing():
    two = np.array([1.0, 2.0])
    assert spearman(np.array([[2.0, 0.0]]), two, [two])[0, 0] == 0
    assert exchanged_correlations(np.array([[1.0, -1.0]]), two, two, two[::-1])[0] == 0


def test_blocks_make_one_sample(monkeypatch):
    monkeypatch.setattr("tempscale.statistics.paired._CHUNK", 70)
    blocks = list(bootstrap_weights(10, 24, np.random.default_rng(0)))
    assert [len(block) for block in blocks] == [7, 7, 7, 3]
    assert (np.concatenate(blocks).sum(axis=1) == 10).all()
    assert {float(value) for block in signs(10, 24, np.random.default_rng(0)) for value in block.ravel()} == {-1.0, 1.0}


def test_p_value_of_a_mean_is_that_of_all_sign_flips():
    rng = np.random.default_rng(2)
    before, after = rng.normal([[0], [0.6]], size=(2, 9))
    flips = np.array(list(product([1, -1], repeat=9)))
    means = flips @ (after - before) / 9
    exact = (np.abs(means) >= abs((after - before).mean()) - 1e-12).mean()
    p = paired(before, after, resamples=20000).p_value()[0]
    assert abs(p - exact) < band(exact, 20000)
    theirs = stats.permutation_test((after - before,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert np.isclose(exact, theirs)


@pytest.mark.parametrize("with_target", [False, True])
def test_interval_agrees_with_scipy(with_target):
    target, before, after = correlated(np.random.default_rng(3), 60, 0.7, 0.5)
    ours = paired(before, after, target=target if with_target else None, resamples=20000).interval()

    def difference(a, b, t):
        if with_target:
            return stats.spearmanr(b, t)[0] - stats.spearmanr(a, t)[0]
        return b.mean() - a.mean()

    theirs = stats.bootstrap(
        (before, after, target),
        difference,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=4000,
        random_state=np.random.default_rng(0),
    )
    assert np.isclose(ours.estimate[0], difference(before, after, target))
    # Monte Carlo error of a 2.5 % quantile of 4000: 0.042 standard deviations; three of them
    assert np.allclose([ours.low[0], ours.high[0]], theirs.confidence_interval, atol=0.13 * theirs.standard_error)


def test_settings_are_resampled_together():
    rng = np.random.default_rng(4)
    target, before, after = correlated(rng, 50, 0.5, 0.6)
    result = paired(before, [after, before, after], target=target, resamples=500)
    assert (result.bootstrap[:, 0] == result.bootstrap[:, 2]).all()
    assert (result.bootstrap[:, 1] == 0).all()
    assert result.p_value()[1] == 1
    assert np.array_equal(result.select([2]).bootstrap, result.bootstrap[:, [0]])


SHIFTED = 3.0  # a setting may raise and stretch all scores; ranks must not care


@pytest.mark.parametrize("with_target", [False, True])
def test_coverage_and_level(with_target):
    """Of the interval at a true difference, and of the test where there is none."""
    rng, repetitions = np.random.default_rng(5), 600
    truth = spearman_of_normal(0.75) - spearman_of_normal(0.7) if with_target else 0.1
    covered = rejected = 0
    for _ in range(repetitions):
        target, before, after, same = correlated(rng, 150, 0.7, 0.75, 0.7)
        shift = SHIFTED if with_target else 0.1
        gold = target if with_target else None
        result = paired(
            before,
            [after + shift, same * 2 + SHIFTED if with_target else same],
            target=gold,
            resamples=400,
            seed=int(rng.integers(2**32)),
        )
        interval = result.interval()
        covered += interval.low[0] <= truth <= interval.high[0]
        rejected += result.p_value()[1] <= 0.05
    # percentiles of 150 items and of 400 resamples: up to 0.01 below nominal
    assert -band(0.95, repetitions) - 0.01 < covered / repetitions - 0.95 < band(0.95, repetitions)
    assert abs(rejected / repetitions - 0.05) < band(0.05, repetitions)


def test_coverage_and_level_of_an_average_over_tasks():
    rng, repetitions = np.random.default_rng(6), 1000
    effects, sizes = np.array([0.3, 0.0, -0.1]), (40, 80, 300)
    covered = rejected = 0
    for _ in range(repetitions):
        seed = int(rng.integers(2**32))
        noise = [rng.normal(size=n) for n in sizes]
        tasks = [paired(np.zeros(n), [e + x, x], resamples=400, seed=[seed, i])
                 for i, (n, e, x) in enumerate(zip(sizes, effects, noise, strict=True))]  # fmt: skip
        mean = Paired.average(tasks)
        interval = mean.interval()
        covered += interval.low[0] <= effects.mean() <= interval.high[0]
        rejected += mean.p_value()[1] <= 0.05
    assert -band(0.95, repetitions) - 0.01 < covered / repetitions - 0.95 < band(0.95, repetitions)
    assert abs(rejected / repetitions - 0.05) < band(0.05, repetitions)


def test_pairing_narrows_the_interval_as_the_correlation_says():
    _, before, after = correlated(np.random.default_rng(7), 2000, 0.7, 0.7)
    together = paired(before, after).interval().half_width[0]
    apart = stats.norm.ppf(0.975) * np.sqrt((before.var() + after.var()) / 2000)
    shared = 0.7**2 + (1 - 0.7**2) * 0.8**2
    assert np.isclose(together / apart, np.sqrt(1 - shared), rtol=0.1)


@pytest.mark.parametrize(
    ("before", "after", "target", "message"),
    [
        ([1.0], [1.0], None, "expected the same n >= 2 items under baseline and setting, not shapes (1,) and (1, 1)"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], None, "not shapes (2,) and (1, 3)"),
        ([1.0, 2.0], [1.0, 2.0], [1.0], "not shapes (2,) and (1, 2), target (1,)"),
        ([1.0, np.inf], [1.0, 2.0], None, "baseline: 1 values are not finite; leave those items out"),
        ([1.0, 2.0], [np.nan, np.nan], None, "scores: 2 values are not finite"),
        ([1.0, 2.0], [1.0, 2.0], [3.0, 3.0], "target: all values are equal, so they have no rank correlation"),
    ],
)
def test_what_is_refused(before, after, target, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        paired(before, after, target=target)


def test_clusters_are_drawn_and_exchanged_together():
    rng = np.random.default_rng(2)
    sizes = np.array([1, 2, 3, 5])
    clusters = np.repeat(["a", "b", "c", "d"], sizes)
    before, change = rng.normal(size=(2, 11))
    found = paired(before, before + change, clusters=clusters, resamples=20_000, seed=3)
    sums = np.array([change[clusters == name].sum() for name in "abcd"])
    draws = np.array(list(product(range(4), repeat=4)))  # all bootstrap samples of four clusters
    exact = sums[draws].sum(1) / sizes[draws].sum(1)
    assert np.isclose(found.difference[0], change.mean())
    for share in (0.1, 0.5, 0.9):
        at_most = (exact <= np.quantile(exact, share) + 1e-12).mean()
        ours = (found.bootstrap[:, 0] <= np.quantile(exact, share) + 1e-12).mean()
        assert abs(ours - at_most) < band(at_most, 20_000)
    flips = np.array(list(product([1, -1], repeat=4)))
    null = np.abs(flips @ sums / 11)
    expected = (null >= abs(change.mean()) - 1e-12).mean()
    assert abs(found.p_value()[0] - expected) < band(expected, 20_000) + 1e-4


def test_each_item_its_own_cluster_changes_nothing():
    rng = np.random.default_rng(4)
    before, after = rng.normal(size=(2, 30))
    one, other = (paired(before, after, clusters=clusters) for clusters in (None, range(30)))
    assert np.array_equal(one.bootstrap, other.bootstrap)
    assert np.array_equal(one.null, other.null)


def test_interval_over_clusters_covers_and_one_over_items_would_not():
    rng = np.random.default_rng(5)
    repetitions, clusters = 400, np.repeat(np.arange(40), 8)
    covered = {"clusters": 0, "items": 0}
    for repetition in range(repetitions):
        change = rng.normal(size=40)[clusters] + rng.normal(size=320)
        for name, labels in (("clusters", clusters), ("items", None)):
            found = paired(np.zeros(320), change, clusters=labels, resamples=400, seed=repetition)
            _, low, high = found.interval()
            covered[name] += low[0] <= 0 <= high[0]
    assert abs(covered["clusters"] / repetitions - 0.94) < band(0.94, repetitions)
    assert covered["items"] / repetitions < 0.7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clusters": [1, 1, 1]}, "all items are in one cluster"),
        ({"clusters": [1, 2]}, "expected a cluster for each of 3 items"),
        (
            {"clusters": [1, 2, 2], "target": [1, 2, 3]},
            "clusters are for a mean, and alone: give the members that items share",
        ),
        ({"clusters": [1, 2, 2], "members": [[1], [2], [2]]}, "clusters are for a mean, and alone"),
    ],
)
def test_clusters_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        paired([1.0, 2.0, 3.0], [2.0, 1.0, 3.0], **arguments)


@pytest.mark.parametrize("ranked", [False, True])
def test_members_stretch_what_resampling_says(ranked):
    """By the root of the ratio of two variances, both written out; the jackknife gives the influence of an item."""
    rng = np.random.default_rng(8)
    first = rng.integers(8, size=80)
    members = [(int(one), 100 + n) for n, one in enumerate(first)]
    target, before = 2 * rng.normal(size=8)[first] + 0.3 * rng.normal(size=(2, 80))
    after = before + 2 * rng.normal(size=8)[first] + 0.3 * rng.normal(size=80)
    gold = target if ranked else None
    apart, together = (paired(before, after, target=gold, members=shared, seed=1) for shared in (None, members))

    def difference(kept):
        if ranked:
            return stats.spearmanr(after[kept], target[kept])[0] - stats.spearmanr(before[kept], target[kept])[0]
        return (after - before)[kept].mean()

    everything = np.arange(80)
    left_out = np.array([difference(everything != n) for n in everything])
    psi = 79 * (left_out.mean() - left_out)
    factor = np.sqrt(sum(psi[first == one].sum() ** 2 for one in range(8)) / (psi**2).sum())
    assert factor > 1.5
    assert np.isclose(together.difference, apart.difference)
    for sample in ("bootstrap", "conditional"):
        deviations = [getattr(one, sample) - one.difference for one in (together, apart)]
        assert np.allclose(deviations[0], factor * deviations[1], rtol=0.03 if ranked else 1e-9)
    assert np.allclose(together.null, factor * apart.null, rtol=0.03 if ranked else 1e-9)


def test_members_that_nobody_shares_change_nothing():
    before, after = np.random.default_rng(9).normal(size=(2, 30))
    apart, together = (paired(before, after, members=members) for members in (None, [[n, -n - 1] for n in range(30)]))
    assert np.allclose(apart.bootstrap, together.bootstrap, atol=1e-12)
    assert np.array_equal(apart.null, together.null)


def test_pairs_that_are_all_linked_are_still_resampled():
    """Each shares a sentence with the next: one cluster, but not one item."""
    change = np.random.default_rng(10).normal(size=200)
    linked = paired(np.zeros(200), change, members=[(n, n + 1) for n in range(200)])
    centred = change - change.mean()
    factor = np.sqrt(max(1, 1 + 2 * (centred[1:] * centred[:-1]).sum() / (centred**2).sum()))
    width = paired(np.zeros(200), change).interval().half_width
    assert np.allclose(linked.interval().half_width, factor * width)


def test_interval_over_training_sets_alone_is_that_of_student():
    """Where all items change alike only the sets vary: the textbook interval of a mean of ten, and its test."""
    of_sets = np.random.default_rng(11).normal(0.3, 1, size=(2, 10)) * [[1], [2]]
    mean = of_sets.mean(axis=1)
    after = np.repeat(mean[:, None], 50, axis=1)
    found = paired(np.zeros(50), after, training_sets=(np.zeros(10), of_sets), resamples=100_000)
    _, low, high = found.interval()
    expected = stats.ttest_1samp(of_sets, 0, axis=1)
    bounds = expected.confidence_interval()
    error = of_sets.std(axis=1, ddof=1) / np.sqrt(10)
    assert np.allclose(low, bounds.low, atol=0.03 * error)
    assert np.allclose(high, bounds.high, atol=0.03 * error)
    # the test adds the flips, of which all go one way with a chance of 2 ** -49: none of them by itself
    flips = stats.t.rvs(9, size=(100_000, 2), random_state=1) * error + mean * (2 * stats.binom.rvs(
        50, 0.5, size=(100_000, 1), random_state=2) / 50 - 1)  # fmt: skip
    assert np.allclose(found.p_value(), (np.abs(flips) >= np.abs(mean)).mean(axis=0), atol=0.01)


def test_training_sets_add_their_variance_and_their_covariance():
    rng = np.random.default_rng(12)
    before, *after = rng.normal(size=(4, 40))
    base, one, other = rng.normal(size=(3, 100))
    sets = (base, [one, other, 2 * base - one])  # the last is the first, the other way round
    fixed, drawn = (paired(before, after, training_sets=given, resamples=40_000, seed=1) for given in (None, sets))
    assert np.array_equal(drawn.conditional, fixed.bootstrap)
    assert np.array_equal(fixed.conditional, fixed.bootstrap)
    differences = np.stack([one - base, other - base, base - one])
    # of a Student t with 99 degrees of freedom
    covariance = np.cov(differences) / 100 * 99 / 97
    for name in ("bootstrap", "null"):
        added = np.cov(getattr(drawn, name) - getattr(fixed, name), rowvar=False)
        assert np.allclose(added, covariance, atol=0.03 * covariance.max())
    inner, outer = drawn.interval(sets_fixed=True), drawn.interval()
    assert np.array_equal(inner.low, fixed.interval().low)
    assert (outer.half_width > inner.half_width).all()


def test_what_is_conditional_stays_so():
    rng = np.random.default_rng(13)
    before, first, second = rng.normal(size=(3, 20))
    sets = rng.normal(size=(3, 10))
    both = paired(before, [first, second], training_sets=(sets[0], sets[1:]), resamples=200)
    one = both.select([1])
    assert np.array_equal(one.conditional[:, 0], both.conditional[:, 1])
    assert np.array_equal(Paired.join([both, one]).conditional, both.conditional[:, [0, 1, 1]])
    other = paired(before, [second, first], resamples=200, seed=1)
    mean = Paired.average([both, other])
    assert np.allclose(mean.conditional, (both.conditional + other.bootstrap) / 2)
    assert np.allclose(mean.bootstrap, (both.bootstrap + other.bootstrap) / 2)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            ([0.5], [0.6]),
            "expected training sets of shapes (S,) and (1, S), S >= 2, not (1,) and (1, 1): leave them out",
        ),
        (([0.5, 0.6], [[0.6, 0.7], [0.6, 0.7]]), "not (2,) and (2, 2)"),
        (([0.5, 0.6], [0.6, np.nan]), "training_sets: 1 differences are not finite; leave those sets out"),
    ],
)
def test_training_sets_that_cannot_be(sets, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        paired([1.0, 2.0, 3.0], [2.0, 1.0, 3.0], training_sets=sets)
