"""Masks that a segmenter predicts of whole photos and orthomosaics, as files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..console import progress
from ..errors import InputError
from ..output_dir import atomic_path
from ..sources.decoding import decode_record
from ..sources.names import is_ignored, is_picture, require_storable
from ..sources.rasters import (
    georeference,
    is_orthomosaic,
    is_raster,
    naming,
    pixels_with_data,
    raster_size,
    rasterio_errors,
    read_photo,
)
from ..sources.reading import Reading, Record, Window
from .segmenter import BAND, Segmenter


def list_photos(path: Path) -> list[Path]:
    """Lists the images of `--images`, a folder or one file, in order.

    Raises:
        InputError: there are none, or a name can't be stored.
    """
    there = [path] if path.is_file() else path.iterdir() if path.is_dir() else ()
    files = sorted(file for file in there if is_picture(file.name) and not is_ignored(file.name))
    if not files:
        raise InputError(f"--images {path} holds no images; give a folder of JPEG, PNG, TIFF or the like, or one file")
    for file in files:
        require_storable(file.name)
    return files


def open_photo(file: Path, reading: Reading) -> Image.Image:
    """Decodes a photo to RGB; `reading.bands` are those of TIFFs.

    Raises:
        InputError: it can't be read.
    """
    record = Record({"path": str(file), "bytes": None}, (), str(file))
    return decode_record(record, reading if is_raster(file) else replace(reading, bands=None)).image


def check_orthomosaic(file: Path, reading: Reading) -> None:
    """Reads the middle of an orthomosaic, so that one whose bands or values can't be read is refused at once.

    Raises:
        InputError: as `read_photo`.
    """
    with naming(file):
        width, height = raster_size(file)
        wide, high = min(width, 64), min(height, 64)
        read_photo(file, Window((width - wide) // 2, (height - high) // 2, wide, high), reading)


def mask_paths(files: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Maps each image to the file of its mask in `folder`: `NAME_mask.tif` of an orthomosaic, else `NAME_mask.png`.

    Raises:
        InputError: the masks of two images would have one name.
    """
    paths: dict[Path, Path] = {}
    for file in files:
        path = folder / f"{file.stem}_mask{'.tif' if is_orthomosaic(file) else '.png'}"
        same = next((other for other, known in paths.items() if known == path), None)
        if same:
            raise InputError(f"{same} and {file.name} would both have the mask {path.name}; rename one of them")
        paths[file] = path
    return paths


def write_mask(file: Path, path: Path, segmenter: Segmenter, reading: Reading, batch_size: int) -> None:
    """Predicts the mask of a photo or an orthomosaic and writes it: 0 and 255, completely or not at all.

    The mask of an orthomosaic is a tiled, compressed GeoTIFF of the same size and place, 0 where the orthomosaic has
    no data. It is read, predicted and written in bands of 512 rows, so memory does not grow with its height.

    Args:
        file: the photo.
        path: file of the mask, see [`mask_paths`].
        segmenter: predicts the mask.
        reading: bands and bit depth of photos.
        batch_size: tiles at once.

    Raises:
        InputError: the photo can't be read or the mask can't be written.
    """
    if not is_orthomosaic(file):
        mask = segmenter.predict(open_photo(file, reading), batch_size) > segmenter.threshold
        with atomic_path(path) as temporary:
            Image.fromarray(mask.astype(np.uint8) * 255).save(temporary, "PNG")
        return

    def read(window: Window) -> Image.Image:
        with naming(file):
            return read_photo(file, window, reading)

    with naming(file):
        width, height = raster_size(file)
        place = georeference(file)
    layout = {"driver": "GTiff", "tiled": True, "blockxsize": BAND, "blockysize": BAND, "BIGTIFF": "IF_SAFER"}
    content = {"width": width, "height": height, "count": 1, "dtype": "uint8", "compress": "deflate"}
    bands = [Window(0, top, width, min(BAND, height - top)) for top in range(0, height, BAND)]
    predicted = segmenter.predict_rows(read, (height, width), batch_size)
    attempt = "be written", "free some space, or choose another --output_dir"
    count = 0
    with atomic_path(path) as temporary:
        with naming(path), rasterio_errors(*attempt):
            import rasterio

            raster = rasterio.open(temporary, "w", **layout, **content, **place)
        for band, rows in zip(progress(bands, file.name, unit="band", leave=False), predicted, strict=True):
            with naming(file):
                mask = (rows > segmenter.threshold) & pixels_with_data(file, band)
            count += int(mask.sum())
            with naming(path), rasterio_errors(*attempt):
                raster.write(mask.astype(np.uint8) * 255, 1, window=((band.top, band.top + band.height), (0, width)))
        with naming(path), rasterio_errors(*attempt):
            raster.close()
            with rasterio.open(temporary) as raster:  # a full disk may go unreported
                found = sum(int((raster.read(1, window=block) > 0).sum()) for _, block in raster.block_windows(1))
        if found != count:
            raise InputError(f"{path} can't be written completely; free some space")
