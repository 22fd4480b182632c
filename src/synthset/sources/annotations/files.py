"""Files of an export: found, parsed, and the photos that it names."""

import json
import re
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from ...errors import InputError
from ..names import SPLITS, caseless, printable


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        InputError: it can't be read.
    """
    try:
        if not path.is_file():  # a pipe would never end
            raise InputError(f"{printable(path)} is no file; remove it")
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(f"{printable(path)} can't be read: {reason}; make it readable or remove it") from None


def read_text(path: Path) -> str:
    """The content of a file of UTF-8.

    Raises:
        InputError: it can't be read, or is in another encoding.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{printable(path)} is not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x}); "
            "save it as UTF-8"
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
    raise InputError(f"{printable(path)} is not JSON: {reason}; export it again or remove it")


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
    raise InputError(f"{printable(path)} is not XML: {reason}; export it again or remove it")


def split_in(text: str) -> str | None:
    """The split that a name such as `val2017` or `instances_train` speaks of; None if of none or of several."""
    found = {SPLITS[word] for word in re.findall("[a-z]+", text.lower()) if word in SPLITS}
    return found.pop() if len(found) == 1 else None


def split_of(folder: Path, path: Path) -> str | None:
    """The split that `path` or the nearest folder around it speaks of, below `folder`."""
    relative = path.relative_to(folder)
    names = [relative.stem, *(part for part in reversed(relative.parent.parts))]
    return next((split for split in map(split_in, names) if split), None)


def subset(name: str | None) -> str | None:
    """The split that the subset of an export is: by what its name speaks of, else its name; None of `default`."""
    if name is None or not name.strip() or name.strip().lower() == "default":
        return None
    return split_in(name) or re.sub(r"\W+", "_", name.strip())


def parts_of(name: str) -> tuple[str, ...]:
    """Parts of a path of any system, to be compared."""
    return tuple(
        part for part in PurePosixPath(caseless(name.replace("\\", "/"))).parts if part not in ("/", ".", "..")
    )


class Photos:
    """The photos of a folder, to be found by the names that annotations give them.

    Args:
        folder: holds them, also in sub-folders.
        paths: their paths.
    """

    def __init__(self, folder: Path, paths: list[Path]) -> None:
        self.paths = paths
        self.by_name: dict[str, list[tuple[tuple[str, ...], str | None, Path]]] = {}
        self.folders: set[str] = set()
        for path in self.paths:
            parts = parts_of(str(path.relative_to(folder)))
            self.folders.update(parts[:-1])
            split = split_of(folder, path.parent / "_")
            for name in {parts[-1], PurePosixPath(parts[-1]).stem}:
                self.by_name.setdefault(name, []).append((parts, split, path))

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
        for parts, of, path in self.by_name.get(wanted[-1], []):
            if of and split and of != split:
                continue
            pairs = zip(parts[-2::-1], wanted[-2::-1], strict=False)
            same = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
            if not same and len(wanted) > 1 and wanted[-2] in self.folders:
                continue  # the folder that `listed` speaks of is there, without this photo
            exact = path.name == PurePosixPath(listed.replace("\\", "/")).name
            near = (path.parent == source.parent, path.parent == source.parent / "images", of == split)
            found.append(((same, near, exact), path))
        highest = max((rank for rank, _ in found), default=None)
        best = [path for rank, path in found if rank == highest]
        if len(best) > 1:
            raise InputError(
                f"{printable(source)} lists {printable(listed)!r}, which may be {printable(best[0])} or "
                f"{printable(best[1])}; keep one of them"
            )
        return best[0] if best else None
