#!/usr/bin/env bash
# What `tempscale advise` says on 300 pairs of docstrings and 300 of QMSum, and how often it errs: `bash advise.sh DATA OUT`.
# Two cores take half an hour, most of it for QMSum's long meetings, and a quarter of an hour for the simulation.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python "$here/advised_pairs.py" "$1" "$2"
cd "$2"
for name in docstrings qmsum; do
  tempscale advise minilm $name.csv --max-seq-length 512 --out $name
  cp $name/remedies.csv $name.remedies.csv
  python "$here/advised_rates.py" $name/scores.csv $name.rates.csv &
done
wait
