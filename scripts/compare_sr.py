"""Compares a super-resolution model, with several samplers, to interpolation and to real images.

    python scripts/compare_sr.py --model RUN --dataset FOLDER --output_dir COMPARISON

Real pairs are downsampled as in training, and enlarged again. COMPARISON gets

- `table.md`, `table.json`: speed, and similarity of the results of each sampler to the real pairs;
- `figure5.png`: interpolation, result of the model (`ddim-100` if it is among the samplers, else the first) and real
  pair side by side (SynthSet, figure 5);
- `figure6.png`: the same pair with different numbers of steps, by scheduler (SynthSet, figure 6);
- `samples/`: results of each sampler, from which the same command continues after an interruption.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.transforms.v2.functional import to_pil_image

from synthset import SynthSetPipelineOutput, SynthSetSRPipeline, make_scheduler
from synthset.arguments import CompareArguments
from synthset.arguments.research import parse_sampler
from synthset.cli import run
from synthset.console import progress
from synthset.data import ResizePair, eval_transform, load_pairs, resolve_crop_size, to_tv_tensors
from synthset.devices import DTYPES, default_device, describe_device
from synthset.errors import InputError
from synthset.evaluation.metrics import boundary_f1, dice, psnr, sharpness, ssim
from synthset.output_dir import atomic_path, claim_output_dir
from synthset.pipelines.loading import load_pipeline
from synthset.random import keyed_generator
from synthset.visualization.previews import pair_grid

logger = logging.getLogger("synthset")

BASELINES = {"bilinear + nearest": "bilinear", "bicubic + nearest": "bicubic"}  # method -> mode of F.interpolate
HEADERS = {
    "method": "method",
    "steps": "steps",
    "seconds": "s per pair",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "sharpness_ratio": "sharpness ratio",
    "dice": "Dice",
    "boundary_f1_0px": "boundary F1, 0 px",
    "boundary_f1_1px": "boundary F1, 1 px",
    "input_psnr": "input PSNR, dB",
    "input_dice": "input Dice",
}
LEGEND = """\
PSNR, SSIM, Dice and boundary F1 (with a tolerance of 0 or 1 pixel) compare with the real pair. Sharpness is the
variance of the Laplacian, divided by that of the real images. Input PSNR and Dice compare the downsampled result with
the
low-resolution input. Means over the pairs; for masks, over those with an object."""
Pairs = tuple[torch.Tensor, torch.Tensor]  # uint8 images (N, 3, H, W) in 0..255, uint8 masks (N, 1, H, W) in {0, 1}


def load_targets(args: CompareArguments, resolution: int) -> Pairs:
    """Real pairs of the model's output size; sets `args.crop_size` and `args.num_samples` to what is there."""
    pairs = load_pairs(args.dataset, args.split, args.image_column, args.mask_column)
    args.num_samples = min(args.num_samples, len(pairs))
    pairs = pairs.select(range(args.num_samples))
    args.crop_size = resolve_crop_size(args.crop_size, pairs)
    if args.crop_size < resolution:
        raise InputError(
            f"--crop_size is {args.crop_size}, but the model draws {resolution} pixels, and only larger crops have "
            f"detail of that size; give {resolution} or more, or larger images"
        )
    transform = eval_transform(resolution, args.crop_size)
    resized = [transform(*to_tv_tensors(row)) for row in pairs]
    return torch.stack([image for image, _ in resized]), torch.stack([mask for _, mask in resized])


def interpolate(small: Pairs, mode: str, scale_factor: int) -> Pairs:
    """Enlarges `small` by interpolation: images by `mode`, masks by nearest neighbor."""
    images = F.interpolate(small[0] / 255, scale_factor=scale_factor, mode=mode).clamp(0, 1)
    masks = F.interpolate(small[1], scale_factor=scale_factor, mode="nearest-exact")
    return (images * 255).round().to(torch.uint8), masks


def sample(pipeline: SynthSetSRPipeline, small: Pairs, sampler: str, args: CompareArguments) -> dict[str, torch.Tensor]:
    """Enlarges `small` with the model; returns `images` and `masks` as in `Pairs`, and the `seconds` per pair."""
    name, steps = parse_sampler(sampler)

    def draw(start: int, steps: int) -> Pairs:
        pipeline.scheduler = make_scheduler(name, pipeline.scheduler.config, steps)
        images, masks = (x[start : start + args.batch_size] for x in small)
        generators = [keyed_generator(args.seed, start + i) for i in range(len(images))]
        pairs = pipeline(images, masks, generators, steps, output_type="pt")
        assert isinstance(pairs, SynthSetPipelineOutput)
        assert isinstance(pairs.images, torch.Tensor) and isinstance(pairs.masks, torch.Tensor)
        # `cpu` synchronizes with the device, so that the timing below includes the computation
        return (pairs.images.cpu() * 255).round().to(torch.uint8), pairs.masks.cpu().to(torch.uint8)

    draw(0, 1)  # warm-up
    since = time.perf_counter()
    starts = range(0, args.num_samples, args.batch_size)
    batches = [draw(start, steps) for start in progress(starts, sampler, unit="batch", leave=False)]
    seconds = (time.perf_counter() - since) / args.num_samples
    images, masks = map(torch.cat, zip(*batches, strict=True))
    return {"images": images, "masks": masks, "seconds": torch.tensor(seconds)}


def measure(made: Pairs, targets: Pairs, small: Pairs) -> dict[str, float]:
    """Computes the columns of the table: `made` compared with the real pairs, and downsampled with `small`. Masks are
    compared only where the real mask has an object."""

    def mean(metric: Callable, *images: torch.Tensor) -> float:
        return float(np.mean([metric(*items) for items in zip(*(x.numpy() for x in images), strict=True)]))

    again = ResizePair(small[0].shape[-1])(*made)
    image, real_image, again_image, small_image = (x[0].movedim(1, -1) for x in (made, targets, again, small))
    objects = (targets[1] > 0).flatten(1).any(dim=1)
    mask, real_mask, again_mask, small_mask = (x[1][objects, 0] for x in (made, targets, again, small))
    return {
        "psnr": mean(psnr, image, real_image),
        "ssim": mean(ssim, image, real_image),
        "sharpness_ratio": mean(sharpness, image) / mean(sharpness, real_image),
        "dice": mean(dice, mask, real_mask),
        "boundary_f1_0px": mean(partial(boundary_f1, tolerance=0), mask, real_mask),
        "boundary_f1_1px": mean(partial(boundary_f1, tolerance=1), mask, real_mask),
        "input_psnr": mean(psnr, again_image, small_image),
        "input_dice": mean(dice, again_mask, small_mask),
    }


def write_tables(output_dir: Path, title: str, rows: list[dict]) -> None:
    with atomic_path(output_dir / "table.json") as temporary:
        temporary.write_text(json.dumps(rows, indent=2) + "\n")
    lines = [title, "", f"| {' | '.join(HEADERS.values())} |", "|---" * len(HEADERS) + "|"]
    for row in rows:
        cells = [row.get(key, "") for key in HEADERS]
        lines.append(f"| {' | '.join(f'{cell:.3f}' if isinstance(cell, float) else str(cell) for cell in cells)} |")
    with atomic_path(output_dir / "table.md") as temporary:
        temporary.write_text("\n".join([*lines, "", LEGEND, ""]))


def draw_figures(output_dir: Path, samplers: list[str], results: dict[str, Pairs]) -> None:
    """Draws figures 5 and 6 of the first pairs with an object."""
    order = sorted(range(len(results["real"][1])), key=lambda i: not results["real"][1][i].any())

    def grid(pairs: list[int], methods: list[str], columns: int) -> Image.Image:
        tensors = [[x[i] for x in results[method]] for i in pairs for method in methods]
        images, masks = zip(*([to_pil_image(x) for x in pair] for pair in tensors), strict=True)
        return pair_grid(images, masks, columns, captions=methods * len(pairs))

    model = "ddim-100" if "ddim-100" in samplers else samplers[0]
    figure5 = grid(order[:4], ["bilinear + nearest", model, "real"], columns=6)
    bands = []
    for scheduler in dict.fromkeys(parse_sampler(sampler)[0] for sampler in samplers):
        methods = ["bicubic + nearest", *(s for s in samplers if parse_sampler(s)[0] == scheduler), "real"]
        bands.append(grid(order[:2], methods, columns=len(methods)))
    figure6 = Image.new("RGB", (max(band.width for band in bands), sum(band.height for band in bands)), "white")
    for i, band in enumerate(bands):
        figure6.paste(band, (0, sum(above.height for above in bands[:i])))
    for name, figure in (("figure5.png", figure5), ("figure6.png", figure6)):
        with atomic_path(output_dir / name) as temporary:
            figure.save(temporary, "PNG")


def main(args: CompareArguments) -> None:
    # 1. model, pairs
    pipeline, weights = load_pipeline(SynthSetSRPipeline, args.model)
    num_train_timesteps = pipeline.scheduler.config.num_train_timesteps
    too_long = [sampler for sampler in args.samplers if parse_sampler(sampler)[1] > num_train_timesteps]
    if too_long:
        raise InputError(
            f"--samplers holds {too_long[0]!r}, but the model was trained with {num_train_timesteps} steps"
        )
    pipeline.set_progress_bar_config(disable=True)
    scale_factor, resolution = pipeline.config.scale_factor, pipeline.unet.config.sample_size
    trained = pipeline.config.crop_size
    if trained is not None and args.crop_size not in (None, trained):
        raise InputError(
            f"--crop_size is {args.crop_size}, but --model was trained on crops of {trained}; give that or leave it out"
        )
    args.crop_size = args.crop_size or trained
    targets = load_targets(args, resolution)
    objects = int((targets[1] > 0).flatten(1).any(dim=1).sum())
    if not objects:
        raise InputError(
            f"--num_samples is {args.num_samples}, and none of them has an object in its mask; give more pairs"
        )
    small = ResizePair(resolution // scale_factor)(*targets)
    pipeline.unet.type(DTYPES[args.mixed_precision])
    device = default_device()
    pipeline.to(device)

    # 2. output folder
    content = hashlib.sha256(b"".join(part.numpy().tobytes() for part in targets)).hexdigest()
    settings = {**asdict(args), "model_sha256": weights, "pairs_sha256": content, "device": describe_device(device)}
    output_dir, samplers = Path(settings.pop("output_dir")), settings.pop("samplers")
    spelled = ("model", "dataset", "split", "image_column", "mask_column")
    claim_output_dir(output_dir, "settings.json", settings, uncounted=spelled)
    title = (
        f"{args.num_samples} pairs of {args.dataset} ({args.split}), {objects} of them with an object, "
        f"{resolution // scale_factor} to {resolution} px, on {settings['device']}, precision "
        f"{args.mixed_precision}, {args.batch_size} at once, by {args.model}"
    )

    # 3. comparison
    results = {method: interpolate(small, mode, scale_factor) for method, mode in BASELINES.items()}
    rows = [{"method": method, **measure(made, targets, small)} for method, made in results.items()]
    write_tables(output_dir, title, rows)
    for number, sampler in enumerate(samplers, start=1):
        file = output_dir / "samples" / f"{sampler}.safetensors"
        if not file.exists():
            logger.info(f"sampler {number} of {len(samplers)}: {sampler}, {args.num_samples} pairs")
            with atomic_path(file) as temporary:
                save_file(sample(pipeline, small, sampler, args), temporary)
        made = load_file(file)
        results[sampler] = made["images"], made["masks"]
        cost = {"steps": parse_sampler(sampler)[1], "seconds": made["seconds"].item()}
        rows.append({"method": sampler, **cost, **measure(results[sampler], targets, small)})
        write_tables(output_dir, title, rows)
    results["real"] = targets
    draw_figures(output_dir, samplers, results)
    print((output_dir / "table.md").read_text())
    print(f"Wrote table.md, table.json, figure5.png and figure6.png to {output_dir}.")


if __name__ == "__main__":
    run(main, CompareArguments)
