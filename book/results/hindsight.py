"""A temperature chosen in hindsight, experiment 6 of the second study: `python hindsight.py STORE ITEMS OUT`.

STORE is a folder of results with the short tasks at all temperatures, ITEMS the items.csv of the first study, which has the
long tasks. OUT is a table, a row a task: the temperature below 1 with the best score, its difference to 1, and what the best
one seems to gain if no temperature changes anything: mean and 95 % quantile over randomisations, which exchange the outcomes
of an item, or of a cluster, at random. The last row is the mean over tasks.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from tempscale.comparison.matching import cells
from tempscale.evaluation.store import Store
from tempscale.files import write_table
from tempscale.statistics.paired import Paired, paired

COLD = ("0.95", "0.9", "0.85", "0.8", "0.7")
LONG = ("LEMBQMSumRetrieval", "DocstringRetrieval", "ImdbClassification")


def of_store(folder: str) -> dict[str, Paired]:
    """Return what resampling says about the cold temperatures on each task of a store, the mean over its subsets."""
    parts: dict[str, list[Paired]] = {}
    with Store(folder, create=False) as store:
        for number, cell in enumerate(cells(store, store.units(), 1.0, None, [])):
            rows = [[setting.temperature for setting in cell.settings].index(tau) + 1 for tau in COLD]
            sets = None if cell.training_sets is None else (cell.training_sets[0], cell.training_sets[rows])
            found = paired(
                cell.scores[0],
                cell.scores[rows],
                target=cell.target,
                members=cell.members,
                training_sets=sets,
                seed=[6, number],
            )
            parts.setdefault(cell.task, []).append(found)
    return {task: Paired.average(found) for task, found in parts.items()}


def of_items(file: str) -> dict[str, Paired]:
    """Return the same of the long tasks."""
    items, found = pd.read_csv(file, comment="#"), {}
    for number, task in enumerate(LONG):
        rows = items[items.task == task]
        clusters = rows.cluster if rows.cluster.notna().all() else None
        after = rows[[f"minilm 512 {tau}" for tau in COLD]].T
        found[task] = paired(rows["minilm 512 1.0"], after, clusters=clusters, seed=[7, number])
    return found


store, items, out = sys.argv[1:]
tasks = of_store(store) | of_items(items)
rows, best = [], np.mean([sample.null.max(axis=1) for sample in tasks.values()], axis=0)
for task, sample in tasks.items():
    null = sample.null.max(axis=1)
    rows.append(
        {
            "task": task,
            "baseline": sample.baseline,
            "temperature": COLD[int(sample.difference.argmax())],
            "gain": sample.difference.max(),
            "by_chance": null.mean(),
            "by_chance_95": np.quantile(null, 0.95),
        }
    )
table = pd.DataFrame(rows)
mean = {"task": "MEAN", "temperature": "each", "by_chance_95": np.quantile(best, 0.95)}
mean |= {name: table[name].mean() for name in ("baseline", "gain", "by_chance")}
about = {"command": f"python hindsight.py {' '.join(sys.argv[1:])}"}
write_table(pd.concat([table, pd.DataFrame([mean])]), Path(out), about, digits=5)
