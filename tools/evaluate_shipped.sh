#!/usr/bin/env bash
# Everything that docs/results.md says of the shipped model, on one synthetic data set.
#   tools/evaluate_shipped.sh DATA TRAINING_DATA [WEIGHTS]      e.g. out/held_out out/train/world_8s
# Writes out/results/NAME_OF_DATA/{occupancy,forecast,language,planning}.json.
set -euo pipefail

data=$1 train=$2 weights=${3:-tiny}
out=out/results/$(basename "$data")
blind=out/results/without_eyes
# a keyframe that fails counts as one where nothing was found, and is told in the tables
common=(--data "$data" --version v1.0-world --model tiny --weights "$weights" --threads 1 --allow-failures)
language=(--questions world --split all --limit 3000)
run=.venv/bin/sparseoccvla
mkdir -p "$out"

# a folder of both, as `eval` wants it; what the encoder sees does not reach this language model
.venv/bin/python tools/pack_weights.py "$blind" language=weights/stages/tiny/stage2_blind perception=weights/tiny

$run eval occupancy "${common[@]}" --constant-from "$train" --json "$out/occupancy.json" > "$out/occupancy.txt"
$run eval forecast "${common[@]}" --json "$out/forecast.json" > "$out/forecast.txt"
$run eval planning "${common[@]}" --baselines-from "$train" --json "$out/planning.json" > "$out/planning.txt"
$run eval language --data "$data" --version v1.0-world --model "$blind/config.yaml" --weights "$blind" --threads 1 \
    "${language[@]}" --save-predictions "$out/without_eyes.json" --allow-failures > "$out/without_eyes.txt"
$run eval language "${common[@]}" "${language[@]}" --compare "$out/without_eyes.json" --json "$out/language.json" > "$out/language.txt"
