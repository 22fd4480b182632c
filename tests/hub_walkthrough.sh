#!/usr/bin/env bash
# Publishing and using, from one end to the other, with a local Hub in place of huggingface.co: trains and pushes a model,
# generates and pushes 200 pairs, and uses both from a second environment that knows nothing but their names.
#
#   bash tests/hub_walkthrough.sh [FLAGS FOR train_paired.py]      (a few minutes of training, and an installation)
set -euo pipefail
source "$(dirname "$0")/../scripts/environment.sh"
here=outputs/hub-walkthrough
rm -rf "$here" && mkdir -p "$here"
here=$(realpath "$here")
say() { printf '\n== %s\n' "$*"; }

say "A local Hub, on which alice may write"
python tests/hub_server.py --folder "$here/hub" --token hf_alice=alice > "$here/endpoint" &
server=$!
trap 'kill $server' EXIT
until [ -s "$here/endpoint" ]; do sleep 0.2; done
export HF_ENDPOINT HF_HUB_DISABLE_XET=1 HF_TOKEN=hf_alice HF_HOME="$here/cache-1" NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
HF_ENDPOINT=$(cat "$here/endpoint")
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}" HF_HUB_DISABLE_PROGRESS_BARS=1
echo "$HF_ENDPOINT"

say "Training on the built-in data, pushing to alice/wheat"
accelerate launch --quiet --config_file accelerate_configs/cpu.yaml scripts/train_paired.py --config scripts/recipes/fast.yaml \
    --init_from starter --crop_size 128 --dataset demo --output_dir "$here/wheat" --push_to_hub --hub_model_id alice/wheat "${@:---max_train_steps=200}" 2>&1 | grep -v "it/s"

say "Generating 200 pairs, pushing to alice/wheat-pairs"
accelerate launch --quiet --main_process_port 0 --config_file accelerate_configs/multi_cpu.yaml scripts/generate_dataset.py \
    --model "$here/wheat" --output_dir "$here/wheat-pairs" --num_samples 200 --samples_per_shard 50 \
    --scheduler dpmsolver++ --num_inference_steps 25 --push_to_hub --hub_dataset_id alice/wheat-pairs 2>&1 | grep -v "pair/s"

say "A second environment with an empty cache and no token"
python -m venv "$here/venv"
"$here/venv/bin/python" -m pip install --quiet --disable-pip-version-check .
export HF_HOME="$here/cache-2"
unset HF_TOKEN
mkdir "$here/elsewhere"
cd "$here/elsewhere"
"$here/venv/bin/python" - <<'PYTHON'
import synthset, torch
from datasets import load_dataset
from diffusers import DiffusionPipeline
from synthset import SynthSetPipeline, make_scheduler

print("synthset is", synthset.__file__)
pipeline = SynthSetPipeline.from_pretrained("alice/wheat")
pipeline.scheduler = make_scheduler("dpmsolver++", pipeline.scheduler.config, 25)
pipeline.set_progress_bar_config(disable=True)
pairs = pipeline(batch_size=2, num_inference_steps=25, generator=torch.Generator().manual_seed(0))
print("sampled:", pairs.images, [sorted(set(mask.tobytes())) for mask in pairs.masks])
print("DiffusionPipeline:", type(DiffusionPipeline.from_pretrained("alice/wheat")).__name__)
dataset = load_dataset("alice/wheat-pairs", split="train")
print("load_dataset:", dataset)
streamed = next(iter(load_dataset("alice/wheat-pairs", split="train", streaming=True)))
print("streamed:", {name: str(value)[:60] for name, value in streamed.items()})
print("the same first pair:", all(streamed[c].tobytes() == dataset[0][c].tobytes() for c in ("image", "mask")))
PYTHON

say "A segmenter trained on the dataset's name, tested on unseen images of the built-in data"
"$here/venv/bin/python" "$OLDPWD/scripts/train_segmentation.py" --dataset alice/wheat-pairs --test_dataset demo --resolution 32 --crop_size 64 \
    --encoder_name resnet18 --max_train_steps 60 --learning_rate 0.05 --output_dir "$here/segmenter" 2>&1 | grep -v "it/s"

say "What is on the Hub"
find "$here/hub" -type f | wc -l
for card in alice/wheat datasets/alice/wheat-pairs; do
    say "$HF_ENDPOINT/$card/resolve/main/README.md"
    "$here/venv/bin/python" -c "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())" \
        "$HF_ENDPOINT/$card/resolve/main/README.md"
done
