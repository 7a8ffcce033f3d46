"""Retrieval at fixed information, experiment 1 of the second study: `python fixed_information.py DATA OUT`.

Options name a model, and fewer settings, readings or collections for a slow one. DATA is a folder with SciFact. Embeddings
are kept in OUT/embeddings, so that a call that was interrupted goes on. OUT gets fixed_information.csv, a row for each
query, setting and long reading: collection, query, document, setting, reading, all_cut and all_long (nDCG@10 in an index
where all documents are read that way), cut_in_mixed and long_in_mixed (the mean over 80 mixed indexes, by how the query's
own document is read), and mixed (the mean over all of them).
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track

from tempscale import Projection, docstrings, load_model, patch
from tempscale.advice.ranking import ndcg
from tempscale.embeddings.controls import content_ids, embed_ids, pad_to, repeat_to
from tempscale.embeddings.sides import unit_again as unit
from tempscale.files import write_table

CUT, LONG, HALVES = 64, 256, 40
PACKAGES = ("networkx", "polars", "sympy", "transformers")
TEMPERATURES = (1.0, 0.8, 0.9, 1.2)
FROM_CUT = "project from cut"  # fitted on the short readings of all documents, which the index need not hold
SETTINGS = [*map(str, TEMPERATURES), "pieces(64)", "project", FROM_CUT, "pieces(64)+project"]
FILLER = (
    "This document may be used and shared freely. It is offered as it is, without a warranty of any kind. The page "
    "continues below. More can be found on the next page. "
)


def of_packages() -> tuple[list[str], list[str], list[int]]:
    """Return queries, documents and the row of each query's document: a hundred docstrings a package."""
    found = []
    for package in PACKAGES:
        pairs = docstrings([package])
        pairs = pairs[pairs.pair]
        long = [len(ids) >= LONG for ids in content_ids(model, pairs.body.tolist())]
        found.append(pairs[long].sample(100, random_state=0))
    table = pd.concat(found)
    return table.summary.tolist(), table.body.tolist(), list(range(len(table)))


def of_scifact(folder: Path) -> tuple[list[str], list[str], list[int]]:
    """Return the same of SciFact: claims with one relevant document, which is long, and 200 long documents more."""
    corpus, queries, judged = (pd.read_parquet(folder / f"{name}.parquet") for name in ("corpus", "queries", "qrels"))
    corpus, queries, judged = (
        table.set_axis([c.lstrip("_") for c in table], axis=1) for table in (corpus, queries, judged)
    )
    corpus["full"] = (corpus.title + " " + corpus.text).str.strip()
    long = [len(ids) >= LONG for ids in content_ids(model, corpus.full.tolist())]
    texts = corpus[long].set_index(corpus.id[long].astype(str)).full
    judged = judged.astype({"query-id": str, "corpus-id": str})
    judged = judged[
        (judged.score > 0) & ~judged["query-id"].duplicated(keep=False) & judged["corpus-id"].isin(texts.index)
    ]
    wanted = judged["corpus-id"].unique()
    others = texts.drop(wanted).sample(200, random_state=0).index
    rows = pd.Series(range(len(wanted)), index=wanted)
    asked = queries.set_index(queries.id.astype(str)).text
    return asked[judged["query-id"]].tolist(), texts[[*wanted, *others]].tolist(), rows[judged["corpus-id"]].tolist()


def readings(ids: list[list[int]]) -> dict[str, list[list[int]]]:
    """Return what is read of each document, by the name of the reading."""
    filler = content_ids(model, [FILLER])[0]
    other = [ids[(row + 1) % len(ids)] for row in range(len(ids))]
    return {
        "cut": [one[:CUT] for one in ids],
        "whole": [one[:LONG] for one in ids],
        "repeated": [repeat_to(one[:CUT], LONG) for one in ids],
        "padded": [pad_to(one[:CUT], LONG, filler) for one in ids],
        "distracted": [[*one[:CUT], *foreign[: LONG - CUT]] for one, foreign in zip(ids, other, strict=True)],
    }


def in_pieces(read: list[list[int]]) -> np.ndarray:
    """Embed each text as the mean of its pieces of CUT tokens; equal pieces are embedded once."""
    pieces = [[tuple(one[start : start + CUT]) for start in range(0, len(one), CUT)] for one in read]
    each = sorted({piece for several in pieces for piece in several})
    vectors = dict(zip(each, unit(embed_ids(model, each)), strict=True))
    return unit(np.array([np.mean([vectors[piece] for piece in several], axis=0) for several in pieces]))


def embedded(name: str, setting: str, queries: list[list[int]], documents: dict) -> dict[str, np.ndarray]:
    """Return the embeddings of the queries and of each reading; they are kept in a file."""
    file = out / "embeddings" / f"{name}-{setting}.npz"
    if not file.exists():
        if setting == "pieces(64)":
            found = {"queries": unit(embed_ids(model, queries))}
            found |= {reading: in_pieces(ids) for reading, ids in documents.items()}
        else:
            with patch(model, float(setting)):
                found = {
                    label: unit(embed_ids(model, ids)) for label, ids in ({"queries": queries} | documents).items()
                }
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, **found)
    return dict(np.load(file))


def projected(x: np.ndarray, half: np.ndarray, fitted_on: np.ndarray) -> np.ndarray:
    """Project each half of the rows off the mean direction of the other half, in these or other readings of the texts."""
    result = np.empty_like(x)
    for chosen in (half, ~half):
        result[chosen] = unit(Projection().fit(fitted_on[~chosen]).transform(x[chosen]))
    return result


def scores(
    vectors: dict, reading: str, relevant: list[int], project: bool, from_cut: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield whether each query's document is long, and its nDCG@10: all cut, all long, and for each of the mixed indexes."""
    rng = np.random.default_rng(0)
    documents, queries = len(vectors["cut"]), vectors["queries"]
    half_of_queries = rng.permutation(len(queries)) % 2 == 0
    half_of_documents = rng.permutation(documents) % 2 == 0
    drawn = [rng.permutation(documents) % 2 == 0 for _ in range(HALVES)]
    grades = [{row: 1.0} for row in relevant]
    asked = projected(queries, half_of_queries, queries) if project else queries
    for is_long in [np.zeros(documents, bool), np.ones(documents, bool), *drawn, *(~half for half in drawn)]:
        index = np.where(is_long[:, None], vectors[reading], vectors["cut"])
        if project:
            index = projected(index, half_of_documents, vectors["cut"] if from_cut else index)
        yield is_long[relevant], ndcg(asked, index, grades)


parser = argparse.ArgumentParser()
parser.add_argument("data", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("--model", default="minilm")
parser.add_argument("--settings", nargs="+", default=SETTINGS)
parser.add_argument("--readings", nargs="+", default=["whole", "repeated", "padded", "distracted"])
parser.add_argument("--collections", nargs="+", default=["docstrings", "SciFact"])
given = parser.parse_args()
out = given.out
model = load_model(given.model, device="cpu", max_seq_length=LONG)
rows = []
for name in given.collections:
    queries, documents, relevant = of_packages() if name == "docstrings" else of_scifact(given.data / name)
    asked, read = content_ids(model, queries), readings(content_ids(model, documents))
    read = {reading: read[reading] for reading in ("cut", *given.readings)}
    for setting in track(given.settings, name):
        base, _, _ = setting.partition("project")
        vectors = embedded(name, base.rstrip("+") or "1.0", asked, read)
        for reading in list(read)[1:]:
            (_, all_cut), (_, all_long), *mixed = scores(
                vectors, reading, relevant, "project" in setting, setting == FROM_CUT
            )
            is_long, found = (np.array(column) for column in zip(*mixed, strict=True))
            means = {
                "all_cut": all_cut,
                "all_long": all_long,
                "cut_in_mixed": np.where(is_long, 0, found).sum(0) / (~is_long).sum(0),
                "long_in_mixed": np.where(is_long, found, 0).sum(0) / is_long.sum(0),
                "mixed": found.mean(0),
            }
            table = pd.DataFrame(means)
            table.insert(0, "query", range(len(table)))
            table.insert(1, "document", relevant)
            rows.append(table.assign(collection=name, setting=setting, reading=reading))
about = {"command": f"python fixed_information.py {' '.join(sys.argv[1:])}", "tokens": f"{CUT} and {LONG}"}
write_table(pd.concat(rows), out / "fixed_information.csv", about, digits=5)
