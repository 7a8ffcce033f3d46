#!/usr/bin/env bash
# The second study behind book/results/second: `bash second.sh DATA OUT`, in a folder that holds all-mpnet-base-v2.
# Two cores take about three hours, half of them for the second model; a call that was interrupted goes on where it stopped.
# The short tasks ran on one H100 with tempscale 0.2, whose store kept neither sources nor the sentences that pairs share;
# these were added from the data, row by row, with equal gold scores. Version 0.3 keeps them by itself.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=$1 out=$2
mkdir -p "$out"

python "$here/fixed_information.py" "$data" "$out"
for part in "docstrings padded distracted" "docstrings repeated" "SciFact repeated padded"; do
  read -r collection readings <<< "$part"
  # shellcheck disable=SC2086
  python "$here/fixed_information.py" "$data" "$out/mpnet-${part// /-}" --model all-mpnet-base-v2 \
    --settings 1.0 0.8 project --collections "$collection" --readings $readings
done
python "$here/remedies.py" "$out"
python "$here/remedies.py" "$out-mpnet" all-mpnet-base-v2
cp "$out-mpnet/collections.csv" "$out/collections-mpnet.csv"
python "$here/redrawn.py" "$data" "$out"
tempscale evaluate minilm --tasks STS12,STS14,STS16,STSBenchmark,SICK-R --remedies none,project,centre --max-seq-length 512 \
  --data-dir "$data" --out sts
tempscale compare sts --out "$out/sts"
python "$here/coverage.py" "$out/coverage.csv"

short=STSBenchmark,STS12,STS14,STS16,SICK-R,Banking77Classification,TweetSentimentExtractionClassification,AmazonCounterfactualClassification
tempscale evaluate minilm --tasks $short --temperatures 1.0,0.9,0.8,0.95,0.85,0.7,0.5,1.2 --max-seq-length 512 \
  --data-dir "$data" --device cuda --dtype float16 --out results
tempscale compare results --out "$out/short"
python "$here/hindsight.py" results "$here/study/items.csv" "$out/hindsight.csv"
python - "$out" <<'END'
import sys
from pathlib import Path

import pandas as pd

from tempscale.files import write_table

parts = sorted(Path(sys.argv[1]).glob("mpnet-*/fixed_information.csv"))
table = pd.concat([pd.read_csv(part, comment="#") for part in parts])
about = {"command": "second.sh", "model": "all-mpnet-base-v2"}
write_table(table, Path(sys.argv[1], "fixed_information-mpnet.csv"), about, digits=5)
END
