"""Files of an export: found, parsed, and the photos that it names."""

import json
import os
import re
import unicodedata
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from ...errors import InputError

PHOTOS = frozenset(
    ".avif .bmp .gif .heic .heif .jfif .jp2 .jpeg .jpg .mpo .pgm .png .pnm .ppm .tif .tiff .webp".split()
)
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


def shown(value: object) -> str:
    """`value` as one printable line."""
    text = str(value)
    return text if text.isprintable() else ascii(text)


def tree(folder: Path) -> list[Path]:
    """Files in `folder` and below, sorted, without hidden ones; links are followed, each folder once.

    Raises:
        InputError: a folder can't be listed.
    """
    found: list[Path] = []
    visited: set[str] = set()

    def fail(error: OSError) -> None:
        raise InputError(f"{shown(error.filename)} can't be listed: {error.strerror}; make it readable or remove it")

    try:
        for parent, folders, files in os.walk(folder, followlinks=True, onerror=fail):
            real = os.path.realpath(parent)
            if real in visited:
                folders.clear()
                continue
            visited.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
            found += [Path(parent, name) for name in files if not name.startswith(".")]
    except RecursionError:
        raise InputError(f"{shown(folder)} holds folders within folders too deeply; move the data up") from None
    return sorted(found)


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: it can't be read.
    """
    try:
        if not path.is_file():  # a pipe would never end
            raise InputError(f"{shown(path)} is no file; remove it")
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(f"{shown(path)} can't be read: {reason}; make it readable or remove it") from None


def read_text(path: Path) -> str:
    """The content of a file of UTF-8.

    Raises:
        InputError: it can't be read, or is in another encoding.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{shown(path)} is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x}); save it as UTF-8"
        ) from None


def read_json(path: Path) -> Any:
    """Parses a file of JSON, in UTF-8 or UTF-16, with a byte order mark or without.

    Raises:
        InputError: it is not JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except json.JSONDecodeError as error:
        reason = f"{error.msg}, line {error.lineno}, column {error.colno}"
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8, at byte {error.start}"
    except RecursionError:
        reason = "its values are nested too deeply"
    except (ValueError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
    raise InputError(f"{shown(path)} is not JSON: {reason}; export it again or remove it")


def read_xml(path: Path) -> Element:
    """Parses a file of XML.

    Raises:
        InputError: it is not XML, or defines entities.
    """
    try:
        root = ElementTree.fromstring(read_bytes(path))
        if root is None:
            raise ValueError("it is empty")
        return root
    except DefusedXmlException as error:
        reason = f"it defines entities ({type(error).__name__})"
    except (ParseError, ValueError, LookupError, RecursionError, MemoryError, OverflowError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
    raise InputError(f"{shown(path)} is not XML: {reason}; export it again or remove it")


def split_name(text: str) -> str | None:
    """The split that a name such as `val2017` or `instances_train` speaks of; None if of none or of several."""
    found = {SPLITS[word] for word in re.findall("[a-z]+", text.lower()) if word in SPLITS}
    return found.pop() if len(found) == 1 else None


def split_of(folder: Path, path: Path) -> str | None:
    """The split that `path` or the nearest folder around it speaks of, below `folder`."""
    relative = path.relative_to(folder)
    names = [relative.stem, *(part for part in reversed(relative.parent.parts))]
    return next((split for split in map(split_name, names) if split), None)


def subset(name: str | None) -> str | None:
    """The split that the subset of an export is: by what its name speaks of, else its name; None of `default`."""
    if name is None or not name.strip() or name.strip().lower() == "default":
        return None
    return split_name(name) or re.sub(r"\W+", "_", name.strip())


def parts_of(name: str) -> tuple[str, ...]:
    """Parts of a path of any system, to be compared: NFC, without case."""
    plain = unicodedata.normalize("NFC", name.replace("\\", "/")).casefold()
    return tuple(part for part in PurePosixPath(plain).parts if part not in ("/", ".", ".."))


class Photos:
    """The photos of a folder, to be found by the names that annotations give them.

    Args:
        folder: holds them, also in sub-folders.
        files: its files.
    """

    def __init__(self, folder: Path, files: list[Path]) -> None:
        self.folder = folder
        self.paths = [path for path in files if path.suffix.lower() in PHOTOS]
        self.by_name: dict[str, list[tuple[tuple[str, ...], Path]]] = {}
        self.folders: set[str] = set()
        for path in self.paths:
            parts = parts_of(str(path.relative_to(folder)))
            self.folders.update(parts[:-1])
            for name in {parts[-1], PurePosixPath(parts[-1]).stem}:
                self.by_name.setdefault(name, []).append((parts, path))

    def find(self, listed: str, source: Path, split: str | None = None) -> Path | None:
        """The photo that an annotation calls `listed`, which may be a path of another computer or lack its suffix.

        Args:
            listed: name or path.
            source: the annotation file.
            split: the split that the annotation is of; photos in a folder of another one are not meant.

        Returns:
            The photo whose path ends most like `listed`: of several the one that is nearest to `source`; None if there
            is none.

        Raises:
            InputError: several are meant as likely.
        """
        wanted = parts_of(listed)
        if not wanted:
            return None
        found = []
        for parts, path in self.by_name.get(wanted[-1], []):
            of = split_of(self.folder, path.parent / "_") if path.parent != self.folder else None
            if of and split and of != split:
                continue
            pairs = zip(parts[-2::-1], wanted[-2::-1], strict=False)
            same = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
            if not same and len(wanted) > 1 and wanted[-2] in self.folders:
                continue  # the folder that `listed` speaks of is there, without this photo
            exact = path.name == PurePosixPath(listed.replace("\\", "/")).name
            near = (path.parent == source.parent, path.parent == source.parent / "images", of == split)
            found.append(((same, near, exact), path))
        best = [path for rank, path in found if rank == max(rank for rank, _ in found)]
        if len(best) > 1:
            raise InputError(
                f"{shown(source)} lists {shown(listed)!r}, which may be {shown(best[0])} or {shown(best[1])}; "
                "keep one of them"
            )
        return best[0] if best else None
