"""One remedy out of several, or none: chosen on one half of the pairs and judged on the other, again and again.

The best of many remedies looks good on the pairs that chose it even where none does anything. So half of the pairs choose,
"none" being always among the candidates, and the other half judge; then they change places; and all that is repeated over
random halves. The estimate is the mean gain of what was chosen, among those who did not choose it.

Remedies differ in how much they move: a temperature changes the ranking of one query in ten, and reading texts in pieces
that of every other query. So a half chooses by the mean difference over its standard error, t, and the test sums up the t of
the half that judges: measured by the mean, the noise of the pieces would drown a sure gain by the temperature. Only among
remedies that are clear gains, of more than 2 standard errors, a half asks for the largest, and chooses by the mean minus 2
standard errors. The gain itself is a mean, because that is what will be had.

The choice is repeated in every resample, for the randomisation test as for the bootstrap interval; with the choices held
fixed, both would be far too sure (`tempscale.comparison.held_out` does the same with tasks). In a bootstrap sample all
copies of a cluster are in one half. Each half is moved to the mean of all pairs first: what one half of the sample has too
much of, the other lacks, where two halves of a population know nothing of each other. Without that, the choices in the
samples are worse than those on the data, and the interval reaches down to 0 too often.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tempscale.statistics.intervals import Floats, Interval, confidence_of_each
from tempscale.statistics.paired import bootstrap_weights, signs

_EQUAL = 1e-9  # two scores of a query, or two candidates of a half, that differ by no more are equal

_CLEAR = 2.0  # standard errors of a gain from which on its size counts, and no longer how sure it is


class Choice(NamedTuple):
    """What n queries say about k remedies against a baseline.

    Attributes:
        chosen: the remedy that is recommended, from 0 to k - 1, or None.
        best: the remedy that all queries together choose, recommended or not; None where no mean difference is positive.
        gain: mean gain on queries that did not choose, with its interval; "none" gains 0.
        p: one-sided p-value of the randomisation test, at least 1 / (resamples + 1): how often halves would choose as well,
            for the halves that judge, if no remedy changed anything.
        each: (k,) mean difference of each remedy, with intervals that hold for all k together.
        error: (k,) its standard error, over clusters.
        better: (k,) share of the queries that a remedy scores higher than the baseline, by more than 1e-9.
        worse: (k,) share of the queries that it scores lower.
        clusters: number of clusters, which are the independent draws.
    """

    chosen: int | None
    best: int | None
    gain: Interval
    p: float
    each: Interval
    error: Floats
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
    if splits < 1:
        raise ValueError(f"splits must be at least 1, such as 50, not {splits}")
    confidence_of_each(confidence, 1, resamples)
    change, labels = _changes(baseline, scores, clusters)
    _, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise ValueError(
            f"all {len(labels)} queries are in one cluster: expected at least 2 clusters, one for each half"
        )
    c, n = len(sizes), len(change)
    sums = np.zeros((c, change.shape[1]))
    np.add.at(sums, index, change)

    rng = np.random.default_rng(seed)
    first = rng.permuted(np.tile(np.arange(c) < c // 2, (splits, 1)), axis=1)
    squares, once = sums**2, np.ones((1, c))
    squares_of_halves = in_halves(once, squares, first)
    observed = judged(in_halves(once, sums, first), squares_of_halves)
    null = [judged(in_halves(flips, sums, first), squares_of_halves).evidence for flips in signs(c, resamples, rng)]
    bootstrap = [
        judged(in_moved_halves(drawn, sums, sizes, first), in_halves(drawn, squares, first)).gain / (drawn @ sizes)
        for drawn in bootstrap_weights(c, resamples, rng)
    ]
    # Equal up to rounding counts as equal: scores are often multiples of one another.
    p = (1 + int((np.concatenate(null) >= observed.evidence - _EQUAL).sum())) / (resamples + 1)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(np.concatenate(bootstrap), tails).tolist()
    gained = float(observed.gain[0] / n)
    # Where nothing helps, the halves can choose worse than nearly all samples do.
    gain = Interval(gained, min(low, gained), max(high, gained))
    total = sums.sum(axis=0)
    merit = _merit(total, total * _inverse_root(squares.sum(axis=0), squares.sum(axis=0)))
    best = int(merit.argmax()) if merit.max() > _EQUAL else None
    return Choice(
        chosen=best if p <= tails[0] and gain.low > 0 else None,
        best=best,
        gain=gain,
        p=p,
        each=_simultaneous(sums, sizes, confidence, resamples, rng),
        error=_mean_and_error(once, sums, sizes)[1][0],
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


def in_halves(factors: Floats, values: Floats, first: npt.NDArray[np.bool_]) -> Floats:
    """Return the sums in each half: (2, b, k, splits).

    Args:
        factors: (b, c) what the values of c clusters are multiplied by in each of b samples: 1, a sign, or how often the
            cluster was drawn, so that all its copies are in one half.
        values: (c, k).
        first: (splits, c) which clusters are in the first half.

    >>> in_halves(np.array([[1.0, 1.0, 2.0]]), np.array([[5.0], [6.0], [7.0]]), np.array([[True, False, False]])).ravel()
    array([ 5., 20.])
    """
    halves = np.empty((2, len(factors), values.shape[1], len(first)))
    by_split = (values[:, :, None] * first.T[:, None]).reshape(len(values), -1)
    np.matmul(factors, by_split, out=halves[0].reshape(len(factors), -1))
    np.subtract((factors @ values)[:, :, None], halves[0], out=halves[1])
    return halves


def in_moved_halves(drawn: Floats, sums: Floats, sizes: npt.NDArray[Any], first: npt.NDArray[np.bool_]) -> Floats:
    """Return the sums in the halves of bootstrap samples, (2, b, k, splits), each half drawn around the mean of all queries.

    Args:
        drawn: (b, c) how often each cluster was drawn.
        sums: (c, k) differences of k remedies, summed over the queries of each of c clusters.
        sizes: (c,) number of queries of each cluster.
        first: (splits, c) which clusters are in the first half.

    >>> sums, first = np.array([[1.0], [2.0], [6.0], [7.0]]), np.array([[True, True, False, False]])
    >>> in_moved_halves(np.ones((1, 4)), sums, np.ones(4), first).ravel()  # sums of 2 queries: not 3 and 13
    array([8., 8.])
    """
    once, queries = np.ones((1, len(sizes))), sizes[:, None].astype(np.float64)
    means = in_halves(once, sums, first) / in_halves(once, queries, first)
    overall = (sums.sum(axis=0) / sizes.sum())[:, None]
    moved: Floats = in_halves(drawn, sums, first) + in_halves(drawn, queries, first) * (overall - means)
    return moved


def judged(sums: Floats, squares: Floats) -> Judged:
    """Let each half choose, and the other judge.

    Args:
        sums: (2, b, k, splits) sums of differences in both halves.
        squares: sums of their squares over clusters; (2, 1, k, splits) if equal in all samples.

    Of equally good remedies each is chosen in part, so that their order does not matter; with none above 0, none is chosen.

    >>> sums = np.array([[[[3.0], [-1.0]]], [[[4.0], [6.0]]]])  # both halves, one sample, two remedies, one split
    >>> judged(sums, np.ones((2, 1, 2, 1))).gain  # the first half chooses 4 of the second, which chooses -1 of the first
    array([3.])
    """
    t = sums * _inverse_root(squares, squares.sum(axis=0))
    gain, evidence = np.zeros((2, sums.shape[1], sums.shape[3]))
    for merit, judging, differences in zip(_merit(sums, t), t[::-1], sums[::-1], strict=True):
        chosen = merit >= np.maximum(merit.max(axis=1, keepdims=True) - _EQUAL, _EQUAL)
        number = np.maximum(chosen.sum(axis=1), 1)
        gain += (chosen * differences).sum(axis=1) / number
        evidence += (chosen * judging).sum(axis=1) / number
    return Judged(gain.mean(axis=1), evidence.mean(axis=1))


def _merit(sums: Floats, t: Floats) -> Floats:
    """Return what a half chooses by: t, and where that is above 2, before all others, the sum minus 2 standard errors."""
    merit: Floats = np.minimum(t, _CLEAR) + sums * (1 - _CLEAR / np.maximum(t, _CLEAR))
    return merit


def _inverse_root(squares: Floats, scale: Floats) -> Floats:
    """Return 1 / root of sums of squares, by which sums rank like t; 0 for what is only rounding on a scale."""
    real = squares > 1e-12 * scale
    inverse: Floats = real / np.sqrt(np.where(real, squares, 1))
    return inverse


def _simultaneous(
    sums: Floats, sizes: npt.NDArray[Any], confidence: float, resamples: int, rng: np.random.Generator
) -> Interval:
    """Return intervals for the mean differences of all k remedies together, (k,) each, from sums over clusters (c, k).

    Bootstrap-t: as many standard errors wide as the furthest remedy of a sample is from the data, each in standard errors of
    that sample. For few clusters, or a few that matter, these are more than for a normal distribution, as they have to be.
    """
    mean, error = _mean_and_error(np.ones((1, len(sums))), sums, sizes)
    furthest = []
    for drawn in bootstrap_weights(len(sums), resamples, rng):
        means, errors = _mean_and_error(drawn, sums, sizes)
        furthest.append((np.abs(means - mean) / np.where(errors > 0, errors, np.inf)).max(axis=1))
    width = np.quantile(np.concatenate(furthest), confidence) * error[0]
    return Interval(mean[0], mean[0] - width, mean[0] + width)


def _mean_and_error(counts: Floats, sums: Floats, sizes: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    """Return means over queries and their standard errors, (b, k), where clusters are there `counts` times, (b, c)."""
    each, queries = sizes[:, None].astype(np.float64), counts @ sizes[:, None]
    mean, total = counts @ sums / queries, counts @ sums**2
    squares = total - 2 * mean * (counts @ (sums * each)) + mean**2 * (counts @ each**2)
    return mean, np.sqrt(np.where(squares > 1e-12 * total, squares, 0)) / queries


def _changes(
    baseline: npt.ArrayLike, scores: npt.ArrayLike, clusters: npt.ArrayLike | None
) -> tuple[Floats, npt.NDArray[Any]]:
    """Return the differences, (n, k), with 0 for those that are rounding, and the clusters' labels, (n,)."""
    before, after = np.asarray(baseline, dtype=np.float64), np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if before.ndim != 1 or len(before) < 2 or after.shape != (len(after), len(before)) or not len(after):
        raise ValueError(
            f"expected scores of the same n >= 2 queries, (n,) for the baseline and (k, n) for k >= 1 remedies, not shapes "
            f"{before.shape} and {after.shape}"
        )
    for name, values in (("baseline", before), ("scores", after)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: {(~np.isfinite(values)).sum()} values are not finite; leave those queries out")
    labels = np.arange(len(before)) if clusters is None else np.asarray(clusters)
    if labels.shape != before.shape:
        raise ValueError(f"expected a cluster for each of {len(before)} queries, not shape {labels.shape}")
    change = (after - before).T
    return np.where(np.abs(change) > _EQUAL, change, 0), labels
