"""Names of files: which are pictures, which are the same, which can be stored, and which split they say."""

import difflib
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import InputError
from .reading import Listing, Record

SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
SPLITS = {
    **{"train": "train", "training": "train"},
    **{"val": "validation", "valid": "validation", "validation": "validation"},
    **{"test": "test", "testing": "test"},
}
BY_SYSTEMS = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir"}  # made by macOS, Windows and Synology
UNSTORABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # controls, line ends, and bytes of no UTF-8


def printable(name: object) -> str:
    """Writes a name in one line: as it is, or quoted with escapes if it holds a character of `UNSTORABLE`."""
    return ascii(str(name)) if UNSTORABLE.search(str(name)) else str(name)


def require_storable(name: object) -> None:
    """Raises InputError if `name` holds line ends, control characters or bytes that are not UTF-8, which neither
    datasets nor one line of a message can hold."""
    if found := UNSTORABLE.search(str(name)):
        kind = "bytes that are not UTF-8" if "\ud800" <= found[0] <= "\udfff" else "a control character"
        raise InputError(f"{printable(name)} has {kind} in its name ({ascii(found[0])}); rename it")


def is_picture(name: str) -> bool:
    """True if `name` ends in one of `SUFFIXES`, in any case."""
    return name.lower().endswith(SUFFIXES)


def is_ignored(name: str) -> bool:
    """True for hidden files and those that operating systems leave in folders."""
    return name.startswith(".") or name.lower() in BY_SYSTEMS


def split_name(name: str) -> str | None:
    """Returns the split that a folder or a value is named after: `validation` for "val" and "Valid"."""
    return SPLITS.get(name.strip().lower())


def composed(name: str) -> str:
    """Returns the one Unicode form (NFC) of a name; macOS writes letters and their accents apart (NFD)."""
    return unicodedata.normalize("NFC", name)


def caseless(name: str) -> str:
    """Returns what file systems that ignore case and Unicode form compare."""
    return composed(composed(name).lower())


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Returns the one of `names` whose last part, without suffix, begins as that of `name` does or is most like it;
    None if none is."""
    wanted = PurePosixPath(name).stem.lower()
    by_stem = {PurePosixPath(other).stem.lower(): other for other in names}
    begun = [stem for stem in by_stem if stem.startswith(wanted) or wanted.startswith(stem)]
    closest = [min(begun, key=lambda stem: abs(len(stem) - len(wanted)))] if begun else []
    found = closest or difflib.get_close_matches(wanted, by_stem, n=1)
    return by_stem[found[0]] if found else None


def find_folder(folder: Path, name: str) -> str | None:
    """Finds a sub-folder by its path relative to `folder`, whatever its Unicode form and, if only one fits, its case.

    Returns:
        The path as it is spelled there; None if there is none.
    """
    here: list[str] = []
    for part in PurePosixPath(name).parts:
        place = folder.joinpath(*here)
        if not os.path.isdir(place / part):
            try:
                there = [other for other in os.listdir(place) if os.path.isdir(place / other)]
            except OSError:
                return None
            same = [other for other in there if composed(other) == composed(part)]
            same = same or [other for other in there if caseless(other) == caseless(part)]
            if len(same) != 1:
                return None
            part = same[0]
        here.append(part)
    return "/".join(here)


@dataclass
class Files:
    """The files in folders.

    Attributes:
        pictures: paths relative to the dataset's folder, with "/", sorted.
        skipped: reason -> the same of what is there and not read.
    """

    pictures: list[str] = field(default_factory=list)
    skipped: dict[str, list[str]] = field(default_factory=dict)


def find_files(folder: Path, places: Iterable[str] = ("",)) -> Files:
    """Lists the files in sub-folders of `folder` and all folders in them, links included; each folder once.

    Args:
        folder: folder of the dataset.
        places: sub-folders, by their paths relative to `folder`; "" is all of it. Overlaps are read once.

    Raises:
        InputError: a folder can't be listed, a link leads nowhere, a picture's name can't be stored, or two names
            differ only in case or Unicode form.
    """
    files = Files()
    above = [folder.resolve(), *folder.resolve().parents]  # a link to them would make a photo its own neighbor
    seen = {identity(place) for place in above}
    waiting = sorted(places)
    first = set(waiting)
    while waiting:
        here = waiting.pop(0)
        place = folder / here
        try:
            this = identity(place)
            if this in seen and (here or this != identity(folder)):
                if here not in first:
                    files.skipped.setdefault("folders that were read by another name", []).append(here)
                continue
            seen.add(this)
            with os.scandir(place) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
            folders = []
            for entry in entries:
                path = f"{here}/{entry.name}" if here else entry.name
                if is_ignored(entry.name):
                    continue
                linked = entry.is_symlink()  # os.path answers False for loops of links, where an entry raises
                if os.path.isdir(entry) if linked else entry.is_dir():
                    folders.append(path)
                elif not is_picture(entry.name):
                    files.skipped.setdefault("files that are no images", []).append(path)
                elif os.path.isfile(entry) if linked else entry.is_file():
                    files.pictures.append(path)
                elif linked:
                    raise InputError(
                        f"{printable(folder / path)} is a link to a file that does not exist; restore the file or "
                        "remove the link"
                    )
                else:
                    files.skipped.setdefault("files that are no images", []).append(path)
            waiting[:0] = folders
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InputError(f"{printable(place)} can't be listed: {reason}; make it readable or remove it") from None
    files.pictures.sort()
    known: dict[str, str] = {}
    for path in files.pictures:
        require_storable(folder / path)
        other = known.setdefault(caseless(path), path)
        if other != path:
            in_case = composed(other) != composed(path)
            names = [str(folder / path), other] if in_case else [ascii(str(folder / path)), ascii(other)]
            raise InputError(
                f"{names[0]} and {names[1]} differ only in {'case' if in_case else 'Unicode form'}, so one overwrites "
                "the other on other systems; rename one"
            )
    return files


def identity(folder: Path) -> tuple[int, int]:
    """Returns what a folder has in common with links to it."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def record_of_files(image: Path, masks: Sequence[Path], columns: dict[str, Any] | None = None) -> Record:
    """Makes the record of a photo and its masks that are files."""
    names = tuple(map(str, masks))
    undecoded = tuple({"path": name, "bytes": None} for name in names)
    return Record({"path": str(image), "bytes": None}, undecoded, str(image), names, columns or {})


def by_first_folder(records: dict[str, Record], listing: Listing) -> dict[str, Listing]:
    """Distributes named records to the splits that the first parts of their names say (`val/012`), if all do; else they
    are the split `train`. What `listing` skipped or found suspicious stays with the first split."""
    splits = {name: split_name(name.split("/")[0]) if "/" in name else None for name in records}
    odd = [name for name, split in splits.items() if split is not None]
    if len(odd) == len(records) > 0:
        return by_split([(str(splits[name]), record) for name, record in records.items()], listing)
    if odd:
        suspicious = {**listing.suspicious, "in a folder named after a split, beside others": odd}
        listing = replace(listing, suspicious=suspicious)
    return {"train": replace(listing, records=tuple(records.values()))}


def by_split(records: Sequence[tuple[str, Record]], listing: Listing) -> dict[str, Listing]:
    """Groups records by their splits. What `listing` skipped or found suspicious stays with the first split."""
    listings: dict[str, Listing] = {}
    for split in dict.fromkeys(split for split, _ in records):
        rest = listing if not listings else Listing(listing.format, ())
        listings[split] = replace(rest, records=tuple(record for other, record in records if other == split))
    return listings
