"""Flags of `synthset generate`."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..errors import InputError
from .base import Arguments, require_xformers
from .choices import MixedPrecision, Scheduler
from .hub import DatasetHubArguments

NEEDS = {  # flag: the flag without which it means nothing
    "sr_scheduler": "sr_model",
    "sr_num_inference_steps": "sr_model",
    "sr_noise_level": "sr_model",
    "keep_low_res": "sr_model",
    "consistency": "sr_model",
    "min_consistency_psnr": "consistency",
    "min_consistency_dice": "consistency",
    "guidance_scale": "guidance_model",
    "guidance_interval": "guidance_model",
    "refine_num_inference_steps": "refine_masks",
    "masks_split": "masks_from",
    "mask_column": "masks_from",
    "condition_scale": "masks_from",
}

MaskFilter: TypeAlias = Literal["majority"]


@dataclass(kw_only=True)
class EnlargeArguments(Arguments):
    """Flags of enlarging generated pairs.

    Args:
        sr_model: output folder or checkpoint of `train-sr`, or the id of such a model on the Hub; enlarges the pairs.
        sr_scheduler: sampler of the super-resolution model.
        sr_num_inference_steps: denoising steps per enlarged pair; 100, the paper's, or as many as there are timesteps
            if not given.
        sr_noise_level: noise added to the small pairs to hide their faults, 0 to the model's `max_noise_level`.
        keep_low_res: store the small pairs as well.
        consistency: flag enlarged pairs that, made small again, differ from the pair before.
        min_consistency_psnr: lowest PSNR of a consistent pair's images, in dB.
        min_consistency_dice: lowest Dice of a consistent pair's masks, 0 to 1.
    """

    group = "Super-resolution"

    sr_model: str | None = None
    sr_scheduler: Scheduler = "ddim"
    sr_num_inference_steps: int | None = None
    sr_noise_level: int = 0
    keep_low_res: bool = False
    consistency: bool = False
    min_consistency_psnr: float = 25.0
    min_consistency_dice: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_needed(NEEDS)
        self.require_at_least(1, "sr_num_inference_steps")
        self.require_at_least(0, "sr_noise_level")
        self.require_share("min_consistency_dice")


@dataclass(kw_only=True)
class GuidanceArguments(Arguments):
    """Flags of guidance by a worse model (arXiv 2406.02507).

    Args:
        guidance_model: earlier checkpoint of the run of `model`, or another worse model like it; doubles the time.
        guidance_scale: weight of `model` against `guidance_model`, 1 or more; 1 is no guidance.
        guidance_interval: lowest and highest noise level at which to guide, as standard deviations, such as 0.2 5; all
            if not given.
    """

    group = "Guidance"

    guidance_model: str | None = None
    guidance_scale: float = 2.0
    guidance_interval: list[float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "guidance_scale")
        if self.guidance_scale == math.inf:
            raise InputError("--guidance_scale is inf; give a number such as 2")
        interval = self.guidance_interval
        if interval is not None and (len(interval) != 2 or not 0 <= interval[0] < interval[1] < math.inf):
            raise InputError(f"--guidance_interval is {interval}; give the lowest and the highest level, such as 0.2 5")


@dataclass(kw_only=True)
class DirectionArguments(Arguments):
    """Flags of a generator that also draws masks of images and images for masks (`train` with `joint_share` below 1).

    Args:
        refine_masks: draw the mask of every finished image again this many times, such as 10, and store the vote,
            which has the highest mean Dice with them. The first mask is kept in the column `first_mask`, its Dice with
            the vote in `agreement`.
        refine_num_inference_steps: denoising steps of each.
        masks_from: pairs whose masks, warped and recombined, images are drawn for; what `train` takes as a dataset.
        masks_split: their split.
        mask_column: mask column of theirs, or mask folder of a raw folder.
        condition_scale: weight of what the network predicts for a mask against what it predicts without, such as 2; 1
            is no guidance, else it doubles the time.
    """

    group = "Directions"

    refine_masks: int | None = None
    refine_num_inference_steps: int = 10
    masks_from: str | None = None
    masks_split: str = "train"
    mask_column: str | None = None
    condition_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(0, "condition_scale")
        self.require_at_least(1, "refine_masks", "refine_num_inference_steps")


@dataclass(kw_only=True)
class GenerateArguments(DatasetHubArguments, EnlargeArguments, DirectionArguments, GuidanceArguments):
    """Generates a dataset of image-mask pairs with a trained model.

    Args:
        model: output folder or checkpoint of `train`, or the id of such a model on the Hub.
        output_dir: folder of the new dataset.
        num_samples: pairs to generate; may be raised later.
        scheduler: sampler; `ddpm` is the paper's and best at 1000 steps, `dpmsolver++` and `unipc` are good from about
            50.
        num_inference_steps: denoising steps per pair; 1000, the paper's, or as many as there are timesteps if not
            given.
        batch_size: pairs generated at once on each process, halved where the memory does not suffice.
        seed: decides, with the model and a pair's number, the pair; 0 or more.
        samples_per_shard: pairs per parquet file; the processes share out whole files.
        mask_filter: what smooths masks: `majority` gives every pixel the value of most of the 3 x 3 around it.
        format: `parquet`, or `imagefolder` for PNG files with metadata.jsonl.
        mixed_precision: number format of the network; `no` is float32, `auto` is bf16 where the processor has it, and
            float32 elsewhere.
        enable_xformers_memory_efficient_attention: use xformers' attention (extra `xformers`, GPU only).
    """

    group = "Generation"

    model: str
    output_dir: str
    num_samples: int = 5000
    scheduler: Scheduler = "ddpm"
    num_inference_steps: int | None = None
    batch_size: int = 50
    seed: int = 0
    samples_per_shard: int = 250
    mask_filter: MaskFilter | None = None
    format: Literal["parquet", "imagefolder"] = "parquet"
    mixed_precision: MixedPrecision = "auto"
    enable_xformers_memory_efficient_attention: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "num_samples", "num_inference_steps", "batch_size", "samples_per_shard")
        self.require_at_least(0, "seed")
        require_xformers(self.enable_xformers_memory_efficient_attention)
