"""Measure how well patched models agree with the oracle, for the book's table. Not a test.

    python tests/support/agreement.py

in an environment writes book/results/agreement-TRANSFORMERS.csv for its version of transformers: a row for each
architecture and attention implementation, the largest error over the temperatures, in float32 on outputs of order 1.
"""

import sys
from pathlib import Path

import pandas as pd
import pytest
import transformers
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.architectures import ARCHITECTURES
from support.oracle import agreement
from tempscale import LogLength, patch

TEMPERATURES = (0.5, 0.8, 1.0, 1.3)
RESULTS = Path(__file__).parents[2] / "book" / "results"


def measure(row, implementation):
    """Return a line of the table, or None where the model has no such attention."""
    try:
        model, reference = row.build(implementation), row.build("eager")
    except pytest.skip.Exception:
        return None
    with patch(model, 1.0) as active:
        uniform = [source.attribute for source in active.sites[0].sources]
        found = []
        for temperature in TEMPERATURES:
            active.temperature = temperature
            found.append(agreement(model, lambda dtype: reference, temperature))
        active.temperature = LogLength(128)
        by_length = [source.attribute for source in active.sites[0].sources]
    return {
        "architecture": row.name,
        "implementation": implementation,
        "divided": " and ".join(uniform),
        "divided by length": " and ".join(by_length),
        "error": max(one.error for one in found),
        "floor": max(one.floor for one in found),
        "effect": max(one.effect for one in found),
    }


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    pairs = [(row, implementation) for row in ARCHITECTURES for implementation in ("eager", "sdpa")]
    lines = [measure(*pair) for pair in track(pairs, "Architectures")]
    RESULTS.mkdir(exist_ok=True)
    table = pd.DataFrame([line for line in lines if line])
    table.to_csv(RESULTS / f"agreement-{transformers.__version__}.csv", index=False, float_format="%.3g")
