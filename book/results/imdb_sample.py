"""Draw the reviews of IMDB that the study reads where 25000 are too many: `python imdb_sample.py DATA OUT`.

A thousand negative and a thousand positive ones of the test split, with a fixed seed; the training split stays whole.
"""

import shutil
import sys
from pathlib import Path

import pandas as pd

data, out = (Path(folder, "ImdbClassification") for folder in sys.argv[1:])
out.mkdir(parents=True)
shutil.copy(data / "train.parquet", out)
reviews = pd.read_parquet(data / "test.parquet").groupby("label").sample(1000, random_state=0)
reviews.sort_index().to_parquet(out / "test.parquet", index=False)
