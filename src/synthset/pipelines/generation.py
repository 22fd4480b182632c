"""The rows of a generated dataset: pairs drawn from noise, enlarged, and compared with what was enlarged."""

from collections.abc import Callable, Sequence

import numpy as np

from ..data.transforms import ResizePair, to_tv_tensors
from ..errors import InputError
from ..evaluation.metrics import dice, psnr
from ..random import keyed_generator
from .pair_pipeline import Callback
from .pipeline_output import SynthSetPipelineOutput
from .pipeline_synthset import SynthSetPipeline
from .pipeline_synthset_sr import SynthSetSRPipeline

MAX_PSNR = 100.0  # dB, in place of the infinity of equal images, for which JSON has no number

# column: (the flag that brings it, its type for `pair_features`, what it holds); beside `image` and `mask`
COLUMNS = {
    "number": ("model", "int64", "the pair's number: its noise is that of `synthset.keyed_generator(seed, number)`"),
    "coverage": ("model", "float32", "share of the mask's pixels that are the object, 0 to 1"),
    "low_res_image": ("keep_low_res", "image", "the image before it was enlarged"),
    "low_res_mask": ("keep_low_res", "image", "the mask before it was enlarged: 0 is background, 255 is the object"),
    "consistency_psnr": (
        "consistency",
        "float32",
        "PSNR, in dB and at most 100, of the image made small again against the one before it was enlarged",
    ),
    "consistency_dice": (
        "consistency",
        "float32",
        "Dice of the mask made small again with the one before it was enlarged, 0 to 1",
    ),
    "consistent": (
        "consistency",
        "bool",
        "whether the two reach `min_consistency_psnr` and `min_consistency_dice`; otherwise the pair drifted",
    ),
}


def check_stages(pipeline: SynthSetPipeline, sr_pipeline: SynthSetSRPipeline, noise_level: int) -> None:
    """Checks that the second stage was trained for what it will get from the first.

    Raises:
        InputError: it was trained for pairs of another size or of another scale, or with less noise than `noise_level`
            timesteps'.
    """
    scale_factor, max_noise_level = sr_pipeline.config.scale_factor, sr_pipeline.config.max_noise_level
    drawn, enlarged = (np.broadcast_to(stage.unet.config.sample_size, 2) for stage in (pipeline, sr_pipeline))
    if (drawn * scale_factor != enlarged).any():
        expected = enlarged // scale_factor
        found, wanted, result = (f"{width} x {height}" for height, width in (drawn, expected, enlarged))
        raise InputError(
            f"--model draws {found} pixels, but --sr_model enlarges {wanted} to {result}; give a --model trained with "
            f"--resolution {expected[0]}, or an --sr_model trained with --resolution {drawn[0] * scale_factor}"
        )
    crops = {pipeline.config.crop_size, sr_pipeline.config.crop_size} - {None}
    if len(crops) > 1:
        raise InputError(
            f"--model draws what {pipeline.config.crop_size} pixels of a photo show, but --sr_model was trained on "
            f"crops of {sr_pipeline.config.crop_size}; give two models trained with the same --crop_size"
        )
    if noise_level > max_noise_level:
        raise InputError(
            f"--sr_noise_level is {noise_level}, but --sr_model was trained with 0 to {max_noise_level}; give one of "
            "those"
        )


def draw_rows(
    pipeline: SynthSetPipeline,
    seed: int,
    numbers: Sequence[int],
    num_inference_steps: int,
    on_step: Callable[[], object],
) -> list[dict]:
    """Draws pairs, as one batch. A pair's noise is that of `keyed_generator(seed, number)`.

    Args:
        pipeline: the first stage.
        seed: the dataset's.
        numbers: each pair's number in the dataset.
        num_inference_steps: denoising steps.
        on_step: called after each of them.

    Returns:
        Rows with `image` and `mask` (PIL), `coverage` and `number`.
    """
    pairs = pipeline(
        batch_size=len(numbers),
        generator=[keyed_generator(seed, number) for number in numbers],
        num_inference_steps=num_inference_steps,
        callback_on_step_end=_callback(on_step),
    )
    return _rows(pairs, number=numbers)


def enlarge_rows(
    pipeline: SynthSetSRPipeline,
    rows: list[dict],
    seed: int,
    num_inference_steps: int,
    noise_level: int,
    on_step: Callable[[], object],
) -> list[dict]:
    """Enlarges the pairs of `rows`, as one batch. A pair follows from the small one, as 8-bit pictures, and from the
    noise of `keyed_generator(seed, number, 1)`.

    Args:
        pipeline: the second stage.
        rows: [`draw_rows`]'s result for `seed`.
        num_inference_steps: denoising steps.
        noise_level: noise for the small pairs, as in `SynthSetSRPipeline`.
        on_step: called after each step.

    Returns:
        The rows enlarged, with `low_res_image` and `low_res_mask` (PIL).
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
    return _rows(pairs, number=numbers, low_res_image=images, low_res_mask=masks)


def consistency(row: dict, min_psnr: float, min_dice: float) -> dict:
    """Compares an enlarged pair, made small as in training, with the one it was enlarged from.

    Args:
        row: one of [`enlarge_rows`]'s result.
        min_psnr: PSNR in dB from which images agree.
        min_dice: Dice from which masks agree.

    Returns:
        `consistency_psnr`, `consistency_dice` and `consistent`.
    """
    image, mask = ResizePair(row["low_res_image"].width)(*to_tv_tensors(row))
    image_psnr = min(psnr(image.permute(1, 2, 0).numpy(), np.asarray(row["low_res_image"])), MAX_PSNR)
    mask_dice = dice(mask[0].numpy(), np.asarray(row["low_res_mask"]))
    consistent = image_psnr >= min_psnr and mask_dice >= min_dice
    return {"consistency_psnr": image_psnr, "consistency_dice": mask_dice, "consistent": consistent}


def _rows(pairs: SynthSetPipelineOutput | tuple, **columns: Sequence) -> list[dict]:
    """Makes one dict per pair, with its coverage and its values of `columns`."""
    assert isinstance(pairs, SynthSetPipelineOutput)
    images, masks = list(pairs.images), list(pairs.masks)
    coverage = [np.count_nonzero(np.asarray(mask)) / (mask.width * mask.height) for mask in masks]
    columns = {"image": images, "mask": masks, "coverage": coverage, **columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _callback(on_step: Callable[[], object]) -> Callback:
    """`on_step` as pipelines call it."""

    def callback(pipeline, step, timestep, tensors):
        on_step()
        return {}

    return callback
