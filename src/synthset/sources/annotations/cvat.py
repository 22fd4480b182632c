"""CVAT for images 1.1: one XML file for many photos (https://docs.cvat.ai/docs/other/xml_format)."""

from pathlib import Path
from xml.etree.ElementTree import Element

from ...errors import InputError
from ..names import printable
from ..reading import Window
from .drawing import Shape, ellipse, numbers, outline, runs
from .files import subset
from .listing import Entry, Export, stated_size, text

FORMAT = "CVAT XML"
LINES = ("polyline", "points", "cuboid", "skeleton")


def recognizes(root: Element) -> bool:
    """True if a file of XML with this root is CVAT's."""
    return root.tag == "annotations" and any(root.find(tag) is not None for tag in ("image", "track", "meta"))


def read(path: Path, root: Element, export: Export) -> None:
    """Adds what a file says to `export`.

    Objects are polygons, masks and ellipses, drawn by `z_order`. Lines, points, cuboids and skeletons are skipped.

    Raises:
        InputError: the file is broken, is of a video, or has boxes.
    """
    where = printable(path)
    if root.find("track") is not None:
        raise InputError(f"{where} is CVAT for video, which is not read; export CVAT for images 1.1")
    export.classes += [name.text for name in root.iterfind("meta//labels/label/name") if name.text]
    boxes = []
    for image in root.iterfind("image"):
        name = text(image.get("name"), "name of an image", where)
        at = f"{where} ({printable(name)})"
        size = stated_size(image.get("width"), image.get("height"), at)
        entry = Entry(path, name, [], size, subset(image.get("subset")))
        export.entries.append(entry)
        ordered = []
        for number, element in enumerate(image, start=1):
            shape_name = f"{printable(element.tag)} {number}"
            if element.tag == "tag":
                continue
            if element.tag in LINES:
                export.skip("lines, points, cuboids and skeletons, which are no areas", f"{at}: {shape_name}")
                continue
            if element.tag == "box":
                boxes.append(f"{at}: {shape_name}")
                continue
            try:
                (order,) = numbers(shape_name, [element.get("z_order", 0)])
                ordered.append((order, shape_of(element, shape_name)))
            except InputError as error:
                raise InputError(f"{at}: {error}") from None
        entry.shapes += [shape for _, shape in sorted(ordered, key=lambda pair: pair[0])]
    if boxes:
        count = f" ({len(boxes)} boxes)" if len(boxes) > 1 else ""
        raise InputError(f"{boxes[0]} is a box{count}; a box is no mask, so outline the object or remove it")


def shape_of(element: Element, name: str) -> Shape:
    """The object that an element of CVAT is."""
    label = text(element.get("label"), "label", name)
    if element.tag == "polygon":
        points = [point.split(",") for point in element.get("points", "").split(";")]
        return outline(label, name, points)
    if element.tag == "ellipse":
        center, radii = ([element.get(key) for key in keys] for keys in (("cx", "cy"), ("rx", "ry")))
        return ellipse(label, name, center, radii, element.get("rotation", 0))
    if element.tag == "mask":
        box = numbers(name, (element.get(key) for key in ("left", "top", "width", "height")))
        counts = element.get("rle", "").split(",")
        return runs(label, name, counts, Window(*map(int, box)), down=False, whole=False)
    raise InputError(f"{name} is not read; draw it as a polygon")
