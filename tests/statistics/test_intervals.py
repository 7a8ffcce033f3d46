"""Intervals against SciPy and, by simulation, the truth; Holm against its definition; power against a simulation."""

import re

import numpy as np
import pytest
from scipy import stats

from tempscale.statistics.intervals import Interval, bootstrap_interval, holm, items_needed


def monte_carlo_error(rate, repetitions):
    """Return three standard errors of a simulated rate: a correct procedure misses this band once in 370 tests."""
    return 3 * np.sqrt(rate * (1 - rate) / repetitions)


def test_percentile_is_the_quantile_of_resampled_means():
    x = np.random.default_rng(1).gamma(2, size=40)
    interval = bootstrap_interval(x, resamples=20000)
    means = x[np.random.default_rng(2).integers(40, size=(20000, 40))].mean(axis=1)
    assert interval.estimate == x.mean()
    # the 2.5 % quantile of 20000 draws has a standard error of about 0.012 standard deviations of the mean
    assert np.allclose(interval[1:], np.quantile(means, [0.025, 0.975]), atol=0.06 * means.std())


def test_median_and_columns_agree_with_scipy():
    x = np.random.default_rng(3).normal(size=(30, 2))
    ours = bootstrap_interval(x, lambda rows: np.median(rows, axis=0), seed=7)
    for column in range(2):
        theirs = stats.bootstrap(
            (x[:, column],), np.median, method="percentile", n_resamples=4000, random_state=np.random.default_rng(7)
        ).confidence_interval
        assert np.allclose([ours.low[column], ours.high[column]], theirs)


def test_the_mean_is_the_default():
    x = np.random.default_rng(3).normal(size=(30, 2))
    default, given = bootstrap_interval(x, seed=5), bootstrap_interval(x, lambda rows: rows.mean(axis=0), seed=5)
    assert all(np.allclose(a, b) for a, b in zip(default, given, strict=True))


def test_rows_stay_together():
    x = np.random.default_rng(4).normal(size=(50, 1)) @ np.ones((1, 3))
    interval = bootstrap_interval(x, lambda rows: np.ptp(rows.mean(axis=0)), resamples=1000)
    assert np.allclose(interval, 0, atol=1e-14)


def test_same_seed_same_interval():
    x = np.arange(20.0) ** 2
    assert bootstrap_interval(x) == bootstrap_interval(x)
    assert bootstrap_interval(x) != bootstrap_interval(x, seed=1)


def test_half_width():
    assert Interval(1.0, 0.5, 2.0).half_width == 0.75


@pytest.mark.parametrize(
    ("draw", "truth", "n", "expected"),
    [
        # a mean of n normal values: percentile width is (n - 1) / n of the variance, and normal instead of t
        (lambda rng, n: rng.normal(size=n), 0.0, 100, 0.95),
        (lambda rng, n: rng.normal(size=n), 0.0, 10, 2 * stats.t.cdf(1.96 * np.sqrt(0.9), 9) - 1),
        # differences of per-query scores: most are 0
        (lambda rng, n: rng.integers(-1, 2, size=n) * (rng.random(n) < 0.4), 0.0, 200, 0.95),
    ],
)
def test_coverage_of_a_mean(draw, truth, n, expected):
    """At n = 10 the undercoverage is the one that theory predicts; from 100 on the nominal rate holds."""
    rng, repetitions = np.random.default_rng(5), 1000
    covered = 0
    for _ in range(repetitions):
        low, high = bootstrap_interval(draw(rng, n), resamples=400, seed=int(rng.integers(2**32)))[1:]
        covered += low <= truth <= high
    # 400 resamples put a quantile at 0.0275 rather than 0.025 at worst: 0.005 in coverage
    assert abs(covered / repetitions - expected) < monte_carlo_error(expected, repetitions) + 0.005


def test_bonferroni_holds_for_all_together():
    rng, repetitions, k = np.random.default_rng(6), 500, 5
    together = np.zeros(2)
    for _ in range(repetitions):
        x, seed = rng.normal(size=(100, k)), int(rng.integers(2**32))
        for which, comparisons in enumerate([1, k]):
            _, low, high = bootstrap_interval(x, comparisons=comparisons, resamples=1000, seed=seed)
            together[which] += ((low <= 0) & (high >= 0)).all()
    one_by_one, bonferroni = together / repetitions
    # the slack is what a percentile interval of 100 values lacks: 0.2 % each, five of them
    assert abs(one_by_one - 0.95**k) < monte_carlo_error(0.95**k, repetitions) + 0.015
    assert bonferroni > 0.95 - monte_carlo_error(0.95, repetitions) - 0.01


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0], {}, "expected at least two items along the first axis, not shape (1,)"),
        (3.0, {}, "expected at least two items along the first axis, not shape ()"),
        ([1.0, np.nan], {}, "1 of the values are not finite: leave those items out"),
        ([1.0, 2.0], {"confidence": 95}, "confidence must lie between 0 and 1, such as 0.95, not 95"),
        ([1.0, 2.0], {"comparisons": 0}, "comparisons must be at least 1, not 0"),
        (
            [1.0, 2.0],
            {"comparisons": 100},
            "4000 resamples leave fewer than 5 in each tail of 0.00025: take at least 20",
        ),
    ],
)
def test_what_is_refused(values, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        bootstrap_interval(values, **options)


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        # by hand: 5 x .01, then max(4 x .02, ...), ...: the third would be .06 < .08, and is raised to it
        ([0.01, 0.02, 0.02, 0.04, 0.5], [0.05, 0.08, 0.08, 0.08, 0.5]),
        # the order of the tests does not matter
        ([0.5, 0.04, 0.02, 0.02, 0.01], [0.5, 0.08, 0.08, 0.08, 0.05]),
        # nothing exceeds 1
        ([0.6, 0.9], [1.0, 1.0]),
        ([0.03], [0.03]),
        ([], []),
    ],
)
def test_holm_by_hand(p, adjusted):
    assert np.allclose(holm(p), adjusted)


def test_holm_is_the_closed_test_of_bonferroni():
    """The oracle is the definition: the largest Bonferroni p-value of all the subsets that contain a hypothesis."""
    from itertools import combinations

    p = np.random.default_rng(8).random(6) ** 3
    for i in range(6):
        subsets = [s for size in range(1, 7) for s in combinations(range(6), size) if i in s]
        assert np.isclose(holm(p)[i], max(min(1, len(s) * min(p[j] for j in s)) for s in subsets))


def test_holm_keeps_the_rate_of_false_findings():
    rng, repetitions = np.random.default_rng(9), 4000
    found = np.mean([holm(rng.random(8)).min() <= 0.05 for _ in range(repetitions)])
    # 1 - (1 - 0.05 / 8)^8 for independent tests
    expected = 1 - (1 - 0.05 / 8) ** 8
    assert abs(found - expected) < monte_carlo_error(expected, repetitions)


@pytest.mark.parametrize("p", [[0.1, 1.1], [-0.1], [[0.1]], [np.nan]])
def test_holm_refuses_what_is_no_p_value(p):
    with pytest.raises(ValueError, match="expected a list of p-values between 0 and 1, not"):
        holm(p)


def test_power_is_what_was_promised():
    rng, repetitions = np.random.default_rng(10), 2000
    noise = rng.normal(size=200) * 0.3
    effect = 0.06
    samples = rng.normal(effect, noise.std(ddof=1), size=(repetitions, items_needed(noise, effect)))
    found = (np.abs(stats.ttest_1samp(samples, 0, axis=1).pvalue) < 0.05).mean()
    assert abs(found - 0.8) < monte_carlo_error(0.8, repetitions) + 0.005


def test_a_quarter_of_the_effect_needs_sixteen_times_the_items():
    differences = np.random.default_rng(11).normal(size=500)
    assert np.isclose(items_needed(differences, 0.01) / items_needed(differences, 0.04), 16, rtol=1e-3)
    with pytest.raises(ValueError, match="effect must not be 0"):
        items_needed(differences, 0)
