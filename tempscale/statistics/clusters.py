"""Which items are not independent of each other, and what that does to a variance."""

from collections.abc import Collection, Hashable
from typing import Any

import numpy as np
import numpy.typing as npt

from tempscale.statistics.intervals import Floats


def sharing(members: Collection[Collection[Hashable]]) -> npt.NDArray[np.int64]:
    """Return a label for each item, (n,): equal for those that share a member, directly or through others.

    Args:
        members: what each item has to do with, such as the relevant documents of a query.

    >>> sharing([["a"], ["b", "c"], ["c"], []]).tolist()
    [0, 1, 1, 2]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    incidence = _incidence(members).tocoo()
    size = sum(incidence.shape)
    graph = coo_array((incidence.data, (incidence.row, incidence.col + len(members))), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    labels: npt.NDArray[np.int64] = component[: len(members)].astype(np.int64)
    return labels


def variance_inflation(influence: npt.ArrayLike, members: Collection[Collection[Hashable]]) -> Floats:
    """Return how many times larger a variance is than for independent items, because items share members: (k,), >= 1.

    The variance of a statistic is estimated by the sum of influence[p] * influence[q] over all ordered pairs of items that
    share any member, p = q among them: the dyadic cluster-robust variance (Aronow, Samii and Assenova, Political Analysis
    23, 2015; Cameron and Miller, 2014). For independent items only p = q remain. The ratio of the two is returned.

    It assumes that items without a common member are uncorrelated, also where a third item links them, and many members, of
    which none is in a large part of the items. Where sharing has little effect, or settings move the items of a member in
    opposite directions, the estimate falls below that of independent items, much of it by chance; it may even be negative.
    Then 1 is returned: nothing is ever said to be more certain than for independent items.

    Args:
        influence: (n, k) influence values of the n items on k statistics (`tempscale.statistics.influence`).
        members: what each item has to do with, such as the two sentences of a pair.

    Raises:
        ValueError: members of more or fewer items.

    >>> pairs = [("a", "b"), ("b", "c"), ("d", "e"), ("f", "g")]  # the first two share b
    >>> variance_inflation([[1.0], [1.0], [-1.0], [-1.0]], pairs)  # (1 + 1 + 1 + 1 + 2 * 1 * 1) / 4
    array([1.5])
    """
    psi = np.asarray(influence, dtype=np.float64)
    if len(members) != len(psi):
        raise ValueError(f"expected members for each of {len(psi)} items, not for {len(members)}")
    incidence = _incidence(members)
    shares = (incidence @ incidence.T).tocoo()
    shares.data[:] = shares.row != shares.col  # once, however many members two items share
    independent, between = (psi**2).sum(axis=0), (psi * (shares @ psi)).sum(axis=0)
    inflation: Floats = np.maximum(1, 1 + between / np.where(independent > 0, independent, 1))
    return inflation


def _incidence(members: Collection[Collection[Hashable]]) -> Any:
    """Return the sparse matrix (items, members) of ones where an item has a member."""
    from scipy.sparse import coo_array

    places = {member: n for n, member in enumerate(dict.fromkeys(one for several in members for one in several))}
    edges = [(n, places[member]) for n, several in enumerate(members) for member in several]
    rows, columns = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    return coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(members), len(places))).tocsr()
