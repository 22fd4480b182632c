"""Previews of models that were trained with fewer timesteps than previews usually take."""

import torch
from diffusers import DDIMScheduler
from testing_utils.pairs import random_pairs

from synthset import PairedUNet2DModel, SynthSetPipeline, SynthSetSRPipeline
from synthset.data import eval_transform, to_tv_tensors
from synthset.training.arguments import TrainingArguments
from synthset.training.sampler import LowResCondition, ValidationItems
from synthset.training.setup import build_noise_schedule
from synthset.training.timesteps import UniformTimesteps
from synthset.training.validation import inspect_enlarged, inspect_pairs


def test_previews_take_no_more_steps_than_there_are_timesteps():
    torch.manual_seed(0)
    args = TrainingArguments(
        dataset="demo", num_train_timesteps=16, resolution=16, num_validation_images=2, num_divergence_images=0
    )
    assert args.validation_num_inference_steps > 16
    config = {"sample_size": 16, "block_out_channels": [8, 16], "layers_per_block": 1, "attention_head_dim": 8}
    scheduler = build_noise_schedule(args)
    pipeline = SynthSetPipeline(PairedUNet2DModel(norm_num_groups=4, **config), scheduler)
    grid, measures = inspect_pairs(pipeline, args, stream=None)
    assert pipeline.num_timesteps == 16 and grid.width > 2 * 96 and measures == {}

    pairs = [to_tv_tensors(row) for row in random_pairs(2, (16, 16))]
    condition = LowResCondition(8, 0, scheduler.alphas_cumprod)
    items = ValidationItems(pairs, eval_transform(16, 16), UniformTimesteps(16), 0, condition=condition)
    unet = PairedUNet2DModel(variant="concat", condition_channels=4, norm_num_groups=4, **config)
    pipeline = SynthSetSRPipeline(unet, DDIMScheduler.from_config(scheduler.config))
    inspect_enlarged(pipeline, args, items)
    assert pipeline.num_timesteps == 16
