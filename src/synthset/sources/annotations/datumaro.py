"""Datumaro JSON: `annotations/SPLIT.json` and `images/SPLIT/`
(https://openvinotoolkit.github.io/datumaro/stable/docs/data-formats/formats/datumaro.html)."""

from pathlib import Path
from typing import Any

from ...errors import InputError
from ..names import printable
from ..reading import Window
from .drawing import Shape, ellipse, numbers, outline, runs
from .files import subset
from .listing import Entry, Export, listed, mapping, stated_size, text

FORMAT = "Datumaro JSON"
OTHERS = ("points", "polyline", "cuboid", "cuboid_3d", "skeleton")
OF_PHOTOS = ("label", "caption")


def recognizes(document: Any) -> bool:
    """True if `document` is Datumaro JSON."""
    return isinstance(document, dict) and {"items", "categories"} <= document.keys()


def read(path: Path, document: dict, export: Export) -> None:
    """Adds what a file says to `export`.

    Objects are polygons, masks and ellipses, drawn by `z_order`. Lines, points and the like are skipped.

    Raises:
        InputError: the file is broken, or has boxes.
    """
    where = printable(path)
    categories = mapping(document["categories"], "categories", where)
    labels = listed(mapping(categories.get("label"), "labels", where).get("labels"), "labels", where)
    names = [text(mapping(label, "a label", where).get("name"), "name of a label", where) for label in labels]
    export.classes += names
    boxes = []
    for found in listed(document["items"], "items", where):
        item = mapping(found, "an item", where)
        image = mapping(item.get("image") or item.get("media") or {}, "an image", where)
        name = text(image.get("path") or item.get("id"), "id of an item", where)
        at = f"{where} ({printable(name)})"
        size = image.get("size")
        stated = stated_size(size[1], size[0], at) if isinstance(size, list) and len(size) == 2 else None
        entry = Entry(path, name, [], stated, subset(path.stem))
        export.entries.append(entry)
        ordered = []
        for number, value in enumerate(listed(item.get("annotations"), "annotations", at), start=1):
            annotation = mapping(value, "an annotation", at)
            kind, annotation_name = annotation.get("type"), f"annotation {number}"
            if kind in OF_PHOTOS:
                continue
            if kind in OTHERS:
                export.skip("lines, points, cuboids and skeletons, which are no areas", f"{at}: {annotation_name}")
                continue
            if kind in ("bbox", "rotated_bbox"):
                boxes.append(f"{at}: {annotation_name}")
                continue
            label = annotation.get("label_id")
            if not isinstance(label, int) or not 0 <= label < len(names):
                raise InputError(
                    f"{at}: {annotation_name} has label {printable(label)}, which is not listed; correct it"
                )
            try:
                (order,) = numbers(annotation_name, [annotation.get("z_order") or 0])
                ordered.append((order, shape_of(annotation, names[label], annotation_name)))
            except InputError as error:
                raise InputError(f"{at}: {error}") from None
        entry.shapes += [shape for _, shape in sorted(ordered, key=lambda pair: pair[0])]
    if boxes:
        count = f" ({len(boxes)} boxes)" if len(boxes) > 1 else ""
        raise InputError(f"{boxes[0]} is a box{count}; a box is no mask, so outline the object or remove it")


def shape_of(annotation: dict, label: str, name: str) -> Shape:
    """The object that an annotation of Datumaro is."""
    kind = annotation.get("type")
    if kind == "polygon":
        return outline(label, name, listed(annotation.get("points"), "points", name))
    if kind == "ellipse":
        points = numbers(name, listed(annotation.get("points"), "points", name))
        turned = mapping(annotation.get("attributes") or {}, "attributes", name).get("rotation")
        if len(points) != 4 or turned:
            raise InputError(f"{name} is an ellipse that is turned or not of 4 numbers; draw it as a polygon")
        x, y, u, v = points
        return ellipse(label, name, ((x + u) / 2, (y + v) / 2), (abs(u - x) / 2, abs(v - y) / 2))
    if kind == "mask":
        rle = mapping(annotation.get("rle"), "runs", name)
        size = listed(rle.get("size"), "height and width", name)
        stated = stated_size(size[1], size[0], name) if len(size) == 2 else None
        if stated is None:
            raise InputError(f"{name} has runs without height and width; export it again")
        return runs(label, name, rle.get("counts"), Window(0, 0, *stated))
    raise InputError(f"{name} is a {printable(kind)}, which is not read; draw it as a polygon")
