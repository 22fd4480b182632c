"""Pictures of pairs for people: image, mask and overlay in three rows."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def overlay(image: Image.Image, mask: Image.Image, color=(255, 0, 80), opacity: float = 0.45) -> Image.Image:
    """`image` (RGB) with the pixels where `mask` ("L") is above 0 tinted with `color`."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    on = (np.asarray(mask) > 0)[..., None]
    tinted = np.where(on, (1 - opacity) * pixels + opacity * np.asarray(color, dtype=np.float32), pixels)
    return Image.fromarray(tinted.round().astype(np.uint8))


def pair_grid(
    images: list[Image.Image],
    masks: list[Image.Image],
    columns: int = 8,
    tile: int | None = None,
    captions: list[str] | None = None,
) -> Image.Image:
    """Lays pairs out in bands of three rows: images, masks, overlays.

    Args:
        images: RGB images.
        masks: "L" masks of the images' sizes; any value above 0 is drawn white.
        columns: pairs in a band.
        tile: side of a tile in pixels, by nearest-neighbor scaling; the first image's longer side, enlarged to at
            least 96 pixels, when not given.
        captions: a short text above each pair.

    Returns:
        One RGB picture.
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
        for row, picture in enumerate((image, white, overlay(image, mask))):
            resampling = Image.Resampling.NEAREST if max(picture.size) <= tile else Image.Resampling.BOX
            sheet.paste(picture.convert("RGB").resize((tile, tile), resampling), (left, top + row * (tile + gap)))
    return sheet
