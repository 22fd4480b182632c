"""LabelMe JSON: a file beside each photo (https://github.com/wkentaro/labelme)."""

import base64
import binascii
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ..names import printable
from .drawing import Shape, ellipse, outline, patch, rectangle
from .files import read_json
from .listing import Entry, Export, listed, mapping, stated_size, text

FORMAT = "LabelMe JSON"
LINES = ("line", "linestrip", "point", "points")


def recognizes(document: Any) -> bool:
    """True if `document` is LabelMe JSON."""
    return isinstance(document, dict) and {"shapes", "imagePath"} <= document.keys()


def read(path: Path, document: dict, export: Export) -> None:
    """Adds what a file says to `export`.

    Objects are polygons, rectangles, circles and masks. Lines and points have no area and are skipped. The photo is
    the file that `imagePath` names, or `imageData` if that is not there.

    Raises:
        InputError: the file is broken.
    """
    where = printable(path)
    size = stated_size(document.get("imageWidth"), document.get("imageHeight"), where)
    entry = Entry(path, text(document["imagePath"], "imagePath", where), [], size)
    if document.get("imageData") is not None:
        entry.embedded = partial(photo_in, path)
    for number, item in enumerate(listed(document["shapes"], "shapes", where), start=1):
        shape = mapping(item, f"shape {number}", where)
        name = f"shape {number}"
        kind = shape.get("shape_type") or "polygon"
        if kind in LINES:
            export.skip("lines and points, which have no area", f"{where}: {name}")
            continue
        try:
            entry.shapes.append(shape_of(shape, kind, name))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    export.entries.append(entry)
    export.file_per_photo = True


def photo_in(path: Path) -> bytes:
    """The photo that a file holds.

    Raises:
        InputError: it holds none.
    """
    document = read_json(path)
    try:
        return base64.b64decode(document["imageData"], validate=True)
    except (binascii.Error, ValueError, TypeError, KeyError):
        raise InputError(f"{printable(path)} has imageData that is not in base64; save it again in LabelMe") from None


def shape_of(shape: dict, kind: str, name: str) -> Shape:
    """The object that a shape of LabelMe is."""
    label = text(shape.get("label"), "label", name)
    points = listed(shape.get("points"), "points", name)
    if kind in ("polygon", "oriented_rectangle"):
        return outline(label, name, points)
    if kind in ("rectangle", "circle") and len(points) != 2:
        raise InputError(f"{name}, a {kind}, has {len(points)} points instead of 2; draw it again")
    (x, y), (u, v) = outline(label, name, points[:2]).pieces[0] if len(points) >= 2 else ((0, 0), (0, 0))
    if kind == "rectangle":
        return rectangle(label, name, (x, y), (u, v))
    if kind == "circle":
        radius = np.hypot(u - x, v - y)
        return ellipse(label, name, (x, y), (radius, radius))
    if kind == "mask" and points:
        return patch(label, name, shape.get("mask"), (x, y))
    raise InputError(f"{name} is a {printable(kind)} of {len(points)} points, which is not read; draw it as a polygon")
