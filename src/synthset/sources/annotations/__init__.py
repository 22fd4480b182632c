"""Exports of annotation tools: recognized by what their files hold, and listed as drawn objects.

A format is a file here with `FORMAT`, its name, and `read(path, document, export)`, which adds what a parsed file says
to an `Export`; `recognizes(document)` tells its files from others. YOLO, whose files are not one document, reads the
folder.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..names import find_files, printable
from ..reading import Listing, Reading
from . import coco, cvat, datumaro, label_studio, labelme, via, yolo
from .files import Photos, read_json, read_xml
from .listing import Export, listings

DOCUMENTS: tuple[tuple[str, Callable[[Path], Any], tuple[Any, ...]], ...] = (
    (".json", read_json, (coco, labelme, datumaro, label_studio, via)),
    (".xml", read_xml, (cvat,)),
)
OFFICIAL = "instances_"  # COCO's own files of outlines; what is beside them is of other tasks


def list_annotations(folder: Path, reading: Reading) -> dict[str, Listing] | None:
    """Lists the records of an export by split; None if `folder` holds none.

    Raises:
        InputError: a file is broken, or there are exports in two formats.
    """
    found = find_files(folder)
    photos = Photos(folder, [folder / path for path in found.pictures])
    files = [folder / path for path in found.skipped.pop("files that are no images", [])]
    exports: dict[str, tuple[Path, Export]] = {}
    broken: list[InputError] = []
    unknown: list[Path] = []
    official = {path.parent for path in files if path.name.startswith(OFFICIAL) and path.suffix.lower() == ".json"}
    for suffix, parse, formats in DOCUMENTS:
        for path in files:
            if path.suffix.lower() != suffix:
                continue
            if suffix == ".json" and path.parent in official and not path.name.startswith(OFFICIAL):
                unknown.append(path)
                continue
            try:
                document = parse(path)
            except InputError as error:
                broken.append(error)
                continue
            known = next((module for module in formats if module.recognizes(document)), None)
            if known is None:
                unknown.append(path)
                continue
            _, export = exports.setdefault(known.FORMAT, (path, Export(known.FORMAT)))
            known.read(path, document, export)
    outlines = yolo.read(folder, files, photos)
    if outlines is not None:
        exports[yolo.FORMAT] = (outlines.entries[0].source, outlines)
    if len(exports) > 1:
        names = " and ".join(f"{name} ({printable(path)})" for name, (path, _) in exports.items())
        raise InputError(f"{printable(folder)} holds annotations in {len(exports)} formats: {names}; keep one of them")
    if broken and photos.paths:
        raise broken[0]
    if not exports:
        return None
    ((_, export),) = exports.values()
    export.skipped.update(found.skipped)
    for path in unknown:
        export.skip("files that are no annotations of objects", printable(path))
    return listings(folder, export, photos, reading)


FORMATS = (list_annotations,)
