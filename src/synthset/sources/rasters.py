"""Large and multi-band rasters (TIFF, GeoTIFF), which rasterio reads by windows, and photos cut into tiles.

Memory does not grow with the size of a raster: GDAL keeps at most 256 MiB of decoded blocks. Errors of the functions
that read a raster don't name it, as those of decoding: their callers do.
"""

import math
import os
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..errors import InputError
from .names import printable
from .pictures import upright_size
from .reading import Decoded, Reading, Record, Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

SUFFIXES = (".tif", ".tiff")
MOST_PIXELS_WHOLE = 2**28  # of a raster that is read in one piece
MOST_BLOCK_BYTES = 2**28
MOST_TILES = 10**6
CACHE_BYTES = 2**28
WIDTH, HEIGHT, ORIENTATION = 256, 257, 274  # tags of TIFF
GEOREFERENCES = {33550, 33922, 34264}  # pixel scale, tie points, transformation

_thread = threading.local()  # what each thread read last: open `rasters`, and a decoded `whole`


def is_raster(path: str | Path) -> bool:
    """True for a TIFF that is stored upright, False for every other file: those Pillow decodes."""
    tags = _tags(path)
    return WIDTH in tags and tags.get(ORIENTATION, 1) == 1


def is_orthomosaic(path: str | Path) -> bool:
    """True for a TIFF that is georeferenced, by its tags or a world file (`.tfw`), or has more than 2**28 pixels."""
    tags = _tags(path)
    return is_raster(path) and (
        not GEOREFERENCES.isdisjoint(tags)
        or tags[WIDTH] * tags.get(HEIGHT, 0) > MOST_PIXELS_WHOLE
        or Path(path).with_suffix(".tfw").is_file()
    )


def raster_size(path: str | Path) -> tuple[int, int]:
    """Reads (width, height) of a raster in pixels.

    Raises:
        InputError: as [`read_photo`].
    """
    with _open(path) as raster:
        return raster.width, raster.height


def georeference(path: str | Path) -> dict:
    """Reads where a raster lies, as arguments of `rasterio.open` for a new file of the same place: `crs` with
    `transform` or `gcps`; empty if the file doesn't say.

    Raises:
        InputError: as [`read_photo`].
    """
    with _open(path) as raster:
        points, crs = raster.gcps
        if points:
            return {"gcps": points, "crs": crs}
        where = {} if raster.transform.is_identity else {"transform": raster.transform}
        return where if raster.crs is None else {"crs": raster.crs, **where}


def read_photo(path: str | Path, window: Window | None, reading: Reading) -> Image.Image:
    """Reads part of a photo, upright.

    The colors of a raster are `reading.bands`; else its three bands, in the order that their color interpretation
    states, or its one band. A band that the file declares as alpha counts as none of them. Pixels without data (by the
    file's value for it, its mask or its alpha) are `reading.background_color`, or black; half transparent ones are
    blended with it.

    Args:
        path: a TIFF.
        window: part to read; all of it when None.
        reading: `bands`, `bit_depth` and `background_color` apply.

    Returns:
        The part, mode "RGB".

    Raises:
        InputError: rasterio is missing, the file is damaged, the window is not inside, it is not clear which bands are
            the colors, or values are not of 8 bits and their depth is unknown.
    """
    with _open(path) as raster:
        bands = _color_bands(raster, reading)
        values, shown = _read(raster, window, bands)
        structure = raster.tags(ns="IMAGE_STRUCTURE")
        if raster.colorinterp[bands[0] - 1].name == "palette":
            pixels = _palette(raster, bands[0])[values[0]]
        else:
            stated = raster.tags(bands[0], ns="IMAGE_STRUCTURE").get("NBITS")
            pixels = np.moveaxis(_to_8_bits(values, shown, reading, int(stated) if stated else None), 0, 2)
            if structure.get("MINISWHITE") == "YES":
                pixels = 255 - pixels
    pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    if not (shown == 255).all():
        alpha = shown[..., None].astype(np.uint32)
        background = np.array(reading.background_color or (0, 0, 0), np.uint32)
        pixels = ((pixels * alpha + background * (255 - alpha) + 127) // 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels))


def read_mask(path: str | Path, window: Window | None) -> np.ndarray:
    """Reads part of a mask as the file holds it.

    Pixels without data are 0. A palette's are its numbers, see [`read_palette`]. Whole numbers that are stored as
    floats, as GIS programs do, are int64.

    Args:
        path: a TIFF.
        window: part to read; all of it when None.

    Returns:
        (H, W), or (H, W, C) for several bands.

    Raises:
        InputError: as [`read_photo`], or values are not whole numbers.
    """
    with _open(path) as raster:
        values, shown = _read(raster, window, list(raster.indexes))
        if raster.count == 1:
            values[:, shown == 0] = 0
        if raster.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES" and values.dtype == np.uint8:
            values = 255 - values
    if not np.issubdtype(values.dtype, np.integer):
        with np.errstate(invalid="ignore"):  # not a number, infinite
            whole = values.real.astype(np.int64)
        if not np.array_equal(whole, values):
            raise InputError("is a mask with values that are not whole numbers; save it with whole ones")
        values = whole
    return values[0] if len(values) == 1 else np.moveaxis(values, 0, 2)


def read_palette(path: str | Path) -> np.ndarray | None:
    """Reads the colors of a raster's palette, uint8 (256 or more, 3); None if it has none.

    Raises:
        InputError: as [`read_photo`].
    """
    with _open(path) as raster:
        return _palette(raster, 1) if raster.colorinterp[0].name == "palette" else None


def pixels_with_data(path: str | Path, window: Window | None = None) -> np.ndarray:
    """Finds the pixels of a raster that are not without data or fully transparent, bool (H, W).

    Raises:
        InputError: as [`read_photo`].
    """
    with _open(path) as raster:
        return _read(raster, window, [])[1] > 0


def is_empty(path: str | Path, window: Window | None = None) -> bool:
    """True if no pixel of this part of a raster has data; False for files that are no rasters."""
    return is_raster(path) and not pixels_with_data(path, window).any()


def is_read_by_parts(record: Record) -> bool:
    """True if the photo and all masks that are files are rasters, False if the record has to be decoded whole."""
    files = [record.image, *(record.masks if isinstance(record.masks, tuple) else ())]
    return all(file is not None and file["bytes"] is None and is_raster(file["path"]) for file in files)


def decode_tile(record: Record, reading: Reading, decode: Callable[[Record], Decoded]) -> Decoded:
    """Decodes a record whole and crops it to its window. Each thread keeps the last whole, so that the tiles of a photo
    decode it once.

    Args:
        record: a tile that is not read by parts.
        reading: as `decode` reads it.
        decode: decodes a record without a window.

    Raises:
        InputError: as `decode`, or the window is not inside.
    """
    assert record.window is not None
    key = record.image, record.masks, reading
    known, whole = getattr(_thread, "whole", (None, None))
    if known != key or whole is None:
        whole = decode(replace(record, window=None))
        _thread.whole = key, whole
    problem = _outside(record.window, *whole.image.size)
    if problem:
        raise InputError(f"{record.name} {problem}")
    left, top, width, height = record.window
    box = left, top, left + width, top + height
    labels = None if whole.labels is None else whole.labels[top : top + height, left : left + width]
    return replace(whole, image=whole.image.crop(box), mask=whole.mask.crop(box), labels=labels)


def tile_records(record: Record, reading: Reading) -> list[Record]:
    """Cuts a record into tiles.

    Tiles are squares of `reading.tile_size`, or as long as the photo where it is shorter, and overlap by
    `reading.tile_overlap`. The last row and the last column are moved inward, so that all have one size.

    Args:
        record: a whole photo with its masks or its drawing.
        reading: `tile_size` None leaves the record whole.

    Returns:
        A record for each tile, row by row, named `PATH[x=LEFT, y=TOP]`, with the columns `source` (name of the file),
        `tile_x` and `tile_y` (left and top in pixels). Tiles without data are among them, see [`is_empty`].

    Raises:
        InputError: the photo can't be opened; it and a mask differ in size or in place; it is a raster that is too
            large to be read whole, or has more than a million tiles.
    """
    if record.image is None:
        return [record]
    path = record.image["path"]
    raster = record.image["bytes"] is None and is_raster(path)
    with naming(record.name):
        width, height = raster_size(path) if raster else upright_size(record.image)
    masks = list(zip(record.masks, record.mask_names, strict=True)) if isinstance(record.masks, tuple) else []
    if raster and width * height > MOST_PIXELS_WHOLE:
        if reading.tile_size is None:
            raise InputError(f"{record.name} has {width} x {height} pixels; cut it into tiles with --tile_size")
        if not is_read_by_parts(record):
            name = next(name for mask, name in masks if mask is None or mask["bytes"] or not is_raster(mask["path"]))
            raise InputError(f"{name} is no TIFF, so that it can't be read by parts as its photo; save it as one")
    if reading.tile_size is None:
        return [record]
    if raster:
        for mask, name in masks:
            if mask is not None and mask["bytes"] is None and is_raster(mask["path"]):
                _require_same_place(path, mask["path"], record.name, name)
    side, step = reading.tile_size, reading.tile_size - reading.tile_overlap
    count = math.prod(1 + math.ceil(max(length - side, 0) / step) for length in (width, height))
    if count > MOST_TILES:
        raise InputError(f"{record.name} has {width} x {height} pixels, {count} tiles; give a larger --tile_size")
    lefts, tops = ([*range(0, length - side, step), max(length - side, 0)] for length in (width, height))
    return [
        replace(
            record,
            name=f"{record.name}[x={left}, y={top}]",
            mask_names=tuple(f"{name}[x={left}, y={top}]" for name in record.mask_names),
            columns={"source": Path(path or record.name).name, "tile_x": left, "tile_y": top, **record.columns},
            window=Window(left, top, min(side, width), min(side, height)),
        )
        for top, left in product(tops, lefts)
    ]


@contextmanager
def naming(name: object) -> Iterator[None]:
    """Puts a name before the message of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{printable(name)} {error}") from None


@contextmanager
def rasterio_errors(action: str, remedy: str) -> Iterator[None]:
    """Context in which rasterio may be used: its cache is bounded, and whatever it and GDAL raise becomes an
    `InputError` of the `action` that failed ("be read") and the `remedy`."""
    try:
        import rasterio
    except ImportError:
        raise InputError("is a raster, which needs rasterio; pip install 'synthset[raster]'") from None
    try:
        # no search for files beside it among the thousands of a folder
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):
            yield
    except InputError:
        raise
    except UnicodeEncodeError:
        raise InputError(f"can't {action}: its path is not UTF-8, which GDAL needs; rename it") from None
    except Exception as error:  # rasterio raises its own, and ValueError, TypeError, MemoryError, ...
        reason = shorten(str(error.__cause__ or error), 200) or type(error).__name__
        reason = "".join(letter if letter.isprintable() else "?" for letter in reason)
        raise InputError(f"can't {action} as a raster ({reason}); {remedy}") from None


@contextmanager
def _open(path: str | Path) -> Iterator["DatasetReader"]:
    """Opens a TIFF, which stays open in this thread until four others were opened: blocks that windows share are
    decoded once."""
    with rasterio_errors("be read", "replace or remove it"):
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning

        path = Path(os.path.abspath(path))
        try:
            stat = path.stat()
        except OSError as error:
            raise InputError(f"can't be read: {error.strerror}; restore it") from None
        key = path, stat.st_mtime_ns, stat.st_size, os.getpid()  # a forked process must not share the file's position
        rasters = vars(_thread).setdefault("rasters", {})
        raster = rasters.pop(key, None)
        if raster is None:
            warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
            raster = rasterio.open(path, driver="GTiff")  # not the VRT of another name, which may name any address
            rows, columns = raster.block_shapes[0]
            if rows * columns * raster.count * np.dtype(raster.dtypes[0]).itemsize > MOST_BLOCK_BYTES:
                raise InputError(
                    f"is compressed in blocks of {columns} x {rows} pixels, too large to be read by parts; rewrite it "
                    "with gdal_translate -co TILED=YES -co COMPRESS=DEFLATE"
                )
        yield raster
        rasters[key] = raster  # not after an error
        while len(rasters) > 4:
            rasters.pop(next(iter(rasters))).close()


def _read(raster: "DatasetReader", window: Window | None, bands: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Reads `bands` (B, H, W), and uint8 (H, W) that is 0 without data, 255 with it, between where half transparent."""
    left, top, width, height = window or (0, 0, raster.width, raster.height)
    problem = _outside(Window(left, top, width, height), raster.width, raster.height)
    if problem:
        raise InputError(problem)
    if width * height > MOST_PIXELS_WHOLE:
        raise InputError(f"has {width} x {height} pixels; cut it into tiles with --tile_size")
    part = ((top, top + height), (left, left + width))
    values = raster.read(bands, window=part) if bands else np.empty((0, height, width))
    return values, raster.dataset_mask(window=part)


def _color_bands(raster: "DatasetReader", reading: Reading) -> list[int]:
    """Bands, from 1, that are the one gray or red, green and blue."""
    if reading.bands:
        if max(reading.bands) > raster.count:
            raise InputError(f"has {raster.count} bands, --bands is {list(reading.bands)}; give 1 to {raster.count}")
        return list(reading.bands)
    kinds = {number: kind.name for number, kind in enumerate(raster.colorinterp, start=1) if kind.name != "alpha"}
    if len(kinds) not in (1, 3) or "cyan" in kinds.values():
        found = ", ".join(kind.name for kind in raster.colorinterp[:8]) + (", ..." if raster.count > 8 else "")
        raise InputError(
            f"has {raster.count} bands ({found}); say which are red, green and blue with --bands, as in --bands 3 2 1"
        )
    named = {kind: number for number, kind in kinds.items()}
    return (
        [named[color] for color in ("red", "green", "blue")] if {"red", "green", "blue"} <= set(named) else list(kinds)
    )


def _palette(raster: "DatasetReader", band: int) -> np.ndarray:
    """Colors of a palette, uint8 (256 or more, 3)."""
    colormap = raster.colormap(band)
    colors = np.zeros((np.iinfo(raster.dtypes[band - 1]).max + 1, 3), np.uint8)
    for value, color in colormap.items():
        colors[value] = color[:3]
    return colors


def _to_8_bits(values: np.ndarray, shown: np.ndarray, reading: Reading, stated: int | None) -> np.ndarray:
    """Scales values to 0..255 by their depth: 8, as the file states it, or `reading.bit_depth`."""
    if values.dtype not in (np.uint8, np.uint16):
        raise InputError(f"has bands of {values.dtype}, not of 8 or 16 bits; convert it to 8 bits per band")
    depth = (stated or 8) if values.dtype == np.uint8 else reading.bit_depth or stated
    if depth == 8:
        return values
    largest = int(values[:, shown > 0].max(initial=0))
    if depth is None:
        raise InputError(
            f"has 16 bits per band and values up to {largest} here; say how many bits are significant with "
            f"--bit_depth (9 to 16)"
        )
    if largest >= 2**depth:
        raise InputError(f"has values up to {largest}, more than --bit_depth {depth} allows; give a larger one")
    white = 2**depth - 1
    return ((np.minimum(values, white).astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)


def _require_same_place(photo: str, mask: str, photo_name: str, mask_name: str) -> None:
    """Raises InputError if two rasters differ in size, or in where they lie if both say so."""
    with naming(photo_name):
        size, place = raster_size(photo), georeference(photo)
    with naming(mask_name):
        mask_size, mask_place = raster_size(mask), georeference(mask)
    if size != mask_size:
        there, here = ("{}x{}".format(*each) for each in (size, mask_size))
        raise InputError(f"{mask_name} is {here} pixels but {photo_name} is {there}; make both one size")
    crs, transforms = ([each[key] for each in (place, mask_place) if key in each] for key in ("crs", "transform"))
    with naming(mask_name), rasterio_errors("be placed", "georeference it again"):
        differing = len(crs) == 2 and crs[0] != crs[1]
        if len(transforms) == 2:
            a, b, _, d, e, _ = transforms[0][:6]
            shift = np.subtract(transforms[1][:6], transforms[0][:6]).reshape(2, 3)
            moved = [shift @ (*corner, 1) for corner in ((0, 0), size)]
            differing |= np.linalg.norm(moved, axis=1).max() > 0.5 * abs(a * e - b * d) ** 0.5  # half a pixel
    if differing:
        raise InputError(
            f"{mask_name} has another coordinate system or another place than {photo_name}; warp it onto the grid of "
            "the photo"
        )


def _outside(window: Window, width: int, height: int) -> str | None:
    """The error of a window that is not inside an image of this size."""
    left, top, wide, high = window
    if 0 <= left < left + wide <= width and 0 <= top < top + high <= height:
        return None
    return f"has {width} x {height} pixels, but x={left}, y={top}, {wide} x {high} is asked for; has it been replaced?"


def _tags(path: str | Path) -> dict[int, int]:
    """Tags of a TIFF or BigTIFF with their first value if it is a whole number, else 0; empty for any other file."""
    tags: dict[int, int] = {}
    if not str(path).lower().endswith(SUFFIXES):
        return tags
    try:
        with open(path, "rb") as file:
            header = file.read(16)
            order = {b"II": "<", b"MM": ">"}[header[:2]]
            big = {42: False, 43: True}[struct.unpack(order + "H", header[2:4])[0]]
            file.seek(struct.unpack(order + ("Q" if big else "I"), header[8:16] if big else header[4:8])[0])
            (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
            entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
            entries = file.read(min(count, 4096) * entry.size)
            for tag, kind, _, value in entry.iter_unpack(entries[: len(entries) // entry.size * entry.size]):
                number = {3: "H", 4: "I", 16: "Q"}.get(kind)
                tags[tag] = struct.unpack_from(order + number, value)[0] if number else 0
    except (OSError, KeyError, ValueError, OverflowError, struct.error):  # no TIFF, which its decoder explains
        pass
    return tags
