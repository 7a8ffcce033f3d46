"""Classification with redrawn training sets, experiment 3 of the second study: `python redrawn.py DATA OUT [MODEL]`.

DATA is a folder with the tasks. Training sets are drawn as mteb draws its ten, but a hundred of them, the same for all
settings, and for mteb's classifier. The steps on vectors are fitted on the training texts, without their labels. Embeddings
are kept in OUT/classified, so that a call that was interrupted goes on. OUT gets redrawn_sets.csv, the accuracy of each
training set by setting, and redrawn_rows.csv, of each test row the share of training sets that classify it right.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track
from sklearn.linear_model import LogisticRegression

from tempscale import Centring, Projection, apply, load_model, patch
from tempscale.files import write_table

SETS, TEMPERATURES, PIECES = 100, ("1.0", "0.9", "0.8", "1.2"), "pieces(128)"
STEPS = {"centre": Centring(), "project": Projection()}
# Of each task: folder, texts a label in a training set, and how many texts of train and test are read (None: all).
TASKS = {
    "TweetSentimentExtraction": ("TweetSentimentExtractionClassification", 32, None, None),
    "Banking77": ("Banking77Classification", 8, None, None),
    "AmazonCounterfactual": ("AmazonCounterfactualClassification/en", 32, None, None),
    "Imdb": ("ImdbClassification", 8, 1200, 800),
}


def training_sets(labels: np.ndarray, each: int) -> list[np.ndarray]:
    """Return the rows of the training sets, so many texts a label."""
    rng, names = np.random.default_rng(0), np.unique(labels)
    return [
        np.concatenate([rng.choice(np.flatnonzero(labels == name), each, replace=False) for name in names])
        for _ in range(SETS)
    ]


def embedded(task: str, setting: str, texts: list[str]) -> np.ndarray:
    """Return the embeddings of texts, which are kept in a file."""
    file = out / "classified" / f"{task}-{setting}.npy"
    if not file.exists():
        if setting == PIECES:
            vectors = apply(model, PIECES).encode(texts)
        else:
            with patch(model, float(setting)):
                vectors = model.encode(texts)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, vectors)
    return np.load(file)


data, out = Path(sys.argv[1]), Path(sys.argv[2])
model = load_model(sys.argv[3] if len(sys.argv) > 3 else "minilm", device="cpu", max_seq_length=512)
sets_of, rows_of = [], []
for task, (folder, each, of_train, of_test) in TASKS.items():
    train, test = (pd.read_parquet(data / folder / f"{split}.parquet") for split in ("train", "test"))
    train, test = (
        part if size is None else part.groupby("label").sample(size // 2, random_state=0)
        for part, size in ((train, of_train), (test, of_test))
    )
    drawn = training_sets(train.label.to_numpy(), each)
    used = np.unique(np.concatenate(drawn))
    row_of = pd.Series(range(len(used)), index=used)
    texts = [*train.text.iloc[used], *test.text]
    by_set, by_row = {}, {}
    for setting in (*TEMPERATURES, *STEPS, *([PIECES] if task == "Imdb" else [])):
        if setting in STEPS:
            plain = embedded(task, "1.0", texts)
            vectors = STEPS[setting].fit(plain[: len(used)]).transform(plain)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        else:
            vectors = embedded(task, setting, texts)
        of_test_rows = vectors[len(used) :]
        right = np.empty((SETS, len(test)))
        for number, rows in enumerate(track(drawn, f"{task} {setting}")):
            classifier = LogisticRegression(max_iter=100).fit(vectors[row_of[rows]], train.label.iloc[rows])
            right[number] = classifier.predict(of_test_rows) == test.label
        by_set[setting], by_row[setting] = right.mean(1), right.mean(0)
    for found, name, tables in ((by_set, "set", sets_of), (by_row, "row", rows_of)):
        tables.append(pd.DataFrame(found).rename_axis(name).reset_index().assign(task=task))
about = {"command": f"python redrawn.py {' '.join(sys.argv[1:])}"}
write_table(pd.concat(sets_of), out / "redrawn_sets.csv", about, digits=6)
write_table(pd.concat(rows_of), out / "redrawn_rows.csv", about, digits=3)
