"""Any source of pairs as records, for `synthset prepare`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import datasets
import numpy as np

from ..errors import InputError
from ..sources.decoding import decode_record
from ..sources.folder import list_source
from ..sources.labels import join_classes
from ..sources.rasters import is_empty, tile_records
from ..sources.reading import Decoded, Listing, Reading, Record
from .dataset import SplitNotFoundError, load_pairs

SPLITS = ("train", "validation", "test")


class DatasetRecords(Sequence[Record]):
    """Rows of a dataset of `load_pairs` as records.

    Args:
        pairs: the dataset.
        source: its name for error messages.
        rows: numbers of its rows; all when not given.
        empty: rows without a mask have no object.
    """

    def __init__(self, pairs: datasets.Dataset, source: str, rows: Sequence[int] | None = None, empty: bool = False):
        self.pairs, self.source, self.empty = pairs, source, empty
        self.rows = range(len(pairs)) if rows is None else rows
        self.stored = pairs.with_format(None)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, number: int) -> Record: ...

    @overload
    def __getitem__(self, number: slice) -> "DatasetRecords": ...

    def __getitem__(self, number: int | slice) -> "Record | DatasetRecords":
        if isinstance(number, slice):
            return DatasetRecords(self.pairs, self.source, self.rows[number], self.empty)
        row_number = self.rows[number]
        try:
            row = self.stored[row_number]
        except Exception as error:  # a file that is gone or damaged: pyarrow raises several kinds
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(
                f"row {row_number} of {self.source} can't be read ({reason}); restore the dataset"
            ) from None
        values = {column: row.pop(column) for column in ("image", "mask")}
        names = {
            column: value["path"]
            if value is not None and value["bytes"] is None
            else f"the {column} of row {row_number} of {self.source}"
            for column, value in values.items()
        }
        masks = () if self.empty and values["mask"] is None else (values["mask"],)
        return Record(values["image"], masks, names["image"], (names["mask"],) * len(masks), row)


def open_source(source: str, reading: Reading) -> dict[str, Listing]:
    """Lists the splits `train`, `validation` and `test` of a source, as far as there are any.

    Args:
        source: as in `load_pairs`, or the export of an annotation tool.
        reading: how it is read.

    Raises:
        InputError: there is no split `train`, or the source can't be read.
    """
    folder = Path(source).expanduser()
    listed = list_source(folder, reading) if folder.is_dir() else None
    if listed is None:
        for flag, value in (
            ("--image_pattern", reading.image_pattern),
            ("--mask_pattern", reading.mask_pattern),
            ("--mask_suffix", reading.mask_suffix),
            ("--pairs_list", reading.pairs_list),
        ):
            if value:
                raise InputError(f"{flag} is {value}, but {source} is no folder of files; leave it out")
        listed = {}
        for split in SPLITS:
            try:
                pairs = load_pairs(source, split, reading.image_column, reading.mask_column)
            except SplitNotFoundError:
                if split == "train":
                    raise
            else:
                listed[split] = list_rows(pairs, f"split {split} of {source}", reading)
    others = [split for split in listed if split not in SPLITS]
    if "train" not in listed or not listed["train"].records:
        raise InputError(f"{source} has no pairs in a split train (splits: {', '.join(listed) or 'none'}); add some")
    if others:
        listed["train"].skipped["splits that are not train, validation or test"] = others
    return {split: listed[split] for split in SPLITS if split in listed and listed[split].records}


def list_rows(pairs: datasets.Dataset, source: str, reading: Reading) -> Listing:
    """Lists the rows of a dataset of `load_pairs`."""
    records = DatasetRecords(pairs, source, empty=reading.missing_masks == "empty")
    skipped: dict[str, list[str]] = {}
    if reading.missing_masks == "skip":
        masks = [row["mask"] for row in records.stored.select_columns(["mask"])]
        records.rows = [number for number, mask in enumerate(masks) if mask is not None]
        if left_out := [f"row {number} of {source}" for number, mask in enumerate(masks) if mask is None]:
            skipped["photos without a mask"] = left_out
    return Listing("a dataset", records, skipped)


@dataclass(frozen=True)
class SourcePair:
    """A record, or one tile of it, with its split and the name of its photo."""

    record: Record
    split: str
    photo: str


class SourcePairs(Sequence[SourcePair]):
    """All records of a source, cut into tiles if asked for, and their decoding.

    Args:
        listings: result of [`open_source`].
        reading: how it is read.

    Attributes:
        classes: names of drawn classes of all splits, in the order of the label map's numbers from 1.
        format: name of the source's format.
        skipped: reason -> names of what is not read.
        suspicious: reason -> names of what is likely a mistake in the folder.

    Raises:
        InputError: a class of `reading` is none of the source, or a file can't be cut into tiles.
    """

    def __init__(self, listings: Mapping[str, Listing], reading: Reading):
        self.listings, self.reading = listings, reading
        self.format = next(iter(listings.values())).format
        self.classes = join_classes(listing.classes or () for listing in listings.values())
        known = (*self.classes, *(reading.classes or ()))
        if unknown := [name for name in reading.object_classes if name not in known]:
            there = ", ".join(known) or "none; name them with --classes"
            raise InputError(f"--object_class {unknown[0]} is no class of the dataset (classes: {there}); give one")
        self.skipped: dict[str, list[str]] = {}
        self.suspicious: dict[str, list[str]] = {}
        for listing in listings.values():
            for ours, theirs in ((self.skipped, listing.skipped), (self.suspicious, listing.suspicious)):
                for reason, names in theirs.items():
                    ours.setdefault(reason, []).extend(names)
        self.pairs = list(self._list()) if reading.tile_size is not None else None

    def _list(self) -> Iterator[SourcePair]:
        """Yields the tiles of all photos; those without data are skipped."""
        for split, listing in self.listings.items():
            for record in listing.records:
                for tile in tile_records(record, self.reading):
                    image = tile.image
                    if image is not None and image["bytes"] is None and is_empty(image["path"], tile.window):
                        self.skipped.setdefault("tiles without data", []).append(tile.name)
                    else:
                        yield SourcePair(tile, split, record.name)

    @cached_property
    def _starts(self) -> dict[str, int]:
        """Number of the first record of each split."""
        starts, start = {}, 0
        for split, listing in self.listings.items():
            starts[split], start = start, start + len(listing.records)
        return starts

    def __len__(self) -> int:
        if self.pairs is not None:
            return len(self.pairs)
        return sum(len(listing.records) for listing in self.listings.values())

    def __getitem__(self, number: Any) -> Any:
        if self.pairs is not None:
            return self.pairs[number]
        split = [split for split, start in self._starts.items() if start <= number][-1]
        record = self.listings[split].records[number - self._starts[split]]
        return SourcePair(record, split, record.name)

    def decode(self, number: int) -> Decoded:
        """Decodes a pair; labels of drawn objects become numbers of `classes`.

        Raises:
            InputError: it can't be used.
        """
        pair = self[number]
        drawn = self.listings[pair.split].classes
        decoded = decode_record(pair.record, self.reading, drawn)
        if decoded.labels is not None and drawn is not None and drawn != self.classes:
            numbers = np.array([0, *(self.classes.index(name) + 1 for name in drawn)], dtype=np.int32)
            decoded = replace(decoded, labels=numbers[decoded.labels])
        return decoded

    def features(self) -> datasets.Features:
        """Types of the other columns: a dataset's, or those of the values.

        Raises:
            InputError: values of one column have several types.
        """
        records = next(iter(self.listings.values())).records
        if isinstance(records, DatasetRecords):
            return datasets.Features({k: v for k, v in records.pairs.features.items() if k not in ("image", "mask")})
        columns = [self[number].record.columns for number in range(len(self))]
        names = dict.fromkeys(name for row in columns for name in row)
        try:
            table = {name: [row.get(name) for row in columns] for name in names}
            return datasets.Dataset.from_dict(table).features if names else datasets.Features()
        except Exception as error:  # pyarrow and datasets raise several kinds
            reason = " ".join(str(error).split())
            raise InputError(f"{self.format}: values of one column have several types: {reason}; use one") from None
