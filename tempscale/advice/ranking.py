"""Scores of queries from a matrix of similarities: nDCG at 10, as mteb computes it for texts."""

from collections.abc import Mapping, Sequence

import numpy as np

from tempscale.statistics.intervals import Floats

RANKS = 10
_BLOCK = 2**25  # similarities at once


def ndcg(queries: Floats, documents: Floats, relevant: Sequence[Mapping[int, float]]) -> Floats:
    """Return nDCG at 10 of each query, (n,), with documents ranked by the inner product.

    Args:
        queries: (n, d).
        documents: (m, d).
        relevant: for each query the grades of its documents, above 0, by their rows.

    Source: Järvelin and Kekäläinen 2002, with linear gains, as in trec_eval.

    >>> ndcg(np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8]]), [{1: 1}, {2: 1}]).round(4)
    array([1.    , 0.6309])
    """
    top = min(RANKS, len(documents))
    discounts = 1 / np.log2(np.arange(top) + 2)
    found = np.empty(len(queries))
    size = max(1, _BLOCK // len(documents))
    for start in range(0, len(queries), size):
        scores = queries[start : start + size] @ documents.T
        best = np.argpartition(-scores, top - 1, axis=1)[:, :top]
        order = np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable"), 1)
        for row, ranked in enumerate(order, start):
            grades = relevant[row]
            gains = np.array([grades.get(int(document), 0.0) for document in ranked])
            ideal = np.sort(np.fromiter(grades.values(), dtype=np.float64))[::-1][:top]
            found[row] = gains @ discounts / (ideal @ discounts[: len(ideal)])
    return found
