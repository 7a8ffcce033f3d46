#!/usr/bin/env bash
# The study behind book/results/study: `TEMPSCALE_DATA=data bash study.sh`, in a folder that holds all-mpnet-base-v2.
# Two cores take about eight hours; a call that was interrupted goes on where it stopped.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
grid=1.0,0.9,0.8,0.95,0.85,0.7,0.5,1.2
evaluate() { tempscale evaluate "$@" --out results; }

[ -d sample ] || python "$here/imdb_sample.py" "$TEMPSCALE_DATA" sample

# Development tasks.
short=STSBenchmark,STS16,STS12,Banking77Classification,TweetSentimentExtractionClassification
evaluate minilm --tasks LEMBQMSumRetrieval --temperatures $grid
evaluate minilm --tasks LEMBQMSumRetrieval,$short --temperatures $grid --max-seq-length 512
for layers in last:3 last:1 2,3 first:3; do
  evaluate minilm --tasks LEMBQMSumRetrieval,$short --temperatures 0.9,0.8,0.7 --layers $layers --max-seq-length 512
done
for layers in all last:3 last:1 2,3 first:3; do
  evaluate minilm --tasks LEMBQMSumRetrieval --temperatures 0.9,0.8,0.7 --layers $layers --apply-to document --max-seq-length 512
done

# Schedules: RateMatched is measured first, on the texts of `tempscale spectrum`.
tempscale spectrum minilm --lengths 16,32,64,128,256,512 --match-length 64 --out spectrum
evaluate minilm --tasks LEMBQMSumRetrieval --max-seq-length 512 --temperatures \
  "LogLength(64),LogLength(64, exponent=0.5),LogLength(128),LogLength(128, exponent=0.5),LengthRule(64, logit_std=2.0),spectrum/rate_matched.json"

# Held-out tasks, and what was chosen.
long=DocstringRetrieval,LEMBPasskeyRetrieval
evaluate minilm --tasks $long,STS14,SICK-R,AmazonCounterfactualClassification --temperatures $grid --max-seq-length 512
evaluate minilm --tasks SciFact --temperatures 1.0,0.9,0.8 --max-seq-length 512
evaluate minilm --tasks ImdbClassification --data-dir sample --temperatures $grid --max-seq-length 512
evaluate minilm --tasks $long --temperatures 0.7 --layers last:1 --apply-to document --max-seq-length 512
evaluate minilm --tasks $long --temperatures "LogLength(64),spectrum/rate_matched.json" --max-seq-length 512
evaluate minilm --tasks ImdbClassification --data-dir sample --temperatures "LogLength(64),spectrum/rate_matched.json" --max-seq-length 512

# Long texts at the default length.
evaluate minilm --tasks $long --temperatures 1.0,0.9,0.8
evaluate minilm --tasks ImdbClassification --data-dir sample --temperatures 1.0,0.9,0.8

# In pieces.
evaluate minilm --tasks DocstringRetrieval,LEMBQMSumRetrieval --remedies 'pieces(128)' --max-seq-length 512
evaluate minilm --tasks ImdbClassification --data-dir sample --remedies 'pieces(128)' --max-seq-length 512

# Post-processing; texts/TASK.jsonl holds the texts of a task, one in a JSON object a line.
for task in LEMBQMSumRetrieval STSBenchmark STS16 STS12 DocstringRetrieval STS14; do
  [ -d "post/$task" ] || python "$here/postprocessed.py" minilm "texts/$task.jsonl" "post/$task"
  for remedy in centred all-but-the-top whitened; do
    evaluate "post/$task/$remedy" --tasks $task --temperatures 1.0 --max-seq-length 512
  done
done

# The second model.
evaluate all-mpnet-base-v2 --tasks STSBenchmark,STS16,STS12,STS14,SICK-R --temperatures 1.0,0.9,0.8 --max-seq-length 512
evaluate all-mpnet-base-v2 --tasks LEMBQMSumRetrieval --temperatures 1.0,0.7 --layers last:1 --apply-to document --max-seq-length 512
evaluate all-mpnet-base-v2 --tasks LEMBQMSumRetrieval --temperatures 0.8 --apply-to document --max-seq-length 512

tempscale compare results --out study
tempscale compare results --against minilm --out against
tempscale compare results --tasks LEMBQMSumRetrieval,DocstringRetrieval,ImdbClassification --items --out items
