"""COCO JSON: one file of `images`, `annotations` and `categories` for many photos (https://cocodataset.org/#format-data)."""

from pathlib import Path
from typing import Any

from ...errors import InputError
from ..names import printable
from ..reading import Window
from .drawing import Outline, Shape, outline, runs
from .listing import Entry, Export, listed, mapping, stated_size, text

FORMAT = "COCO JSON"


def recognizes(document: Any) -> bool:
    """True if `document` is COCO JSON."""
    return isinstance(document, dict) and {"images", "annotations"} <= document.keys()


def read(path: Path, document: dict, export: Export) -> None:
    """Adds what a file says to `export`.

    Objects are polygons, whose pieces form a union, or runs of pixels, plain or compressed; crowds are objects too.

    Raises:
        InputError: the file is broken, is of panoptic segmentation, or has objects with a box alone.
    """
    where = printable(path)
    names: dict[Any, str] = {}
    for entry in listed(document.get("categories"), "categories", where):
        category = mapping(entry, "a category", where)
        key = identity(category.get("id"), "a category", where)
        if key in names:
            raise InputError(f"{where} has two categories of id {printable(key)}; keep one of them")
        names[key] = text(category.get("name"), "name", f"{where}: category {printable(key)}")
    export.classes += names.values()

    entries: dict[Any, Entry] = {}
    for item in listed(document["images"], "images", where):
        image = mapping(item, "an image", where)
        key = identity(image.get("id"), "an image", where)
        if key in entries:
            raise InputError(f"{where} has two images of id {printable(key)}; keep one of them")
        name = text(image.get("file_name"), "file_name", f"{where}: image {printable(key)}")
        size = stated_size(image.get("width"), image.get("height"), f"{where}: image {printable(key)}")
        entries[key] = Entry(path, name, [], size)
    boxes = []
    for item in listed(document["annotations"], "annotations", where):
        annotation = mapping(item, "an annotation", where)
        if "segments_info" in annotation:
            raise InputError(f"{where} is COCO's panoptic format, which is not read; export instances")
        name = f"annotation {printable(annotation.get('id'))}"
        image_key = identity(annotation.get("image_id"), f"the image of {name}", where)
        if image_key not in entries:
            raise InputError(f"{where}: {name} is of image {printable(image_key)}, which is not listed; remove it")
        category_key = identity(annotation.get("category_id"), f"the category of {name}", where)
        if category_key not in names:
            raise InputError(f"{where}: {name} is of category {printable(category_key)}, which is not listed; add it")
        segmentation = annotation.get("segmentation")
        if segmentation is None or segmentation == [] or segmentation == [[]]:
            boxes.append(f"{name} of {printable(entries[image_key].listed)}")
            continue
        shape = shape_of(segmentation, names[category_key], name, where)
        entries[image_key].shapes.append(shape)
    if boxes:
        count = f" ({len(boxes)} such annotations)" if len(boxes) > 1 else ""
        raise InputError(
            f"{where}: {boxes[0]} has no outline{count}; a box is no mask, so outline the object or remove it"
        )
    export.entries += entries.values()


def shape_of(segmentation: Any, label: str, name: str, where: str) -> Shape:
    """The object that a `segmentation` of COCO is."""
    try:
        if isinstance(segmentation, dict):
            size = listed(segmentation.get("size"), "height and width", name)
            stated = stated_size(size[1], size[0], name) if len(size) == 2 else None
            if stated is None:
                raise InputError(f"{name} has runs without height and width; export it again")
            return runs(label, name, segmentation.get("counts"), Window(0, 0, *stated))
        pieces = listed(segmentation, "points", name)
        if not isinstance(pieces[0], list):
            pieces = [pieces]
        outlines = [outline(label, name, piece) for piece in pieces]
        return Outline(label, name, tuple(piece for found in outlines for piece in found.pieces))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def identity(value: Any, what: str, where: str) -> Any:
    """A number or text that names something.

    Raises:
        InputError: it is neither.
    """
    if not isinstance(value, int | float | str):
        raise InputError(f"{where} has no id of {what}; export it again")
    return value
