"""Writes pairs as parquet shards that `datasets.load_dataset` opens, and as PNG folders; reads them back."""

import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from ..errors import InputError
from ..output_dir import atomic_path
from ..sources.decoding import to_binary

ROWS_PER_GROUP = 100  # default of datasets for images: the Hub viewer reads one row group per page
GROUP_BYTES = 64 * 2**20  # of one row group; no reader opens a column of more than 2 GiB in one
SHARD_BYTES = 500_000_000  # of one file; default of datasets
PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")  # which a PNG file holds as they are


def pair_features(**columns: str) -> Features:
    """Builds the features of a dataset of pairs; `columns` adds others by dtype: a scalar's, as in
    `pair_features(seed="int64")`, or "image"."""
    others = {name: ImageFeature() if dtype == "image" else Value(dtype) for name, dtype in columns.items()}
    return Features({"image": ImageFeature(), "mask": ImageFeature(), **others})


def image_columns(features: Features) -> list[str]:
    """Lists the columns that hold images."""
    return [name for name, feature in features.items() if isinstance(feature, ImageFeature)]


def png_bytes(image: Image.Image) -> bytes:
    """Encodes `image` as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def row_groups(rows: Iterable[dict], features: Features) -> Iterator[pa.Table]:
    """Encodes `rows`, as of [`write_pairs_shard`], and joins them to tables of at most `ROWS_PER_GROUP` rows and
    `GROUP_BYTES`, or of one row that is larger."""
    pictures = image_columns(features)
    group: list[pa.Table] = []
    size = 0
    for row in rows:
        row = {name: row[name] for name in features}
        row["mask"] = Image.fromarray(np.asarray(to_binary(row["mask"])) * np.uint8(255))
        for name in pictures:
            picture = row[name]
            if isinstance(picture, Image.Image) and (picture.mode in PNG_MODES or name in ("image", "mask")):
                row[name] = {"bytes": png_bytes(picture), "path": None}
        encoded = features.encode_batch({name: [value] for name, value in row.items()})
        table = pa.Table.from_pydict(encoded, schema=features.arrow_schema)
        if group and (len(group) == ROWS_PER_GROUP or size + table.nbytes > GROUP_BYTES):
            yield pa.concat_tables(group)
            group, size = [], 0
        group.append(table)
        size += table.nbytes
    if group:
        yield pa.concat_tables(group)


def write_pairs_shard(path: str | os.PathLike, rows: Iterable[dict], features: Features) -> int:
    """Writes one parquet file, atomically, in row groups bounded by rows and bytes.

    Args:
        path: `FOLDER/data/train-00000-of-00004.parquet` and so on, from which `load_dataset(FOLDER)` infers the split
            and the order.
        rows: dicts with PIL images under `image` (RGB) and `mask` ("L", 0 and 1 or 0 and 255), and a value for every
            other column of `features`. Masks are stored as 0 and 255, so that every viewer shows them; images of other
            columns are stored unchanged. Consumed lazily: at most a row group is in memory, encoded.
        features: [`pair_features`]'s result, or any that has `image` and `mask`.

    Returns:
        The number of rows. The same rows give the same bytes.

    Raises:
        InputError: a mask holds other values.
        OSError: the file can't be written, for example because the disk is full.
    """
    count = 0
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, features.arrow_schema) as writer:
        for group in row_groups(rows, features):
            writer.write_table(group)
            count += len(group)
    return count


def write_pairs(folder: str | os.PathLike, split: str, rows: Iterable[dict], features: Features) -> int:
    """Writes the pairs of a split as `FOLDER/data/SPLIT-00000-of-00004.parquet` and so on, each of about
    `SHARD_BYTES`. Files have these names only once all of them are written.

    Args:
        folder: made if missing; has no files of this split.
        split: `train`, `validation` or `test`.
        rows: as in [`write_pairs_shard`].
        features: as in [`write_pairs_shard`].

    Returns:
        The number of rows. The same rows give the same files.

    Raises:
        InputError: a mask holds other values.
        OSError: a file can't be written.
    """
    data, groups = Path(folder) / "data", row_groups(rows, features)
    data.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []  # under hidden names, which loaders don't read
    count = 0
    try:
        group = next(groups, None)
        while group is not None:
            written.append(data / f".{split}-{len(written):05d}.parquet.tmp")
            with pq.ParquetWriter(written[-1], features.arrow_schema) as writer:
                size = 0
                while group is not None and (not size or size + group.nbytes <= SHARD_BYTES):
                    writer.write_table(group)
                    size, count = size + group.nbytes, count + len(group)
                    group = next(groups, None)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    for number, path in enumerate(written):
        os.replace(path, data / f"{split}-{number:05d}-of-{len(written):05d}.parquet")
    return count


def read_rows(shards: Iterable[str | os.PathLike], columns: Sequence[str] | None = None) -> Iterator[dict]:
    """Yields the rows of parquet files, one row group in memory at a time.

    Args:
        shards: files of [`write_pairs_shard`], in order.
        columns: what to read; all when not given. Images are {"bytes": PNG file, "path"}.
    """
    for shard in shards:
        with pq.ParquetFile(shard) as file:
            for number in range(file.num_row_groups):
                yield from file.read_row_group(number, columns=None if columns is None else list(columns)).to_pylist()


def verify_shard(path: str | os.PathLike) -> int:
    """Reads a parquet file of pairs back: every row, and the checksums of every image; the first and the last pair are
    decoded.

    Returns:
        The number of rows.

    Raises:
        InputError: the file does not hold what was written.
    """
    rows = 0
    try:
        with pq.ParquetFile(path) as file:
            pictures, last = image_columns(Features.from_arrow_schema(file.schema_arrow)), file.metadata.num_rows - 1
        for row in read_rows([path], pictures):
            sizes = set()
            for name in pictures:
                if row[name] is None and name not in ("image", "mask"):
                    continue
                stored = io.BytesIO(row[name]["bytes"])  # Image.open refuses photos above 179 megapixels
                with PngImageFile(stored) if row[name]["bytes"].startswith(b"\x89PNG") else Image.open(stored) as image:
                    sizes |= {image.size} if name in ("image", "mask") else set()
                    if rows in (0, last):
                        image.load()
                    else:
                        image.verify()
            if len(sizes) != 1:
                raise ValueError(f"row {rows} has an image and a mask of two sizes")
            rows += 1
    except Exception as error:  # of pyarrow, of Pillow, and of the disk
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{path} can't be read back as it was written ({reason}); check the disk, remove the file and run the same "
            "command again"
        ) from error
    return rows


def verify_pairs(folder: str | os.PathLike) -> dict[str, int]:
    """Calls [`verify_shard`] for every file of a folder of [`write_pairs`]; returns the number of rows by split.

    Raises:
        InputError: a file does not hold what was written, or is missing.
    """
    counts: dict[str, int] = {}
    for path in sorted((Path(folder) / "data").glob("*.parquet")):
        split, number, _, total = path.stem.rsplit("-", 3)
        there = sorted(path.parent.glob(f"{split}-*-of-{total}.parquet"))
        if len(there) != int(total):
            raise InputError(f"{path.parent} has {len(there)} of {int(total)} files of {split}; run the command again")
        counts[split] = counts.get(split, 0) + verify_shard(path)
    return counts


def export_imagefolder(shards: Iterable[str | os.PathLike], folder: str | os.PathLike, kept: int = 0) -> int:
    """Unpacks parquet shards into `images/000000.png`, `masks/000000.png` and so on, and a `metadata.jsonl` with
    `file_name`, `mask_file_name` and the other columns; a further column of images, `depth`, becomes
    `depths/000000.png` and `depth_file_name`. `load_pairs` and `datasets.load_dataset` open the result.

    Args:
        shards: files of [`write_pairs_shard`], in order.
        folder: made if missing; `metadata.jsonl` is written last.
        kept: number of existing pairs to keep; the pairs of the shards are appended.

    Returns:
        The number of pairs.
    """
    folder, lines = Path(folder), []
    if kept:
        lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:kept]
    for shard in shards:
        pictures = image_columns(Features.from_arrow_schema(pq.read_schema(shard)))
        for row in read_rows([shard]):
            names = {}
            for column in pictures:
                field = "file_name" if column == "image" else f"{column}_file_name"
                names[field] = f"{column}s/{len(lines):06d}.png"
                with atomic_path(folder / names[field]) as temporary:
                    temporary.write_bytes(row.pop(column)["bytes"])
            lines.append(json.dumps({**names, **row}) + "\n")
    with atomic_path(folder / "metadata.jsonl") as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    return len(lines)
