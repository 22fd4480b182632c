"""YOLO segmentation: a text file of outlines for each photo (https://docs.ultralytics.com/datasets/segment)."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from ...errors import InputError
from ..names import printable
from .drawing import Outline, outline
from .files import Photos, parts_of, read_text, split_in
from .listing import Entry, Export, text

FORMAT = "YOLO segmentation"
SPLIT_KEYS = ("train", "val", "test")
YAML = (".yaml", ".yml")


def read(folder: Path, files: list[Path], photos: Photos) -> Export | None:
    """Reads the folder if it is YOLO's: it has a YAML file of `names` and splits, or folders `labels` of text files
    with numbers beside folders `images`. Without a YAML file names of classes are the lines of `classes.txt`; without
    that the classes are called by their numbers.

    The text file of `images/a.jpg` is `labels/a.txt`. A photo without one, or with an empty one, has no object.

    Raises:
        InputError: a file is broken, or has boxes.
    """
    texts = {path for path in files if path.suffix == ".txt"}
    description = described(folder, files)
    export = Export(FORMAT, file_per_photo=True)
    if description is not None:
        path, document = description
        export.classes = class_names(document, printable(path))
        splits = {key: sources(folder, path, document, key) for key in SPLIT_KEYS if document.get(key)}
    else:
        if not any(looks_like_labels(path) for path in sorted(texts)):
            return None
        lists = [path for path in sorted(texts) if path.name == "classes.txt"]
        if len(lists) > 1:
            raise InputError(f"{printable(lists[0])} and {printable(lists[1])} both name classes; keep one")
        export.classes = [line.strip() for line in read_text(lists[0]).splitlines() if line.strip()] if lists else []
        splits = {"": [folder]}
    used: set[Path] = set()
    taken: dict[Path, str] = {}
    for key, places in splits.items():
        for photo in photos.paths:
            if not any(photo == place or place in photo.parents for place in places):
                continue
            if description is None and "images" not in parts_of(str(photo.relative_to(folder))):
                continue
            if photo in taken:
                raise InputError(f"{printable(photo)} is in the splits {taken[photo]} and {key}; list it once")
            taken[photo] = key
            labels = labels_of(folder, photo)
            used.add(labels)
            shapes = outlines(labels, export.classes) if labels in texts else []
            split = (split_in(key) or key) if key else None
            export.entries.append(Entry(labels, photo.name, list(shapes), split=split, photo=photo))
    for path in sorted(texts - used):
        if looks_like_labels(path):
            export.suspect("text files of outlines without a photo", printable(path))
    if not export.entries:
        raise InputError(
            f"{printable(folder)} is {FORMAT}, but has no photos in folders 'images' beside 'labels'; add them"
        )
    if not export.classes:
        highest = max((int(shape.label) for entry in export.entries for shape in entry.shapes), default=-1)
        export.classes = [str(number) for number in range(highest + 1)]
    return export


def described(folder: Path, files: list[Path]) -> tuple[Path, dict] | None:
    """The YAML file that describes the dataset, in the folder itself, and what it says; None if there is none.

    Raises:
        InputError: there are several, or the file is broken.
    """
    found: list[tuple[Path, dict]] = []
    for path in files:
        if path.parent == folder and path.suffix.lower() in YAML:
            content = read_text(path)
            try:
                document = yaml.safe_load(content)
            except (yaml.YAMLError, ValueError, RecursionError, MemoryError, OverflowError, TypeError) as error:
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                if path.stem == "data":
                    raise InputError(f"{printable(path)} is not YAML: {printable(reason)}; correct it") from None
                continue
            if isinstance(document, dict) and "names" in document and any(key in document for key in SPLIT_KEYS):
                found.append((path, document))
    if len(found) > 1:
        raise InputError(f"{printable(found[0][0])} and {printable(found[1][0])} both describe a dataset; keep one")
    return found[0] if found else None


def class_names(document: dict, where: str) -> list[str]:
    """Names of the classes: a list, or a mapping of 0, 1, 2, ... to names."""
    names = document["names"]
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise InputError(f"{where} has names that are not numbered 0 to {len(names) - 1}; number them so")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list):
        raise InputError(f"{where} has no list of names; add the names of the classes")
    found = [text(str(name) if isinstance(name, int) else name, "name of a class", where) for name in names]
    if len(set(found)) < len(found):
        raise InputError(f"{where} has the same name for two classes; rename one")
    return found


def sources(folder: Path, path: Path, document: dict, key: str) -> list[Path]:
    """Folders or photos of a split, which the YAML file may give from another computer's point of view."""
    where = f"{printable(path)}: {key}"
    values = document[key] if isinstance(document[key], list) else [document[key]]
    found: list[Path] = []
    for value in values:
        place = place_of(folder, text(value, "path", where), document.get("path"))
        if place is None:
            raise InputError(
                f"{where} is {printable(value)}, which is not in {printable(folder)}; correct it, or add it"
            )
        if place.suffix == ".txt":  # a list of photos
            for line in read_text(place).splitlines():
                if line.strip():
                    photo = place_of(folder, line.strip(), document.get("path"))
                    if photo is None:
                        raise InputError(f"{printable(place)} lists {printable(line)}, which is not there; remove it")
                    found.append(photo)
        else:
            found.append(place)
    return found


def place_of(folder: Path, value: str, root: Any) -> Path | None:
    """The longest end of a path that is in `folder`."""
    parts = [part for part in PurePosixPath(value.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    ends = [(str(root), *parts)] if isinstance(root, str) and not root.startswith(("/", "..", "~")) else []
    ends += [tuple(parts[start:]) for start in range(len(parts))]
    for end in ends:
        try:
            if end and (found := folder.joinpath(*end)).exists() and folder in found.parents:
                return found
        except (OSError, ValueError):  # a name that is too long, or holds a null
            continue
    return None


def labels_of(folder: Path, photo: Path) -> Path:
    """The text file of a photo: in `labels` instead of the last `images` in its path, or beside the photo."""
    parts = list(photo.relative_to(folder).with_suffix(".txt").parts)
    folders = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return folder.joinpath(*parts)


def looks_like_labels(path: Path) -> bool:
    """True if a file is in a folder `labels` beside a folder `images`, or below, and its first line is numbers."""
    around = [parent for parent in path.parents if parent.name == "labels"]
    if not around or not (around[0].parent / "images").is_dir() or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            words = file.read(2000).split(b"\n")[0].split()
            return len(words) >= 5 and words[0].isdigit() and bool([float(word) for word in words[1:4]])
    except (OSError, ValueError):
        return False


def outlines(path: Path, classes: list[str]) -> list[Outline]:
    """Reads a text file: in each line the number of a class and x y of each point, as shares of the photo's sides."""
    found = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"{printable(path)} line {number}"
        if len(words) in (5, 6):
            raise InputError(f"{where} has {len(words) - 1} numbers, a box; a box is no mask, so outline the object")
        if len(words) % 2 == 0 or len(words) == 1:
            raise InputError(
                f"{where} has {len(words) - 1} numbers after its class, so that a point lacks x or y; correct it"
            )
        index = int(words[0]) if words[0].isascii() and words[0].isdigit() and len(words[0]) < 9 else -1
        if index < 0 or (classes and index >= len(classes)):
            known = f"0 to {len(classes) - 1}" if classes else "0, 1, 2, ..."
            raise InputError(f"{where} has class {printable(words[0])}, but classes are {known}; correct it")
        try:
            shape = outline(classes[index] if classes else str(index), f"line {number}", words[1:], whole=1)
        except InputError as error:
            raise InputError(f"{printable(path)}: {error}") from None
        if np.abs(shape.pieces[0]).max() > 3:
            raise InputError(f"{where} has numbers above 1; give points as shares of the photo's width and height")
        found.append(shape)
    return found
