"""Preview images of pairs: rows of image, mask and overlay."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps


def overlay(
    image: Image.Image, mask: Image.Image, color: tuple[int, int, int] = (255, 0, 80), opacity: float = 0.45
) -> Image.Image:
    """Tints the pixels of `image` (RGB) where `mask` ("L") is above 0 with `color`."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    on = (np.asarray(mask) > 0)[..., None]
    tinted = np.where(on, (1 - opacity) * pixels + opacity * np.asarray(color, dtype=np.float32), pixels)
    return Image.fromarray(tinted.round().astype(np.uint8))


def pair_grid(
    images: Sequence[Image.Image],
    masks: Sequence[Image.Image],
    columns: int = 8,
    tile: int | None = None,
    captions: list[str] | None = None,
) -> Image.Image:
    """Lays pairs out in bands of three rows: images, masks, overlays.

    Args:
        images: RGB images.
        masks: "L" masks of the images' sizes; any value above 0 is drawn white.
        columns: pairs per band.
        tile: side of a tile in pixels, in which a pair is centered; when not given, a multiple of the first image's
            longer side that is at least 96. Small pairs are enlarged by nearest-neighbor interpolation.
        captions: short text above each pair.

    Returns:
        One RGB image.
    """
    if tile is None:
        side = max(images[0].size)
        tile = side * max(1, -(-96 // side))
    gap, columns = 2, min(columns, len(images))
    bands, strip = -(-len(images) // columns), tile // 8 if captions else 0
    band_height = strip + 3 * (tile + gap) + gap
    sheet = Image.new("RGB", (columns * (tile + gap) + gap, bands * band_height + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (image, mask) in enumerate(zip(images, masks, strict=True)):
        white = Image.fromarray(((np.asarray(mask) > 0) * 255).astype(np.uint8))
        left = gap + (i % columns) * (tile + gap)
        top = gap + (i // columns) * band_height + strip
        if captions:
            font = ImageFont.load_default(0.75 * strip)
            draw.text((left + tile / 2, top - strip / 2), captions[i], "black", font, anchor="mm")
        for row, panel in enumerate((image, white, overlay(image, mask))):
            resampling = Image.Resampling.NEAREST if max(panel.size) <= tile else Image.Resampling.BOX
            panel = ImageOps.pad(panel.convert("RGB"), (tile, tile), resampling, color="white")
            sheet.paste(panel, (left, top + row * (tile + gap)))
    return sheet
