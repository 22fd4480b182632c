"""Rows of a generated dataset: sampling, super-resolution, and the consistency check of the two stages."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from .arguments.generation import MaskFilter
from .data.transforms import ResizePair, to_tv_tensors
from .errors import InputError
from .evaluation.metrics import dice, psnr
from .pipelines.guidance import SAMPLE_KEYS
from .pipelines.pair_pipeline import Callback, PairPipeline
from .pipelines.pipeline_output import SynthSetPipelineOutput
from .pipelines.pipeline_synthset import SynthSetPipeline
from .pipelines.pipeline_synthset_sr import SynthSetSRPipeline
from .pipelines.schedulers import TRAINING_KEYS
from .random import keyed_generator

MAX_PSNR = 100.0  # dB, replaces the infinity of equal images, which JSON cannot store

# column: (flag that adds it, type for `pair_features`, description); in addition to `image` and `mask`
COLUMNS = {
    "number": (
        "model",
        "int64",
        "number of the pair, generated from the noise of `synthset.keyed_generator(seed, number)`",
    ),
    "coverage": ("model", "float32", "share of object pixels in the mask, 0 to 1"),
    "mask_source": (
        "masks_from",
        "string",
        "numbers of the pairs of `masks_from` of whose masks this one is made, counted from 0",
    ),
    "first_mask": ("refine_masks", "image", "mask that was drawn with the image: 0 is background, 255 is the object"),
    "agreement": ("refine_masks", "float32", "Dice of `first_mask` with the vote of the masks that were drawn again"),
    "low_res_image": ("keep_low_res", "image", "image before super-resolution"),
    "low_res_mask": ("keep_low_res", "image", "mask before super-resolution: 0 is background, 255 is the object"),
    "consistency_psnr": (
        "consistency",
        "float32",
        "PSNR in dB, at most 100, of the downsampled image with the image before super-resolution",
    ),
    "consistency_dice": (
        "consistency",
        "float32",
        "Dice of the downsampled mask with the mask before super-resolution, 0 to 1",
    ),
    "consistent": (
        "consistency",
        "bool",
        "true if both reach `min_consistency_psnr` and `min_consistency_dice`; otherwise the pair drifted",
    ),
}


def check_stages(pipeline: SynthSetPipeline, sr_pipeline: SynthSetSRPipeline, noise_level: int) -> None:
    """Checks that the super-resolution model fits the output of the first stage.

    Raises:
        InputError: it was trained for pairs of another size or of another scale, or with less noise than
            `noise_level`.
    """
    scale_factor, max_noise_level = sr_pipeline.config.scale_factor, sr_pipeline.config.max_noise_level
    drawn, enlarged = (np.broadcast_to(stage.unet.config.sample_size, 2) for stage in (pipeline, sr_pipeline))
    if (drawn * scale_factor != enlarged).any():
        expected = enlarged // scale_factor
        found, wanted, result = (f"{width} x {height}" for height, width in (drawn, expected, enlarged))
        raise InputError(
            f"--model generates {found} pixels, but --sr_model enlarges {wanted} to {result}; give a --model trained "
            f"with --resolution {expected[0]}, or an --sr_model trained with --resolution {drawn[0] * scale_factor}"
        )
    crops = {pipeline.config.crop_size, sr_pipeline.config.crop_size} - {None}
    if len(crops) > 1:
        raise InputError(
            f"--model was trained on crops of {pipeline.config.crop_size} pixels, but --sr_model on crops of "
            f"{sr_pipeline.config.crop_size}; give two models trained with the same --crop_size"
        )
    if noise_level > max_noise_level:
        raise InputError(
            f"--sr_noise_level is {noise_level}, but --sr_model was trained with 0 to {max_noise_level}; give a value "
            "in this range"
        )


def check_guidance(pipeline: SynthSetPipeline, guide: SynthSetPipeline) -> None:
    """Checks that the network of `guide` can guide that of `pipeline`.

    Raises:
        InputError: it was trained for other pairs, on crops of another size, or with other noise or another target.
    """
    found, wanted = ({name: part.unet.config.get(name) for name in SAMPLE_KEYS} for part in (guide, pipeline))
    for values, part in ((found, guide), (wanted, pipeline)):
        values |= {key: part.scheduler.config.get(key) for key in TRAINING_KEYS}
    if guide.config.crop_size is not None and pipeline.config.crop_size is not None:
        found["crop_size"], wanted["crop_size"] = guide.config.crop_size, pipeline.config.crop_size
    differing = [f"{name} {found[name]} (--model: {wanted[name]})" for name in found if found[name] != wanted[name]]
    if differing:
        raise InputError(
            f"--guidance_model was trained with {', '.join(differing)}; give an earlier checkpoint of --model's run"
        )


def draw_rows(
    pipeline: SynthSetPipeline,
    seed: int,
    numbers: Sequence[int],
    num_inference_steps: int,
    on_step: Callable[[], object],
    mask_filter: MaskFilter | None = None,
    masks: Callable[[int], tuple[Image.Image, str]] | None = None,
    **guidance: Any,
) -> list[dict]:
    """Generates pairs as one batch. The noise of a pair is that of `keyed_generator(seed, number)`.

    Args:
        pipeline: the first stage.
        seed: seed of the dataset.
        numbers: number of each pair in the dataset.
        num_inference_steps: denoising steps.
        on_step: called after each step.
        mask_filter: what smooths masks.
        masks: makes a mask of the pair's number to draw an image for, and says of what; None to draw both.
        guidance: further arguments of the pipeline's call.

    Returns:
        Rows with `image` and `mask` (PIL), `coverage` and `number`, and with `masks` `mask_source`.
    """
    columns: dict[str, Sequence] = {"number": numbers}
    if masks is not None:
        given, columns["mask_source"] = zip(*map(masks, numbers), strict=True)
        guidance["masks"] = list(given)
    pairs = pipeline(
        batch_size=len(numbers),
        generator=[keyed_generator(seed, number) for number in numbers],
        num_inference_steps=num_inference_steps,
        callback_on_step_end=_callback(on_step),
        **guidance,
    )
    return _rows(pairs, mask_filter, **columns)


def refine_rows(
    pipeline: SynthSetPipeline,
    rows: list[dict],
    seed: int,
    num_draws: int,
    num_inference_steps: int,
    on_step: Callable[[], object],
    mask_filter: MaskFilter | None = None,
) -> list[dict]:
    """Draws the masks of finished images again, as one batch; the vote of the draws takes a mask's place. Draw k begins
    with the noise of `keyed_generator(seed, number, 2, k)`.

    Args:
        pipeline: the first stage.
        rows: result of [`draw_rows`] for `seed`.
        seed: seed of the dataset.
        num_draws: masks of each image.
        num_inference_steps: denoising steps of each.
        on_step: called after each step.
        mask_filter: what smooths the votes.

    Returns:
        The rows, with `first_mask` (PIL) and `agreement`.
    """
    images = [row["image"] for row in rows]
    pairs = pipeline(
        images=images,
        num_draws=num_draws,
        generator=[keyed_generator(seed, row["number"], 2, k) for row in rows for k in range(num_draws)],
        num_inference_steps=num_inference_steps,
        callback_on_step_end=_callback(on_step),
    )
    assert isinstance(pairs, SynthSetPipelineOutput) and pairs.votes is not None
    votes = [Image.fromarray(vote.astype(np.uint8) * 255) for vote in pairs.votes.mask]
    refined = _rows(SynthSetPipelineOutput(images=images, masks=votes), mask_filter)
    for row, better in zip(rows, refined, strict=True):
        better["first_mask"], better["agreement"] = (
            row["mask"],
            dice(np.asarray(row["mask"]), np.asarray(better["mask"])),
        )
    return [row | better for row, better in zip(rows, refined, strict=True)]


def enlarge_rows(
    pipeline: SynthSetSRPipeline,
    rows: list[dict],
    seed: int,
    num_inference_steps: int,
    noise_level: int,
    on_step: Callable[[], object],
    mask_filter: MaskFilter | None = None,
) -> list[dict]:
    """Applies super-resolution to the pairs of `rows` as one batch. The result is a function of the low-resolution
    pair, as 8-bit images, and of the noise of `keyed_generator(seed, number, 1)`.

    Args:
        pipeline: the second stage.
        rows: result of [`draw_rows`] for `seed`.
        seed: seed of the dataset.
        num_inference_steps: denoising steps.
        noise_level: noise added to the low-resolution pairs, as in `SynthSetSRPipeline`.
        on_step: called after each step.
        mask_filter: what smooths the enlarged masks.

    Returns:
        The enlarged rows, with `low_res_image` and `low_res_mask` (PIL).
    """
    images, masks, numbers = ([row[column] for row in rows] for column in ("image", "mask", "number"))
    pairs = pipeline(
        images,
        masks,
        generator=[keyed_generator(seed, number, 1) for number in numbers],
        num_inference_steps=num_inference_steps,
        noise_level=noise_level,
        callback_on_step_end=_callback(on_step),
    )
    return _rows(pairs, mask_filter, number=numbers, low_res_image=images, low_res_mask=masks)


def consistency(row: dict, min_psnr: float, min_dice: float) -> dict:
    """Compares an enlarged pair, downsampled as in training, with its low-resolution pair.

    Args:
        row: a row of [`enlarge_rows`].
        min_psnr: minimum PSNR in dB of a consistent image.
        min_dice: minimum Dice of a consistent mask.

    Returns:
        `consistency_psnr`, `consistency_dice` and `consistent`.
    """
    image, mask = ResizePair(row["low_res_image"].width)(*to_tv_tensors(row))
    image_psnr = min(psnr(image.permute(1, 2, 0).numpy(), np.asarray(row["low_res_image"])), MAX_PSNR)
    mask_dice = dice(mask[0].numpy(), np.asarray(row["low_res_mask"]))
    consistent = image_psnr >= min_psnr and mask_dice >= min_dice
    return {"consistency_psnr": image_psnr, "consistency_dice": mask_dice, "consistent": consistent}


def _rows(pairs: SynthSetPipelineOutput | tuple, mask_filter: MaskFilter | None, **columns: Sequence) -> list[dict]:
    """Makes one dict per pair, its mask smoothed, with its coverage and its values of `columns`."""
    assert isinstance(pairs, SynthSetPipelineOutput)
    images, masks = list(pairs.images), list(pairs.masks)
    if mask_filter == "majority":
        masks = [mask.filter(ImageFilter.ModeFilter(3)) for mask in masks]
    coverage = [np.count_nonzero(np.asarray(mask)) / (mask.width * mask.height) for mask in masks]
    columns = {"image": images, "mask": masks, "coverage": coverage, **columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _callback(on_step: Callable[[], object]) -> Callback:
    """Wraps `on_step` in the signature of pipeline callbacks."""

    def callback(pipeline: PairPipeline, step: int, timestep: int, tensors: dict) -> dict:
        on_step()
        return {}

    return callback
