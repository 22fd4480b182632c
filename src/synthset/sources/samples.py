"""Samples of more than 8 bits per channel, of which Pillow keeps 8 in color."""

import sys
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin


def rawmode(image: Image.Image) -> str:
    """Layout of the stored samples in Pillow's words, such as "RGB;16B"; empty where its decoder has none."""
    arguments = image.tile[0].args if getattr(image, "tile", None) else ""  # type: ignore[attr-defined]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def read_samples(file: BinaryIO, layout: str) -> tuple[Image.Image, np.ndarray]:
    """Reads color of 16 bits per channel, of a PNG or TIFF.

    Pillow keeps the first byte of such samples, which depends on the byte order that it is told: both are read.

    Returns:
        The picture of the first bytes, and uint16 samples (H, W, channels).
    """
    premultiplied = layout.startswith("RGBa")
    other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
    high = layout.replace("RGBa", "RGBA")
    passes = ["RGBA"] if layout.startswith("LA") else [high, high[:-1] + other[high[-1]]]  # LA as its four bytes
    images, parts = [], []
    for each in passes:
        file.seek(0)
        with Image.open(file, formats=["PNG", "TIFF"]) as image:
            image.tile = [
                tile._replace(args=(each, *tile.args[1:]) if isinstance(tile.args, tuple) else each)
                for tile in image.tile
            ]
            image.load()
            images.append(image)
            parts.append(np.asarray(image).astype(np.uint16))
    if len(parts) == 1:
        parts = [parts[0][..., 0::2], parts[0][..., 1::2]]
    samples = parts[0] << 8 | parts[1]
    if premultiplied:
        alpha = np.maximum(samples[..., 3:], 1).astype(np.uint32)
        samples[..., :3] = np.minimum(samples[..., :3].astype(np.uint32) * 65535 // alpha, 65535)
    return images[0], samples


def bits_of_png(depth: int, samples: np.ndarray) -> int | None:
    """Bits that the samples of a 16-bit PNG use, if its chunk sBIT says so.

    The samples of such a file are scaled to 16 bits (PNG, section 11.3.2.7). Files of cameras hold them as they are:
    then they are less than 2 ** depth, and not all multiples of what scaling would make them.
    """
    if depth < 9:
        return None
    as_they_are = depth < 16 and samples.max() < 2**depth and (samples % 2 ** (16 - depth)).any()
    return depth if as_they_are else 16


def bits_of_tiff(tags: TiffImagePlugin.ImageFileDirectory_v2) -> int | None:
    """Bits that the samples of a TIFF use, as BitsPerSample and MaxSampleValue say."""
    declared = max(tags.get(258, (16,)))
    if declared < 16:
        return declared
    largest = tags.get(281, 0)
    largest = max(largest) if isinstance(largest, tuple) else largest
    bits = int(largest).bit_length()
    return bits if 9 <= bits <= 16 and largest == 2**bits - 1 else None
