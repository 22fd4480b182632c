"""Sizes of images, and the crop size: the scale of the objects in pairs."""

import json
import logging
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import datasets

from ..errors import InputError
from ..sources.decoding import upright_size

logger = logging.getLogger(__name__)

PAPER_CROP_SIZE = 512  # SynthSet, section 3


def recorded_crop_size(source: str) -> int | None:
    """Reads the crop size that generated or copy-pasted pairs were made with: the side in pixels of the part of a
    photo that every image shows. Returns None if none is recorded, as for photos.

    Args:
        source: as in `load_pairs`.
    """
    for name in ("generation.json", "copy_paste.json", "filter.json"):
        path = Path(source).expanduser() / name
        if path.is_file():
            return json.loads(path.read_text()).get("crop_size")
    return None


def scaled_size(height: int, width: int, resolution: int, crop_size: int) -> tuple[int, int]:
    """Computes height and width of an image resized by the factor `resolution / crop_size`."""
    return round(height * resolution / crop_size), round(width * resolution / crop_size)


def image_sizes(pairs: datasets.Dataset) -> list[tuple[int, int]]:
    """Reads (width, height) of every image of a dataset of `load_pairs`, as it is decoded, from the file headers.

    Raises:
        InputError: a file or row has no header of an image; it is named.
    """
    sizes = []
    for row in pairs.with_format(None).select_columns(["image"]):
        try:
            sizes.append(upright_size(row["image"]))
        except InputError as error:
            raise InputError(f"{_image_name(pairs, row['image'])} {error}") from None
    return sizes


def smallest_side(pairs: datasets.Dataset) -> int:
    """Smallest width or height in pixels of all images: side of the largest square that can be cropped from each."""
    return min(min(size) for size in image_sizes(pairs))


def resolve_crop_size(crop_size: int | None, *splits: datasets.Dataset) -> int:
    """Calls [`choose_crop_size`] for the images of `splits`, datasets of `load_pairs`."""

    def name(number: int) -> str:
        for pairs in splits:
            if number < len(pairs):
                break
            number -= len(pairs)
        return _image_name(pairs, pairs.with_format(None)[number]["image"])

    return choose_crop_size(crop_size, [min(size) for pairs in splits for size in image_sizes(pairs)], name)


def _image_name(pairs: datasets.Dataset, value: dict | None) -> str:
    """Name of an undecoded image of a dataset of `load_pairs` for messages."""
    return pairs.format["format_kwargs"]["transform"].name("image", value)


def choose_crop_size(crop_size: int | None, sides: Sequence[int], name: Callable[[int], str]) -> int:
    """Returns `crop_size`, or if it is None the paper's 512 pixels, reduced with a warning to the smallest image.

    The crop size determines how large objects are in every pair. Images that are much smaller than the others (than
    half of what their median would give) therefore raise an error instead of reducing the crop size.

    Args:
        crop_size: side in pixels.
        sides: smaller side of every image in pixels.
        name: returns the name of an image for messages, given its index.

    Raises:
        InputError: an image is smaller than `crop_size`, or much smaller than the others.
    """
    smallest, usual = min(sides), min(PAPER_CROP_SIZE, statistics.median_low(sides))

    def found(limit: int) -> str:
        count = sum(side < limit for side in sides)
        return f"{smallest}, of {name(sides.index(smallest))} ({count} of {len(sides)} images are below {limit})"

    if crop_size is not None:
        if crop_size > smallest:
            raise InputError(
                f"--crop_size {crop_size} is larger than the smallest image side, {found(crop_size)}; lower it, or "
                "remove smaller images"
            )
        return crop_size
    if smallest < usual / 2:
        raise InputError(
            f"the smallest image side is {found(usual)}; remove images much smaller than the others, or give "
            f"--crop_size {smallest}"
        )
    if smallest < PAPER_CROP_SIZE:
        logger.warning(f"crop_size is {smallest}: the smallest image side is {found(PAPER_CROP_SIZE)}")
    return min(PAPER_CROP_SIZE, smallest)
