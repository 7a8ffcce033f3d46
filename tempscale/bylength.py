"""Scores by the length of the text."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tempscale.store import Store

if TYPE_CHECKING:
    import pandas as pd

EDGES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
UNIT_COLUMNS = [
    "model",
    "task",
    "split",
    "subset",
    "temperature",
    "layers",
    "apply_to",
    "chunk_tokens",
    "max_seq_length",
    "dtype",
    "metric",
]


def by_length(out: str | Path, *, edges: Sequence[int] = EDGES) -> "pd.DataFrame":
    """Return the score of each finished unit in bins of length.

    The score is that of the items in the bin: the mean, or for STS the rank correlation among its pairs. Lengths are in
    tokens, uncut, with special tokens and prompt: of a query's relevant documents (their mean), of a pair's longer text, of
    a row. A task whose score is not one of items (clustering, pair classification, summarisation) is left out.

    Args:
        out: folder that `evaluate` wrote.
        edges: inner edges of the bins, increasing, in tokens; a length that equals an edge belongs to the bin above.

    Returns:
        One row for each unit and bin that has items: the unit's setting, `tokens_from` (0 for the first bin), `tokens_to`
        (exclusive; infinite for the last), `items`, `score` (NaN for a correlation of fewer than 2 pairs).

    Raises:
        FileNotFoundError: no results in the folder.
    """
    import numpy as np
    import pandas as pd

    rows = []
    with Store(out, create=False) as store:
        for unit in store.units().to_dict("records"):
            if unit["statistic"] == "none":
                continue
            items = store.items(unit["id"]).dropna(subset=["tokens"])
            bins = np.digitize(items.tokens, edges)
            for bin_ in np.unique(bins):
                some = items[bins == bin_]
                rows.append(
                    {
                        **{name: unit[name] for name in UNIT_COLUMNS},
                        "tokens_from": 0 if bin_ == 0 else edges[bin_ - 1],
                        "tokens_to": np.inf if bin_ == len(edges) else edges[bin_],
                        "items": len(some),
                        "score": some.score.mean() if unit["statistic"] == "mean" else _spearman(some),
                    }
                )
    return pd.DataFrame(rows, columns=[*UNIT_COLUMNS, "tokens_from", "tokens_to", "items", "score"])


def _spearman(items: "pd.DataFrame") -> float:
    from scipy.stats import spearmanr

    if items.score.nunique() < 2 or items.target.nunique() < 2:
        return float("nan")
    return float(spearmanr(items.score, items.target).statistic)
