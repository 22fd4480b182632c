"""Built-in demo dataset: wheat canopies rendered from a seed, with pixel-exact masks of the heads."""

import io
from functools import lru_cache

from datasets import Dataset, Features
from datasets import Image as ImageFeature

from ..errors import InputError
from ..rendering.cereals import render_wheat

SPLIT_SEEDS = {"train": range(0, 160), "validation": range(1000, 1040), "test": range(2000, 2040)}


@lru_cache
def demo_pairs(split: str = "train") -> Dataset:
    """The demo dataset: 160 train, 40 validation and 40 test pairs of 256 x 256 pixels, in memory.

    Args:
        split: "train", "validation" or "test"; they share no seed.

    Returns:
        A dataset with the columns `image` (RGB) and `mask` ("L", 0 background and 1 head). It is rendered on the
        first call, in a few seconds, and kept for the life of the process.

    Raises:
        InputError: `split` is none of the three.
    """
    if split not in SPLIT_SEEDS:
        raise InputError(f"the demo dataset has no split {split!r}; use one of {', '.join(SPLIT_SEEDS)}.")
    rows: dict[str, list] = {"image": [], "mask": []}
    for seed in SPLIT_SEEDS[split]:
        for column, image in zip(rows, render_wheat(seed), strict=True):
            png = io.BytesIO()
            image.save(png, "PNG", compress_level=1)
            rows[column].append({"bytes": png.getvalue(), "path": None})
    return Dataset.from_dict(rows, features=Features({"image": ImageFeature(), "mask": ImageFeature()}))
