"""Differences within groups of items, such as the collections that a benchmark was put together from."""

from collections.abc import Collection, Hashable, Sequence

import numpy as np
import numpy.typing as npt

from tempscale.statistics.clusters import variance_inflation
from tempscale.statistics.paired import Paired, influence, paired


def paired_within(
    baseline: npt.ArrayLike,
    scores: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    target: npt.ArrayLike | None = None,
    members: Collection[Collection[Hashable]] | None = None,
    resamples: int = 4000,
    seed: int | Sequence[int] = 0,
) -> Paired:
    """Compare settings with a baseline within groups of items: the mean over groups, each of which counts once.

    A correlation over all items also rewards telling the groups apart; this one does not. Groups are fixed, and items
    resampled within each.

    Args:
        baseline: (n,) score of every item under the baseline.
        scores: (k, n) or (n,) scores under k settings.
        groups: (n,) label of each item's group; each group has at least two items.
        target: (n,) values that the scores should rank like; without it the statistic is the mean score.
        members: what each item has to do with, as for `paired`; items of two groups may share some.
        resamples: number of samples of the bootstrap, and of the randomisation test.
        seed: seed of both.

    Raises:
        ValueError: as `paired`, of any group.

    >>> found = paired_within([1.0, 2.0, 9.0, 8.0], [2.0, 1.0, 8.0, 9.0], list("aabb"), target=[1.0, 2.0, 3.0, 4.0])
    >>> found.baseline, found.difference.tolist()  # in a it ranked rightly, in b wrongly; now it is the other way round
    (0.0, [0.0])
    """
    before, labels = np.asarray(baseline, dtype=np.float64), np.asarray(groups)
    after = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    gold = None if target is None else np.asarray(target, dtype=np.float64)
    samples, psi = [], np.zeros(after.shape[::-1])
    for number, label in enumerate(np.unique(labels), start=1):
        inside = labels == label
        of_group = (before[inside], after[:, inside], None if gold is None else gold[inside])
        seeds = [*np.atleast_1d(seed).tolist(), number]
        samples.append(paired(of_group[0], of_group[1], target=of_group[2], resamples=resamples, seed=seeds))
        psi[inside] = influence(*of_group) / inside.sum()
    mean = Paired.average(samples)
    return mean if members is None else mean.stretch(np.sqrt(variance_inflation(psi, members)))
