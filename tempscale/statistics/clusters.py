"""Which items are not independent of each other."""

from collections.abc import Collection, Hashable

import numpy as np
import numpy.typing as npt


def sharing(members: Collection[Collection[Hashable]]) -> npt.NDArray[np.int64]:
    """Return a label for each item, (n,): equal for those that share a member, directly or through others.

    Args:
        members: what each item has to do with, such as the relevant documents of a query.

    >>> sharing([["a"], ["b", "c"], ["c"], []]).tolist()
    [0, 1, 1, 2]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    places = {member: n for n, member in enumerate(dict.fromkeys(one for several in members for one in several))}
    edges = [(n, len(members) + places[member]) for n, several in enumerate(members) for member in several]
    rows, columns = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    size = len(members) + len(places)
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    labels: npt.NDArray[np.int64] = component[: len(members)].astype(np.int64)
    return labels
