"""How much each item moves a statistic: influence values, whose sum of squares over n**2 is about its variance."""

import numpy as np

from tempscale.statistics.intervals import Floats


def spearman_influence(target: Floats, column: Floats) -> Floats:
    """Return the influence of each item on Spearman's correlation of two variables: (n,), mean 0.

    That is the derivative of the correlation, as a function of the items' weights, towards a weight on one item alone: the
    infinitesimal jackknife. With mid-distribution functions u and v, centred, the correlation is A / sqrt(B * C) for the
    means A of u * v, B of u**2, C of v**2; an item has an influence on each through its own ranks, and through those of all
    items that it comes before (Croux and Dehon, Statistical Methods and Applications 19, 2010, without ties).

    Args:
        target: (n,) values, not all equal; ties count by their average rank.
        column: (n,) values, not all equal.

    >>> spearman_influence(np.arange(4.0), np.array([0.0, 1.0, 3.0, 2.0])).round(3)
    array([ 0.6,  0.6, -0.6, -0.6])
    """
    from scipy.stats import rankdata

    n = len(target)
    u, v = ((rankdata(values) - (n + 1) / 2) / n for values in (target, column))

    def moment(a: Floats, of_a: Floats, b: Floats, of_b: Floats) -> tuple[float, Floats]:
        """Return the mean of a * b, centred ranks of of_a and of_b, and its influences but for a constant, which cancels."""
        return (a * b).mean().item(), a * b + _mean_above(b, of_a) + _mean_above(a, of_b)

    cross, of_cross = moment(u, target, v, column)
    first, of_first = moment(u, target, u, target)
    second, of_second = moment(v, column, v, column)
    scale = np.sqrt(first * second)
    influence: Floats = of_cross / scale - cross / scale / 2 * (of_first / first + of_second / second)
    return influence


def _mean_above(values: Floats, order: Floats) -> Floats:
    """Return for each of n items the sum of the values of those that are larger in order, over n; equal ones count half."""
    by_order = np.argsort(order, kind="stable")
    at_most = np.concatenate([[0.0], np.cumsum(values[by_order])])
    below, through = (at_most[np.searchsorted(order[by_order], order, side)] for side in ("left", "right"))
    above: Floats = (at_most[-1] - (below + through) / 2) / len(values)
    return above
