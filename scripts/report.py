"""Compares a generated dataset with a real one in an HTML page.

    python scripts/report.py --generated DATASET --dataset FOLDER --crop_size 512 --output_dir REPORT

REPORT gets `report.html` with embedded figures, the figures as PNG files, and `numbers.json`. Give the
photos and the `--crop_size` that the generator was trained with: then both sets show objects at one scale, and copies
of the photos are found.
"""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from synthset.arguments import ReportArguments
from synthset.cli import run
from synthset.console import progress
from synthset.data import (
    ResizePair,
    load_pairs,
    recorded_crop_size,
    resolve_crop_size,
    smallest_side,
    to_tv_tensors,
    train_transform,
)
from synthset.data.scale import image_sizes
from synthset.devices import default_device
from synthset.errors import InputError
from synthset.evaluation.comparison import PairSet, compare
from synthset.evaluation.embeddings import REMEDY, Encoder, SegmenterEncoder, embed, load_encoder
from synthset.evaluation.fidelity import choose
from synthset.output_dir import atomic_path
from synthset.publishing.cards import add_section, describe, load_card, public_name
from synthset.segmentation import Segmenter
from synthset.tiles import tile_boxes
from synthset.visualization.comparison_page import card_text, render_page
from synthset.visualization.figures import draw_figures

SCORES = {
    "dice": "Dice",
    "iou": "IoU",
    "dice_per_image": "Dice per image",
    "iou_per_image": "IoU per image",
    "boundary_f1": "boundary F1",
}


def choose_encoder(name: str) -> Encoder:
    """Loads the encoder of the segmenter in the folder `name`, or the timm model of that name."""
    if not Path(name).is_dir():
        return load_encoder(name)
    try:
        segmenter = Segmenter.from_pretrained(name)
    except Exception as error:  # no segmenter in the folder, damaged weights, ...
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"--embedding_model is {name}, which can't be loaded ({reason}); {REMEDY}") from error
    encoder = SegmenterEncoder(segmenter.network.encoder)
    return Encoder(encoder, segmenter.resolution, segmenter.image_mean, segmenter.image_std, trained=True)


def read_results(results: list[str]) -> dict[str, dict[str, str]]:
    """Reads scores of segmenters, given as NAME=FILE: name -> column of the table -> text."""

    def score(values: dict, name: str) -> str:
        spread = values[f"{name}_std"]  # none after a single run
        return f"{values[name]:.3f}" if spread is None else f"{values[name]:.3f} ± {spread:.3f}"

    table = {}
    for item in results:
        name, _, file = item.partition("=")
        try:
            values = json.loads(Path(file).read_text())
            counts = {"runs": str(len(values["seeds"])), "test images": str(values["n_images"])}
            table[name] = {label: score(values, key) for key, label in SCORES.items()} | counts
        except (OSError, ValueError, KeyError, TypeError) as error:  # no such file, no JSON, no such scores
            reason = f"{type(error).__name__}: {error}"
            raise InputError(
                f"--results {item} can't be read ({reason}); give a results.json of synthset segment"
            ) from error
    return table


def cut(
    pairs: datasets.Dataset, crop_size: int, resolution: int, num_samples: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Cuts at most `num_samples` squares of `crop_size` pixels from the images, and resizes them.

    Returns:
        uint8 images (N, H, W, 3), uint8 masks (N, H, W), indices (N,) of their photos, and true if they cover all
        photos.
    """
    places = [
        (photo, top, left)
        for photo, (width, height) in enumerate(image_sizes(pairs))
        for top, left in tile_boxes(height, width, crop_size)
    ]
    chosen = [places[i] for i in choose(np.array([photo for photo, _, _ in places]), num_samples, seed)]
    images, masks, decoded, resize = [], [], None, ResizePair(resolution)
    for photo, top, left in progress(chosen, "cropping images", unit="image", delay=1):
        if photo != decoded:
            pair, decoded = to_tv_tensors(pairs[photo]), photo
        image, mask = resize(*(F.crop(x, top, left, crop_size, crop_size) for x in pair))
        images.append(image.permute(1, 2, 0).numpy())
        masks.append(mask[0].numpy())
    return np.stack(images), np.stack(masks), np.array([photo for photo, _, _ in chosen]), len(chosen) == len(places)


def choose_crop_sizes(args: ReportArguments, loaded: dict[str, datasets.Dataset]) -> tuple[int, int]:
    """Returns the sides of the squares that are cut from `--dataset` and from `--generated`, which show objects at one
    size.

    Raises:
        InputError: an image is smaller, or the flags show objects at two sizes.
    """
    smallest = smallest_side(loaded["--generated"])
    generated_crop_size = args.generated_crop_size or smallest
    if generated_crop_size > smallest:
        raise InputError(
            f"--generated_crop_size {generated_crop_size} is larger than the smallest image side, {smallest}; lower it"
        )
    shown = recorded_crop_size(args.generated)
    same = shown and round(shown * generated_crop_size / smallest)
    crop_size = resolve_crop_size(args.crop_size or same, loaded["--dataset"])
    if same not in (None, crop_size):
        raise InputError(
            f"--crop_size is {crop_size}, but squares of {generated_crop_size} px of --generated {args.generated} show "
            f"{same} px of its photos, so objects would differ in size; give --crop_size {same}"
        )
    return crop_size, generated_crop_size


def main(args: ReportArguments) -> None:
    # 1. encoder and pairs
    if args.update_card:
        load_card(args.generated)  # there is one
    results = read_results(args.results)
    loaded = {
        "--dataset": load_pairs(args.dataset, args.split, args.image_column, args.mask_column),
        "--generated": load_pairs(args.generated, args.generated_split),
    }
    for flag, pairs in loaded.items():
        if len(pairs) < 2:
            raise InputError(f"{flag} holds {len(pairs)} images; give 2 or more")
    crop_size, generated_crop_size = choose_crop_sizes(args, loaded)
    resolution = args.resolution or min(crop_size, generated_crop_size, 256)
    encoder = choose_encoder(args.embedding_model)
    device = default_device()

    def embedded(images: np.ndarray, name: str) -> np.ndarray:
        return embed(encoder, images, args.batch_size, device, f"embedding {name} images")

    sizes = {"--dataset": crop_size, "--generated": generated_crop_size}
    parts = {f: cut(p, sizes[f], resolution, args.num_samples, args.seed) for f, p in loaded.items()}
    real, generated = (
        PairSet(images, masks, photos, embedded(images, name))
        for name, (images, masks, photos, _) in zip(("real", "generated"), parts.values(), strict=True)
    )
    torch.manual_seed(args.seed)
    recrop = train_transform(resolution, crop_size)
    fresh = [recrop(*to_tv_tensors(loaded["--dataset"][int(photo)]))[0] for photo in np.unique(real.photos)]

    # 2. numbers and figures
    fresh_vectors = embedded(torch.stack(fresh).movedim(1, -1).numpy(), "fresh")
    comparison = compare(real, generated, fresh_vectors, args.seed)
    figures = draw_figures(real, generated, comparison, args.seed)

    # 3. page
    output_dir = Path(args.output_dir)
    flags = [(k, v) for k, value in asdict(args).items() for v in (value if isinstance(value, list) else [value])]
    circumstances: dict[str, Any] = {
        "encoder": args.embedding_model,
        "trained": encoder.trained,
        "crop_size": crop_size,
        "resolution": resolution,
        "complete": parts["--dataset"][3],
        "results": results,
    }
    page = render_page(
        comparison.numbers,
        figures,
        real=args.dataset,
        generated=args.generated,
        **circumstances,
        settings=shlex.join(f"--{name}={value}" for name, value in flags if value is not None),
    )
    for name, figure in figures.items():
        with atomic_path(output_dir / f"{name}.png") as temporary:
            figure.save(temporary, "PNG")
    with atomic_path(output_dir / "numbers.json") as temporary:
        temporary.write_text(json.dumps(comparison.numbers, indent=2) + "\n")
    with atomic_path(output_dir / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    if args.update_card:
        public = {**circumstances, "encoder": public_name(args.embedding_model)}
        text = card_text(comparison.numbers, describe(args.dataset), **public)
        add_section(args.generated, "Compared with real pairs", text)
    print(f"Wrote {output_dir / 'report.html'}: {len(generated)} generated and {len(real)} real images compared.")


if __name__ == "__main__":
    run(main, ReportArguments)
