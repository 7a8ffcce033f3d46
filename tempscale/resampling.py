"""Resampling of paired items in matrix form: bootstrap weights, random exchanges, and rank correlations under both."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

# Entries of a temporary matrix (resamples x items): 8 MB.
_CHUNK = 1_000_000


def _chunks(n: int, resamples: int) -> Iterator[int]:
    size = max(1, _CHUNK // n)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def bootstrap_weights(n: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield (b, n) blocks, `resamples` rows in all: how often each of n items is drawn in n draws with replacement."""
    for rows in _chunks(n, resamples):
        draws = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def signs(n: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield (b, n) blocks, `resamples` rows in all, of independent signs: -1 exchanges the two outcomes of an item."""
    for rows in _chunks(n, resamples):
        yield rng.integers(2, size=(rows, n), dtype=np.int8) * 2.0 - 1.0


def spearman(weights: Floats, target: Floats, columns: Sequence[Floats]) -> Floats:
    """Return Spearman's correlation of the target with each column, in each weighted sample.

    Args:
        weights: (b, n) how often each item occurs, whole numbers that sum to n in each row.
        target: (n,).
        columns: k arrays (n,).

    Returns:
        (b, k), ties ranked by their average as in scipy.stats.spearmanr; 0 where a sample has only one distinct value.

    >>> spearman(np.ones((1, 4)), np.arange(4.0), [np.array([1.0, 2.0, 4.0, 3.0])])
    array([[0.8]])
    """
    # Items along the first axis: whole rows are gathered and summed, which is several times faster.
    items = np.ascontiguousarray(weights.T)
    gold = _centred_ranks(items, target)
    weighted = items * gold
    energy = (weighted * gold).sum(axis=0)
    result = np.empty((len(weights), len(columns)))
    for k, column in enumerate(columns):
        ranks = _centred_ranks(items, column)
        scale = np.sqrt(energy * (items * ranks**2).sum(axis=0))
        result[:, k] = _ratio((weighted * ranks).sum(axis=0), scale)
    return result


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
        flips: (b, n) of +1 and -1; -1 exchanges an item's values.
        target: (n,).
        before: (n,) values under the baseline: ranks, for Spearman's correlation.
        after: (n,) values under the setting.

    Returns:
        (b,) Pearson's correlation with the target, setting minus baseline.

    >>> flips = np.array([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    >>> exchanged_correlations(flips, np.arange(3.0), np.array([1.0, 3.0, 2.0]), np.arange(3.0)).round(6)
    array([ 0.5, -0.5])
    """
    # After the exchange, setting and baseline are middle + flips * half and middle - flips * half.
    middle, half = (after + before) / 2, (after - before) / 2
    gold, middle = target - target.mean(), middle - middle.mean()
    mean, cross, product = (flips @ np.stack([half, half * middle, half * gold], axis=1)).T
    squares, both, scale = (middle**2 + half**2).sum(), (middle * gold).sum(), np.sqrt((gold**2).sum())
    variance = squares - mean**2 / len(gold)
    return _ratio(both + product, scale * np.sqrt(np.maximum(variance + 2 * cross, 0))) - _ratio(
        both - product, scale * np.sqrt(np.maximum(variance - 2 * cross, 0))
    )


def _ratio(numerator: Floats, scale: Floats) -> Floats:
    """Divide, with 0 / 0 = 0: values that are all equal correlate with nothing."""
    small = scale < 1e-9
    ratio: Floats = np.where(small, 0, numerator) / np.where(small, 1, scale)
    return ratio
