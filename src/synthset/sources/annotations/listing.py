"""Lists of records from what an export says."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...errors import InputError
from ..names import by_split, printable
from ..reading import Listing, Reading, Record
from .drawing import Drawing, Outline, Shape
from .files import Photos, split_of

MOST_CLASSES = 255  # numbers of a label map in one byte


@dataclass
class Entry:
    """One photo, as an export describes it.

    Attributes:
        source: the annotation file.
        listed: what it calls the photo.
        shapes: the objects.
        size: (width, height) that it states, or None.
        split: the split that it states; that of the folders around the file or the photo when None.
        photo: the photo, if its place is part of the format.
        embedded: returns the photo itself, if the file holds it.
        alias: another name of the photo, if there is none called `listed`.
    """

    source: Path
    listed: str
    shapes: list[Shape]
    size: tuple[int, int] | None = None
    split: str | None = None
    photo: Path | None = None
    embedded: Callable[[], bytes] | None = None
    alias: str | None = None

    @property
    def name(self) -> str:
        """File and entry for error messages."""
        return f"{printable(self.source)} ({printable(self.listed)})"


@dataclass
class Export:
    """The content of the files of an export.

    Attributes:
        format: its name for messages.
        classes: names of classes that it declares, in its order.
        entries: one for each photo.
        skipped: reason -> names of what is there and not read.
        suspicious: reason -> names of what is likely a mistake.
        file_per_photo: each photo has a file of its own, so that a photo without one has no object.
    """

    format: str
    classes: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    suspicious: dict[str, list[str]] = field(default_factory=dict)
    file_per_photo: bool = False

    def skip(self, reason: str, name: str) -> None:
        """Notes that `name` is not read."""
        self.skipped.setdefault(reason, []).append(name)

    def suspect(self, reason: str, name: str) -> None:
        """Notes that `name` is likely a mistake."""
        self.suspicious.setdefault(reason, []).append(name)


def listings(folder: Path, export: Export, photos: Photos, reading: Reading) -> dict[str, Listing]:
    """Finds the photos of an export and makes a record of each, by split.

    A photo without an object, and in a format of one file per photo a photo without a file, is what
    `reading.missing_masks` says. In other formats a photo that no annotation lists is skipped.

    Returns:
        The listings by split. All have the classes of all objects: first those that are declared, then the others by
        name. What is skipped or suspicious is in the first listing.

    Raises:
        InputError: a photo is listed twice, no photo is there, a photo has no object and `reading.missing_masks` is
            "error", or there are more than 255 classes.
    """
    entries: dict[str, Entry] = {}
    matched: set[Path] = set()
    for entry in export.entries:
        drop_slivers(entry, export)
        source = entry.source.parent / "_" if export.file_per_photo else entry.source
        at_file = entry.split or split_of(folder, source)
        names = [name for name in (entry.listed, entry.alias) if name]
        photo = entry.photo or next(filter(None, (photos.find(name, entry.source, at_file) for name in names)), None)
        if photo and entry.embedded and not beside(entry, photo):
            photo = None
        if photo is None and entry.embedded is None:
            export.suspect("photos that are listed but not there", entry.name)
            continue
        key = printable(entry.source.parent / entry.listed) if photo is None else str(photo)
        if key in entries:
            raise InputError(
                f"{printable(key)} is listed twice, in {entries[key].name} and in {entry.name}; keep one of them"
            )
        entry.split = at_file
        if photo is not None:
            matched.add(photo)
            entry.embedded = None
            entry.split = at_file or split_of(folder, photo.parent / "_")
        entries[key] = entry
    if not entries:
        first = export.entries[0].name if export.entries else printable(folder)
        raise InputError(
            f"{first} is {export.format}, but none of its photos is in {printable(folder)}; "
            "give the folder that holds both the photos and the annotations"
        )
    places = {path.parent for path in matched}
    for path in photos.paths:
        if path in matched:
            continue
        if export.file_per_photo and path.parent in places:
            split = split_of(folder, path.parent / "_")
            entries[str(path)] = Entry(path, path.name, [], split=split, photo=path)
        else:
            export.skip("photos without an annotation", printable(path))

    without = sorted(key for key, entry in entries.items() if not entry.shapes)
    if without and reading.missing_masks == "error":
        count = f" ({len(without)} such photos of {len(entries)})" if len(without) > 1 else ""
        raise InputError(
            f"{printable(without[0])} has no object in its annotation{count}; if that is right, "
            "--missing_masks empty takes such photos as photos without an object and --missing_masks skip leaves "
            "them out"
        )
    if reading.missing_masks == "skip":
        for key in without:
            export.skip("photos without an object", printable(key))
            del entries[key]
        if not entries:
            raise InputError(f"{printable(folder)} has no object in any annotation; annotate some photos")

    shapes = [shape for entry in entries.values() for shape in entry.shapes]
    if shapes and all(isinstance(shape, Outline) and shape.upright for shape in shapes):
        export.suspect("objects that are all rectangles, as for detection", f"all {len(shapes)} of {printable(folder)}")
    used = {shape.label for shape in shapes}
    declared = dict.fromkeys(export.classes)
    classes = [*(name for name in declared if name in used), *sorted(used - declared.keys())]
    if len(classes) > MOST_CLASSES:
        raise InputError(
            f"{printable(folder)} has objects of {len(classes)} classes; merge some, as a label map holds "
            f"{MOST_CLASSES}"
        )
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    records: list[tuple[str, Record]] = []
    for key in sorted(entries):
        entry = entries[key]
        note_far_outlines(entry, export)
        drawing = Drawing(entry.name, entry.size, tuple(entry.shapes), numbers) if entry.shapes else ()
        image = {"path": key, "bytes": entry.embedded and entry.embedded()}
        records.append((entry.split or "train", Record(image=image, masks=drawing, name=printable(key))))
    skipped, suspicious = within(folder, export.skipped), within(folder, export.suspicious)
    splits = by_split(records, Listing(export.format, (), skipped, suspicious))
    return {split: replace(listing, classes=tuple(classes)) for split, listing in splits.items()}


def within(folder: Path, findings: dict[str, list[str]]) -> dict[str, list[str]]:
    """Findings whose names are relative to `folder`."""
    return {reason: [name.removeprefix(f"{folder}/") for name in names] for reason, names in findings.items()}


def beside(entry: Entry, photo: Path) -> bool:
    """True if `photo` is in the folder of the annotation, or where that says it is from there."""
    place = os.path.normpath(entry.source.parent / entry.listed.replace("\\", "/"))
    return photo.parent == entry.source.parent or os.path.normpath(photo) == place


def drop_slivers(entry: Entry, export: Export) -> None:
    """Leaves out outlines of fewer than 3 points, which have no area."""
    kept: list[Shape] = []
    for shape in entry.shapes:
        if isinstance(shape, Outline):
            pieces = tuple(piece for piece in shape.pieces if len(piece) >= 3)
            if len(pieces) < len(shape.pieces):
                export.suspect("outlines of fewer than 3 points", f"{entry.name}: {shape.entry}")
            if not pieces:
                continue
            shape = replace(shape, pieces=pieces)
        kept.append(shape)
    entry.shapes = kept


def note_far_outlines(entry: Entry, export: Export) -> None:
    """Notes outlines that leave the photo by more than a tenth of its side, where its size is known."""
    for shape in entry.shapes:
        if isinstance(shape, Outline) and (entry.size or shape.whole):
            size = entry.size or (1000, 1000)  # of shares, any
            lowest, highest = shape.bounds(size)
            if min(lowest / size) < -0.1 or max(highest / size) > 1.1:
                export.suspect("objects that reach far outside their photo", f"{entry.name}: {shape.entry}")


def text(value: object, what: str, where: str) -> str:
    """`value`, if it is text that is not empty.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} has no {what}; add it, or export again")
    return value


def stated_size(width: object, height: object, where: str) -> tuple[int, int] | None:
    """(width, height) that a file states; None if it states neither.

    Raises:
        InputError: they are no whole numbers above 0.
    """
    if width is None and height is None:
        return None
    try:
        size = (int(float(width)), int(float(height)))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        size = (0, 0)
    if min(size) < 1:
        raise InputError(
            f"{where} states a photo of {printable(width)} x {printable(height)} pixels; correct it, or export again"
        )
    return size


def listed(value: object, what: str, where: str) -> Sequence:
    """`value`, if it is a list.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, list):
        raise InputError(f"{where} has no list of {what}; export it again")
    return value


def mapping(value: object, what: str, where: str) -> dict:
    """`value`, if it is an object of JSON.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, dict):
        raise InputError(f"{where} has something else where {what} should be; export it again")
    return value
