"""Decoding and checking of photos and masks."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import InputError


def open_image(value: dict | None) -> Image.Image:
    """Decodes `value`, a row of an undecoded `datasets.Image` column ({"path", "bytes"}), and applies its EXIF
    orientation, as `datasets` does.

    Raises:
        InputError: the value is missing, or is not an image that Pillow can read completely.
    """
    if value is None:
        raise InputError("is missing; remove the row or add it")
    try:
        with Image.open(value["path"] if value["bytes"] is None else io.BytesIO(value["bytes"])) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        size = Path(value["path"]).stat().st_size if value["bytes"] is None else len(value["bytes"])
        found = f"{size} bytes in no image format that Pillow knows" if size else "an empty file (0 bytes)"
    except FileNotFoundError:
        found = "no such file"
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        found = " ".join(str(error).split())
    raise InputError(f"can't be read as an image: {found}; replace or remove it")


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts `image` to 8-bit RGB: gray is repeated, a palette looked up, an alpha channel dropped.

    Raises:
        InputError: 16 or 32 bits per channel, because the file does not define the range from black to white.
    """
    if image.mode.startswith(("I", "F")):
        raise InputError(f"has mode {image.mode!r}, more than 8 bits per channel; convert it to 8-bit RGB")
    return image.convert("RGB")


def to_binary(image: Image.Image) -> Image.Image:
    """Converts `image` to a mask of mode "L" that holds 0 and 1.

    Accepts masks of 0 and 255 or of 0 and 1, in one channel of any depth, as palette indices (their colors are ignored)
    or as RGB with three equal channels.

    Raises:
        InputError: the mask has other values or color.
    """
    values = np.asarray(image)
    if image.mode == "RGB" and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2:
        raise InputError(
            f"is a mask of mode {image.mode!r} with color or transparency; "
            "save it as one gray channel with 0 for background and 255 for the object"
        )
    mask = values != 0
    if values.max() not in (0, 1, 255) or (values[mask] != values.max()).any():
        found = np.unique(values)
        listed = ", ".join(str(v) for v in found[:6]) + (f", ... ({len(found)} different)" if len(found) > 6 else "")
        raise InputError(
            f"is a mask with values {listed}; save it losslessly (PNG) with 0 for background and 255 (or 1) for the "
            "object"
        )
    return Image.fromarray(mask.astype(np.uint8))


def decode_pair(row: dict, name: Callable[[str], str]) -> dict[str, Image.Image]:
    """Decodes and checks "image" and "mask" of a row, whichever it has.

    Args:
        row: undecoded values ({"path", "bytes"}) under "image", "mask" or both.
        name: returns the name of a column's value for error messages.

    Returns:
        The same keys with the RGB image and the "L" mask of 0 and 1.

    Raises:
        InputError: a value is unreadable or not usable as image or mask, or the sizes differ.
    """
    pair = {}
    for column, convert in (("image", to_rgb), ("mask", to_binary)):
        if column in row:
            try:
                pair[column] = convert(open_image(row[column]))
            except InputError as error:
                raise InputError(f"{name(column)} {error}") from None
    if len(pair) == 2 and pair["image"].size != pair["mask"].size:
        sizes = {column: "{}x{}".format(*image.size) for column, image in pair.items()}
        raise InputError(
            f"{name('mask')} is {sizes['mask']} pixels but {name('image')} is {sizes['image']}; make both one size"
        )
    return pair
