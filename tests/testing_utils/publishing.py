"""Folders as the scripts leave them, to push."""

import json
from pathlib import Path

from diffusers import DDPMScheduler

from synthset import PairedUNet2DModel, SynthSetPipeline
from synthset.data import pair_features, write_pairs_shard
from synthset.publishing.cards import write_dataset_card

from .pairs import random_pairs

TEMPLATE = Path(__file__).parents[2] / "model_cards" / "dataset.md"


def write_dataset(folder, shards=2, seed=0, data_license="cc-by-4.0", split="train"):
    rows = random_pairs(3 * shards, seed=seed)
    for i in range(shards):
        name = f"{split}-{i:05d}-of-{shards:05d}.parquet"
        write_pairs_shard(folder / "data" / name, rows[3 * i : 3 * i + 3], pair_features())
    rows[0]["image"].save(folder / "preview.png")
    (folder / "generation.json").write_text(json.dumps({"model": str(folder)}))
    write_dataset_card(
        folder,
        TEMPLATE,
        pair_features(),
        {split: len(rows)},
        title="pairs",
        preview="preview.png",
        data_license=data_license,
    )
    return folder


def write_pipeline(folder, data_license="mit"):
    """A tiny pipeline with a card."""
    unet = PairedUNet2DModel(16, block_out_channels=(8, 8), layers_per_block=1, attention_head_dim=8, norm_num_groups=4)
    SynthSetPipeline(unet, DDPMScheduler()).save_pretrained(folder)
    (folder / "README.md").write_text(f"---\nlicense: {data_license}\ntags:\n- synthset\n---\n# leaves\n")
    return folder
