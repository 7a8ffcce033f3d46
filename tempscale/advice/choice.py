"""One remedy out of several, or none: chosen on one half of the pairs and judged on the other, again and again.

The best of many remedies looks good on the pairs that chose it even where none does anything. So half of the pairs choose,
"none" being always among the candidates, and the other half judge; then they change places; and all that is repeated over
random halves. The estimate is the mean gain of what was chosen, among those who did not choose it.

Remedies differ in how much they move: a temperature changes the ranking of one query in ten, and reading texts in pieces
that of every other query. So a half chooses by the mean difference over its standard error, and the test sums up the same
ratio in the half that judges: measured by the mean, the noise of the pieces would drown a sure gain by the temperature. The
gain itself is a mean, because that is what will be had.

The choice is repeated in every resample, for the randomisation test as for the bootstrap interval; with the choices held
fixed, both would be far too sure (`tempscale.comparison.held_out` does the same with tasks). The bootstrap interval is
corrected for its median bias (Efron 1981), which is large here: the halves of a resample are halves of one sample, and what
the one has too much of, the other lacks. The plain percentile interval would reach down to 0 far too often.
"""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tempscale.statistics.intervals import Floats, Interval, confidence_of_each
from tempscale.statistics.paired import Paired, bootstrap_weights, paired, signs

_EQUAL = 1e-9  # two scores of a query, or two candidates of a half, that differ by no more are equal


class Choice(NamedTuple):
    """What n queries say about k remedies against a baseline.

    Attributes:
        chosen: the remedy that is recommended, from 0 to k - 1, or None.
        best: the remedy that all queries together choose, recommended or not; None where no mean difference is positive.
        gain: mean gain on queries that did not choose, with its interval; "none" gains 0.
        p: one-sided p-value of the randomisation test, at least 1 / (resamples + 1): how often halves would choose as well,
            for the halves that judge, if no remedy changed anything.
        each: (k,) mean difference of each remedy, with intervals that hold for all k together.
        better: (k,) share of the queries that a remedy scores higher than the baseline, by more than 1e-9.
        worse: (k,) share of the queries that it scores lower.
        clusters: number of clusters, which are the independent draws.
    """

    chosen: int | None
    best: int | None
    gain: Interval
    p: float
    each: Interval
    better: Floats
    worse: Floats
    clusters: int


def choose(
    baseline: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    clusters: npt.ArrayLike | None = None,
    confidence: float = 0.9,
    splits: int = 50,
    resamples: int = 2000,
    seed: int = 0,
) -> Choice:
    """Say whether some remedy helps, and which, without being fooled by the choice.

    The best remedy is recommended if the randomisation test rejects at (1 - confidence) / 2, one-sided, *and* the interval
    of the gain lies above 0. The test alone keeps false recommendations at that rate: if no remedy changed anything, the
    signs of a query's differences could be flipped for all remedies together, and a statistic that is the same function of
    the flipped differences has the same distribution. The interval has the same tails, and rarely disagrees.

    Args:
        baseline: (n,) score of each query without a remedy.
        scores: (k, n) scores of the same queries with each of k remedies; (n,) is one remedy.
        clusters: (n,) labels: queries with equal labels, such as those that share a relevant document, stay together in
            every half, resample and flip of signs. Every query by itself if None.
        confidence: of the intervals: two-sided for the gain, and for the differences of all remedies together.
        splits: number of random divisions into halves; with few of them, p and the interval owe more to `seed`.
        resamples: number of bootstrap samples, and of flips of signs.
        seed: seed of the splits and of the resampling.

    The gain is that of a choice by n / 2 queries. It is somewhat less than that of `best`, which all n choose, and than the
    difference of `best` in `each`, unless that difference owes something to luck. The intervals in `each` need not agree
    with the recommendation: they hold for k remedies, where the choice asks about one.

    Raises:
        ValueError: no remedy, no split, shapes that do not fit, fewer than two queries or clusters, non-finite scores, or
            too few resamples for the confidence.

    >>> rng = np.random.default_rng(0)
    >>> before = rng.random(100)
    >>> found = choose(before, before + rng.normal([[0.0], [0.1]], 0.2, size=(2, 100)))
    >>> found.chosen, found.p < 0.01, bool(found.gain.low > 0)
    (1, True, True)
    >>> choose(before, before + rng.normal(0, 0.2, size=(2, 100))).chosen  # None
    """
    before, after = np.asarray(baseline, dtype=np.float64), np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if not len(after):
        raise ValueError(f"scores of shape {after.shape} hold no remedy: expected (k, n), a row for each of k >= 1")
    if splits < 1:
        raise ValueError(f"splits must be at least 1, such as 50, not {splits}")
    confidence_of_each(confidence, 1, resamples)
    sample = paired(before, after, clusters=clusters, resamples=resamples, seed=seed)
    change = (after - before).T
    change[np.abs(change) <= _EQUAL] = 0
    labels = np.arange(len(before)) if clusters is None else np.asarray(clusters)
    _, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    c, n = len(sizes), len(before)
    sums = np.zeros((c, len(after)))
    np.add.at(sums, index, change)

    rng = np.random.default_rng(seed)
    first = rng.permuted(np.tile(np.arange(c) < c // 2, (splits, 1)), axis=1)
    once = np.ones((1, c))
    observed = held_out(once, once, sums, first)
    null = np.concatenate([held_out(flips, once, sums, first).evidence for flips in signs(c, resamples, rng)])
    samples = bootstrap_weights(c, resamples, rng)
    bootstrap = np.concatenate([held_out(drawn, drawn, sums, first).gain / (drawn @ sizes) for drawn in samples])
    # Equal up to rounding counts as equal: scores are often multiples of one another.
    p = (1 + int((null >= observed.evidence - _EQUAL).sum())) / (resamples + 1)
    gain = _bias_corrected(float(observed.gain[0] / n), bootstrap, confidence)
    squares = (sums**2).sum(axis=0)
    evidence = sums.sum(axis=0) * _inverse_root(squares, squares)
    best = int(evidence.argmax()) if evidence.max() > _EQUAL else None
    return Choice(
        chosen=best if p <= (1 - confidence) / 2 and gain.low > 0 else None,
        best=best,
        gain=gain,
        p=p,
        each=_simultaneous(sample, confidence),
        better=(change > 0).mean(axis=0),
        worse=(change < 0).mean(axis=0),
        clusters=c,
    )


class Judged(NamedTuple):
    """What halves say about the choices of the others: sums over both halves, means over the splits, (b,) for b samples.

    Attributes:
        gain: differences of what was chosen, summed over the queries.
        evidence: the same over the root of the sum of the squares in the half that judges, which is about its t.
    """

    gain: Floats
    evidence: Floats


def held_out(factors: Floats, counts: Floats, sums: Floats, first: npt.NDArray[np.bool_]) -> Judged:
    """Let each half choose, and the other judge.

    Args:
        factors: (b, c) what the clusters' sums are multiplied by in each of b samples: 1, a sign, or how often the cluster
            was drawn, so that all its copies are in one half.
        counts: (b, c), or (1, c) if equal in all samples: how often each cluster is there, the factors without signs.
        sums: (c, k) differences of k remedies, summed over the queries of each of c clusters.
        first: (splits, c) which clusters are in the first half.

    Of equally good remedies each is chosen in part, so that their order does not matter; with none above 0, none is chosen.

    >>> sums = np.array([[1.0, 4.0], [2.0, -1.0], [3.0, 0.0], [0.0, -1.0]])
    >>> first = np.array([[True, True, False, False]])  # chooses the first remedy, as do the others
    >>> held_out(np.ones((1, 4)), np.ones((1, 4)), sums, first).gain  # 3 + 0 in their half, and 1 + 2 in the first
    array([6.])
    """
    halves = first.T[:, None]

    def by_half(factors: Floats, values: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the sums of weighted values (b, k, splits) in the first half and the other, and in both (b, k, 1)."""
        total = (factors @ values)[:, :, None]
        one = (factors @ (halves * values[:, :, None]).reshape(len(values), -1)).reshape(*total.shape[:2], len(first))
        return one, total - one, total

    one, other, _ = by_half(factors, sums)
    *squares, scale = by_half(counts, sums**2)
    one_t, other_t = (half * _inverse_root(square, scale) for half, square in zip((one, other), squares, strict=True))
    gain, evidence = np.zeros((2, len(factors), len(first)))
    for choosing, judging, differences in [(one_t, other_t, other), (other_t, one_t, one)]:
        chosen = choosing >= np.maximum(choosing.max(axis=1, keepdims=True) - _EQUAL, _EQUAL)
        number = np.maximum(chosen.sum(axis=1), 1)
        gain += (chosen * differences).sum(axis=1) / number
        evidence += (chosen * judging).sum(axis=1) / number
    return Judged(gain.mean(axis=1), evidence.mean(axis=1))


def _inverse_root(squares: Floats, scale: Floats) -> Floats:
    """Return 1 / root of sums of squares, by which sums rank like t; 0 for what is only rounding on a scale."""
    real = squares > 1e-12 * scale
    inverse: Floats = real / np.sqrt(np.where(real, squares, 1))
    return inverse


def _bias_corrected(estimate: float, bootstrap: Floats, confidence: float) -> Interval:
    """Return the percentile interval, with its percentiles moved so that the estimate would be their median."""
    normal, tail = NormalDist(), (1 - confidence) / 2
    below = ((bootstrap < estimate - 1e-12).mean() + (bootstrap <= estimate + 1e-12).mean()) / 2
    least = 0.5 / len(bootstrap)
    shift = 2 * normal.inv_cdf(min(max(float(below), least), 1 - least))
    low, high = (float(np.quantile(bootstrap, normal.cdf(shift + normal.inv_cdf(at)))) for at in (tail, 1 - tail))
    return Interval(estimate, low, high)


def _simultaneous(sample: Paired, confidence: float) -> Interval:
    """Return intervals of all differences together: as many standard errors wide as the furthest of them needs."""
    away = sample.bootstrap - sample.difference
    error = away.std(axis=0)
    furthest = (np.abs(away) / np.where(error > 1e-12, error, np.inf)).max(axis=1)
    width = np.quantile(furthest, confidence) * error
    return Interval(sample.difference, sample.difference - width, sample.difference + width)
