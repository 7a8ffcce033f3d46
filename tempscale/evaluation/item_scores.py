"""The scores of single queries, pairs and rows, caught while mteb computes the score of a task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tempscale.encoding.encoder import Request
from tempscale.evaluation.store import Item

# mteb rounds the scores of retrieval to five digits.
ROUNDING = 1e-5

# Of what mteb requests a score, as pytrec_eval requests it for a query: ndcg_at_10 -> ndcg_cut_10.
_OF_QUERY = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}


@dataclass
class Caught:
    """What mteb computed on the way: for each query of a retrieval task, pair of STS, or classification experiment."""

    queries: dict[str, dict[str, float]] = field(default_factory=dict)
    relevant: dict[str, dict[str, int]] = field(default_factory=dict)
    cosines: list[float] = field(default_factory=list)
    gold: list[float] = field(default_factory=list)
    right: list[Any] = field(default_factory=list)


@contextmanager
def catching(task: Any) -> Iterator[Caught]:
    """Listen to the methods of a task that see the scores of its items, while it is evaluated."""
    from mteb.abstasks import AbsTaskClassification, AbsTaskRetrieval, AbsTaskSTS

    caught = Caught()

    def of_queries(scores: Any, relevant: Any, results: Any, **kwargs: Any) -> None:
        caught.queries, caught.relevant = scores, relevant

    def of_pairs(scores: Any, gold: Any) -> None:
        caught.cosines = scores["cosine_scores"]
        caught.gold = [task.min_score + share * (task.max_score - task.min_score) for share in gold]

    def of_rows(expected: Any, predicted: Any) -> None:
        caught.right.append(np.asarray(list(expected)) == np.asarray(predicted))

    listeners: dict[type, tuple[str, Callable[..., None]]] = {
        AbsTaskRetrieval: ("task_specific_scores", of_queries),
        AbsTaskSTS: ("_calculate_scores", of_pairs),
        AbsTaskClassification: ("_calculate_scores", of_rows),
    }
    found = [listener for kind, listener in listeners.items() if isinstance(task, kind)]
    for name, listen in found:
        setattr(task, name, _both(listen, getattr(task, name)))
    try:
        yield caught
    finally:
        for name, _ in found:
            vars(task).pop(name)


def _both(listen: Callable[..., None], method: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        listen(*args, **kwargs)
        return method(*args, **kwargs)

    return call


def items_of(caught: Caught, requests: list[Request], metric: str) -> list[Item]:
    """Return the items of a unit, with their lengths; none for kinds of tasks whose score is not one of items.

    The length of a query is that of its relevant documents, their mean if there are several; that of a pair is its longer
    text's.
    """
    if caught.queries:
        return _queries(caught, requests, metric)
    if caught.cosines and len(requests) == 2:
        pairs = zip(requests[0].tokens, requests[1].tokens, caught.cosines, caught.gold, strict=True)
        return [Item(str(index), max(one, two), cosine, gold) for index, (one, two, cosine, gold) in enumerate(pairs)]
    # Cross-validation has other rows in every experiment.
    if caught.right and all(len(right) == len(requests[-1].tokens) for right in caught.right):
        shares = np.mean(caught.right, axis=0)
        return [
            Item(str(row), tokens, share)
            for row, (tokens, share) in enumerate(zip(requests[-1].tokens, shares, strict=True))
        ]
    return []


def _queries(caught: Caught, requests: list[Request], metric: str) -> list[Item]:
    name, _, cut = metric.partition("_at_")
    key = f"{_OF_QUERY.get(name, name)}_{cut}"
    if any(key not in scores for scores in caught.queries.values()):
        return []
    documents = [call for call in requests if call.side == "document" and call.ids]
    lengths = {id_: tokens for call in documents for id_, tokens in zip(call.ids or (), call.tokens, strict=True)}
    relevant = {
        query: [id_ for id_, grade in caught.relevant.get(query, {}).items() if grade > 0]
        for query in sorted(caught.queries)
    }
    items = []
    for (query, wanted), cluster in zip(relevant.items(), _clusters(relevant), strict=True):
        found = [lengths[id_] for id_ in wanted if id_ in lengths]
        items.append(Item(query, round(np.mean(found)) if found else None, caught.queries[query][key], None, cluster))
    return items


def _clusters(relevant: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a label for each query: equal for those that share a relevant document, directly or through others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    documents = {id_: n for n, id_ in enumerate(dict.fromkeys(id_ for wanted in relevant.values() for id_ in wanted))}
    edges = [(n, len(relevant) + documents[id_]) for n, wanted in enumerate(relevant.values()) for id_ in wanted]
    rows, columns = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    size = len(relevant) + len(documents)
    _, component = connected_components(coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size)), False)
    return [f"cluster {n}" for n in component[: len(relevant)]]


def statistic_of(items: list[Item], main_score: float) -> Literal["mean", "spearman", "none"]:
    """Return the statistic over the items that is the main score, tried out: "mean", "spearman", or else "none"."""
    from scipy.stats import spearmanr

    if len(items) < 2:
        return "none"
    scores = [item.score for item in items]
    if items[0].target is None:
        return "mean" if abs(np.mean(scores) - main_score) <= ROUNDING else "none"
    correlation = spearmanr(scores, [item.target for item in items]).statistic
    return "spearman" if abs(correlation - main_score) <= ROUNDING else "none"
