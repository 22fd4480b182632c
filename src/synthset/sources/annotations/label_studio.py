"""Label Studio's export "JSON": one file of tasks (https://labelstud.io/guide/task_format)."""

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from ...errors import InputError
from ..names import is_picture, printable
from ..reading import Window
from .drawing import Shape, ellipse, numbers, outline, runs
from .listing import Entry, Export, listed, mapping, stated_size, text

FORMAT = "Label Studio JSON"
AREAS = ("polygon", "brush", "ellipse", "rectangle")
POINTS = ("keypoint", "vector")


def recognizes(document: Any) -> bool:
    """True if `document` is a list of tasks."""
    return (
        isinstance(document, list)
        and bool(document)
        and all(isinstance(task, dict) and {"data", "annotations"} <= task.keys() for task in document)
    )


def read(path: Path, document: list, export: Export) -> None:
    """Adds what a file says to `export`.

    Objects are polygons, ellipses and what was brushed. A task that nobody annotated counts as not listed.

    Raises:
        InputError: the file is broken, a task has several annotations, or objects are boxes.
    """
    for number, task in enumerate(document, start=1):
        where = f"{printable(path)}: task {printable(task.get('id', number))}"
        name = photo_of(mapping(task["data"], "data", where), where)
        done = [
            annotation
            for annotation in listed(task["annotations"], "annotations", where)
            if not mapping(annotation, "an annotation", where).get("was_cancelled")
        ]
        if not done:
            continue
        if len(done) > 1:
            raise InputError(f"{where} ({printable(name)}) has {len(done)} annotations; keep one")
        results = listed(done[0].get("result"), "results", where)
        results = [mapping(result, "a result", where) for result in results]
        classes = {str(result.get("id")): found for result in results if (found := classes_of(result, where))}
        entry = Entry(path, name, [], alias=without_prefix(name))
        of = set()
        for index, result in enumerate(results, start=1):
            kind = str(result.get("type")).removesuffix("labels")
            at = f"{where} ({printable(name)}): result {printable(result.get('id', index))}"
            if kind in POINTS:
                export.skip("points and lines, which have no area", at)
            if kind not in AREAS:
                continue
            if kind == "rectangle":
                raise InputError(f"{at} is a box; a box is no mask, so outline the object or remove it")
            labels = classes.get(str(result.get("id")), [])
            if len(labels) != 1:
                raise InputError(f"{at} has {len(labels)} classes; give it one")
            size = stated_size(result.get("original_width"), result.get("original_height"), at)
            if size is None or entry.size not in (None, size):
                raise InputError(f"{at} does not say how large its photo is, or not what others say; export it again")
            if result.get("image_rotation"):
                raise InputError(f"{at} is of a photo that was turned in Label Studio; turn the photo itself instead")
            of.add(result.get("to_name") if isinstance(result.get("to_name"), str) else None)
            if len(of) > 1:
                raise InputError(f"{at} is of a second photo in its task; make a task of each photo")
            entry.size = size
            entry.shapes.append(shape_of(kind, mapping(result.get("value"), "a value", at), labels[0], at, size))
        export.entries.append(entry)


def photo_of(data: dict, where: str) -> str:
    """The path or name of a task's photo, from an address of Label Studio or any other."""
    photos = {}
    for key, value in data.items():
        if isinstance(value, str):
            try:
                address = urlsplit(value.replace("\\", "/"))
                path = parse_qs(address.query).get("d", [address.path])[0]
            except ValueError:  # of a broken address
                continue
            if is_picture(path):
                photos[key] = unquote(path) if address.scheme or value.startswith("/data/") else path
    if len(photos) > 1 and "image" in photos:
        photos = {"image": photos["image"]}
    if len(photos) != 1:
        found = ", ".join(map(printable, photos)) or "none"
        raise InputError(f"{where} should have one photo in its data (found: {found}); keep one")
    return next(iter(photos.values()))


def without_prefix(name: str) -> str | None:
    """The name of a file before Label Studio put eight digits and a hyphen before it; None if there are none."""
    path = PurePosixPath(name)
    plain = re.sub(r"^[0-9a-f]{8}-", "", path.name)
    return plain if plain != path.name else None


def classes_of(result: dict, where: str) -> list[str]:
    """Names of classes in a result: under `polygonlabels`, `labels` and the like."""
    value = result.get("value")
    if not isinstance(value, dict):
        return []
    found = [names for key, names in value.items() if key.endswith("labels")]
    if not found:
        return []
    return [text(name, "name of a class", where) for name in listed(found[0], "classes", where)]


def shape_of(kind: str, value: dict, label: str, name: str, size: tuple[int, int]) -> Shape:
    """The object that a value of Label Studio is; its numbers are percents of the photo's sides."""
    if kind == "polygon":
        if value.get("closed") is False:
            raise InputError(f"{name} is an outline that is not closed; close or remove it")
        return outline(label, name, listed(value.get("points"), "points", name), whole=100)
    percent = np.divide(size, 100)
    if kind == "ellipse":
        center, radii = (numbers(name, map(value.get, keys)) for keys in (("x", "y"), ("radiusX", "radiusY")))
        return ellipse(label, name, center * percent, radii * percent, value.get("rotation") or 0)
    if value.get("format") != "rle":
        raise InputError(f"{name} has format {printable(value.get('format'))}, not rle; export it as JSON again")
    return runs(label, name, brushed(value.get("rle"), name, size), Window(0, 0, *size), down=False)


def brushed(data: Any, name: str, size: tuple[int, int]) -> list[int]:
    """Lengths of runs, row by row, background first, of what was brushed.

    Label Studio packs the bytes of an RGBA picture as `@thi.ng/rle-pack` does: 32 bits, how many there are; 5 bits, the
    bits of a value less 1; four times 4 bits, the bits of a length less 1. Then groups: a bit, 1 for a value that
    repeats; 2 bits, which of the four; a length less 1; the value, or as many values. The object is where alpha, every
    fourth value, is above 0.

    Raises:
        InputError: the data is not packed so, or is of a picture of another size.
    """
    try:
        bits = "".join(f"{byte:08b}" for byte in bytes(data))
        total, width = int(bits[:32], 2), int(bits[32:37], 2) + 1
        lengths = [int(bits[start : start + 4], 2) + 1 for start in range(37, 53, 4)]
    except (TypeError, ValueError):
        raise InputError(f"{name} has no packed bytes of a brush; export it again") from None
    if total != 4 * size[0] * size[1]:
        raise InputError(f"{name} is a brush of {total // 4} pixels, not of the {size[0]}x{size[1]} it states; redo it")
    place, done, counts, filled = 53, 0, [0], False

    def add(stop: int, value: int) -> None:
        """Adds alpha values from `done` to `stop`, which are those at 3, 7, 11, ..."""
        nonlocal filled
        pixels = stop // 4 - done // 4
        if pixels and (value > 0) != filled:
            filled = not filled
            counts.append(0)
        counts[-1] += pixels

    try:
        while done < total:
            repeats, length = bits[place] == "1", lengths[int(bits[place + 1 : place + 3], 2)]
            number = int(bits[place + 3 : place + 3 + length], 2) + 1
            place += 3 + length
            if done + number > total or place + width * (1 if repeats else number) > len(bits):
                raise ValueError
            for stop in [done + number] if repeats else range(done + 1, done + number + 1):
                add(stop, int(bits[place : place + width], 2))
                place += width
                done = stop
    except (ValueError, IndexError):
        raise InputError(f"{name} has bytes of a brush that break off or run over; export it again") from None
    return counts
