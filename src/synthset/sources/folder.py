"""Raw folders: the photos and masks of users as files, recognized, listed and loaded."""

import logging
import os
import re
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from shlex import quote
from typing import ClassVar

import datasets

from ..console import progress
from ..errors import InputError
from . import annotations
from .decoding import decode_pair
from .lists import METADATA, list_metadata
from .names import (
    SUFFIXES,
    Files,
    by_first_folder,
    caseless,
    composed,
    find_files,
    find_folder,
    is_picture,
    nearest,
    printable,
    record_of_files,
    require_storable,
    split_name,
)
from .reading import Listing, Reading

logger = logging.getLogger("synthset")


def list_source(folder: Path, reading: Reading) -> dict[str, Listing] | None:
    """Recognizes a raw folder and lists its pairs by split. Files are named, not opened.

    A raw folder is the split `train`, unless its format says otherwise. Its sub-folders that are named after splits
    (`train`, `val`, `valid`, `validation`, `test`) and are raw folders themselves are these splits.

    Args:
        folder: holds the pairs.
        reading: which files are pairs.

    Returns:
        split -> listing; None if the folder is no raw folder.

    Raises:
        InputError: the folder is one, and a pair is incomplete or ambiguous, or `reading` asks for files that are not
            there.
    """
    columns, patterns = (reading.image_column, reading.mask_column), (reading.image_pattern, reading.mask_pattern)
    for name in (folder, *columns, *patterns, reading.mask_suffix):
        require_storable(name)
    try:
        places = [
            folder / name for name in sorted(os.listdir(folder)) if split_name(name) and os.path.isdir(folder / name)
        ]
    except OSError as error:
        raise InputError(f"{folder} can't be listed: {error.strerror}; make it readable") from None
    splits = list_format(folder, reading)
    if reading.pairs_list:
        return splits
    records = [record for listing in (splits or {}).values() for record in listing.records] if places else []
    files = [os.path.relpath(name, folder) for record in records for name in (record.name, *record.mask_names)]
    taken = {name.split(os.sep)[0] for name in files}
    parts: dict[str, Path] = {}
    for place in places:
        part = None if place.name in taken else list_format(place, reading)
        if part is None:
            continue
        split = str(split_name(place.name))
        if split in parts or split in (splits or {}):
            other = parts.get(split, folder)
            raise InputError(f"{place} and {other} both hold the split {split!r}; move or rename one")
        if len(part) > 1:
            raise InputError(f"{place} holds the splits {', '.join(part)}; give it alone as the dataset")
        parts[split] = place
        splits = {**(splits or {}), split: next(iter(part.values()))}
    if splits is None:
        explain_unread([folder, *places], reading)
    return splits


def explain_unread(places: Sequence[Path], reading: Reading) -> None:
    """Raises InputError if one of the folders, none of which is read, has images or should have."""
    for place in places:
        images = find_folder(place, reading.image_column or "images")
        if images is None or reading.image_pattern:
            continue
        name = reading.mask_column or "masks"
        masks = find_folder(place, name)
        if masks is not None:
            raise InputError(f"{place / masks} holds no images ({', '.join(SUFFIXES)}); add some")
        there = ", ".join(sorted(printable(path.name) for path in place.iterdir() if os.path.isdir(path))) or "none"
        raise InputError(
            f"{place} has no sub-folder {name!r} (sub-folders: {there}); name one with --mask_column, or give prepare "
            "--mask_suffix"
        )
    if reading.image_pattern:
        there = ", ".join(find_files(places[0]).pictures[:3]) or "none"
        raise InputError(
            f"{places[0]} has no image that matches --image_pattern {printable(reading.image_pattern)} (first images "
            f"there: {there}); correct it"
        )


def list_format(folder: Path, reading: Reading) -> dict[str, Listing] | None:
    """Lists `folder` itself, by the first of `RAW_FORMATS` that recognizes it."""
    listings = (list_pairs(folder, reading) for list_pairs in RAW_FORMATS)
    return next((listing for listing in listings if listing is not None), None)


def load_raw_folder(folder: Path, listing: Listing) -> datasets.Dataset:
    """Decodes each pair of a listing once, so that invalid files are found first, and names in the log what is
    suspicious or not read.

    Returns:
        A dataset with undecoded columns `image` and `mask` (paths) and the records' others.

    Raises:
        InputError: a file is invalid, or the pairs are not one image and one mask each.
    """
    if any(record.image is None or not isinstance(record.masks, tuple) or len(record.masks) != 1 or record.window
           for record in listing.records):  # fmt: skip
        raise InputError(
            f"{folder} holds {listing.format}; convert it first: synthset prepare --dataset {quote(str(folder))} "
            "--output_dir PREPARED"
        )
    for level, found in ((logging.WARNING, listing.suspicious), (logging.INFO, listing.skipped)):
        for reason, names in found.items():
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            logger.log(level, f"{folder}: {reason}: {printable(names[0])}{more}")
    rows = [{**record.columns, "image": record.name, "mask": record.mask_names[0]} for record in listing.records]

    def problem(row: dict) -> str | None:
        try:
            values = {column: {"path": row[column], "bytes": None} for column in ("image", "mask")}
            decode_pair(values, name=lambda column: row[column])
        except InputError as error:
            return str(error)
        return None

    with ThreadPoolExecutor() as pool:  # Pillow decodes without holding the interpreter's lock
        checked = progress(
            pool.map(problem, rows), "checking pairs", total=len(rows), unit="pair", leave=False, delay=1
        )
        problems = [found for found in checked if found]
    if problems:
        count = f" ({len(problems)} of {len(rows)} pairs in {folder} can't be used)" if len(problems) > 1 else ""
        raise InputError(problems[0] + count)
    columns = dict.fromkeys(["image", "mask", *(key for row in rows for key in row)])
    pairs = datasets.Dataset.from_dict({key: [row.get(key) for row in rows] for key in columns})
    for column in ("image", "mask"):
        pairs = pairs.cast_column(column, datasets.Image(decode=False))
    return pairs


@dataclass(frozen=True)
class Pattern:
    """Where the images or the masks of a folder are.

    Attributes:
        parts: text of paths relative to the folder, `NAME` for what an image and its masks share, and `ANY` for what
            differs between the masks of an image, within a folder's or a file's name.
    """

    parts: tuple[str, ...]

    NAME: ClassVar[str] = "{name}"
    ANY: ClassVar[str] = "*"

    @classmethod
    def in_place(cls, folder: str, suffix: str = "") -> "Pattern":
        """The files of a sub-folder, "" for the dataset's, whose names end in `suffix`."""
        return cls((*([f"{composed(folder)}/"] if folder else []), cls.NAME, *([composed(suffix)] if suffix else [])))

    @classmethod
    def parse(cls, text: str, flag: str) -> "Pattern":
        """Reads the value of a flag.

        Raises:
            InputError: it has no `{name}`, or leaves the folder.
        """
        path = composed(text.replace("\\", "/").removeprefix("./"))
        if PureWindowsPath(path).anchor or ".." in path.split("/"):
            raise InputError(f"{flag} is {printable(text)}, outside the dataset; give it relative to the dataset")
        if cls.NAME not in path:
            raise InputError(
                f"{flag} is {printable(text)}, without {{name}}; write {{name}} for what an image and its mask share"
            )
        if flag == "--image_pattern" and cls.ANY in path:
            raise InputError(f"{flag} is {printable(text)}; * is for masks, write {{name}} for what differs")
        return cls(tuple(part for part in re.split(r"(\{name\}|\*)", path) if part))

    @property
    def text(self) -> str:
        """The pattern as a user writes it."""
        return "".join(self.parts)

    @property
    def folder(self) -> str:
        """The folder that all its files are in; "" is the dataset's."""
        return "" if self.parts[0] in (self.NAME, self.ANY) else self.parts[0].rpartition("/")[0]

    @property
    def num_letters(self) -> int:
        """Length of what is fixed."""
        return sum(len(part) for part in self.parts if part not in (self.NAME, self.ANY))

    def spelled_in(self, folder: Path) -> "Pattern | None":
        """Spells the pattern's folder as it is spelled in `folder`; None if it is not there."""
        if not self.folder:
            return self
        spelled = find_folder(folder, self.folder)
        rest = self.parts[0][len(self.folder) :]
        return None if spelled is None else replace(self, parts=(composed(spelled) + rest, *self.parts[1:]))

    def matcher(self, name: str | None = None) -> Callable[[str], str | None]:
        """Returns a function that returns the `{name}` of a path, in one Unicode form, or None if the path does not
        match. With `name`, only paths of this name match."""
        pieces, wanted = [], f"(?P<name>{'.+?' if name is None else re.escape(name)})"
        for part in self.parts:
            if part == self.NAME:
                pieces.append(wanted)
                wanted = "(?P=name)"
            else:
                pieces.append("[^/]*" if part == self.ANY else re.escape(part))
        compiled = re.compile("".join(pieces), re.IGNORECASE | re.DOTALL)
        with_suffix = is_picture(self.parts[-1])

        def match(path: str) -> str | None:
            path = composed(path)
            found = compiled.fullmatch(path if with_suffix else path.rpartition(".")[0])
            return found["name"] if found else None

        return match

    def owners(self, path: str, name: str, names: Collection[str], fold: Callable[[str], str]) -> list[str]:
        """Returns which of `names`, which are folded, the file `path` matches, of which `name` is the shortest name."""
        if self.ANY not in self.parts:
            return [fold(name)] if fold(name) in names else []
        path = fold(path)
        start = len(fold(self.parts[0])) if self.parts[1] == self.NAME else 0
        starts = range(len(path)) if self.parts.index(self.ANY) < self.parts.index(self.NAME) else [start]
        parts = {path[begin:end] for begin in starts for end in range(begin + 1, len(path) + 1)}
        return sorted(part for part in parts if part in names and self.matcher(part)(path) is not None)


def list_by_name(folder: Path, reading: Reading) -> dict[str, Listing] | None:
    """Matches images and masks by their paths: by `reading.image_pattern` and `mask_pattern`, or, without them, the
    files of two sub-folders (`images/012.jpg`, `masks/012.png`); with `reading.mask_suffix` also the files of one
    folder (`012.jpg`, `012_mask.png`). Suffixes of files don't count, nor does case where only one file fits.

    The splits are those that the first sub-folders are named after (`images/train/012.jpg`), if all are.
    """
    patterns = patterns_of(folder, reading)
    if patterns is None:
        return None
    image_pattern, mask_pattern = patterns
    files = find_files(folder, {find_folder(folder, pattern.folder) or "" for pattern in patterns})
    images, masks = sort_out(folder, files, image_pattern, mask_pattern)
    by_pattern = bool(reading.image_pattern or reading.mask_pattern)
    if not images and (by_pattern or not image_pattern.folder):
        return None
    if not by_pattern and image_pattern.folder != mask_pattern.folder:
        if not images:
            raise InputError(f"{folder / image_pattern.folder} holds no images ({', '.join(SUFFIXES)}); add some")
        if not masks:
            return None

    # 1. the masks of each image
    suspicious: dict[str, list[str]] = {}
    pairs: dict[str, list[str]] = {name: [] for name in images}
    by_case: dict[str, list[str]] = {}
    for name in images:
        by_case.setdefault(caseless(name), []).append(name)
    alone = []
    for path, mask in masks.items():
        owners = mask_pattern.owners(path, mask, pairs, composed)
        if not owners:
            owners = [name for key in mask_pattern.owners(path, mask, by_case, caseless) for name in by_case[key]]
            if len(owners) == 1:
                suspicious.setdefault("names that differ in case", []).append(f"{images[owners[0]]} and {path}")
        if len(owners) > 1:
            raise InputError(
                f"{folder / path} may be the mask of {images[owners[0]]} or of {images[owners[1]]}; rename it, or "
                "write in prepare's --mask_pattern what follows {name}"
            )
        if owners:
            pairs[owners[0]].append(path)
        else:
            alone.append(path)

    # 2. those without a partner, or with several
    missing = [name for name, found in pairs.items() if not found]
    if missing and reading.missing_masks == "error":
        raise InputError(without_mask(folder, missing, images, files, mask_pattern, by_pattern))
    if alone:
        name = masks[alone[0]]
        near = nearest(name, (other for other, found in pairs.items() if not found)) or nearest(name, pairs)
        where = f"that matches {image_pattern.text}" if by_pattern else f"in {folder / image_pattern.folder}"
        remedy = "add it" if by_pattern else f"add {name.rpartition('/')[2]}.png there"
        hint = f" (the nearest name is {images[near]})" if near else ""
        raise InputError(f"{folder / alone[0]} has no image {where}{and_more(alone)}; {remedy} or remove it{hint}")
    if missing and reading.missing_masks == "skip":
        files.skipped["photos without a mask"] = [images[name] for name in missing]
        pairs = {name: found for name, found in pairs.items() if found}
    for name, found in pairs.items():
        if len(found) > 1 and not reading.merge_masks:
            raise InputError(
                f"{folder / found[0]} and {found[1]} are both masks of {images[name]}; keep one, or give prepare "
                "--merge_masks for their union"
            )

    # 3. the splits
    lists = [name for name in METADATA if os.path.isfile(folder / name)]
    if lists:
        files.skipped["lists without columns of images and masks"] = lists
    spelled = f"{image_pattern.folder}/ and {mask_pattern.folder}/"
    if by_pattern or reading.mask_suffix:
        spelled = f"{image_pattern.text} and {mask_pattern.text}"
    records = {
        name: record_of_files(folder / images[name], [folder / path for path in pairs[name]]) for name in sorted(pairs)
    }
    return by_first_folder(records, Listing(spelled, (), files.skipped, suspicious))


def patterns_of(folder: Path, reading: Reading) -> tuple[Pattern, Pattern] | None:
    """Returns where the images and the masks are; None if a folder of them is not there.

    Raises:
        InputError: `reading` contradicts itself, or names what is not there.
    """
    if reading.mask_pattern and reading.mask_suffix:
        raise InputError("--mask_pattern and --mask_suffix both say what masks are called; give one")

    def place(column: str | None, default: str, flag: str) -> str | None:
        name = (column or default).replace("\\", "/").rstrip("/")
        there = find_folder(folder, name)
        if there is not None and (".." in name.split("/") or PureWindowsPath(name).anchor):
            raise InputError(f"{flag} is {printable(name)}, outside {folder}; name a folder in it")
        return there

    images = place(reading.image_column, "images", "--image_column")
    masks = place(reading.mask_column, "masks", "--mask_column")
    if reading.mask_suffix:  # masks may lie beside their images
        images = "" if images is None and not reading.image_column else images
        masks = images if masks is None and not reading.mask_column else masks
    image_pattern = None if images is None else Pattern.in_place(images)
    if reading.image_pattern:
        image_pattern = Pattern.parse(reading.image_pattern, "--image_pattern").spelled_in(folder)
    if image_pattern is None:
        return None
    mask_pattern = None if masks is None else Pattern.in_place(masks, reading.mask_suffix)
    if reading.mask_pattern:
        parsed = Pattern.parse(reading.mask_pattern, "--mask_pattern")
        mask_pattern = parsed.spelled_in(folder)
        if mask_pattern is None:
            raise InputError(f"{folder} has no folder {parsed.folder}/, as --mask_pattern says; correct it")
    if mask_pattern is None:
        return None
    if image_pattern == mask_pattern and reading.mask_channel is None:
        raise InputError(
            f"{folder}: images and masks are both {image_pattern.text}; name two folders with --image_column and "
            "--mask_column, or give prepare --mask_suffix"
        )
    return image_pattern, mask_pattern


def sort_out(
    folder: Path, files: Files, image_pattern: Pattern, mask_pattern: Pattern
) -> tuple[dict[str, str], dict[str, str]]:
    """Sorts pictures into images (name -> path) and masks (path -> name). A path that matches both patterns is what the
    pattern with more fixed letters says; equal patterns make each image its own mask. Others are added to the skipped.

    Raises:
        InputError: two images have the same name, or two patterns say the same with the same number of letters.
    """
    images: dict[str, str] = {}
    masks: dict[str, str] = {}
    image_name, mask_name = image_pattern.matcher(), mask_pattern.matcher()
    for path in files.pictures:
        image, mask = image_name(path), mask_name(path)
        if image is not None and mask is not None and image_pattern != mask_pattern:
            if image_pattern.num_letters == mask_pattern.num_letters:
                raise InputError(
                    f"{folder / path} matches {image_pattern.text} and {mask_pattern.text}; give prepare an "
                    "--image_pattern and a --mask_pattern that match different files"
                )
            if image_pattern.num_letters < mask_pattern.num_letters:
                image = None
            else:
                mask = None
        if image is not None:
            other = images.setdefault(image, path)
            if other != path:
                raise InputError(
                    f"{folder / path} and {other.rpartition('/')[2]} have the same name; keep one of them, or give "
                    "prepare an --image_pattern with the suffix of the images"
                )
        if mask is not None:
            masks[path] = mask
        if image is None and mask is None:
            reason = f"images that match neither {image_pattern.text} nor {mask_pattern.text}"
            files.skipped.setdefault(reason, []).append(path)
    return images, masks


def without_mask(
    folder: Path, missing: list[str], images: dict[str, str], files: Files, mask_pattern: Pattern, by_pattern: bool
) -> str:
    """Explains that the images named `missing` have no mask: an ending that all masks have, the nearest name, or the
    flags that decide."""
    name, path = missing[0], images[missing[0]]
    where = f"that matches {mask_pattern.text}" if by_pattern else f"in {folder / mask_pattern.folder}"
    problem = f"{folder / path} has no mask {where}{and_more(missing)}"
    if by_pattern:
        return f"{problem}; correct prepare's --mask_pattern, or give it --missing_masks empty or skip"
    inside = f"{mask_pattern.folder}/" if mask_pattern.folder else ""
    used = set(images.values())
    others = [other for other in files.pictures if composed(other).startswith(inside) and other not in used]
    stems = {composed(other)[len(inside) :].rpartition(".")[0]: other for other in others}
    endings = {stem[len(name) :] for stem in stems if stem.startswith(name) and stem != name}
    for ending in sorted(ending for ending in endings if "/" not in ending):
        if all(other + ending in stems for other in images):
            return f"{problem}, but each has one that ends in {ending!r}; give prepare --mask_suffix={quote(ending)}"
    near = nearest(name, stems)
    hint = ""
    if near is not None:
        hint = f"; did you mean {stems[near]}?"
        ending = near.removeprefix(name)
        if near != ending and "/" not in ending:
            hint += f" Rename it, or give prepare --mask_suffix={quote(ending)} if all masks are called so"
    ending = "" if mask_pattern.parts[-1] == Pattern.NAME else mask_pattern.parts[-1]
    example = f"{name.rpartition('/')[2]}{ending}.png"
    return f"{problem}; add {example}, or give prepare --missing_masks empty or skip{hint}"


def and_more(names: list[str]) -> str:
    """Says how many files an error is about, if several."""
    return f" ({len(names)} such files)" if len(names) > 1 else ""


# Formats of a raw folder; the first that recognizes it counts. A format is a function that is called (folder, reading)
# and returns the listing of each split, or None if the folder is not of this format.
RAW_FORMATS: tuple[Callable[[Path, Reading], dict[str, Listing] | None], ...] = (
    list_metadata,
    list_by_name,
    *annotations.FORMATS,
)
