"""Uncertainty of a measured score: bootstrap intervals, Holm's correction, and how many items a difference needs.

Intervals are *percentile* bootstrap intervals: they need no symmetry and follow any statistic, at the price of a slight
undercoverage for a few dozen items (the tests measure it). `tempscale.statistics.paired` compares settings.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

LEVEL = 0.05  # at which a test is called significant


class Interval(NamedTuple):
    """An estimate and its confidence interval: floats, or arrays for a statistic with several components."""

    estimate: Any
    low: Any
    high: Any

    @property
    def half_width(self) -> Any:
        """Half the interval's length: about the smallest difference that this sample tells from zero."""
        return (self.high - self.low) / 2


def bootstrap_interval(
    values: npt.ArrayLike,
    statistic: Callable[[Floats], Any] | None = None,
    *,
    confidence: float = 0.95,
    comparisons: int = 1,
    resamples: int = 4000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of independent items with its bootstrap interval (scipy.stats.bootstrap).

    Args:
        values: (n, ...), one item along the first axis, n >= 2. Items are drawn with replacement as a whole, so columns
            that belong to the same item (paired scores, the coordinates of an embedding) stay together.
        statistic: function of an array like `values` that returns a number or (k,). The mean over items by default.
        confidence: probability that the interval, or that all `comparisons` intervals together, hold.
        comparisons: number of intervals that shall hold together: each gets 1 - (1 - confidence) / comparisons (Bonferroni).
        resamples: number of bootstrap samples.
        seed: seed of the resampling; the same seed gives the same interval.

    A resample repeats items: a statistic of *pairs* of items, such as a mean pairwise cosine, is biased by the pairs of
    an item with itself. Pass one value per item instead, such as its mean cosine with the others.

    Raises:
        ValueError: fewer than two items, non-finite values, a confidence outside (0, 1), no comparison, or too few
            resamples for the confidence asked for.

    >>> bootstrap_interval(np.arange(10.0), lambda x: np.median(x)).estimate.item()
    4.5
    >>> both = bootstrap_interval(np.random.default_rng(0).normal(size=(50, 2)), comparisons=2)
    >>> both.low.shape
    (2,)
    """
    from scipy import stats

    items = np.asarray(values, dtype=np.float64)
    if items.ndim == 0 or len(items) < 2:
        raise ValueError(f"expected at least two items along the first axis, not shape {items.shape}")
    if not np.isfinite(items).all():
        raise ValueError(f"{(~np.isfinite(items)).sum()} of the values are not finite: leave those items out")
    each = confidence_of_each(confidence, comparisons, resamples)
    options = {"confidence_level": each, "method": "percentile", "n_resamples": resamples}
    rng = np.random.default_rng(seed)
    if statistic is None:
        batch = max(1, 1_000_000 // items.size)
        result = stats.bootstrap((items,), np.mean, axis=0, vectorized=True, batch=batch, random_state=rng, **options)
        estimate = items.mean(axis=0)
    else:
        rows = np.arange(len(items))
        result = stats.bootstrap((rows,), lambda i: statistic(items[i]), vectorized=False, random_state=rng, **options)
        estimate = statistic(items)
    return Interval(estimate, *result.confidence_interval)


def confidence_of_each(confidence: float, comparisons: int, resamples: int) -> float:
    """Return the confidence of each of several simultaneous intervals, checked against the number of resamples."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, such as 0.95, not {confidence}")
    if comparisons < 1:
        raise ValueError(f"comparisons must be at least 1, not {comparisons}")
    tail = (1 - confidence) / comparisons / 2
    if tail * resamples < 5:
        raise ValueError(
            f"{resamples} resamples leave fewer than 5 in each tail of {tail:.2g}: take at least {int(np.ceil(5 / tail))}"
        )
    return 1 - 2 * tail


def holm(p_values: npt.ArrayLike) -> Floats:
    """Return Holm's adjusted p-values: the chance of any false finding among them stays below the level (Holm 1979).

    Args:
        p_values: (m,) p-values of one family of tests, such as one setting on m tasks.

    Raises:
        ValueError: a p-value outside [0, 1], or more than one axis.

    >>> holm([0.01, 0.04, 0.03]).round(3)
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"expected a list of p-values between 0 and 1, not {p_values!r}")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def items_needed(differences: npt.ArrayLike, effect: float, *, confidence: float = 0.95, power: float = 0.8) -> int:
    """Return how many items like these it takes to find a true mean difference of `effect` with the given power.

    Args:
        differences: (n,) paired differences, setting minus baseline, n >= 2; they say how noisy an item is.
        effect: true mean difference, not 0.
        confidence: confidence of the two-sided interval that must exclude zero.
        power: chance that it does.

    Raises:
        ValueError: an effect of 0.

    >>> items_needed(np.tile([-1.0, 1.0], 50), 0.28)
    102
    """
    from scipy import stats

    if not effect:
        raise ValueError("effect must not be 0: no number of items finds a difference of nothing")
    standard_errors = stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power)
    return int(np.ceil((standard_errors * np.asarray(differences, dtype=np.float64).std(ddof=1) / effect) ** 2))
