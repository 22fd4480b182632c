"""Writes pairs as parquet shards that `datasets.load_dataset` opens, and as PNG folders."""

import io
import json
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from ..output_dir import atomic_path
from ..sources.decoding import to_binary

ROWS_PER_GROUP = 100  # default of datasets for images: the Hub viewer reads one row group per page


def pair_features(**columns: str) -> Features:
    """Builds the features of a dataset of pairs; `columns` adds others by dtype: a scalar's, as in
    `pair_features(seed="int64")`, or "image"."""
    others = {name: ImageFeature() if dtype == "image" else Value(dtype) for name, dtype in columns.items()}
    return Features({"image": ImageFeature(), "mask": ImageFeature(), **others})


def png_bytes(image: Image.Image) -> bytes:
    """Encodes `image` as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_pairs_shard(path: str | os.PathLike, rows: Iterable[dict], features: Features) -> int:
    """Writes one parquet file, atomically.

    Args:
        path: `FOLDER/data/train-00000-of-00004.parquet` and so on, from which `load_dataset(FOLDER)` infers the split
            and the order.
        rows: dicts with PIL images under `image` (RGB) and `mask` ("L", 0 and 1 or 0 and 255), and a value for every
            other column of `features`. Masks are stored as 0 and 255, so that every viewer shows them; images of other
            columns are stored unchanged. Consumed lazily, one row group at a time.
        features: [`pair_features`]'s result, or any that has `image` and `mask`.

    Returns:
        The number of rows. The same rows give the same bytes.

    Raises:
        InputError: a mask holds other values.
        OSError: the file can't be written, for example because the disk is full.
    """
    rows, count = iter(rows), 0
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, features.arrow_schema) as writer:
        while group := list(islice(rows, ROWS_PER_GROUP)):
            columns = {name: [row[name] for row in group] for name in features}
            columns["image"] = [{"bytes": png_bytes(image), "path": None} for image in columns["image"]]
            white = [Image.fromarray(np.asarray(to_binary(mask)) * np.uint8(255)) for mask in columns["mask"]]
            columns["mask"] = [{"bytes": png_bytes(mask), "path": None} for mask in white]
            writer.write_table(pa.Table.from_pydict(features.encode_batch(columns), schema=features.arrow_schema))
            count += len(group)
    return count


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
        file = pq.ParquetFile(shard)
        features = Features.from_arrow_schema(file.schema_arrow)
        image_columns = [column for column, feature in features.items() if isinstance(feature, ImageFeature)]
        for batch in file.iter_batches(ROWS_PER_GROUP):
            for row in batch.to_pylist():
                names = {}
                for column in image_columns:
                    field = "file_name" if column == "image" else f"{column}_file_name"
                    names[field] = f"{column}s/{len(lines):06d}.png"
                    with atomic_path(folder / names[field]) as temporary:
                        temporary.write_bytes(row.pop(column)["bytes"])
                lines.append(json.dumps({**names, **row}) + "\n")
    with atomic_path(folder / "metadata.jsonl") as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    return len(lines)
