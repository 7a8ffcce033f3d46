"""How many pairs `tempscale advise` needs to find the projection's gain: `python advised_gain.py COLLECTIONS OUT`.

COLLECTIONS is second/collections.csv: nDCG@10 of the queries of eleven collections, with eight remedies and without. A set
of 300 to 900 queries is drawn with replacement, and the signs of its differences are flipped at random, for all remedies
together: none helps. Then the projection is planted to, by what it gained in the mean over the collections.

OUT is a table with a row a size: pairs, gain (in nDCG@10), sets, recommended (in how many sets a remedy was), named (in how
many it was the projection) and alone (in how many the projection is recommended where nothing else is tried).
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from tempscale.advice.choice import choose
from tempscale.files import write_table

SETS, PAIRS, RESAMPLES = 500, (300, 600, 750, 900), 1000
REMEDIES = [
    "project",
    "centre",
    "pieces mean",
    "pieces+project",
    "pieces max",
    "pieces mean+max",
    "mean 0.9",
    "mean 0.8",
]


def found(changes: np.ndarray, gain: float, pairs: int) -> dict[str, object]:
    """Return a row, from the changes (8, queries) by each remedy, the projection first."""
    rng = np.random.default_rng([SETS, pairs])
    recommended = named = alone = 0
    for seed in range(SETS):
        drawn = changes[:, rng.integers(changes.shape[1], size=pairs)] * rng.choice([-1, 1], size=pairs)
        drawn[0] += gain
        chosen, only = (
            choose(np.zeros(pairs), tried, clusters=np.arange(pairs), resamples=RESAMPLES, seed=seed).chosen
            for tried in (drawn, drawn[:1])
        )
        recommended += chosen is not None
        named += chosen == 0
        alone += only is not None
    return {"pairs": pairs, "gain": gain, "sets": SETS, "recommended": recommended, "named": named, "alone": alone}


source, out = Path(sys.argv[1]), Path(sys.argv[2])
table = pd.read_csv(source, comment="#")
differences = table[REMEDIES].sub(table["mean 1.0"], axis=0)
gain = differences["project"].groupby(table.collection).mean().mean()
rows = []
for pairs in PAIRS:
    rows.append(found(differences.to_numpy().T, gain, pairs))
    print(*rows[-1].values(), flush=True)
about = {"command": f"python advised_gain.py {source} {out}", "resamples": str(RESAMPLES)}
write_table(pd.DataFrame(rows), out, about)
