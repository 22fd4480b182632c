#!/usr/bin/env bash
# From nothing to a generated segmentation dataset, and to what it is worth, on the built-in demo data: at most 10 minutes
# on 2 CPU cores after the installation. Everything goes into quickstart/; run it again to continue where it was stopped.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

if python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    generate=single_gpu
else
    generate=multi_cpu
fi

echo "1/5 Preparing the built-in wheat canopy: 160 pairs to train on, 40 to validate, 40 to test ..."
[ -e quickstart/data ] || synthset prepare --dataset demo --output_dir quickstart/data

echo "2/5 Training a small diffusion model that draws pairs ..."
synthset train --config demo --dataset quickstart/data --output_dir quickstart/model

echo "3/5 Training one that enlarges them ..."
synthset train-sr --config demo_sr --dataset quickstart/data --output_dir quickstart/sr

echo "4/5 Generating a dataset with both ..."
synthset generate --launch "$generate" \
    --model quickstart/model --sr_model quickstart/sr --output_dir quickstart/dataset --num_samples 512 \
    --scheduler dpmsolver++ --num_inference_steps 20 --sr_scheduler dpmsolver++ --sr_num_inference_steps 10 \
    --keep_low_res --batch_size 32 --samples_per_shard 128

echo "5/5 Training a segmenter on the generated pairs alone, and one on the real ones, to test both on real images ..."
for pairs in dataset data; do  # real images are cropped and resized as for the diffusion models
    synthset segment \
        --dataset "quickstart/$pairs" --test_dataset quickstart/data --output_dir "quickstart/segmenter-on-$pairs" \
        --arch linknet --encoder_name resnet18 --resolution 32 --crop_size 64 --batch_size 16 \
        --max_train_steps 60 --learning_rate 0.02
done

python - <<'PYTHON'
import json
from pathlib import Path

import numpy as np

from synthset.data import load_pairs
from synthset.visualization.previews import pair_grid

generated, real = load_pairs("quickstart/dataset"), load_pairs("quickstart/data")
test = load_pairs("quickstart/data", "test")
pair_grid(generated[:16]["image"], generated[:16]["mask"]).save("quickstart/pairs.png")
on_generated, on_real = (
    json.loads(Path(f"quickstart/segmenter-on-{name}/results.json").read_text())["dice"] for name in ("dataset", "data")
)
share = np.mean([np.mean(mask) for mask in test[:]["mask"]])
print(f"""
Dice on {len(test)} real images that no model has seen (0 to 1, more is better):

  {on_generated:.2f}  a segmenter trained on the {len(generated)} generated pairs and nothing else
  {on_real:.2f}  the same, trained on the {len(real)} real pairs that the diffusion models learned from
  {2 * share / (1 + share):.2f}  calling every pixel a wheat head

The closer the first is to the second, the more of what real pairs teach is in the generated ones; near the third, their
masks would have little to do with their images.
""")
PYTHON
cat <<'END'
What you have in quickstart/:
  pairs.png           generated pairs, in rows of image, mask and overlay
  dataset             the generated dataset: datasets.load_dataset("quickstart/dataset")
  model               the model that draws pairs: SynthSetPipeline.from_pretrained("quickstart/model")
  sr                  the model that enlarges them: SynthSetSRPipeline.from_pretrained("quickstart/sr")
  segmenter-on-*      the segmenters, their scores and, in seed-0/predictions.png, what they find in test images
  data                the real pairs; overlay.png shows some
  */previews, */logs  how training went (tensorboard --logdir quickstart)
END
