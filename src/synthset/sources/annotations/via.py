"""VGG Image Annotator 2: `via_region_data.json` or a project file (https://www.robots.ox.ac.uk/~vgg/software/via)."""

from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ..names import printable
from .drawing import Shape, ellipse, numbers, outline, rectangle
from .listing import Entry, Export, listed, mapping, text

FORMAT = "VIA JSON"
LINES = ("polyline", "point")
UNNAMED = "object"  # class of regions in a file without any attribute


def recognizes(document: Any) -> bool:
    """True if `document` is a file of VIA."""
    if not isinstance(document, dict) or not document:
        return False
    entries = document.get("_via_img_metadata")
    if isinstance(entries, dict):
        return True
    return all(isinstance(entry, dict) and {"filename", "regions"} <= entry.keys() for entry in document.values())


def read(path: Path, document: dict, export: Export) -> None:
    """Adds what a file says to `export`.

    Objects are polygons, rectangles, circles and ellipses. Lines and points have no area and are skipped. The class
    is the one region attribute that the file uses; "object" if it uses none.

    Raises:
        InputError: the file is broken, or uses several region attributes.
    """
    where = printable(path)
    items = mapping(document.get("_via_img_metadata", document), "photos", where)
    regions: list[tuple[Entry, str, dict, dict]] = []
    for item in items.values():
        photo = mapping(item, "a photo", where)
        name = text(photo.get("filename"), "filename", where)
        entry = Entry(path, name, [])
        export.entries.append(entry)
        found = photo.get("regions")
        found = list(found.values()) if isinstance(found, dict) else listed(found, "regions", f"{where} ({name})")
        for number, region in enumerate(found, start=1):
            at = f"{where} ({printable(name)}): region {number}"
            shape = mapping(mapping(region, "a region", at).get("shape_attributes"), "a shape", at)
            attributes = mapping(region.get("region_attributes") or {}, "region attributes", at)
            if shape.get("name") in LINES:
                export.skip("lines and points, which have no area", at)
            else:
                regions.append((entry, f"region {number}", shape, attributes))
    used = sorted({key for *_, attributes in regions for key, value in attributes.items() if value not in ("", {})})
    if len(used) > 1:
        raise InputError(
            f"{where} has regions with the attributes {', '.join(map(printable, used))}; keep the one that is the class"
        )
    for entry, name, shape, attributes in regions:
        at = f"{where} ({printable(entry.listed)}): {name}"
        label = attributes.get(used[0]) if used else UNNAMED
        if isinstance(label, dict):  # of check boxes
            label = next(iter(label)) if len(label) == 1 else None
        label = text(label, f"{printable(used[0])}, its class" if used else "class", at)
        try:
            entry.shapes.append(shape_of(shape, label, name))
        except InputError as error:
            raise InputError(f"{where} ({printable(entry.listed)}): {error}") from None


def shape_of(shape: dict, label: str, name: str) -> Shape:
    """The object that `shape_attributes` of VIA are."""
    kind = shape.get("name")
    if kind == "polygon":
        across, down = (listed(shape.get(f"all_points_{axis}"), f"points in {axis}", name) for axis in "xy")
        if len(across) != len(down):
            raise InputError(f"{name} has {len(across)} points in x and {len(down)} in y; export it again")
        return outline(label, name, list(zip(across, down, strict=True)))
    if kind == "rect":
        x, y, width, height = numbers(name, (shape.get(key) for key in ("x", "y", "width", "height")))
        return rectangle(label, name, (x, y), (x + width, y + height))
    if kind in ("circle", "ellipse"):
        center = (shape.get("cx"), shape.get("cy"))
        radii = (shape.get("r"),) * 2 if kind == "circle" else (shape.get("rx"), shape.get("ry"))
        return ellipse(label, name, center, radii, np.rad2deg(numbers(name, [shape.get("theta") or 0])[0]))
    raise InputError(f"{name} is a {printable(kind)}, which is not read; draw it as a polygon")
