#!/bin/sh
# The guide `sentiment`: a value of VADER's valence and of relevance to the prompt.
# Some 15 minutes on two CPU cores; needs the assets smollm2 and minilm. Each step can be stopped:
# called again, it goes on where it was.
#
#   recipes/guides/sentiment.sh [FOLDER]
set -eu
work=${1:-recipe-sentiment}
trimtab=${TRIMTAB:-trimtab}
python=${PYTHON:-python}
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

# 1. What the base says: 24 responses to each of 173 training topics, at temperature 0.7.
$trimtab collect sentiment --split train -n 24 --seed 1 --dtype bfloat16 --rows 144 --workers 2 \
  -r sentiment -r valence -r similarity -o "$work/rollouts"

# 2. What half a response is worth, on topics that are not trained on: ten completions each.
$trimtab collect sentiment --validation --per-prompt 4 --seed 2 --dtype bfloat16 --rows 144 --workers 2 \
  -r sentiment -r valence -r similarity -o "$work/labels"

# 3. A value of the first 8 layers, by TD(lambda), two processes sharing each update.
$python -m torch.distributed.run --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:0 \
  -m trimtab train td-lambda "$work/rollouts" --config recipes/guides/sentiment.yaml \
  --validation "$work/labels" -o "$work/sentiment" --processes 2

# 4. How well it knows what a prefix is worth.
$trimtab inspect "$work/sentiment" --validation "$work/labels" --base-temperature 0.7 --out "$work/report"
