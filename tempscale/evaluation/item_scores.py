"""The scores of single queries, pairs and rows, caught while mteb computes the score of a task."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tempscale.encoding.encoder import Request
from tempscale.evaluation.store import Item
from tempscale.statistics.clusters import sharing

# mteb rounds the scores of retrieval to five digits.
ROUNDING = 1e-5

# Of what mteb requests a score, as pytrec_eval requests it for a query: ndcg_at_10 -> ndcg_cut_10.
_OF_QUERY = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "precision": "P", "hit_rate": "success"}

# Columns that may name the collection of a row, those that do so more exactly first.
_SOURCE = ("source", "dataset", "genre", "domain", "file")
# Columns that may name the two texts of a pair.
_TEXT_IDS = (("id1", "id2"), ("sid1", "sid2"), ("sentence1_id", "sentence2_id"), ("text1_id", "text2_id"))


@dataclass
class Caught:
    """What mteb computed on the way: for each query of a retrieval task, pair of STS, or classification experiment.

    `columns` are those of the data that hold neither the texts nor the labels.
    """

    queries: dict[str, dict[str, float]] = field(default_factory=dict)
    relevant: dict[str, dict[str, int]] = field(default_factory=dict)
    cosines: list[float] = field(default_factory=list)
    gold: list[float] = field(default_factory=list)
    right: list[Any] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)


@contextmanager
def catching(task: Any) -> Iterator[Caught]:
    """Listen to the methods of a task that see the scores of its items, while it is evaluated."""
    from mteb.abstasks import AbsTaskClassification, AbsTaskRegression, AbsTaskRetrieval, AbsTaskSTS

    caught = Caught()

    def of_queries(scores: Any, relevant: Any, results: Any, **kwargs: Any) -> None:
        caught.queries, caught.relevant = scores, relevant

    def of_pairs(scores: Any, gold: Any) -> None:
        caught.cosines = scores["cosine_scores"]
        caught.gold = [task.min_score + share * (task.max_score - task.min_score) for share in gold]

    def of_rows(expected: Any, predicted: Any, *_: Any) -> None:  # mteb passes more where a row has several labels
        right = np.asarray(list(expected)) == np.asarray(predicted)
        caught.right.append(right if right.ndim == 1 else right.all(axis=1))

    listeners: dict[type, tuple[str, Callable[..., None]]] = {
        AbsTaskRetrieval: ("task_specific_scores", of_queries),
        AbsTaskSTS: ("_calculate_scores", of_pairs),
        AbsTaskClassification: ("_calculate_scores", of_rows),
    }
    found = [listener for kind, listener in listeners.items() if isinstance(task, kind)]
    if isinstance(task, AbsTaskRegression):  # to mteb a classification, but no row is right or wrong
        found = []
    for name, listen in found:
        setattr(task, name, _both(listen, getattr(task, name)))
    try:
        yield caught
        if found:
            caught.columns = _columns(task)
    finally:
        for name, _ in found:
            vars(task).pop(name)


def _columns(task: Any) -> dict[str, list[Any]]:
    """Return what the data of a task's only split and subset say of the items besides texts and labels."""
    (subset,), (split,) = task.hf_subsets, task.eval_splits
    rows = task.dataset.get(subset, task.dataset)[split]
    if isinstance(rows, dict):
        rows = rows["queries"]
    wanted = {"id", *_SOURCE, *(name for names in _TEXT_IDS for name in names)}
    of_task = [getattr(task, name, None) for name in ("column_names", "input_column_name", "label_column_name")]
    used = {str(name) for names in of_task for name in ([names] if isinstance(names, str) else names or ())}
    return {name: list(rows[name]) for name in rows.column_names if name in wanted - used}


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
        tokens = map(max, requests[0].tokens, requests[1].tokens)
        texts = _pair_ids(caught.columns, requests[0].texts, requests[1].texts)
        pairs = zip(tokens, caught.cosines, caught.gold, _sources(caught, len(texts)), texts, strict=True)
        return [
            Item(str(row), longer, cosine, gold, source=source, texts=ids)
            for row, (longer, cosine, gold, source, ids) in enumerate(pairs)
        ]
    # Cross-validation has other rows in every experiment.
    if caught.right and all(len(right) == len(requests[-1].tokens) for right in caught.right):
        shares = np.mean(caught.right, axis=0)
        rows = zip(requests[-1].tokens, shares, _sources(caught, len(shares)), strict=True)
        return [Item(str(row), tokens, share, source=source) for row, (tokens, share, source) in enumerate(rows)]
    return []


def _sources(caught: Caught, count: int) -> list[str | None]:
    """Return the collection of each of so many rows, None where the data do not say it."""
    for name in _SOURCE:
        if len(caught.columns.get(name, ())) == count:
            return [None if value is None else str(value) for value in caught.columns[name]]
    return [None] * count


def _pair_ids(columns: Mapping[str, list[Any]], first: list[str], second: list[str]) -> list[str]:
    """Return the ids of the two texts of each pair, as the data name them, or else hashes of the texts.

    >>> _pair_ids({"id1": [3, 4], "id2": ["a b", 3]}, ["x", "y"], ["z", "x"])
    ['3 a_b', '4 3']
    """
    texts = [*first, *second]
    ids = [hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12] for text in texts]
    for one, two in _TEXT_IDS:
        if len(columns.get(one, ())) == len(columns.get(two, ())) == len(first):
            named = ["_".join(str(name).split()) for name in (*columns[one], *columns[two])]
            # Numbers that start anew in each column, or are missing, do not name texts.
            if all(named) and len(set(zip(named, texts, strict=True))) == len(set(named)):
                ids = named
                break
    return [f"{id_} {other}" for id_, other in zip(ids[: len(first)], ids[len(first) :], strict=True)]


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
    ids = caught.columns.get("id", [])
    source = dict(zip(map(str, ids), _sources(caught, len(ids)), strict=True))
    items = []
    for (query, wanted), cluster in zip(relevant.items(), _clusters(relevant), strict=True):
        found = [lengths[id_] for id_ in wanted if id_ in lengths]
        tokens = round(np.mean(found)) if found else None
        items.append(Item(query, tokens, caught.queries[query][key], None, cluster, source.get(query)))
    return items


def _clusters(relevant: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a label for each query: equal for those that share a relevant document, directly or through others."""
    return [f"cluster {n}" for n in sharing(relevant.values())]


def statistic_of(items: list[Item], main_score: float) -> Literal["mean", "spearman", "none"]:
    """Return the statistic over the items that is the main score, tried out: "mean", "spearman", or else "none"."""
    from scipy.stats import spearmanr

    if len(items) < 2 or not np.isfinite(main_score):
        return "none"
    scores = [item.score for item in items]
    if items[0].target is None:
        return "mean" if abs(np.mean(scores) - main_score) <= ROUNDING else "none"
    correlation = spearmanr(scores, [item.target for item in items]).statistic
    return "spearman" if abs(correlation - main_score) <= ROUNDING else "none"
