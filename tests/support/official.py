"""Embeddings of the paper's own code, as numbers to agree with. Not a test: it made tests/data/official_minilm.npz.

Run it in the environment of the paper's repository (sentence-transformers 3.0.1), since its code fails with newer ones:

    python tests/support/official.py LENGTH_COLLAPSE/src MINILM tests/data/official_minilm.npz

LENGTH_COLLAPSE is a checkout of github.com/Yuqi-Zhou/Length_Collapse, MINILM the folder of all-MiniLM-L6-v2. Nothing of that
code is kept here, only what it computes.
"""

import json
import random
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

TEMPERATURES = (1.0, 0.9, 0.8, 0.5)
WORDS = [
    "attention",
    "averages",
    "tokens",
    "and",
    "long",
    "texts",
    "keep",
    "their",
    "mean",
    "while",
    "short",
    "ones",
    "keep",
    "what",
    "tells",
    "them",
    "apart",
    "a",
    "filter",
    "passes",
    "low",
    "frequencies",
    "the",
    "temperature",
    "divides",
    "logits",
    "before",
    "softmax",
    "so",
    "sharp",
    "rows",
    "look",
    "at",
    "few",
    "words",
    "and",
    "flat",
    "rows",
    "at",
    "all",
]


def texts() -> list[str]:
    """Return 24 texts of 4 to 487 words, the same on every machine."""
    generator = random.Random(0)
    return [" ".join(generator.choices(WORDS, k=4 + 21 * index)) + "." for index in range(24)]


if __name__ == "__main__":
    source, folder, out = sys.argv[1:]
    sys.path.insert(0, source)
    from model import TemperatureSentenceTransformer

    embeddings = []
    for temperature in TEMPERATURES:
        model = TemperatureSentenceTransformer(folder, temperature=temperature)
        model.max_seq_length = 512
        embeddings.append(model.encode(texts(), batch_size=8, device="cpu"))
    provenance = {
        "code": "github.com/Yuqi-Zhou/Length_Collapse, src/model.py at bab0abf03a567981bfb39d1b9f6fbe7924266ca8",
        "model": "all-MiniLM-L6-v2, max_seq_length 512, float32, cpu",
        "packages": {name: version(name) for name in ("torch", "transformers", "sentence-transformers", "numpy")},
        "command": "python tests/support/official.py LENGTH_COLLAPSE/src MINILM tests/data/official_minilm.npz",
    }
    np.savez_compressed(Path(out), embeddings=np.stack(embeddings), provenance=json.dumps(provenance))
