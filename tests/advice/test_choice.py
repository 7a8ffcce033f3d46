"""The choice against plain loops over written-out samples, all sign flips, and simulations whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from tempscale.advice.choice import _mean_and_error, choose, in_halves, in_moved_halves, judged
from tempscale.statistics.paired import bootstrap_weights, paired, signs


def halves_slowly(values, counts, half):
    """Return sums and sums of squares over the copies of clusters in a half: values (c, k), counts (c,), half (c,)."""
    copies = [value for value, count, here in zip(values, counts, half, strict=True) if here for _ in range(int(count))]
    return sum(copies, np.zeros(values.shape[1])), sum((copy**2 for copy in copies), np.zeros(values.shape[1]))


def judged_slowly(choosing, judging):
    """Return gain and evidence of one choice: each half is its sums and its sums of squares, by remedy."""
    t = [a / np.sqrt(b) if b > 0 else 0.0 for a, b in zip(*choosing, strict=True)]
    merit = [a - 2 * np.sqrt(b) for a, b in zip(*choosing, strict=True)] if max(t) > 2 else t
    best = [k for k, value in enumerate(merit) if value > 0 and np.isclose(value, max(merit))]
    gains = [judging[0][k] for k in best] or [0.0]
    evidence = [judging[0][k] / np.sqrt(judging[1][k]) if judging[1][k] > 0 else 0.0 for k in best] or [0.0]
    return np.array([np.mean(gains), np.mean(evidence)])


def remedies_that_do_nothing(rng, n, k=6, sets=1):
    """Yield differences (k, n) as of nDCG: mostly 0, heavy tails, loud and quiet remedies, alike for one query."""
    loud = np.array([[0.02, 0.1, 0.1, 0.5, 0.5, 2.0]]).T[:k]
    for _ in range(sets):
        shared, own = rng.standard_t(3, size=(1, n)), rng.standard_t(3, size=(k, n))
        yield loud * (shared + own) * (rng.random((k, n)) < 0.4)


def test_flipped_halves_by_a_plain_loop():
    rng = np.random.default_rng(0)
    values, first = rng.standard_t(3, size=(11, 4)) * [0, 1, 1, 5] + [0, 1, 0, 5], rng.random((7, 11)) < 0.5
    (flips,) = signs(11, 60, rng)
    ours = judged(in_halves(flips, values, first), in_halves(np.ones((1, 11)), values**2, first))
    for flip, gain, evidence in zip(flips, *ours, strict=True):
        expected = []
        for split in first:
            one, other = (halves_slowly(values * flip[:, None], np.ones(11), half) for half in (split, ~split))
            expected.append(judged_slowly(one, other) + judged_slowly(other, one))
        assert np.allclose([gain, evidence], np.mean(expected, axis=0))


def test_drawn_halves_by_a_plain_loop():
    rng = np.random.default_rng(1)
    values, sizes = rng.standard_t(3, size=(11, 4)) * [0, 1, 1, 5] + [0, 1, 0, 5], rng.integers(1, 4, size=11)
    first = rng.permuted(np.tile(np.arange(11) < 5, (7, 1)), axis=1)
    (drawn,) = bootstrap_weights(11, 60, rng)
    ours = judged(in_moved_halves(drawn, values, sizes, first), in_halves(drawn, values**2, first))
    for counts, gain, evidence in zip(drawn, *ours, strict=True):
        expected = []
        for split in first:
            both = []
            for half in (split, ~split):
                by_query = values.sum(axis=0) / sizes.sum() - values[half].sum(axis=0) / sizes[half].sum()
                moved, _ = halves_slowly(values + by_query * sizes[:, None], counts, half)
                both.append((moved, halves_slowly(values, counts, half)[1]))
            expected.append(judged_slowly(*both) + judged_slowly(*both[::-1]))
        assert np.allclose([gain, evidence], np.mean(expected, axis=0))


def test_rounding_chooses_nothing():
    halves = np.array([[0.1 + 0.2, 0.3, 0.0], [3.0, 5.0, 7.0]])[:, None, :, None]
    equal = judged(halves, np.ones((2, 1, 3, 1)))
    assert equal.gain == (3 + 5) / 2 + 0  # the first half chooses two, and is 0 for the choice of the other
    rest = 0.1 + 0.2 - 0.3  # what is left in a half that has no difference
    empty = judged(np.array([[[[rest]]], [[[-1.0]]]]), np.array([[[[rest]]], [[[1.0]]]]))
    assert (empty.gain, empty.evidence) == (0, 0)


def test_two_queries_by_hand():
    """Each is a half; of its candidates above 0 all have the same t, 1, so they are chosen in equal parts."""
    one = choose([0.5, 0.5], [1.5, 2.5])
    # Of the signs ++, +-, -+, -- the evidence is 2, -1, -1, 0; samples have both queries or twice the same.
    assert one.gain.estimate == 1.5
    assert abs(one.p - 1 / 4) < 3 * np.sqrt(3 / 16 / 2000)
    assert one.gain.low == 0
    assert one.gain.high == 1.5
    assert (one.chosen, one.best, one.clusters) == (None, 0, 2)
    assert (one.each.estimate, one.better, one.worse) == (1.5, 1, 0)
    # The first query chooses half of each, (2 - 1) / 2 for the second, which chooses one remedy: 1 for the first.
    two = choose([0.5, 0.5], [[1.5, 2.5], [3.5, -0.5]])
    assert two.gain.estimate == (0.5 + 1) / 2
    assert abs(two.p - 1 / 2) < 3 * np.sqrt(1 / 4 / 2000)  # the evidence is 1, 1, -1, -1
    assert two.each.estimate.tolist() == [1.5, 1.0]
    assert two.better.tolist() == [1, 0.5]
    assert two.worse.tolist() == [0, 0.5]


def test_false_findings_are_as_rare_as_promised_and_without_the_halves_would_not_be():
    rng, sets = np.random.default_rng(1), 400
    rejected = recommended = best_alone = 0
    for change in remedies_that_do_nothing(rng, 40, sets=sets):
        found = choose(np.zeros(40), change, splits=10, resamples=199, seed=int(rng.integers(2**32)))
        rejected += found.p <= 0.05
        recommended += found.chosen is not None
        best_alone += stats.ttest_1samp(change, 0, axis=1, alternative="greater").pvalue.min() <= 0.05
    error = 3 * np.sqrt(0.05 * 0.95 / sets)
    assert abs(rejected / sets - 0.05) < error
    assert recommended <= rejected
    assert best_alone / sets > 0.05 + error


@pytest.mark.parametrize("planted", [1, 3])
def test_a_gain_is_found_and_named_beside_a_remedy_that_is_far_louder(planted):
    """A gain of 3 and of 4 standard errors; the last remedy moves 20 and 4 times as much."""
    rng, sets, found = np.random.default_rng(2), 60, []
    for change in remedies_that_do_nothing(rng, 150, sets=sets):
        error = change[planted].std() / np.sqrt(150)
        change[planted] += {1: 5, 3: 4}[planted] * error
        found.append(choose(np.zeros(150), change, splits=20, resamples=400))
    assert np.mean([choice.chosen == planted for choice in found]) > 0.8
    gain = np.mean([choice.each.estimate[planted] for choice in found])
    assert 0.6 * gain < np.median([choice.gain.estimate for choice in found]) < gain


def test_of_two_clear_gains_the_larger_is_chosen():
    rng = np.random.default_rng(9)
    sure, large = rng.normal([[0.02], [0.2]], [[0.02], [0.4]], size=(2, 200))
    assert sure.mean() / sure.std() > 1.5 * large.mean() / large.std()
    both = choose(np.zeros(200), [sure, large])
    assert (both.chosen, both.best) == (1, 1)
    assert both.gain.low > 0.1
    # With fewer pairs only one of them is clear.
    assert choose(np.zeros(10), [sure[:10], large[:10]]).chosen == 0


def test_the_interval_is_not_too_narrow():
    """Nobody can choose well or badly among remedies that do nothing: the true gain is 0."""
    rng, sets = np.random.default_rng(3), 300
    low = high = together = alone = 0
    for change in remedies_that_do_nothing(rng, 60, sets=sets):
        found = choose(np.zeros(60), change, splits=10, resamples=200, seed=int(rng.integers(2**32)))
        low, high = low + (found.gain.low > 0), high + (found.gain.high < 0)
        assert found.gain.low <= found.gain.estimate <= found.gain.high
        together += ((found.each.low <= 0) & (found.each.high >= 0)).all()
        of_each = paired(np.zeros(60), change, resamples=200).interval(0.9)
        alone += ((of_each.low <= 0) & (of_each.high >= 0)).all()
    error = 3 * np.sqrt(0.05 * 0.95 / sets)
    assert low / sets < 0.05 + error
    assert high / sets < 0.05 + error
    assert together / sets > 0.9 - 3 * np.sqrt(0.09 / sets)
    assert alone / sets < 0.8


def test_means_and_errors_of_written_out_samples():
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 5, size=12)
    sums = rng.normal(size=(12, 3)) * [1, 1, 0] + sizes[:, None] * [0, 3, 0.1]
    (drawn,) = bootstrap_weights(12, 40, rng)
    for counts, mean, error in zip(drawn.astype(int), *_mean_and_error(drawn, sums, sizes), strict=True):
        values, queries = np.repeat(sums, counts, axis=0), np.repeat(sizes, counts)
        assert np.allclose(mean, values.sum(axis=0) / queries.sum())
        assert np.allclose(error, np.sqrt(((values - queries[:, None] * mean) ** 2).sum(axis=0)) / queries.sum())
        assert error[2] == 0


def test_queries_of_one_document_are_one_finding():
    """Twelve documents that 20 queries each ask for, and a difference by document: much fewer than 240 findings."""
    rng = np.random.default_rng(6)
    by_document = rng.normal(0, 0.1, size=(5, 12))
    change, clusters = np.repeat(by_document, 20, axis=1), np.repeat([f"document {n}" for n in range(12)], 20)
    before = np.zeros(240)
    assert choose(before, change).chosen is not None
    together = choose(before, change, clusters=clusters)
    assert together.chosen is None
    alone = choose(before[:12], by_document)
    assert together.clusters == alone.clusters == 12
    # Labels are sorted, so clusters come in another order; with the same order all is the same.
    numbered = choose(before, change, clusters=np.repeat(np.arange(12), 20))
    assert numbered.p == alone.p
    assert np.allclose(numbered.gain, alone.gain)
    assert np.allclose(numbered.each, alone.each)


def test_the_order_of_remedies_does_not_matter():
    rng = np.random.default_rng(7)
    change = rng.integers(-1, 2, size=(5, 40)) / 10.0  # ties in most halves
    change[2] += 0.03
    change = np.concatenate([change, change[:1]])
    one = choose(np.zeros(40), change)
    order = np.array([5, 3, 2, 0, 4, 1])
    other = choose(np.zeros(40), change[order])
    assert other.p == one.p
    assert np.allclose(other.gain, one.gain)
    assert np.allclose(other.each, np.array(one.each)[:, order])
    assert order[other.best] == one.best


def test_remedies_that_change_nothing():
    rng = np.random.default_rng(8)
    before = rng.random(40)
    nothing = choose(before, [before, before + 1e-13])
    assert (nothing.chosen, nothing.best, nothing.p) == (None, None, 1)
    assert nothing.gain == (0, 0, 0)
    assert np.isfinite(nothing.each).all()
    assert not nothing.better.any()
    assert not nothing.worse.any()
    harmful = choose(before, before - rng.random(40))
    assert (harmful.chosen, harmful.best, harmful.gain) == (None, None, (0, 0, 0))
    # Beside a remedy that helps, those that change nothing make no difference.
    helps = before + rng.normal(0.1, 0.1, size=40)
    among, alone = choose(before, [before, helps, before - 1e-13]), choose(before, helps)
    assert (among.chosen, among.best, alone.chosen) == (1, 1, 0)
    assert among.p == alone.p
    assert np.allclose(among.gain, alone.gain)


before = np.linspace(0, 1, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": np.empty((0, 10))}, r"k >= 1 remedies, not shapes \(10,\) and \(0, 10\)"),
        ({"scores": before[:9]}, r"the same n >= 2 queries, .* not shapes \(10,\) and \(1, 9\)"),
        ({"baseline": [0.5], "scores": [[0.5]]}, r"n >= 2 queries, .* not shapes \(1,\) and \(1, 1\)"),
        ({"baseline": before[None]}, r"not shapes \(1, 10\) and \(1, 10\)"),
        (
            {"scores": np.where(before > 0.8, np.nan, before)},
            "scores: 2 values are not finite; leave those queries out",
        ),
        (
            {"baseline": np.where(before > 0.9, np.inf, before)},
            "baseline: 1 values are not finite; leave those queries",
        ),
        (
            {"clusters": np.zeros(10)},
            "all 10 queries are in one cluster: expected at least 2 clusters, one for each half",
        ),
        ({"clusters": np.zeros(9)}, r"expected a cluster for each of 10 queries, not shape \(9,\)"),
        ({"splits": 0}, "splits must be at least 1, such as 50, not 0"),
        ({"confidence": 90}, "confidence must lie between 0 and 1, such as 0.95, not 90"),
        ({"resamples": 50}, "50 resamples leave fewer than 5 in each tail of 0.05: take at least 101"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        choose(**{"baseline": before, "scores": before**2, **arguments})
