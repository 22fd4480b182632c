#!/usr/bin/env bash
# From nothing to a generated segmentation dataset, on the built-in demo data: at most 10 minutes on 2 CPU cores after
# the installation. Everything goes into quickstart/; run it again to continue where it was stopped.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"  # accelerate's default is one thread, and a page of advice

if python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    train=accelerate_configs/single_gpu.yaml generate=accelerate_configs/single_gpu.yaml
else
    train=accelerate_configs/cpu.yaml generate=accelerate_configs/multi_cpu.yaml
fi

echo "1/4 Training a small paired diffusion model on the built-in wheat canopy ..."
accelerate launch --quiet --config_file "$train" scripts/train_paired.py \
    --config scripts/recipes/demo.yaml --dataset demo --output_dir quickstart/model

echo "2/4 Training a model that enlarges its pairs ..."
accelerate launch --quiet --config_file "$train" scripts/train_sr.py \
    --config scripts/recipes/demo_sr.yaml --dataset demo --output_dir quickstart/sr

echo "3/4 Generating a dataset with both ..."
accelerate launch --quiet --main_process_port 0 --config_file "$generate" scripts/generate_dataset.py \
    --model quickstart/model --sr_model quickstart/sr --output_dir quickstart/dataset --num_samples 64 \
    --scheduler dpmsolver++ --num_inference_steps 50 --sr_scheduler dpmsolver++ --sr_num_inference_steps 20 \
    --keep_low_res --batch_size 16 --samples_per_shard 32

echo "4/4 Opening it with datasets.load_dataset ..."
python - <<'PYTHON'
from datasets import load_dataset

from synthset.previews import pair_grid

pairs = load_dataset("quickstart/dataset", split="train")
print(pairs)
pair_grid(pairs[:16]["image"], pairs[:16]["mask"]).save("quickstart/pairs.png")
PYTHON
cat <<'END'

Done. What you have:
  quickstart/pairs.png    generated pairs, in rows of image, mask and overlay
  quickstart/dataset      the generated dataset: datasets.load_dataset("quickstart/dataset")
  quickstart/model        the model that draws pairs: SynthSetPipeline.from_pretrained("quickstart/model")
  quickstart/sr           the model that enlarges them: SynthSetSRPipeline.from_pretrained("quickstart/sr")
  quickstart/*/previews, quickstart/*/logs    how training went (tensorboard --logdir quickstart)
END
