#!/usr/bin/env bash
# From nothing to a generated segmentation dataset, on the built-in demo data: about 10 minutes on 2 CPU cores after the
# installation. Everything goes into quickstart/; run it again to continue where it was stopped.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

echo "1/3 Training a small paired diffusion model on the built-in wheat canopy ..."
accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no scripts/train_paired.py \
    --config scripts/recipes/demo.yaml --output_dir quickstart/model

echo "2/3 Generating a dataset with it ..."
accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no scripts/generate_dataset.py \
    --model quickstart/model --output_dir quickstart/dataset --num_samples 64 --scheduler dpmsolver++ \
    --num_inference_steps 25 --batch_size 16 --samples_per_shard 32

echo "3/3 Opening it with datasets.load_dataset ..."
python - <<'PYTHON'
from datasets import load_dataset

from synthset.previews import pair_grid

pairs = load_dataset("quickstart/dataset", split="train")
print(pairs)
pair_grid(pairs[:16]["image"], pairs[:16]["mask"]).save("quickstart/pairs.png")
PYTHON
cat <<'END'

Done. What you have:
  quickstart/model        the trained pipeline: SynthSetPipeline.from_pretrained("quickstart/model")
  quickstart/dataset      the generated dataset: datasets.load_dataset("quickstart/dataset")
  quickstart/pairs.png    its first pairs, in rows of image, mask and overlay
  quickstart/model/previews, quickstart/model/logs    how training went (tensorboard --logdir quickstart/model/logs)
END
