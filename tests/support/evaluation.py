"""A tiny model and tiny data sets, in the layout of the hub, for tests of evaluate."""

import random
from pathlib import Path

import pandas as pd
import torch
from sentence_transformers import SentenceTransformer
from transformers import BertConfig, BertModel, BertTokenizerFast

WORDS = [f"{a}{b}" for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "ura", "emo")]
RETRIEVAL = """---
configs:
- config_name: corpus
  data_files:
  - split: corpus
    path: corpus.parquet
- config_name: queries
  data_files:
  - split: queries
    path: queries.parquet
- config_name: default
  data_files:
  - split: test
    path: qrels.parquet
---
"""
TASKS = ["STSBenchmark", "SciFact", "Banking77Classification"]


def write_model(folder, *, seed=0, prompts=None, **options):
    """Write a BERT of random weights, sharp enough for a temperature to matter, as a SentenceTransformer."""
    torch.manual_seed(seed)
    plain = Path(folder) / "plain"
    plain.mkdir(parents=True)
    (plain / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ":", *WORDS]))
    tokenizer = BertTokenizerFast(str(plain / "vocab.txt"), model_max_length=64)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **sizes, **options)
    config.initializer_range = 0.4
    BertModel(config).save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    model = SentenceTransformer(str(plain), device="cpu")
    model.max_seq_length = 64
    model.prompts = prompts or {}
    path = Path(folder) / "model"
    model.save_pretrained(str(path))
    return str(path)


def text(rng, tokens):
    return " ".join(rng.choices(WORDS, k=tokens))


def write_data(folder, *, seed=0):
    """Write an STS, a retrieval and a classification task, with texts from 3 to 100 words and some duplicates."""
    rng = random.Random(seed)
    folder = Path(folder)
    pairs = [(text(rng, n), text(rng, n + 3)) for n in [3, 4, 5, 8, 13, 20, 30, 50] * 5]
    pairs = [(one, one if k % 7 == 0 else two, rng.uniform(0, 5)) for k, (one, two) in enumerate(pairs)]
    _write(folder / "STSBenchmark" / "test", pairs, ["sentence1", "sentence2", "score"])
    documents = [(f"d{k}", text(rng, 2), text(rng, 3 + 4 * k)) for k in range(25)]
    queries = [(f"q{k}", " ".join(rng.choices(documents[k % 25][2].split(), k=3))) for k in range(30)]
    relevant = [(f"q{k}", f"d{k % 25}", 1) for k in range(30)] + [("q0", "d3", 2), ("q1", "d20", 1)]
    _write(folder / "SciFact" / "corpus", documents, ["_id", "title", "text"])
    _write(folder / "SciFact" / "queries", queries, ["_id", "text"])
    _write(folder / "SciFact" / "qrels", relevant, ["query-id", "corpus-id", "score"])
    (folder / "SciFact" / "README.md").write_text(RETRIEVAL)
    for split, count in (("train", 45), ("test", 36)):
        # Each label has words of its own: no row is so near a boundary that rounding decides.
        rows = [(" ".join(rng.choices(WORDS[k % 3 :: 3], k=3 + k % 40)), k % 3) for k in range(count)]
        _write(folder / "Banking77Classification" / split, rows, ["text", "label"])
    return str(folder)


def _write(path, rows, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=columns).to_parquet(path.with_suffix(".parquet"), index=False)


def scores(store):
    """Return all that must not depend on interruptions: units with their scores, and all items."""
    units = store.units().drop(columns=["created", "seconds", "command", "scores"]).sort_values("id", ignore_index=True)
    items = pd.concat([store.items(unit).assign(unit=unit) for unit in units.id], ignore_index=True)
    return units, items
