"""Remedies on collections that did not suggest them, experiments 2, 5 and 7 of the second study.

python remedies.py OUT [MODEL]

With a MODEL, a slow one, only what takes whole texts at temperature 1 is measured. Embeddings are kept in OUT/vectors, so
that a call that was interrupted goes on. OUT gets three tables:

collections.csv: a row a query; collection, query, tokens of its document, and nDCG@10 by setting.
unlabelled.csv: projections fitted on few texts, or on another collection; fitted_on, collection, texts a side ("all": all of
    them), draw, and the gain in nDCG@10 over no projection.
sides.csv: a row a collection; the cosine between the mean embeddings of queries and documents.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track

from tempscale import PerSide, Pieces, Projection, Remedy, docstrings, load_model, patch, piece_vectors
from tempscale.advice.ranking import ndcg
from tempscale.embeddings.postprocess import Centring
from tempscale.embeddings.sides import CrossFitted
from tempscale.embeddings.sides import unit_again as unit
from tempscale.encoding.cutting import count_tokens
from tempscale.files import write_table

COLLECTIONS = (
    "datasets",
    "huggingface_hub",
    "IPython",
    "networkx",
    "polars",
    "ray",
    "sentence_transformers",
    "sqlalchemy",
    "sympy",
    "tornado",
    "transformers",
)
PAIRS, MIN_TOKENS, TEMPERATURES = 300, 24, (1.0, 0.9, 0.8)
FEW, DRAWS = (20, 50, 200), 10


def first_and_mean(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the state of the first token, and the mean over tokens, of the last layer: (n, d) each."""
    states = model.encode(texts, output_value="token_embeddings", convert_to_numpy=False)
    return tuple(
        unit(np.stack([one(state.double()).numpy() for state in states]))
        for one in (lambda s: s[0], lambda s: s.mean(0))
    )


def first_tokens(text: str, count: int) -> str:
    """Return the beginning of a text that has so many tokens."""
    ends = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return text[: ends[count - 1][1]] if len(ends) > count else text


def vectors_of(package: str) -> dict[str, np.ndarray]:
    """Return the embeddings of a collection in all ways of reading, which are kept in a file."""
    file = out / "vectors" / f"{package}.npz"
    if file.exists():
        return dict(np.load(file))
    pairs = docstrings([package], min_tokens=MIN_TOKENS)
    pairs = pairs[pairs.pair].sample(PAIRS, random_state=0)
    queries = pairs.summary.tolist()
    found = {"tokens": np.array(count_tokens(model, pairs.body.tolist()))}
    documents = [first_tokens(body, 510) for body in pairs.body]  # for pieces, too: equal budget
    model.max_seq_length = 256
    for tau in temperatures:
        with patch(model, tau):
            for side, texts in (("query", queries), ("document", documents)):
                found[f"{side} {tau} first"], found[f"{side} {tau} mean"] = first_and_mean(texts)
    if len(temperatures) > 1:
        found |= otherwise_read(documents)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **found)
    return found


def otherwise_read(documents: list[str]) -> dict[str, np.ndarray]:
    """Return embeddings of documents cut at 512 and at 128 tokens, and of their pieces."""
    found = {}
    model.max_seq_length = 512
    found["document 512"] = model.encode(documents)
    for label, pieces in {"pieces": Pieces(128), "late": Pieces(128, late=True)}.items():
        found[f"{label} vectors"], found[f"{label} rows"] = piece_vectors(model, Remedy(pieces=pieces), documents)
    model.max_seq_length = 128
    found["document 128"] = model.encode(documents)
    return found


def by_pieces(queries: np.ndarray, vectors: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the similarities of queries and documents by the mean piece, the best one, and the mean of both."""
    names = np.arange(PAIRS)
    mean = queries @ unit(np.stack([vectors[rows == row].mean(0) for row in names])).T
    each = queries @ vectors.T
    best = np.stack([each[:, rows == row].max(1) for row in names], axis=1)
    return {"mean": mean, "max": best, "mean+max": (mean + best) / 2}


def scored(similarities: np.ndarray) -> np.ndarray:
    """Return nDCG@10 of each query, whose document is in its own row."""
    return ndcg(similarities, np.eye(PAIRS), [{row: 1.0} for row in range(PAIRS)])


def crossed(queries: np.ndarray, documents: np.ndarray, step: Centring | Projection) -> np.ndarray:
    """Return the similarities after a step on each side, fitted on the other half of its texts."""
    names = {"query": [f"q{row}" for row in range(PAIRS)], "document": [f"d{row}" for row in range(PAIRS)]}
    fitted = CrossFitted(step, {"query": (names["query"], queries), "document": (names["document"], documents)})
    return (
        fitted.transform(names["query"], queries, "query")
        @ fitted.transform(names["document"], documents, "document").T
    )


def by_setting(v: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return nDCG@10 of each query of a collection by setting."""
    queries = v["query 1.0 mean"]
    whole, found = v["document 1.0 mean"], {}
    for kind in ("mean", "first"):
        for tau in temperatures:
            found[f"{kind} {tau}"] = v[f"query {tau} {kind}"] @ v[f"document {tau} {kind}"].T
    found["centre"], found["project"] = (crossed(queries, whole, step) for step in (Centring(), Projection()))
    if len(temperatures) > 1:
        found["whole 512"], found["cut 128"] = queries @ v["document 512"].T, queries @ v["document 128"].T
        for label in ("pieces", "late"):
            ways = by_pieces(queries, v[f"{label} vectors"], v[f"{label} rows"])
            found |= {f"{label} {pool}": similarities for pool, similarities in ways.items()}
        means = unit(np.stack([v["pieces vectors"][v["pieces rows"] == row].mean(0) for row in range(PAIRS)]))
        found["pieces+project"] = crossed(queries, means, Projection())
    return pd.DataFrame({"tokens": v["tokens"]} | {name: scored(similarities) for name, similarities in found.items()})


def gain(v: dict[str, np.ndarray], sides: PerSide) -> float:
    """Return the mean gain in nDCG@10 of a fitted projection."""
    queries, documents = v["query 1.0 mean"], v["document 1.0 mean"]
    after = sides.transform(queries, "query") @ sides.transform(documents, "document").T
    return float((scored(after) - scored(queries @ documents.T)).mean())


out = Path(sys.argv[1])
model = load_model(sys.argv[2] if len(sys.argv) > 2 else "minilm", device="cpu")
temperatures = TEMPERATURES if len(sys.argv) == 2 else (1.0,)
vectors = {package: vectors_of(package) for package in track(COLLECTIONS, "Reading")}
scores = [by_setting(v).rename_axis("query").reset_index().assign(collection=package) for package, v in vectors.items()]
cosines, unlabelled = [], []
for package, v in track(vectors.items(), "Projections"):
    sides = {side: v[f"{side} 1.0 mean"] for side in ("query", "document")}
    means = [x.mean(0) for x in sides.values()]
    cosines.append({"collection": package, "cosine": means[0] @ means[1] / np.prod(np.linalg.norm(means, axis=1))})
    for texts in FEW:
        rng = np.random.default_rng(0)
        for draw in range(DRAWS):
            few = {side: x[rng.choice(PAIRS, texts, replace=False)] for side, x in sides.items()}
            row = {"fitted_on": package, "collection": package, "texts": texts, "draw": draw}
            unlabelled.append(row | {"gain": gain(v, PerSide(Projection()).fit_sides(few))})
    fitted = PerSide(Projection()).fit_sides(sides)
    for other, w in vectors.items():
        row = {"fitted_on": package, "collection": other, "texts": "all", "draw": 0}
        unlabelled.append(row | {"gain": gain(w, fitted)})
about = {"command": f"python remedies.py {' '.join(sys.argv[1:])}"}
tables = {"collections": pd.concat(scores), "unlabelled": pd.DataFrame(unlabelled), "sides": pd.DataFrame(cosines)}
for name, table in tables.items():
    write_table(table, out / f"{name}.csv", about, digits=6)
