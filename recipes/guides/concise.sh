#!/bin/sh
# The guide `concise`: a value of shortness (minus the tokens, in units of their spread), from
# nothing, on two CPU cores; needs the asset smollm2. Each step can be stopped.
#
#   recipes/guides/concise.sh [FOLDER]
set -eu
work=${1:-recipe-concise}
trimtab=${TRIMTAB:-trimtab}
python=${PYTHON:-python}
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

$trimtab collect verbosity --split train -n 8 --seed 1 --dtype bfloat16 --rows 96 --workers 1 \
  -o "$work/rollouts"
$python -m torch.distributed.run --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:0 \
  -m trimtab train td-lambda "$work/rollouts" --config recipes/guides/concise.yaml \
  -o "$work/concise" --processes 2
$trimtab inspect "$work/concise" --data "$work/rollouts" --base-temperature 0.7 --out "$work/report"
