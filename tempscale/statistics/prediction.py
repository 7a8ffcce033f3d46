"""What a setting may do on a task that was not run: a random-effects summary over the tasks that were.

Tasks differ more than the items of a task do. So the mean over the tasks at hand, however exact, says little about the next
one; its effect lies in a *prediction interval*, which no number of items makes narrow.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tempscale.statistics.intervals import Floats

# Fewer tasks of a kind say nothing about another one; up to ENOUGH the variance between tasks is that of all kinds.
FEWEST, ENOUGH = 3, 5


class KindOfTask(NamedTuple):
    """What is known of a setting's effect on one kind of task.

    Attributes:
        kind: kind of task.
        tasks: number of tasks of the kind, k.
        mean: mean effect.
        mean_low, mean_high: confidence interval of the mean.
        low, high: prediction interval of the effect on another task of the kind.
        between: standard deviation of the effects between tasks.
        pooled: whether `between` is estimated from all kinds together.
    """

    kind: str
    tasks: int
    mean: float
    mean_low: float
    mean_high: float
    low: float
    high: float
    between: float
    pooled: bool


def predict_task(
    effects: npt.ArrayLike, errors: npt.ArrayLike, kinds: Sequence[str], *, confidence: float = 0.95
) -> list[KindOfTask]:
    """Return what to expect of a setting on a new task, for each kind with at least three tasks.

    The effect on task i of kind j is m_j + u_i + e_i, with u_i normal of variance between^2, e_i normal with the standard
    error of the task, all independent: the tasks are a sample of their kind, and each comes from data and a model of its own
    (two models on one task are not two tasks). What is known of the variance between tasks is the confidence distribution of
    Viechtbauer's Q profile (2007): at the true variance the weighted squares around the kinds' means follow a chi-squared
    law. It comes from the kind's own tasks where it has five, and otherwise from all kinds, each around its own mean. Both
    intervals are averaged over it, as Nagashima, Noma and Furukawa (2019) do; where the errors are 0 they are the textbook's
    t intervals, for a mean and for a new observation.

    Args:
        effects: (n,) effects of the setting, one a task.
        errors: (n,) their standard errors, at least 0.
        kinds: (n,) kind of each task.
        confidence: coverage of each interval.

    Raises:
        ValueError: shapes that do not fit, non-finite values, negative errors, or a confidence outside (0, 1).

    >>> sts, = predict_task([0.3, -0.1, 0.2, 0.5, 0.1], [0.1] * 5, ["STS"] * 5)
    >>> f"{sts.mean:.2f}: mean in [{sts.mean_low:.2f}, {sts.mean_high:.2f}], a new task in [{sts.low:.2f}, {sts.high:.2f}]"
    '0.20: mean in [-0.08, 0.48], a new task in [-0.46, 0.86]'
    """
    y, error, names = np.asarray(effects, float), np.asarray(errors, float), np.asarray(kinds)
    if y.ndim != 1 or y.shape != error.shape or y.shape != names.shape:
        raise ValueError(
            f"expected an error and a kind for each effect, not shapes {y.shape}, {error.shape}, {names.shape}"
        )
    if not (np.isfinite(y).all() and np.isfinite(error).all() and (error >= 0).all()):
        raise ValueError("expected finite effects and errors of at least 0: leave out the tasks without")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    counted = Counter(kinds)
    several = np.isin(names, [kind for kind, number in counted.items() if number > 1])
    found = []
    for kind, number in counted.items():
        if number < FEWEST:
            continue
        of_kind = names == kind
        pooled = number < ENOUGH
        used = several if pooled else of_kind
        variances = between_tasks(y[used], error[used], names[used])
        weights = 1 / (error[of_kind] ** 2 + variances[:, None])
        means, of_mean = (weights @ y[of_kind]) / weights.sum(1), 1 / weights.sum(1)
        mean_low, mean_high = _interval(means, of_mean, confidence)
        low, high = _interval(means, of_mean + variances, confidence)
        middle = len(variances) // 2
        between = float(np.sqrt(variances[middle]))
        found.append(KindOfTask(kind, number, float(means[middle]), mean_low, mean_high, low, high, between, pooled))
    return found


def between_tasks(effects: Floats, errors: Floats, kinds: npt.NDArray[np.str_]) -> Floats:
    """Return the variance between tasks of a kind, the same for all kinds, at equally likely quantiles, the largest first.

    Each is where the weighted squares around the kinds' means are a quantile of the chi-squared law with their degrees of
    freedom; almost 0 where they are smaller at any variance.

    Args:
        effects: (n,) effects.
        errors: (n,) standard errors.
        kinds: (n,) kinds, of which some has two tasks.
    """
    from scipy import stats

    names = sorted(set(kinds.tolist()))
    largest = max(float(np.ptp(effects)), float(errors.max()), 1e-12) ** 2
    grid = largest * np.geomspace(1e-9, 1e9, _GRID)
    squares = np.zeros(_GRID)
    for kind in names:
        y, weights = effects[kinds == kind], 1 / (errors[kinds == kind] ** 2 + grid[:, None])
        around = y - ((weights @ y) / weights.sum(1))[:, None]
        squares += (weights * around**2).sum(1)
    quantiles = stats.chi2.ppf((np.arange(_DRAWS) + 0.5) / _DRAWS, len(effects) - len(names))
    # The squares fall as the variance grows.
    logs: Floats = np.interp(quantiles, squares[::-1], np.log(grid)[::-1])
    return np.exp(logs)


_GRID, _DRAWS = 2001, 1001


def _interval(means: Floats, variances: Floats, confidence: float) -> tuple[float, float]:
    """Return the quantiles of a mixture of normal laws."""
    from scipy import optimize, special

    scale = np.sqrt(variances)
    ends = []
    for level in ((1 - confidence) / 2, (1 + confidence) / 2):
        reach = 50 * float(scale.max())
        ends.append(
            optimize.brentq(
                lambda x, level=level: float(special.ndtr((x - means) / scale).mean() - level),
                float(means.min()) - reach,
                float(means.max()) + reach,
            )
        )
    return ends[0], ends[1]
