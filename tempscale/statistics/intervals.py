"""Uncertainty of a measured score: bootstrap intervals, Holm's correction, and how many items a difference needs.

Intervals are *percentile* bootstrap intervals unless BCa is asked for: they need no symmetry and follow any statistic, at
the price of a slight undercoverage for a few dozen items (the tests measure it). `tempscale.statistics.paired` compares
settings.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


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
    method: str = "percentile",
    resamples: int = 4000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of independent items with its bootstrap interval (scipy.stats.bootstrap).

    Args:
        values: (n, ...), one item along the first axis, n >= 2. Items are drawn with replacement as a whole, so columns
            that belong to the same item (paired scores, the coordinates of an embedding) stay together.
        statistic: called with an array like `values`; returns a number or (k,). The mean over items by default.
        confidence: of the interval, or of all `comparisons` intervals together.
        comparisons: how many intervals shall hold simultaneously: each gets 1 - (1 - confidence) / comparisons (Bonferroni).
        method: "percentile", or "BCa", which corrects for bias and skewness with n more calls of the statistic.
        resamples: number of bootstrap samples.
        seed: of the resampling; the same seed gives the same interval.

    A resample repeats items: a statistic of *pairs* of items, such as a mean pairwise cosine, is biased by the pairs of
    an item with itself. Pass one value per item instead, such as its mean cosine with the others.

    Raises:
        ValueError: fewer than two items, non-finite values, a confidence outside (0, 1), no comparison, an unknown
            method, or too few resamples for the confidence asked for.

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
    if method not in ("percentile", "BCa"):
        raise ValueError(f"unknown method {method!r}: use 'percentile' or 'BCa'")
    each = confidence_of_each(confidence, comparisons, resamples)
    options = {"confidence_level": each, "method": method, "n_resamples": resamples}
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
        p_values: (m,) of one family of tests, such as one setting on m tasks.

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


def detectable(differences: npt.ArrayLike, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """Return the true mean difference that as many items, as noisy as these, would find with the given power.

    Args:
        differences: (n,) paired differences, setting minus baseline, n >= 2.
        confidence: of the two-sided interval that must exclude zero.
        power: chance that it does.

    >>> round(detectable(np.tile([-1.0, 1.0], 50)), 2)  # 2.8 standard errors
    0.28
    """
    values = np.asarray(differences, dtype=np.float64)
    return float(_multiple(confidence, power) * values.std(ddof=1) / np.sqrt(len(values)))


def items_needed(differences: npt.ArrayLike, effect: float, *, confidence: float = 0.95, power: float = 0.8) -> int:
    """Return how many items like these it takes to find a true mean difference of `effect` with the given power.

    >>> items_needed(np.tile([-1.0, 1.0], 50), 0.28)
    102
    """
    values = np.asarray(differences, dtype=np.float64)
    if not effect:
        raise ValueError("effect must not be 0: no number of items finds a difference of nothing")
    return int(np.ceil((_multiple(confidence, power) * values.std(ddof=1) / effect) ** 2))


def _multiple(confidence: float, power: float) -> float:
    """Return the normal approximation's multiple of the standard error."""
    from scipy import stats

    return float(stats.norm.ppf((1 + confidence) / 2) + stats.norm.ppf(power))
