"""Write 300 pairs of docstrings and 300 of QMSum, as `advise.sh` gives them to `tempscale advise`.

python advised_pairs.py DATA OUT
"""

import sys
from pathlib import Path

import pandas as pd

from tempscale.texts.docstrings import docstrings

data, out = Path(sys.argv[1]) / "LEMBQMSumRetrieval", Path(sys.argv[2])
out.mkdir(parents=True, exist_ok=True)
texts = docstrings(min_tokens=24)
pairs = texts[texts.pair].rename(columns={"summary": "query", "body": "document"})
pairs[["query", "document"]].sample(300, random_state=0).to_csv(out / "docstrings.csv", index=False)

corpus, queries, relevant = (
    pd.read_parquet(data / "qmsum" / f"{name}.parquet") for name in ("corpus", "queries", "qrels")
)
named = {"qid": "query", "doc_id": "document"}
meetings = relevant.rename(columns=named)[list(named.values())].sample(300, random_state=0)
meetings["query"] = meetings["query"].map(queries.set_index("qid").text)
meetings["document"] = meetings["document"].map(corpus.set_index("doc_id").text)
meetings.to_csv(out / "qmsum.csv", index=False)
