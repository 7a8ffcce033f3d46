"""Measure how well patched models agree with the oracle, for the book's table. Not a test.

    python tests/support/agreement.py

in an environment writes book/results/agreement-TRANSFORMERS.csv for its version of transformers: a row for each
architecture and attention implementation, what its weights can hold, and the largest error over the temperatures, in
float32 on outputs of order 1. And it writes book/results/agreement.csv, a row for each family, from the newest of these
tables.
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
from tempscale import LogLength, PerLayer, UnsupportedModelError, fold, patch

# Who wants to know what holds for a model looks for its name, so families are those of names, not of mechanisms.
FAMILIES = {
    "BERT": "BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA, DistilBERT, ALBERT, RoFormer, RemBERT, MobileBERT, Megatron-BERT, "
    "ESM, SqueezeBERT",
    "MPNet": "MPNet",
    "DeBERTa": "DeBERTa v1; DeBERTa v2, v3; DeBERTa v2, own positions",
    "T5": "T5; mT5; UMT5; LongT5, local; LongT5, global",
    "ModernBERT": "ModernBERT",
    "newer encoders": "NomicBERT, GTE, Jina v3, EuroBERT",
    "decoders": "Qwen2, Qwen3, Mistral, Llama, OPT",
    "Gemma": "Gemma 2, Gemma 3, EmbeddingGemma, EmbeddingGemma 2",
    "text towers": "CLIP, SigLIP",
    "sparse or low-rank": "Longformer; LED; BigBird, sparse; BigBird, full; Nystromformer",
    "ALiBi": "Bloom, MPT",
    "XLNet": "XLNet",
}
TEMPERATURES = (0.5, 0.8, 1.0, 1.3)
RESULTS = Path(__file__).parents[2] / "book" / "results"


def members(family):
    """Return the architectures of a family; those with a comma in the name are listed with semicolons."""
    names = FAMILIES[family]
    return names.split("; ") if ";" in names else names.split(", ")


def foldable(row):
    """Return what the weights of an architecture can hold: temperatures by layer, one for all layers, or none."""

    def holds(schedule):
        try:
            fold(row.build("eager"), schedule)
        except UnsupportedModelError:
            return False
        return True

    if not holds(0.7):
        return "no"
    return "by layer" if row.sites != 1 and holds(PerLayer({-1: 0.7})) else "one for all"


def summary(table):
    """Return a row for each family from the table of one version of transformers."""
    rows = []
    for family in FAMILIES:
        part = table[table.architecture.isin(members(family))]
        held = part.drop_duplicates("architecture").set_index("architecture").fold
        most = held.value_counts().index[0]
        exceptions = "; ".join(f"{name}: {value}" for name, value in held.items() if value != most)
        divided = dict.fromkeys(" and ".join(part.divided).split(" and "))
        rows.append(
            {
                "family": family,
                "architectures": FAMILIES[family],
                "divided": ", ".join(divided),
                "fold": f"{most} ({exceptions})" if exceptions else most,
                "error": part.error.max(),
            }
        )
    return pd.DataFrame(rows)


def newest():
    """Return the table of the newest version of transformers that was measured."""
    files = RESULTS.glob("agreement-*.csv")
    return pd.read_csv(max(files, key=lambda file: [int(part) for part in file.stem.partition("-")[2].split(".")]))


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
        "fold": foldable(row),
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
    summary(newest()).to_csv(RESULTS / "agreement.csv", index=False, float_format="%.3g")
