"""Settings against a baseline on the same items: paired differences, bootstrap intervals, and a randomisation test.

Three choices hold throughout. Intervals are percentile bootstrap intervals over items. P-values are those of a *paired
randomisation test*: if a setting changed nothing, the two outcomes of an item could be exchanged, so exchange them at
random (for a mean: flip the signs of the differences) and see how often the difference gets as large as the observed one
(Fisher 1935; for rankings Smucker, Allan and Carterette, CIKM 2007). Items are independent draws, or it is said how they
depend on each other: by clusters, or by members that items share in any pattern. Everything else is fixed (the corpus, the
tasks, the model), but for training sets that are said to be drawn.
"""

from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tempscale.statistics.clusters import variance_inflation
from tempscale.statistics.influence import spearman_influence
from tempscale.statistics.intervals import Floats, Interval, confidence_of_each


@dataclass(frozen=True)
class Paired:
    """Differences between settings and a baseline on the same items, with what resampling says about them.

    Attributes:
        baseline: the statistic under the baseline: a mean, or Spearman's correlation with the target.
        difference: (k,) setting minus baseline.
        bootstrap: (resamples, k) the difference on items drawn with replacement, and with other training sets, if any.
        null: (resamples, k) the difference after exchanging setting and baseline at random within items.
        conditional: (resamples, k) as `bootstrap`, with the training sets held fixed; the same where there are none.
    """

    baseline: float
    difference: Floats
    bootstrap: Floats
    null: Floats
    conditional: Floats

    def interval(self, confidence: float = 0.95, comparisons: int = 1, *, sets_fixed: bool = False) -> Interval:
        """Return the percentile intervals, (k,) each; `comparisons` as in `bootstrap_interval`.

        With `sets_fixed` they are conditional on the training sets: they hold for these, not for others like them.
        """
        sample = self.conditional if sets_fixed else self.bootstrap
        each = confidence_of_each(confidence, comparisons, len(sample))
        low, high = np.quantile(sample, [(1 - each) / 2, (1 + each) / 2], axis=0)
        return Interval(self.difference, low, high)

    def p_value(self) -> Floats:
        """Return two-sided p-values, (k,), at least 1 / (resamples + 1)."""
        # Equal up to rounding counts as equal: scores are often multiples of one another.
        reached = np.abs(self.null) >= np.abs(self.difference) - 1e-12
        p: Floats = (1 + reached.sum(axis=0)) / (len(self.null) + 1)
        return p

    def stretch(self, factor: Floats) -> "Paired":
        """Return the same with deviations from the difference, and from none, that are `factor` (k,) times as large."""
        bootstrap, conditional = (
            self.difference + factor * (sample - self.difference) for sample in (self.bootstrap, self.conditional)
        )
        return replace(self, bootstrap=bootstrap, null=factor * self.null, conditional=conditional)

    def select(self, columns: Sequence[int]) -> "Paired":
        """Return some of the settings, by their columns."""
        index = list(columns)
        samples = (sample[:, index] for sample in (self.bootstrap, self.null, self.conditional))
        return Paired(self.baseline, self.difference[index], *samples)

    @staticmethod
    def join(samples: Sequence["Paired"]) -> "Paired":
        """Return settings of the same items, resampled with the same seed, side by side."""
        return Paired(
            samples[0].baseline,
            np.concatenate([sample.difference for sample in samples]),
            np.concatenate([sample.bootstrap for sample in samples], axis=1),
            np.concatenate([sample.null for sample in samples], axis=1),
            np.concatenate([sample.conditional for sample in samples], axis=1),
        )

    @staticmethod
    def average(samples: Sequence["Paired"]) -> "Paired":
        """Return the mean over samples (tasks): fixed, equally weighted, resampled independently of each other."""
        return Paired(
            float(np.mean([sample.baseline for sample in samples])),
            np.mean([sample.difference for sample in samples], axis=0),
            np.mean([sample.bootstrap for sample in samples], axis=0),
            np.mean([sample.null for sample in samples], axis=0),
            np.mean([sample.conditional for sample in samples], axis=0),
        )


def paired(
    baseline: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    target: npt.ArrayLike | None = None,
    clusters: npt.ArrayLike | None = None,
    members: Collection[Collection[Hashable]] | None = None,
    training_sets: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    resamples: int = 4000,
    seed: int | Sequence[int] = 0,
) -> Paired:
    """Compare settings with a baseline on the same items.

    Args:
        baseline: (n,) score of every item (query, text, pair) under the baseline, n >= 2.
        scores: (k, n) or (n,) scores of the same items in the same order under k settings.
        target: (n,) values that the scores should rank like (STS: human ratings). Then the statistic is Spearman's
            correlation of scores and target; without a target it is the mean score.
        clusters: (n,) labels, for a mean only: items with equal labels are drawn and exchanged together, as queries to one
            document should be, because a setting that moves the document moves the scores of all of them.
        members: what each of the n items has to do with, such as the two sentences of a pair: items that share a member are
            correlated. Unlike clusters they may be linked into one whole. Items are resampled as if independent, and the
            deviations stretched by the root of the `variance_inflation`.
        training_sets: for items whose scores are means over S >= 2 training sets, drawn independently, the same for all
            settings: the statistic with each set, (S,) under the baseline, and (k, S) or (S,) under the settings. Each
            deviation over items gets an independent one of the mean over sets, a multivariate Student t with S - 1 degrees
            of freedom. What is particular to an item with a set is in both, which errs to the wide side.
        resamples: number of samples of the bootstrap, and of the randomisation test.
        seed: seed of both; samples of different items need different seeds, such as [0, 1] and [0, 2].

    All settings are resampled together, so differences between them may be read off as well. For Spearman's correlation the
    randomisation exchanges the *ranks* of an item's two scores, because a setting may shift all scores and rank alike.

    Raises:
        ValueError: shapes that do not fit, fewer than two items, clusters or sets, non-finite values, constant values to be
            ranked, clusters of items with a target, or both clusters and members.

    >>> result = paired([0.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4])
    >>> float(result.difference[0]), float(result.p_value()[0].round(1))  # exactly 2 of 16 flips reach it
    (0.25, 0.1)
    """
    before = np.asarray(baseline, dtype=np.float64)
    after = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    gold = None if target is None else np.asarray(target, dtype=np.float64)
    _check_paired(before, after, gold)
    if clusters is not None and (members is not None or gold is not None):
        raise ValueError("clusters are for a mean, and alone: give the members that items share instead of clusters")
    rng = np.random.default_rng(seed)
    if gold is None:
        sample = _of_mean(before, after, None if clusters is None else np.asarray(clusters), resamples, rng)
    else:
        sample = _of_spearman(before, after, gold, resamples, rng)
    if members is not None:
        sample = sample.stretch(np.sqrt(variance_inflation(influence(before, after, gold), members)))
    if training_sets is None:
        return sample
    differences = _set_differences(*training_sets, settings=len(after))
    bootstrap, null = (drawn + t_deviations(differences, resamples, rng) for drawn in (sample.bootstrap, sample.null))
    return replace(sample, bootstrap=bootstrap, null=null)


def influence(before: Floats, after: Floats, target: Floats | None) -> Floats:
    """Return the influence (n, k) of each item on the differences: those of means, or of correlations with a target.

    >>> influence(np.zeros(2), np.array([[1.0, 3.0]]), None).tolist()
    [[-1.0], [1.0]]
    """
    if target is None:
        change = (after - before).T
        centred: Floats = change - change.mean(axis=0)
        return centred
    first, *others = (spearman_influence(target, column) for column in (before, *after))
    return np.stack([other - first for other in others], axis=1)


def t_deviations(differences: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Draw deviations (resamples, k) of a mean of S vectors (S, k) from its expectation: multivariate Student t.

    It has S - 1 degrees of freedom and the scale matrix of the mean's estimated covariance.

    >>> draws = t_deviations(np.array([[1.0], [3.0]]), 100_000, np.random.default_rng(0))
    >>> np.quantile(draws, [0.25, 0.75]).round(1) + 0.0  # of a Cauchy distribution: the standard error of 1, S - 1 being 1
    array([-1.,  1.])
    """
    sets = len(differences)
    centred = differences - differences.mean(axis=0)
    chi_square = rng.chisquare(sets - 1, size=(resamples, 1))
    # sets - 1 cancels between the covariance and the mean square that divides it.
    draws: Floats = rng.normal(size=(resamples, sets)) @ centred / np.sqrt(sets * chi_square)
    return draws


def _of_mean(
    before: Floats, after: Floats, clusters: npt.NDArray[Any] | None, resamples: int, rng: np.random.Generator
) -> Paired:
    change, n = (after - before).T, len(before)
    sums, sizes = (change, np.ones(n)) if clusters is None else _by_cluster(change, clusters)
    drawn = bootstrap_weights(len(sums), resamples, rng)
    bootstrap = np.concatenate([weights @ sums / (weights @ sizes)[:, None] for weights in drawn])
    null = np.concatenate([flips @ sums / n for flips in signs(len(sums), resamples, rng)])
    return Paired(before.mean().item(), change.mean(axis=0), bootstrap, null, bootstrap)


def _of_spearman(before: Floats, after: Floats, gold: Floats, resamples: int, rng: np.random.Generator) -> Paired:
    columns, n = [before, *after], len(before)
    observed = spearman(np.ones((1, n)), gold, columns)
    drawn = bootstrap_weights(n, resamples, rng)
    bootstrap = np.concatenate([_to_first(spearman(weights, gold, columns)) for weights in drawn])
    # As ranks, because a setting may shift all scores and rank alike.
    target_ranks, first, *others = (_centred_ranks(np.ones((n, 1)), column)[:, 0] for column in (gold, *columns))
    null = np.concatenate(
        [
            exchanged_correlations(flips, target_ranks, first, np.stack(others, axis=1))
            for flips in signs(n, resamples, rng)
        ]
    )
    return Paired(observed[0, 0].item(), _to_first(observed)[0], bootstrap, null, bootstrap)


def _set_differences(baseline: npt.ArrayLike, scores: npt.ArrayLike, *, settings: int) -> Floats:
    """Return the differences (S, k) with each training set, checked."""
    before = np.asarray(baseline, dtype=np.float64)
    after = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if before.ndim != 1 or len(before) < 2 or after.shape != (settings, len(before)):
        raise ValueError(
            f"expected training sets of shapes (S,) and ({settings}, S), S >= 2, not {before.shape} and {after.shape}: "
            "leave them out if there is only one"
        )
    differences: Floats = (after - before).T
    if not np.isfinite(differences).all():
        raise ValueError(
            f"training_sets: {(~np.isfinite(differences)).sum()} differences are not finite; leave those sets out"
        )
    return differences


def _check_paired(before: Floats, after: Floats, gold: Floats | None) -> None:
    n = len(before) if before.ndim == 1 else 0
    if n < 2 or after.ndim != 2 or after.shape[1] != n or (gold is not None and gold.shape != (n,)):
        shapes = f"{before.shape} and {after.shape}" + ("" if gold is None else f", target {gold.shape}")
        raise ValueError(f"expected the same n >= 2 items under baseline and setting, not shapes {shapes}")
    for name, values in [("baseline", before[None]), ("scores", after), ("target", gold)]:
        if values is None:
            continue
        if not np.isfinite(values).all():
            raise ValueError(f"{name}: {(~np.isfinite(values)).sum()} values are not finite; leave those items out")
        if gold is not None and (np.ptp(values, axis=-1) == 0).any():
            raise ValueError(f"{name}: all values are equal, so they have no rank correlation")


def _by_cluster(change: Floats, clusters: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    """Return the sums (c, k) of n changes (n, k) over c clusters, and the clusters' sizes (c,)."""
    if clusters.shape != (len(change),):
        raise ValueError(f"expected a cluster for each of {len(change)} items, not shape {clusters.shape}")
    names, index, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError("all items are in one cluster: nothing can be said about others from one")
    sums = np.zeros((len(names), change.shape[1]))
    np.add.at(sums, index, change)
    return sums, sizes.astype(np.float64)


def _to_first(columns: Floats) -> Floats:
    return columns[:, 1:] - columns[:, :1]


def bootstrap_weights(n: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield (b, n) blocks, `resamples` rows in all: how often each of n items is drawn in n draws with replacement."""
    # The draws do not depend on the blocks, which may be smaller than those of the signs, and fit into caches.
    for rows in _chunks(n, resamples, most=max(_LONG_ROWS, _CHUNK // 4 // n)):
        draws = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def signs(n: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield (b, n) blocks, `resamples` rows in all, of independent signs: -1 exchanges the two outcomes of an item."""
    for rows in _chunks(n, resamples):
        yield rng.integers(2, size=(rows, n), dtype=np.int8) * 2.0 - 1.0


# Entries of a temporary matrix (resamples x items): 8 MB.
_CHUNK = 1_000_000


def _chunks(n: int, resamples: int, most: int | None = None) -> Iterator[int]:
    size = min(max(1, _CHUNK // n), most or resamples)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def spearman(weights: Floats, target: Floats, columns: Sequence[Floats]) -> Floats:
    """Return Spearman's correlation of the target with each column, in each weighted sample.

    Args:
        weights: (b, n) counts of how often each item occurs; each row sums to n.
        target: (n,) values to correlate with.
        columns: k arrays (n,).

    Returns:
        (b, k), ties ranked by their average as in scipy.stats.spearmanr; 0 where a sample has only one distinct value.

    >>> spearman(np.ones((1, 4)), np.arange(4.0), [np.array([1.0, 2.0, 4.0, 3.0])])
    array([[0.8]])
    """
    # Items along the first axis: whole rows are summed. What does not depend on a column is computed once for all of them.
    items = np.ascontiguousarray(weights.T)
    gold = _centred_ranks(items, target)
    weighted = items * gold
    energy = (weighted * gold).sum(axis=0)
    half, cubes = (weighted * items).sum(axis=0) / 2, (items**3).sum(axis=0)
    result, room = np.empty((len(weights), len(columns))), np.empty_like(items)
    for k, column in enumerate(columns):
        if len(weights) >= _LONG_ROWS:
            products, squares = _products(items, weighted, column, half, cubes, room)
        else:
            ranks = _centred_ranks(items, column)
            products, squares = (weighted * ranks).sum(axis=0), (items * ranks**2).sum(axis=0)
        result[:, k] = _ratio(products, np.sqrt(energy * squares))
    return result


# Samples from which on a step per item, of all samples at once, is faster than steps over whole matrices.
_LONG_ROWS = 256


def _products(
    items: Floats, weighted: Floats, values: Floats, half: Floats, cubes: Floats, ranks: Floats
) -> tuple[Floats, Floats]:
    """Return sums over weighted samples for the ranks of n values: those of their products with others, and of squares.

    Args:
        items: (n, b) how often each item occurs in each of b samples.
        weighted: (n, b) other numbers of the items, times how often they occur; the columns sum to 0.
        values: (n,) values to rank, ties by their average.
        half: (b,) sums of weighted * items / 2.
        cubes: (b,) sums of items**3.
        ranks: (n, b) room to work in.

    A group of `count` equal values takes the ranks after those of all smaller ones: their mean is what has come so far
    plus (count + 1) / 2, where the constant does not matter to the products. So one pass through the groups in their order
    gives them, a row of samples at a time. The squares of centred ranks sum to (n**3 - sum of count**3) / 12.
    """
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    ranks, so_far = np.empty_like(items), np.zeros(items.shape[1])
    counts, rows, items_in_order, start = list(items), list(ranks), order.tolist(), 0
    for members in size.tolist():
        first = items_in_order[start]
        if members == 1:  # plus count / 2, which is taken off all at once
            so_far = np.add(so_far, counts[first], out=rows[first])
        else:
            equal = order[start : start + members]
            count = items[equal].sum(axis=0)
            ranks[equal] = so_far + count / 2
            so_far = so_far + count
            half = half - (weighted[equal] * items[equal]).sum(axis=0) / 2
            cubes = cubes + count**3 - (items[equal] ** 3).sum(axis=0)
        start += members
    return np.einsum("ib,ib->b", weighted, ranks) - half, (float(len(items)) ** 3 - cubes) / 12


def _centred_ranks(items: Floats, values: Floats) -> Floats:
    """Return the average rank of each of n items in each of b weighted samples, minus the mean rank: (n, b)."""
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(size)[:-1]])
    count = items[np.argsort(group, kind="stable")]
    if len(size) < len(values):
        count = np.add.reduceat(count, starts, axis=0)
    # A group of `count` equal values takes the ranks after all smaller values: their mean.
    ranks = np.cumsum(count, axis=0) - (count - 1) / 2
    centred: Floats = ranks[group] - (len(items) + 1) / 2
    return centred


def exchanged_correlations(flips: Floats, target: Floats, before: Floats, after: Floats) -> Floats:
    """Return the difference of two correlations with a target, after exchanging the two values of an item at random.

    Args:
        flips: (b, n) signs; -1 exchanges an item's values.
        target: (n,) values to correlate with.
        before: (n,) values under the baseline: ranks, for Spearman's correlation.
        after: (n,) values under the setting, or (n, k) under several.

    Returns:
        (b,) or (b, k) Pearson's correlation with the target, setting minus baseline.

    >>> flips = np.array([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    >>> exchanged_correlations(flips, np.arange(3.0), np.array([1.0, 3.0, 2.0]), np.arange(3.0)).round(6)
    array([ 0.5, -0.5])
    """
    # After the exchange, setting and baseline are middle + flips * half and middle - flips * half.
    gold, settings = (target - target.mean())[:, None], after.reshape(len(target), -1)
    middle, half = (settings + before[:, None]) / 2, (settings - before[:, None]) / 2
    middle -= middle.mean(axis=0)
    mean, cross, product = np.split(flips @ np.concatenate([half, half * middle, half * gold], axis=1), 3, axis=1)
    squares, both, scale = (middle**2 + half**2).sum(axis=0), (middle * gold).sum(axis=0), np.sqrt((gold**2).sum())
    variance = squares - mean**2 / len(gold)
    difference = _ratio(both + product, scale * np.sqrt(np.maximum(variance + 2 * cross, 0))) - _ratio(
        both - product, scale * np.sqrt(np.maximum(variance - 2 * cross, 0))
    )
    return difference.reshape(len(flips), *after.shape[1:])


def _ratio(numerator: Floats, scale: Floats) -> Floats:
    """Divide, with 0 / 0 = 0: values that are all equal correlate with nothing."""
    small = scale < 1e-9
    ratio: Floats = np.where(small, 0, numerator) / np.where(small, 1, scale)
    return ratio
