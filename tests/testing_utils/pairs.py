"""Small image-mask pairs for tests."""

from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.transform import from_origin


def random_pairs(count: int, size: tuple[int, int] = (40, 32), seed: int = 0) -> list[dict]:
    """Rows with a noisy RGB `image` and an "L" `mask` of 0 and 1, both `size` (width, height)."""
    rng = np.random.default_rng(seed)
    width, height = size
    return [
        {
            "image": Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)),
            "mask": Image.fromarray(rng.integers(0, 2, (height, width), dtype=np.uint8)),
        }
        for _ in range(count)
    ]


def write_raw_folder(folder: Path, rows: list[dict], masks: str = "masks") -> Path:
    """Writes `rows` as `images/000.png` ... and masks of 0 and 255 of the same names."""
    for place in ("images", masks):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(rows):
        row["image"].save(folder / "images" / f"{i:03d}.png")
        row["mask"].point(lambda value: value * 255).save(folder / masks / f"{i:03d}.png")
    return folder


def write_orthomosaic(path: Path, bands: np.ndarray, **profile) -> Path:
    """Writes `bands` (B, H, W) as a GeoTIFF with pixels of 10 cm in UTM 32N."""
    count, height, width = bands.shape
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    place = {"crs": "EPSG:32632", "transform": from_origin(500000, 5300000, 0.1, 0.1)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place, **profile) as raster:
        raster.write(bands)
    return path


def same_pairs(rows, expected) -> bool:
    """Whether two sequences of rows hold the same pixels in the same order."""
    return len(rows) == len(expected) and all(
        np.array_equal(row[column], other[column])
        for row, other in zip(rows, expected, strict=True)
        for column in ("image", "mask")
    )
