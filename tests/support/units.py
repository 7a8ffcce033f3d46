"""Stores of made-up units, as large as one likes."""

import numpy as np

from tempscale.evaluation.store import Item, Measured, Store, Unit


def units(*, tasks, settings, items=40, seed=0):
    """Yield units with what was measured and their items; the first setting of each task is the temperature 1."""
    rng = np.random.default_rng(seed)
    for task in range(tasks):
        before = rng.random(items)
        for setting in range(settings):
            temperature = repr(round(1 - setting / (2 * settings), 4))
            unit = Unit(
                "minilm", "m", f"task{task}", "", "test", "default", temperature, "all", "both", 256, "float32", "d"
            )
            scores = before + (rng.normal(0.01, 0.05, items) if setting else 0)
            measured = Measured(float(scores.mean()), "accuracy", "mean", "cpu", "{}", "", 1.0, 9)
            yield unit, measured, [Item(str(n), 5 * n, float(score)) for n, score in enumerate(scores)]


def write_units(folder, **sizes):
    """Write them into a store."""
    with Store(folder) as store:
        for unit, measured, items in units(**sizes):
            store.add(unit, measured, items)
