"""Decoding and checking of pairs: photo and mask come in as one upright RGB picture and one mask of 0 and 1."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
from PIL import Image

from ..errors import InputError
from . import rasters
from .masks import Mask, drawn_mask, label_kind, read_mask, stored_pixels
from .photos import to_rgb
from .pictures import Picture, open_image, upright_size
from .reading import Decoded, Reading, Record

__all__ = ["decode_pair", "decode_record", "open_image", "to_binary", "to_rgb", "upright_size"]

UNDECIDED = "mask fits its photo before and after the EXIF rotation, taken as upright (--mask_orientation decides)"


def to_binary(image: Image.Image) -> Image.Image:
    """Converts a mask of the strict convention (see [`read_mask`]) to mode "L" of 0 and 1.

    Raises:
        InputError: the mask has other values, color or transparency.
    """
    return Image.fromarray(read_mask(stored_pixels(Picture(image)), Reading()).pixels.astype(np.uint8))


def decode_pair(row: dict, name: Callable[[str], str]) -> dict[str, Image.Image]:
    """Decodes and checks "image" and "mask" of a row, whichever it has, by the default of [`Reading`].

    Args:
        row: undecoded values ({"path", "bytes"}) under "image", "mask" or both.
        name: returns the name of a column's value for error messages.

    Returns:
        The same keys with the RGB image and the "L" mask of 0 and 1.

    Raises:
        InputError: a value is unreadable or not usable as image or mask, or the sizes differ.
    """
    if "image" not in row:
        with _naming(lambda: name("mask")):
            mask = read_mask(stored_pixels(open_image(row["mask"])), Reading())
        return {"mask": Image.fromarray(mask.pixels.astype(np.uint8))}
    masks = (row["mask"],) if "mask" in row else ()
    decoded = _decode(
        Record(row["image"], masks, ""), Reading(), None, lambda n: name("image" if n is None else "mask")
    )
    return {"image": decoded.image} | ({"mask": decoded.mask} if masks else {})


def decode_record(record: Record, reading: Reading, classes: tuple[str, ...] | None = None) -> Decoded:
    """Decodes and checks a pair.

    Args:
        record: the pair.
        reading: how it is read.
        classes: of the listing, for drawn objects.

    Raises:
        InputError: a file is unreadable or not usable as photo or mask, the sizes differ, or the object is not decided.
    """
    if record.window is not None and not rasters.is_read_by_parts(record):
        return rasters.decode_tile(record, reading, lambda whole: decode_record(whole, reading, classes))
    return _decode(record, reading, classes, lambda n: record.name if n is None else record.mask_names[n])


def _decode(
    record: Record, reading: Reading, classes: tuple[str, ...] | None, name: Callable[[int | None], str]
) -> Decoded:
    """Decodes a record; `name` returns the name of its photo (None) or of a mask (its number)."""
    with _naming(lambda: name(None)):
        photo, image = _read_photo(record, reading)
    repaired, suspicious = list(photo.repaired), list(photo.suspicious)
    masks: list[Mask] = []

    def drawn_on_stored_pixels(size: tuple[int, int] | None) -> bool:
        """True if a mask of this (width, height), or of an unknown one, is not upright as its photo is."""
        if photo.orientation == 1 or size not in (None, photo.stored_size) or reading.mask_orientation == "upright":
            return False
        if size in (None, image.size) and reading.mask_orientation is None:
            suspicious.append(UNDECIDED)
            return False
        repaired.append("mask drawn on stored pixels, rotated with its photo")
        return True

    if isinstance(record.masks, tuple):
        for number, value in enumerate(record.masks):
            with _naming(partial(name, number)):
                picture, mask = _read_mask(value, record, reading)
            repaired += [f"mask {note}" for note in picture.repaired]
            height, width = mask.pixels.shape
            if picture.orientation == 1 and drawn_on_stored_pixels((width, height)):
                mask = mask.turned(photo.orientation)
            if mask.pixels.shape != (image.height, image.width):
                stored = "{}x{}".format(*photo.stored_size)
                before = f" ({stored} before its EXIF rotation)" if photo.orientation > 1 else ""
                raise InputError(
                    f"{name(number)} is {width}x{height} pixels but {name(None)} is {image.width}x{image.height}"
                    f"{before}; make both one size"
                )
            masks.append(mask)
    else:
        drawing, turned = record.masks, drawn_on_stored_pixels(record.masks.size)
        size = photo.stored_size if turned else image.size
        if record.window is not None:
            size = rasters.raster_size(_path(record.image))
        drawn = drawing.label_map(size, record.window)
        with _naming(lambda: drawing.name):
            mask = drawn_mask(drawn, reading, classes or ())
        masks.append(mask.turned(photo.orientation) if turned else mask)

    pixels = np.zeros((image.height, image.width), bool)
    labels = pixels.astype(np.int32) if label_kind(reading) or reading.instances else None
    for mask in masks:  # where labels of several masks overlap, the last counts
        pixels = pixels | mask.pixels
        labels = mask.labels if labels is None or mask.labels is None else np.where(mask.labels, mask.labels, labels)
    conventions = {mask.convention for mask in masks} - {""}
    if len(conventions) > 1:
        suspicious.append(f"masks in {len(conventions)} conventions: {', '.join(sorted(conventions))}")
    return Decoded(
        image,
        Image.fromarray(pixels.astype(np.uint8)),
        labels,
        max((mask.label_kind for mask in masks), default=label_kind(reading)),
        tuple(dict.fromkeys(repaired)),
        tuple(dict.fromkeys(suspicious)),
        ", ".join(sorted(conventions)),
    )


def _read_photo(record: Record, reading: Reading) -> tuple[Picture, Image.Image]:
    """Reads the photo of a record, or its part, and converts it to RGB."""
    if record.window is not None or reading.bands is not None:
        image = rasters.read_photo(_path(record.image), record.window, reading)
        return Picture(image), image
    picture = open_image(record.image)
    return picture, to_rgb(picture, reading)


def _read_mask(value: dict | None, record: Record, reading: Reading) -> tuple[Picture, Mask]:
    """Reads one of the masks of a record, or its part."""
    if record.window is not None:
        stored = stored_pixels(rasters.read_mask(_path(value), record.window))
        stored = stored._replace(palette=rasters.read_palette(_path(value)))
        return Picture(Image.new("1", (1, 1))), read_mask(stored, reading)
    picture = open_image(value)
    return picture, read_mask(stored_pixels(picture), reading)


def _path(value: dict | None) -> str:
    """The path of an undecoded value.

    Raises:
        InputError: it has none.
    """
    if value is None or value.get("path") is None:
        raise InputError("is not a file, of which parts or bands could be read; save it as one")
    return value["path"]


@contextmanager
def _naming(name: Callable[[], str]) -> Iterator[None]:
    """Puts a name before the message of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name()} {error}") from None
