"""Predicts masks for unlabeled images with a trained segmenter, as for the paper's 26 000 training frames, or with a
generator that draws masks of images.

    python scripts/pseudo_label.py --model RUN/seed-0 --images FOLDER_OR_FILE --output_dir DATASET

`datasets.load_dataset(DATASET)` opens the pairs. Their column `confidence` estimates the quality of a mask;
`--min_confidence` excludes pairs below it.

Orthomosaics, TIFFs that are georeferenced or have more than 2**28 pixels, are no pairs: of each, the mask of the whole
is written as `DATASET/NAME_mask.tif`, 0 and 255, of the same size and place, and 0 where the orthomosaic has no data.
If there are only orthomosaics, there is no dataset and no card.

An interrupted run is continued by the same command; masks and parquet files that are complete are kept.
"""

import hashlib
import io
import json
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from synthset.arguments import PseudoLabelArguments
from synthset.arguments.datasets import DrawArguments, TestArguments
from synthset.cli import run
from synthset.console import progress
from synthset.data.frames import count_frames, iter_frames
from synthset.data.growing import HIDDEN
from synthset.data.writer import pair_features, read_rows, write_pairs_shard
from synthset.devices import default_device
from synthset.errors import InputError
from synthset.evaluation.calibration import calibration
from synthset.evaluation.segmentation_metrics import count, scores_of, standard_errors
from synthset.output_dir import atomic_path, claim_output_dir, require_readable_name
from synthset.publishing.cards import describe, public_name, write_dataset_card
from synthset.segmentation import Segmenter, TestPhotos, check_test, load_source
from synthset.segmentation.mask_sampler import Labeler, MaskSampler, load_labeler
from synthset.segmentation.predictions import check_orthomosaic, list_photos, mask_paths, open_photo, write_mask
from synthset.sources.names import is_picture
from synthset.sources.rasters import is_orthomosaic
from synthset.sources.reading import Reading
from synthset.visualization.previews import pair_grid

CARD = Path(__file__).parents[1] / "model_cards" / "dataset.md"
FEATURES = pair_features(source="string", confidence="float32", coverage="float32")
COLUMNS = {
    "source": "name of the image file, or of the video with the number of the frame after `#`",
    "confidence": "expected Dice of the mask, 0 to 1: of a segmenter 2 sum(p m) / (sum(p) + sum(m)) over pixels, with "
    "the mask m and the object probability p, and 1 - max(p) for an empty mask; of a generator the mean Dice of the "
    "mask with its draws",
    "coverage": "share of object pixels in the mask, 0 to 1",
}
Input = Path | Image.Image  # an image file, opened when it is needed, or a video frame


def is_video(path: Path) -> bool:
    """True if `--images` is neither a folder nor an image by its name."""
    return not path.is_dir() and not is_picture(path.name)


def iter_images(args: PseudoLabelArguments, photos: list[Path]) -> Iterator[tuple[str, Input]]:
    """Yields names and images in order: `photos`, or the frames of a video."""
    yield from ((file.name, file) for file in photos)
    path = Path(args.images)
    if is_video(path):
        for number, frame in enumerate(iter_frames(path, args.video_every)):
            yield f"{path.name}#{number * args.video_every}", frame


def names_digest(path: Path, files: list[Path]) -> str:
    """Computes the SHA-256 of the names of the images, which determine the shards; for a video, of its name and size.
    Contents are not included, so that an unreadable image can be replaced."""
    names = f"{path.name} {path.stat().st_size}" if is_video(path) else "\n".join(file.name for file in files)
    return hashlib.sha256(names.encode()).hexdigest()


def label(
    images: Iterator[tuple[str, Input]],
    segmenter: Labeler,
    reading: Reading,
    args: PseudoLabelArguments,
) -> Iterator[dict]:
    """Yields rows for the images whose masks reach `min_confidence`."""
    for name, image in images:
        if isinstance(image, Path):
            image = open_photo(image, reading)
        found = segmenter.label(image, args.batch_size)
        if found.confidence >= args.min_confidence:
            pair = {"image": image, "mask": Image.fromarray(found.mask.astype(np.uint8))}
            yield pair | {"source": name, "confidence": found.confidence, "coverage": float(found.mask.mean())}


def label_images(
    images: Iterator[tuple[str, Input]], segmenter: Labeler, reading: Reading, args: PseudoLabelArguments
) -> list[Path]:
    """Writes the labels of all images, in parts where a former run left off, and returns their parquet files."""
    data = Path(args.output_dir, "data")
    data = data if data.exists() else Path(args.output_dir, HIDDEN, "data")
    shards: list[Path] = []
    while block := list(islice(images, 1)):
        part = chain(block, islice(images, args.samples_per_shard - 1))
        # the total number of files is unknown, and `load_dataset` does not need it
        shards.append(data / f"train-{len(shards):05d}.parquet")
        if shards[-1].exists():
            deque(part, maxlen=0)
        else:
            write_pairs_shard(shards[-1], label(part, segmenter, reading, args), FEATURES)
    return shards


def finish(args: PseudoLabelArguments, settings: dict, shards: list[Path], looked_at: int) -> int:
    """Moves the shards to where loaders look, writes the preview and the dataset card; returns the number of pairs."""
    output_dir = Path(args.output_dir)
    kept = sum(pq.read_metadata(shard).num_rows for shard in shards)
    if not kept:
        raise InputError(
            f"--min_confidence is {args.min_confidence}, which none of {looked_at} images reaches; lower it in another "
            "--output_dir, or train the segmenter longer"
        )
    if (output_dir / HIDDEN).exists():
        os.replace(output_dir / HIDDEN / "data", output_dir / "data")
        (output_dir / HIDDEN).rmdir()
        shards = [output_dir / "data" / shard.name for shard in shards]
    shown = list(islice(read_rows(shards), 32))
    images, masks = ([Image.open(io.BytesIO(row[column]["bytes"])) for row in shown] for column in ("image", "mask"))
    with atomic_path(output_dir / "preview.png") as temporary:
        grid = pair_grid(images, masks, tile=192, captions=[f"{row['confidence']:.3f}" for row in shown])
        grid.save(temporary, "PNG")
    kind = "segmenter" if "num_draws" not in settings else "generator"
    description = (
        f"{kept} of {looked_at} images from `{public_name(args.images)}`, with masks drawn by the {kind} "
        f"{describe(args.model, kind='')}. The masks were not checked."
    )
    write_dataset_card(
        output_dir,
        CARD,
        FEATURES,
        splits={"train": kept},
        tags=["pseudo-labels"],
        title=output_dir.resolve().name,
        description=description,
        preview="preview.png",
        columns=COLUMNS,
        details=settings,
    )
    return kept


def test(labeler: Labeler, photos: TestPhotos, args: PseudoLabelArguments) -> None:
    """Scores labels of photos with real masks, at the scale of the model's training data, into `results.json`."""
    counted, predicted = [], []
    for index in progress(range(len(photos)), "testing", unit="photo"):
        image, mask = photos[index]
        found, real = labeler.label_scaled(image, args.batch_size), mask[0].numpy()
        predicted.append((found.probability, real, found.confidence))
        counted.append(count(found.mask, real))
    dices = [float(numbers.dice) for numbers in counted]
    results: dict[str, Any] = {
        **scores_of(counted, ignore_empty=False),
        **standard_errors(counted, ignore_empty=False),
        "calibration": calibration((probability, real) for probability, real, _ in predicted),
        "photos": [{"confidence": sure, "dice": found} for (*_, sure), found in zip(predicted, dices, strict=True)],
    }
    with atomic_path(Path(args.output_dir) / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n")
    error = results["calibration"]["expected_calibration_error"]
    print(f"Dice {results['dice']:.4f} on {len(photos)} photos of --test_dataset, calibration error {error:.4f}")


def load_test(labeler: Labeler, args: PseudoLabelArguments) -> TestPhotos | None:
    """The photos of `--test_dataset`."""
    if args.test_dataset is None:
        return None
    splits = [args.test_split] if args.test_split else ["test", "validation", "train"]
    source = load_source("--test_dataset", args.test_dataset, splits, args.image_column, args.mask_column)
    check_test(source, [])
    small = next((size for size in source.sizes if min(size) < labeler.crop_size), None)
    if small:
        raise InputError(
            f"--test_dataset {args.test_dataset} has a photo of {small[1]} x {small[0]} pixels, below the "
            f"{labeler.crop_size} that the model sees at once; leave it out"
        )
    return TestPhotos(source, labeler.resolution, labeler.crop_size)


def main(args: PseudoLabelArguments) -> None:
    segmenter, sha256 = load_labeler(args.model, args)
    segmenter.to(default_device())
    test_photos = load_test(segmenter, args)
    path = Path(args.images)
    files = [] if is_video(path) else list_photos(path)
    reading = Reading(bands=tuple(args.bands) if args.bands else None, bit_depth=args.bit_depth)
    masks = mask_paths([file for file in files if is_orthomosaic(file)], Path(args.output_dir))
    if masks and isinstance(segmenter, MaskSampler):
        raise InputError(
            f"--images has the orthomosaic {next(iter(masks)).name}, and --model is a generator, which labels photos; "
            "give a segmenter, or leave the orthomosaic out"
        )
    for file in masks:
        check_orthomosaic(file, reading)
    photos = [file for file in files if file not in masks]
    total = count_frames(path, args.video_every) if is_video(path) else len(photos)
    looked_at = 0

    def read() -> Iterator[tuple[str, Input]]:
        nonlocal looked_at
        for item in progress(iter_images(args, photos), "images", total=total, unit="image"):
            looked_at += 1
            yield item

    images = read()
    first = next(images, None)  # a broken video is refused before anything is written
    settings = {**asdict(args), "model_sha256": sha256, "found_images": names_digest(path, files)}
    for name in (*vars(TestArguments()), *(() if isinstance(segmenter, MaskSampler) else vars(DrawArguments()))):
        del settings[name]
    output_dir = Path(settings.pop("output_dir"))
    require_readable_name(output_dir)
    claim_output_dir(output_dir, "pseudo_label.json", settings, uncounted=("model", "images"))

    if test_photos is not None:
        test(segmenter, test_photos, args)
    for file, mask in masks.items():
        assert isinstance(segmenter, Segmenter)  # as was checked
        if not mask.exists():
            write_mask(file, mask, segmenter, reading, args.batch_size)
    if masks:
        print(f"Wrote {len(masks)} masks of orthomosaics to {output_dir}: {', '.join(m.name for m in masks.values())}")
    if first is None:
        return

    shards = label_images(chain([first], images), segmenter, reading, args)
    kept = finish(args, settings, shards, looked_at)
    print(
        f"Wrote {kept} of {looked_at} images with masks to {output_dir}. Look at {output_dir / 'preview.png'}, then "
        f"run: synthset train --dataset {quote(str(output_dir))} --output_dir RUN"
    )


if __name__ == "__main__":
    run(main, PseudoLabelArguments)
