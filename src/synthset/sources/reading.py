"""Contracts of reading the files of users: the choices that a user makes, the records that a source is listed as, and
the pairs that they are decoded to.

A source goes one way: a folder is recognized and listed (`folder.py`, `lists.py`, `annotations/`) as records, which
name files and drawn objects without opening pictures; a record is decoded (`decoding.py`, `rasters.py`) to a pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from PIL import Image

Color = tuple[int, int, int]  # red, green, blue, 0 to 255


class Window(NamedTuple):
    """Part of a picture in pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Reading:
    """Choices by which a source is read. The default is the convention of every command: files matched by name, masks
    of 0 and 255 (or 1), photos of 8 bits; `prepare` has a flag for each field.

    Attributes:
        image_column: sub-folder or column of the images; `images` or `image` when None.
        mask_column: the same of the masks; `masks` or `mask` when None.
        image_pattern: where images are, relative to the folder, with `{name}` for what an image and its masks share:
            `rgb/{name}_photo.jpg`. A suffix is optional.
        mask_pattern: the same for the masks; `*` stands for what differs between the masks of one photo.
        mask_suffix: what the name of a mask has after the name of its image: `_mask`.
        pairs_list: CSV, JSONL or Parquet file that lists the pairs.
        missing_masks: a photo without a mask (or without an object in an annotation file) is an error, has no object,
            or is left out.
        merge_masks: several masks of one photo are one mask, their union.
        bit_depth: significant bits of photos with more than 8 bits per channel; from the file when None.
        background_color: color behind transparent pixels of photos.
        bands: bands of a raster that are red, green and blue, or the one that is gray, from 1.
        tile_size: side in pixels of the tiles that photos are cut into; None leaves them whole.
        tile_overlap: pixels that neighboring tiles share.
        object_values: mask values that are the object.
        object_colors: mask colors that are the object.
        classes: name of a class -> its value or color in masks.
        object_classes: names of the classes that are the object.
        mask_threshold: gray values above it are the object.
        instances: mask values are numbers of instances; any but 0 is the object.
        mask_channel: "alpha" takes the mask from the alpha channel.
        mask_orientation: whether masks of photos that EXIF rotates were drawn on the upright photo or on the stored
            pixels; None takes the one whose size fits, and upright where both do.
    """

    image_column: str | None = None
    mask_column: str | None = None
    image_pattern: str | None = None
    mask_pattern: str | None = None
    mask_suffix: str = ""
    pairs_list: str | None = None
    missing_masks: Literal["error", "empty", "skip"] = "error"
    merge_masks: bool = False
    bit_depth: int | None = None
    background_color: Color | None = None
    bands: tuple[int, ...] | None = None
    tile_size: int | None = None
    tile_overlap: int = 0
    object_values: tuple[int, ...] = ()
    object_colors: tuple[Color, ...] = ()
    classes: dict[str, int | Color] | None = None
    object_classes: tuple[str, ...] = ()
    mask_threshold: int | None = None
    instances: bool = False
    mask_channel: Literal["alpha"] | None = None
    mask_orientation: Literal["upright", "stored"] | None = None


class Drawing(Protocol):
    """The objects of one photo, as an annotation tool stores them.

    Attributes:
        size: (width, height) of the photo that the annotation states, or None.
        name: file and entry for error messages.
    """

    size: tuple[int, int] | None
    name: str

    def label_map(self, size: tuple[int, int], window: Window | None = None) -> np.ndarray:
        """Draws the objects.

        Args:
            size: (width, height) of the photo in pixels.
            window: part to draw; the whole photo when None.

        Returns:
            uint8 (height, width): 0 where there is no object, else the position, from 1, of its class in the
            listing's `classes`.

        Raises:
            InputError: `size` is not what the annotation states, or an object can't be drawn.
        """
        ...


@dataclass(frozen=True)
class Record:
    """A pair that is not decoded.

    Attributes:
        image: {"path", "bytes"} as of an undecoded `datasets.Image` column; None if a dataset's row has none.
        masks: one mask, several that are merged, none if the photo has no object; or drawn objects.
        name: what error messages call the photo: its path, or row and dataset.
        mask_names: the same for each mask; empty for drawn objects.
        columns: other columns.
        window: part of the photo and of its masks that is the pair; None is all of it.
    """

    image: dict | None
    masks: tuple[dict | None, ...] | Drawing
    name: str
    mask_names: tuple[str, ...] = ()
    columns: dict[str, Any] = field(default_factory=dict)
    window: Window | None = None


@dataclass(frozen=True)
class Listing:
    """The records of one split of a source.

    Attributes:
        format: name of the format, as messages say it: "COCO JSON", "images/ and masks/".
        records: in the order of their names.
        skipped: reason -> names of the files that are there and not read.
        suspicious: reason -> names of files, of what is likely a mistake, such as names that differ only in case.
        classes: names of the classes of drawn objects, in the order of the label map's numbers from 1; None for masks
            that are files.
    """

    format: str
    records: Sequence[Record]
    skipped: dict[str, list[str]] = field(default_factory=dict)
    suspicious: dict[str, list[str]] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Decoded:
    """A pair.

    Attributes:
        image: mode "RGB", upright.
        mask: mode "L" of 0 (background) and 1 (object), of the same size.
        labels: int32 (H, W), what the mask held: values, or 65536 R + 256 G + B of colors, or classes of drawn objects;
            None if that is no more than `mask`.
        label_kind: what `labels` holds: "values", "colors" or "classes"; "" for None.
        repaired: what was done to the files beyond decoding, in the words of a report: "rotated upright by EXIF",
            "color profile Display P3 converted to sRGB".
        suspicious: what is likely a mistake, such as "masks in two conventions".
        convention: how the mask is stored, to be compared over a dataset: "0 and 255", "palette of 2 colors".
    """

    image: Image.Image
    mask: Image.Image
    labels: np.ndarray | None = None
    label_kind: Literal["values", "colors", "classes", ""] = ""
    repaired: tuple[str, ...] = ()
    suspicious: tuple[str, ...] = ()
    convention: str = ""
