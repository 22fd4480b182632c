"""Loading of image-mask pairs from any source."""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from ..console import progress
from ..errors import InputError
from ..output_dir import require_readable_name
from ..sources.decoding import decode_pair
from ..sources.folder import list_source, load_raw_folder
from ..sources.names import printable, require_storable
from ..sources.reading import Reading
from .demo import demo_pairs
from .growing import HIDDEN


class SplitNotFoundError(InputError):
    """The source exists but has no such split."""


def load_pairs(
    source: str, split: str = "train", image_column: str | None = None, mask_column: str | None = None
) -> datasets.Dataset:
    """Loads image-mask pairs.

    Every row has `image`, a PIL image of mode "RGB", and `mask`, a PIL image of mode "L" and the same size that holds
    0 (background) and 1 (object), regardless of how it is stored. Other columns are kept. In raw folders, every file
    is checked at loading; rows of other sources are checked when they are read.

    Args:
        source: one of

            - `"demo"`, the built-in dataset;
            - a raw folder (see [`list_source`]) of one image and one mask per pair: `images/` and `masks/`, or
              `metadata.jsonl`; others are converted first (`synthset prepare`);
            - a folder written by `save_to_disk`, or one with parquet files;
            - the id of a dataset on the Hugging Face Hub.
        split: the split to load.
        image_column: the column of the images, `image` when not given; in a raw folder the sub-folder, `images` when
            not given.
        mask_column: the same for the masks, `mask` and `masks`.

    Raises:
        SplitNotFoundError: the source has no such split; a subclass of `InputError`.
        InputError: the source or a column does not exist, or holds something that is not a pair; also raised when an
            invalid row is read.
    """
    require_storable(source)
    folder = Path(os.path.expanduser(source))
    if source == "demo":
        pairs = demo_pairs(split)
    elif folder.is_dir():
        raw = list_source(folder, Reading(image_column=image_column, mask_column=mask_column))
        if raw is not None:
            pairs = load_raw_folder(folder, pick_split(raw, split, source))
            image_column = mask_column = None
        elif (folder / "state.json").is_file():
            saved = load_or_explain(load_saved, str(folder), "the saved dataset can't be loaded")
            pairs = pick_split({str(saved.split or "train"): saved}, split, source)
        elif (folder / "dataset_dict.json").is_file():
            saved = load_or_explain(load_saved, str(folder), "the saved dataset can't be loaded")
            pairs = pick_split(saved, split, source)
        elif (folder / HIDDEN).is_dir():
            raise InputError(f"{source} is not finished; rerun the command that writes it, or give another folder")
        elif any(folder.rglob("*.parquet")):
            require_readable_name(folder, "the dataset")
            loaded = load_or_explain(load_parquet, str(folder), "its parquet files can't be loaded")
            pairs = pick_split(loaded, split, source)
        else:
            there = ", ".join(sorted(printable(path.name) for path in folder.iterdir())[:6]) or "nothing"
            raise InputError(
                f"{source} holds no pairs (found: {there}); give a folder with images/ and masks/ (or others named "
                "with --image_column and --mask_column), metadata.jsonl or metadata.csv, a saved dataset or parquet "
                "files; synthset prepare converts others"
            )
    elif folder.exists():
        raise InputError(f"{source} is a file; give the folder that holds images/ and masks/, or a dataset's folder")
    elif source.startswith(("/", ".", "~")) or source.count("/") > 1:
        raise InputError(f"{source} does not exist; give an existing folder, a dataset id on the Hub or 'demo'")
    else:
        problem = "no such folder, and loading it from the Hub failed"
        pairs = pick_split(load_or_explain(datasets.load_dataset, source, problem), split, source)

    pairs = undecoded_pairs(pairs, source, image_column, mask_column)
    return pairs.with_transform(DecodePairs(source, pairs))


def undecoded_pairs(
    pairs: datasets.Dataset | datasets.IterableDataset, source: str, image_column: str | None, mask_column: str | None
) -> datasets.Dataset | datasets.IterableDataset:
    """Renames the two columns to `image` and `mask`, undecoded, and keeps the other columns.

    Raises:
        InputError: as [`load_pairs`] for columns.
    """
    columns = {image_column or "image": "image", mask_column or "mask": "mask"}
    if len(columns) == 1:
        raise InputError(f"--image_column and --mask_column are both {image_column or 'image'!r}; name two columns")
    for column, flag in zip(columns, ("--image_column", "--mask_column"), strict=True):
        if column not in pairs.column_names:
            there = ", ".join(pairs.column_names)
            raise InputError(f"{source} has no column {column!r} (columns: {there}); name one with {flag}")
        try:
            pairs = pairs.cast_column(column, datasets.Image(decode=False))
        except Exception as error:  # pyarrow raises one kind per type it can't cast
            found = pairs.features[column]
            raise InputError(f"{source}: column {column!r} holds {found}, not images; name one with {flag}") from error
    others = [name for name in pairs.column_names if name not in (*columns, "image", "mask")]
    pairs = pairs.select_columns([*columns, *others])
    return pairs.rename_columns({name: new for name, new in columns.items() if name != new})


def load_train_validation(
    source: str, image_column: str | None, mask_column: str | None, validation_fraction: float, seed: int
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Loads the splits `train` and `validation` of `source` (see [`load_pairs`]).

    Without a `validation` split, `validation_fraction` of the training pairs (rounded up), drawn with `seed`, are held
    out for it (SynthSet, section 3: 80/20).

    Raises:
        InputError: as [`load_pairs`], or there are too few pairs to hold some out.
    """
    train = load_pairs(source, "train", image_column, mask_column)
    try:
        return train, load_pairs(source, "validation", image_column, mask_column)
    except SplitNotFoundError:
        held_out = math.ceil(validation_fraction * len(train))
    if held_out >= len(train):
        most = math.floor(100 * (len(train) - 1) / len(train)) / 100
        raise InputError(
            f"--validation_fraction {validation_fraction} of the {len(train)} pairs in {source} leaves none for "
            f"training; {f'give {most} or less' if most else 'add at least one pair'}"
        )
    parts = train.train_test_split(test_size=held_out, seed=seed)
    return parts["train"], parts["test"]


def is_raw_folder(folder: Path, image_column: str | None = None) -> bool:
    """True if `folder` holds pairs as files, valid or not."""
    try:
        return list_source(folder, Reading(image_column=image_column)) is not None
    except InputError:
        return True


def load_or_explain(load: Callable, source: str, problem: str) -> datasets.Dataset | datasets.DatasetDict:
    """Calls `load(source)`; an exception becomes an `InputError` that starts with `source` and `problem`."""
    try:
        return load(source)
    except Exception as error:  # unknown, private or gated, no network, several configurations, damaged files, ...
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"{source}: {problem} ({reason}); give a folder, a dataset id on the Hub or 'demo'") from error


def load_saved(folder: str) -> datasets.Dataset | datasets.DatasetDict:
    """Loads a folder of `save_to_disk`."""
    if "::" in os.path.realpath(folder):
        raise ValueError("'::' in its path makes datasets read another folder; rename it")
    return datasets.load_from_disk(folder)


def load_parquet(folder: str) -> datasets.DatasetDict:
    """Loads the splits of a folder of parquet files.

    Replaces `load_dataset(folder)`: if the folder's card lists its data files, the cache of datasets 5.2 distinguishes
    folders by their last name only, and returns the rows of another `.../dataset`, or of this one before it changed.
    """
    builder = datasets.load_dataset_builder(os.path.realpath(folder))  # it can't name a dataset "."
    return datasets.load_dataset(builder.name, data_files=builder.config.data_files)


def pick_split(splits: Mapping[str, Any], split: str, source: str) -> Any:
    """Returns `splits[split]`, or raises a `SplitNotFoundError` that lists the existing splits."""
    if split not in splits:
        raise SplitNotFoundError(f"{source} has no split {split!r}; use one of: {', '.join(splits)}")
    return splits[split]


class DecodePairs:
    """Transform of `load_pairs` that decodes and checks the columns `image` and `mask` of a batch when it is read.

    Args:
        source: name of the dataset for error messages.
        undecoded: the whole dataset before the transform. A transform does not know the indices of its rows, so an
            invalid row is looked up here.
    """

    def __init__(self, source: str, undecoded: datasets.Dataset):
        self.source = source
        self.undecoded = undecoded

    def __call__(self, batch: dict[str, list]) -> dict[str, list]:
        columns = [column for column in ("image", "mask") if column in batch]
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*(batch[c] for c in columns), strict=True)]

        def decode(row: dict) -> dict[str, Image.Image]:
            return decode_pair(row, name=lambda column: self.name(column, row[column]))

        decoded = [decode(row) for row in rows]
        return {**batch, **{column: [pair[column] for pair in decoded] for column in columns}}

    def name(self, column: str, value: dict | None) -> str:
        """Names the file of an undecoded value, or its column, row and dataset."""
        if value is not None and value["bytes"] is None:
            return value["path"]
        values = self.undecoded.select_columns([column])
        number = next(number for number, row in enumerate(values) if row[column] == value)
        return f"the {column} of row {number} of {self.source}"


def pairs_digest(pairs: datasets.Dataset) -> str:
    """Computes the SHA-256 of the encoded images and masks of a dataset of `load_pairs`, row by row, as 64 hexadecimal
    digits. Paths and other columns are not included, so copied data has the same digest.

    Raises:
        InputError: a file was removed after the pairs were loaded.
    """
    undecoded = pairs.with_format(None).select_columns(["image", "mask"])

    def digest(index: int) -> bytes:
        both = b""
        for value in undecoded[index].values():
            try:
                content = (value or {"bytes": b""})["bytes"]
                content = Path(value["path"]).read_bytes() if content is None else content
            except OSError as error:
                raise InputError(f"{value['path']} can't be read: {error.strerror}; restore it") from None
            both += hashlib.sha256(content).digest()
        return both

    whole = hashlib.sha256()
    with ThreadPoolExecutor() as pool:  # reading and hashing release the interpreter's lock
        numbers = range(len(undecoded))
        options = {"total": len(undecoded), "unit": "pair", "leave": False, "delay": 1}
        for both in progress(pool.map(digest, numbers), "hashing pairs", **options):
            whole.update(both)
    return whole.hexdigest()


def files_digest(files: Iterable[Path]) -> str:
    """Computes the SHA-256 of the names and contents of files, in order, as 64 hexadecimal digits."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(hashlib.sha256(file.name.encode() + b"\0" + file.read_bytes()).digest())
    return whole.hexdigest()
