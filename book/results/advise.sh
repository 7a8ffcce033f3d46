#!/usr/bin/env bash
# What `tempscale advise` says on 300 pairs of docstrings and 300 of QMSum: `bash advise.sh DATA OUT`.
# Two cores take half an hour, most of it for QMSum's long meetings; the simulation of advised_rates.py comes on top.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python "$here/advised_pairs.py" "$1" "$2"
cd "$2"
for name in docstrings qmsum; do
  tempscale advise minilm $name.csv --max-seq-length 512 --out $name
  cp $name/remedies.csv $name.remedies.csv
done
# The scores of both without the texts of their queries.
python - <<'END'
import pandas as pd

tables = {name: pd.read_csv(f"{name}/scores.csv", comment="#") for name in ("docstrings", "qmsum")}
pd.concat([table.assign(data=name, query=table.index) for name, table in tables.items()]).to_csv("scores.csv", index=False)
END
python "$here/advised_rates.py" scores.csv rates
