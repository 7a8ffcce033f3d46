"""How often advice is wrong, and how often it finds a gain: `python advised_rates.py SCORES OUT`.

SCORES is a table of nDCG@10 with the columns query, cluster, none (without a remedy) and one column for each remedy, as
`tempscale advise` writes it. A set of 40, 100 or 300 queries is drawn by clusters with replacement, the last cluster cut off
at that number. The signs of its differences are flipped at random, for all remedies together and by cluster: none helps.
Or, with 300 queries, one is planted to: 3 points are added to all its differences.

OUT is a table with a row a cell: pairs, kind (flipped or planted), planted, sets, rejected (share of the sets where the
randomisation test alone finds something), recommended (how many), share, standard_error and named (how many name the
planted remedy).
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from tempscale.advice.choice import choose
from tempscale.files import write_table

SETS, GAIN, PAIRS, RESAMPLES = 500, 0.03, (40, 100, 300), 1000


def null_sets(table: pd.DataFrame, remedies: list[str], pairs: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield differences (k, pairs) with flipped signs, and the clusters (pairs,)."""
    groups = [group.to_numpy().T for _, group in table[remedies].sub(table["none"], axis=0).groupby(table["cluster"])]
    rng = np.random.default_rng([SETS, pairs])
    for _ in range(SETS):
        drawn = [groups[k] * rng.choice([-1, 1]) for k in rng.integers(len(groups), size=pairs)]
        clusters = np.repeat(np.arange(pairs), [group.shape[1] for group in drawn])
        yield np.concatenate(drawn, axis=1)[:, :pairs], clusters[:pairs]


def cell(table: pd.DataFrame, remedies: list[str], pairs: int, planted: str | None) -> dict[str, object]:
    """Return a row of the results."""
    gain = np.array([[GAIN * (remedy == planted)] for remedy in remedies])
    found = [
        choose(np.zeros(pairs), change + gain, clusters=clusters, resamples=RESAMPLES, seed=seed)
        for seed, (change, clusters) in enumerate(null_sets(table, remedies, pairs))
    ]
    chosen = [remedies[choice.chosen] for choice in found if choice.chosen is not None]
    share = len(chosen) / SETS
    return {
        "pairs": pairs,
        "kind": "planted" if planted else "flipped",
        "planted": planted,
        "sets": SETS,
        "rejected": np.mean([choice.p <= 0.05 for choice in found]),
        "recommended": len(chosen),
        "share": share,
        "standard_error": round(np.sqrt(share * (1 - share) / SETS), 4),
        "named": chosen.count(planted) if planted else None,
    }


scores, out = Path(sys.argv[1]), Path(sys.argv[2])
table = pd.read_csv(scores, comment="#")
remedies = [column for column in table.columns if column not in ("query", "cluster", "none")]
rows = []
for pairs in PAIRS:
    for planted in (None, *(remedies if pairs == max(PAIRS) else ())):
        rows.append(cell(table, remedies, pairs, planted))
        print(*rows[-1].values(), flush=True)
about = {"command": f"python advised_rates.py {scores} {out}", "resamples": str(RESAMPLES)}
write_table(pd.DataFrame(rows), out, about)
