"""Lists of pairs: CSV, JSONL and Parquet files that name the photos and the masks of a folder."""

import codecs
import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PureWindowsPath
from typing import Any

import datasets
import pyarrow.parquet as pq

from ..errors import InputError
from .names import (
    by_first_folder,
    by_split,
    caseless,
    composed,
    find_files,
    nearest,
    printable,
    record_of_files,
    require_storable,
    split_name,
)
from .reading import Listing, Reading

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")  # as of datasets' imagefolder
IMAGE_FIELDS = ("file_name", "image", "image_file_name", "image_path")
MASK_FIELDS = (
    *("mask_file_name", "mask", "mask_file_names", "mask_path"),
    *("conditioning_image", "conditioning_image_file_name"),
)
DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Table:
    """The rows of a list.

    Attributes:
        path: its file.
        fields: names of the columns.
        rows: where a row is ("line 3") -> its values.
    """

    path: Path
    fields: tuple[str, ...]
    rows: dict[str, dict[str, Any]]


def list_metadata(folder: Path, reading: Reading) -> dict[str, Listing] | None:
    """Lists the pairs of `reading.pairs_list`, or of the folder's `metadata.jsonl`, `.csv` or `.parquet`.

    Paths are relative to `folder`. The image is under `file_name`, `image` or `image_path`, the mask under
    `mask_file_name`, `mask`, `mask_path` or `conditioning_image`; or both are under the columns that `reading` names,
    as they are or with `_file_name` after it. A column `split` names the splits. Other columns are kept.

    Returns:
        split -> listing; None if there is no list with such columns.

    Raises:
        InputError: a list can't be read, a row names no file or one outside the folder, or rows contradict each other.
    """
    if reading.pairs_list:
        require_storable(reading.pairs_list)
        path = Path(os.path.expanduser(reading.pairs_list))
        if not os.path.isfile(path):
            raise InputError(f"--pairs_list {path} is not a file; give a CSV, JSONL or Parquet file")
        paths = [path]
    else:
        paths = [folder / name for name in METADATA if os.path.isfile(folder / name)]
    tables = []
    for path in paths:
        table = read_table(path)
        image, mask = image_field(table, reading), mask_field(table, reading)
        if image is None and mask is None and not reading.pairs_list:
            continue
        for field, default, kind, flag in (
            (image, f"{reading.image_column}_file_name" if reading.image_column else "file_name", "image", "image"),
            (mask, f"{reading.mask_column or 'mask'}_file_name", "mask", "mask"),
        ):
            if field is None:
                there = printable(", ".join(table.fields))
                raise InputError(
                    f"{path} {next(iter(table.rows))} has no text field {default!r} for the {kind} (fields: {there}); "
                    f"add it, or name another with --{flag}_column"
                )
        tables.append((table, str(image), str(mask)))
    if len(tables) > 1:
        raise InputError(f"{tables[0][0].path} and {tables[1][0].path.name} both list pairs; remove one")
    return list_rows(folder, *tables[0], reading) if tables else None


def split_of(table: Table, where: str, row: dict[str, Any], field: str | None) -> str:
    """The split that a row names in `field`, which is `train` for a table without such a field."""
    if field is None:
        return "train"
    value = row.get(field)
    split = split_name(str(value)) or str(value).strip()
    if value is None or not re.fullmatch(r"\w+", split, re.ASCII):
        raise InputError(
            f"{table.path} {where} has {printable(value)} in its column {field!r}; write train, validation or test"
        )
    return split


def list_rows(folder: Path, table: Table, image_field: str, mask_field: str, reading: Reading) -> dict[str, Listing]:
    """Lists the pairs of a table whose columns are known."""
    files = FilesByName(folder)
    split_field = next((field for field in table.fields if field.strip().lower() == "split"), None)
    hidden = {image_field, mask_field, split_field, "image", "mask"}
    kept = [field for field in table.fields if field not in hidden]
    suspicious: dict[str, list[str]] = {}
    unread = [field for field in table.fields if field in ("image", "mask") and field not in (image_field, mask_field)]
    if unread:
        suspicious["columns of this name that are not the pairs'"] = unread
    check_columns(table, kept)

    # 1. the rows of each image
    found: dict[str, tuple[str, str, list[str], dict[str, Any]]] = {}  # image -> first row, split, masks, columns
    owners: dict[str, str] = {}
    for where, row in table.rows.items():
        image = row.get(image_field)
        if not isinstance(image, str) or not image.strip():
            raise InputError(
                f"{table.path} {where} has no text field {image_field!r}; add it, or name another column with "
                "--image_column"
            )
        image = files.find(table, where, image_field, image, suspicious)
        values = row.get(mask_field)
        masks = [
            files.find(table, where, mask_field, value, suspicious)
            for value in mask_names(table, where, mask_field, values, reading)
        ]
        if image in masks and reading.mask_channel is None:
            raise InputError(f"{table.path} {where} names {image} as image and as mask; correct one of them")
        split = split_of(table, where, row, split_field)
        columns = {field: row.get(field) for field in kept}
        if image not in found:
            found[image] = (where, split, masks, columns)
        else:
            first, other_split, others, other_columns = found[image]
            if other_split != split:
                raise InputError(
                    f"{table.path} has {image} in the split {other_split} ({first}) and in {split} ({where}); keep one"
                )
            if set(masks) <= set(others) and columns == other_columns:
                raise InputError(f"{table.path} {where} repeats {first}; remove one")
            if columns != other_columns:
                differing = next(field for field in kept if columns[field] != other_columns[field])
                suspicious.setdefault(f"rows of one image that differ in {printable(differing)}", []).append(image)
            others += [mask for mask in masks if mask not in others]
        if len(found[image][2]) > 1 and not reading.merge_masks:
            first, _, both, _ = found[image]
            raise InputError(
                f"{table.path} has several masks of {image}: {both[0]} ({first}) and {both[1]} ({where}); keep one, or "
                "give prepare --merge_masks for their union"
            )
        for mask in masks:
            if owners.setdefault(mask, image) != image:
                suspicious.setdefault("masks of several photos", []).append(mask)
    without = [image for image, (_, _, masks, _) in found.items() if not masks]
    skipped: dict[str, list[str]] = {}
    if without and reading.missing_masks == "error":
        more = f" ({len(without)} such rows)" if len(without) > 1 else ""
        raise InputError(
            f"{table.path} {found[without[0]][0]} has no text field {mask_field!r}{more}; name the mask of "
            f"{without[0]}, or give prepare --missing_masks empty or skip"
        )
    if without and reading.missing_masks == "skip":
        skipped["photos without a mask"] = without
        for image in without:
            del found[image]
    named = {*found, *owners, *without}
    unnamed = [path for path in files.pictures if path not in named]
    if unnamed:
        skipped[f"images that {table.path.name} does not name"] = unnamed

    # 2. the splits
    if not found:
        raise InputError(f"{table.path} names no photo that has a mask; give prepare --missing_masks empty")
    listing = Listing(table.path.name, (), skipped, suspicious)
    records = {
        image: record_of_files(folder / image, [folder / mask for mask in masks], columns)
        for image, (_, _, masks, columns) in found.items()
    }
    if split_field is None:
        return by_first_folder(records, listing)
    return by_split([(split, records[image]) for image, (_, split, _, _) in found.items()], listing)


def mask_names(table: Table, where: str, field: str, value: Any, reading: Reading) -> list[str]:
    """Returns the names in the cell of a mask: none, one or several.

    Raises:
        InputError: the cell holds something else.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    values = value if isinstance(value, list) else [value]
    if all(isinstance(name, str) and name.strip() for name in values):
        return values
    raise InputError(
        f"{table.path} {where} has no text field {field!r}; write the path of the mask, or name another column with "
        "--mask_column"
    )


class FilesByName:
    """The files of a folder, found by the names that a list has for them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.pictures = find_files(folder).pictures
        self._known = set(self.pictures)

    @cached_property
    def _folded(self) -> list[dict[str, str]]:
        """Paths by their composed and by their caseless forms."""
        return [{fold(path): path for path in self.pictures} for fold in (composed, caseless)]

    def find(self, table: Table, where: str, field: str, name: str, suspicious: dict[str, list[str]]) -> str:
        """Returns the path of a file, relative to the folder and as it is spelled there. A name that differs from it in
        case is added to `suspicious`.

        Raises:
            InputError: there is no such file, or it is outside the folder.
        """
        require_storable(name)
        path = name.strip().replace("\\", "/")
        if PureWindowsPath(path).anchor or PureWindowsPath(path).drive or "://" in path or ".." in path.split("/"):
            raise InputError(
                f"{table.path} {where}: {field!r} is {name!r}, outside {self.folder}; use a path relative to the "
                "folder, without '..'"
            )
        path = "/".join(part for part in path.split("/") if part not in ("", "."))
        if path in self._known:
            return path
        by_form, by_case = self._folded
        if composed(path) in by_form:
            return by_form[composed(path)]
        if caseless(path) in by_case:
            found = by_case[caseless(path)]
            suspicious.setdefault("names that differ in case", []).append(f"{path} and {found}")
            return found
        if os.path.isfile(self.folder / path):  # hidden, or with another suffix
            return path
        problem = "a folder" if os.path.isdir(self.folder / path) else "no such file"
        base = path.rpartition("/")[2].lower()
        near = next((other for other in self.pictures if other.rpartition("/")[2].lower() == base), None)
        near = near or nearest(path, self.pictures)
        raise InputError(
            f"{self.folder / path} can't be read ({table.path.name} {where}): {problem}; "
            + (f"did you mean {near}?" if near else "correct the list or add it")
            + f" Paths are relative to {self.folder}"
        )


def image_field(table: Table, reading: Reading) -> str | None:
    """Returns the column that holds the paths of the images; None if there is none."""
    return find_field(table, reading.image_column, IMAGE_FIELDS, "--image_column")


def mask_field(table: Table, reading: Reading) -> str | None:
    """Returns the column that holds the paths of the masks; None if there is none."""
    return find_field(table, reading.mask_column, MASK_FIELDS, "--mask_column")


def find_field(table: Table, column: str | None, defaults: Sequence[str], flag: str) -> str | None:
    """Returns the column of a table that `column` names, or else the only one of `defaults`, in any case.

    Raises:
        InputError: several of `defaults` are there.
    """
    wanted = [f"{column}_file_name", f"{column}_file_names", column] if column else defaults
    by_name = {field.strip().lower(): field for field in table.fields}
    there = [by_name[name.lower()] for name in wanted if name and name.lower() in by_name]
    if len(there) > 1 and not column:
        raise InputError(f"{table.path} has the columns {there[0]!r} and {there[1]!r}; say which counts with {flag}")
    return there[0] if there else None


def check_columns(table: Table, fields: Sequence[str]) -> None:
    """Raises InputError if a column can't be stored in a dataset."""
    for field in fields:
        values = [row.get(field) for row in table.rows.values()]
        try:
            require_storable(field)
            pq.write_table(datasets.Dataset.from_dict({field: values}).data.table, io.BytesIO())
        except Exception as error:  # pyarrow and datasets raise several kinds
            reason = printable(" ".join(str(error).split()))
            raise InputError(
                f"{table.path} mixes types in one field or holds what can't be stored: {printable(field)} ({reason}); "
                "make its values the same type, or remove it"
            ) from None


def read_table(path: Path) -> Table:
    """Reads a list by its suffix.

    Raises:
        InputError: it can't be read, or holds no rows.
    """
    readers: dict[str, Callable[[Path], Iterator[tuple[str, dict[str, Any]]]]] = {
        **dict.fromkeys((".csv", ".tsv", ".txt"), read_delimited),
        **dict.fromkeys((".jsonl", ".ndjson"), read_jsonl),
        **dict.fromkeys((".parquet", ".pq"), read_parquet),
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"--pairs_list {path} is no list; save it as .csv, .tsv, .jsonl or .parquet")
    try:
        rows = dict(reader(path))
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or type(error).__name__}; restore it") from None
    except (MemoryError, RecursionError) as error:
        raise InputError(f"{path} can't be read: {type(error).__name__}; write one pair per line") from None
    if not rows:
        raise InputError(f"{path} has no lines; write one per pair, or remove it to match files by name")
    return Table(path, tuple(dict.fromkeys(field for row in rows.values() for field in row)), rows)


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the place and the fields of each line that is not empty."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = printable(str(error).split("\n")[0])
            raise InputError(f"{path} line {number} is not JSON ({reason}); write one object per line") from None
        if not isinstance(fields, dict):
            raise InputError(f"{path} line {number} has no text field 'file_name'; write one object per line")
        yield f"line {number}", fields


def read_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the place and the values of each row."""
    try:
        with path.open("rb") as file:
            table = pq.read_table(file)
        rows = table.to_pylist()
    except Exception as error:  # pyarrow raises several kinds
        reason = printable(" ".join(str(error).split())[:200])
        raise InputError(f"{path} can't be read as Parquet: {reason}; write it again") from None
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", {name: value for name, value in row.items() if name != "__index_level_0__"}


def read_delimited(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the place and the values of each row of a CSV or TSV file that is not empty. The delimiter is the one of
    `DELIMITERS` that makes the most fields of the header. A column whose values are all numbers holds numbers; numbers
    with leading zeros are text. A column without a name is left out if it numbers the rows, as pandas writes it.

    Raises:
        InputError: the file is no such table.
    """
    text = read_text(path)
    hinted = re.match(r'"?sep=(.)"?\r?\n', text)  # Excel's
    skipped = 0
    if hinted:
        text, skipped = text[hinted.end() :], 1

    first = next((line for line in text.splitlines() if line.strip()), "")
    widths = {delimiter: len(next(csv.reader([first], delimiter=delimiter), [])) for delimiter in DELIMITERS}
    delimiter = hinted[1] if hinted else max(widths, key=widths.__getitem__)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    numbered = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                numbered.append((reader.line_num + skipped, row))
    except csv.Error as error:
        raise InputError(
            f"{path} line {reader.line_num + skipped} is not a line of a table: {error}; save it as CSV again"
        ) from None
    if not numbered:
        return
    header = [cell.strip() for cell in numbered[0][1]]
    repeated = next((name for name in header if name and header.count(name) > 1), None)
    if repeated is not None:
        raise InputError(f"{path} has two columns named {printable(repeated)}; rename one")
    for number, row in numbered[1:]:
        if any(cell.strip() for cell in row[len(header) :]):
            raise InputError(
                f"{path} line {number} has {len(row)} values for {len(header)} columns; put quotes around values that "
                "hold the delimiter"
            )
    columns: dict[str, list[Any]] = {}
    for position, name in enumerate(header):
        cells = [row[position].strip() if position < len(row) else "" for _, row in numbered[1:]]
        if name:
            columns[name] = typed(cells)
        elif any(cells) and cells != [str(i) for i in range(len(cells))]:
            raise InputError(f"{path} has values in column {position + 1} without a name; name or remove it")
    for i, (number, _) in enumerate(numbered[1:]):
        yield f"line {number}", {name: values[i] for name, values in columns.items()}


def typed(cells: Sequence[str]) -> list[Any]:
    """Returns integers or decimals if all cells that are not empty are such numbers, without leading zeros and within
    64 bits, and text otherwise; None for empty ones."""
    filled = [cell for cell in cells if cell]
    convert: Callable[[str], Any] = str
    if filled and all(re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", cell) for cell in filled):
        convert = int
    elif filled and all(re.fullmatch(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?", cell) for cell in filled):
        convert = float
    return [convert(cell) if cell else None for cell in cells]


def read_text(path: Path) -> str:
    """Decodes a text file: UTF-8 with or without a byte order mark, or UTF-16 with one.

    Raises:
        InputError: it is in another encoding.
    """
    data = path.read_bytes()
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path} line {line} is not {'UTF-16' if utf16 else 'UTF-8'} (byte 0x{data[error.start]:02x}); save it as "
            "UTF-8, in Excel 'CSV UTF-8'"
        ) from None
