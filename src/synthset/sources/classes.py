"""Files that say which value or color each class has in masks."""

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError
from .annotations.files import read_text
from .names import printable
from .reading import Color

NAME, VALUE = ("name", "label", "class"), ("value", "id", "index")
LARGEST = 2**31 - 1
FORMS = "lines of 'NAME VALUE', 'NAME #rrggbb' or 'NAME R G B'"

Pair = tuple[Any, Any]  # what a file gives as name and as value or color


def read_classes(path: str | Path) -> dict[str, int | Color]:
    """Reads names of classes and their values or colors in masks.

    JSON and YAML: an object of names and values, '#rrggbb' or [r, g, b], one of values and names, or a list of names,
    which count from 0. CSV: columns `name` and `value`, `color`, or `r`, `g`, `b`. Other files: lines of a name and a
    value, '#rrggbb' or three numbers, of names alone, which count from 0, or CVAT's `labelmap.txt`.

    Returns:
        The value, or the color (r, g, b), of each class in the order of the file.

    Raises:
        InputError: the file can't be read, is empty, mixes values and colors, or has a name, value or color twice.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{printable(path)} is no file; give the file of the classes")
    content = read_text(path)
    parse = {".json": from_json, ".yaml": from_yaml, ".yml": from_yaml, ".csv": from_csv, ".tsv": from_csv}
    try:
        pairs = list(parse.get(path.suffix.lower(), from_lines)(content))
        return checked(pairs)
    except InputError as error:
        raise InputError(f"{printable(path)} {error}") from None


def from_json(content: str) -> Iterable[Pair]:
    """Pairs in JSON, also of a name that stands twice."""
    try:
        document = json.loads(content, object_pairs_hook=Pairs)
    except (ValueError, RecursionError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"is not JSON: {printable(reason)}; correct it") from None
    return from_document(document)


def from_yaml(content: str) -> Iterable[Pair]:
    """Pairs in YAML, also of a name that stands twice."""
    try:
        document = yaml.safe_load(content)
        node = yaml.compose(content, Loader=yaml.SafeLoader)
        if isinstance(document, dict) and isinstance(node, yaml.MappingNode) and len(node.value) != len(document):
            raise InputError("has a name twice; remove one")
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"is not YAML: {printable(reason)}; correct it") from None
    return from_document(Pairs(document.items()) if isinstance(document, dict) else document)


class Pairs(list):
    """The pairs of an object of JSON."""


def from_document(document: Any) -> Iterable[Pair]:
    """Pairs of an object of names and values, of one of values and names, or of a list of names."""
    if isinstance(document, Pairs):
        if document and all(is_number(key) and isinstance(value, str) for key, value in document):
            return [(value, int(key)) for key, value in document]
        return document
    if isinstance(document, list):
        return [(name, number) for number, name in enumerate(document)]
    raise InputError('is no object of names and values; write {"crop": 1, "weed": 2} or the like')


def is_number(value: Any) -> bool:
    """True for a whole number from 0, also as text."""
    if isinstance(value, str):
        return re.fullmatch("[0-9]{1,10}", value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def from_csv(content: str) -> Iterable[Pair]:
    """Pairs in a table with a header, separated by commas, semicolons or tabs."""
    lines = [line for line in content.splitlines() if line.strip()]
    if not lines:
        return []
    for delimiter in ",;\t":
        header = [word.strip().strip('"').lower() for word in lines[0].split(delimiter)]
        names = [header.index(word) for word in NAME if word in header]
        values = [header.index(word) for word in VALUE if word in header]
        if names and (values or "color" in header or {"r", "g", "b"} <= set(header)):
            break
    else:
        raise InputError(
            f"begins with {printable(lines[0][:80])!r}; name its columns name,value or name,color or name,r,g,b"
        )
    if {"r", "g", "b"} <= set(header):
        columns = [header.index(word) for word in "rgb"]
    else:
        columns = [header.index("color") if "color" in header else values[0]]
    pairs: list[Pair] = []
    try:
        rows = list(csv.reader(lines[1:], delimiter=delimiter, skipinitialspace=True))
    except csv.Error as error:
        raise InputError(f"is not CSV: {error}; correct it") from None
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"row {number} has {len(row)} columns instead of {len(header)}; correct it")
        cells = [row[column].strip() for column in columns]
        numbers = [int(cell) if is_number(cell) else cell for cell in cells]
        pairs.append((row[names[0]].strip(), numbers if len(numbers) == 3 else numbers[0]))
    return pairs


def from_lines(content: str) -> Iterable[Pair]:
    """Pairs in lines; `#` and a blank begin a comment."""
    lines = [line.strip() for line in content.splitlines()]
    lines = [line for line in lines if line and not re.match(r"#(\s|$)", line)]
    pairs: list[Pair] = []
    plain = []
    for line in lines:
        if match := re.fullmatch(r"([^:]+):(\d+),(\d+),(\d+):[^:]*:[^:]*", line):  # CVAT's labelmap.txt
            pairs.append((match[1], [int(match[part][:9]) for part in (2, 3, 4)]))
        elif match := re.fullmatch(r"(.*\S)[\s,:=]+(#\w+)", line):
            pairs.append((match[1].rstrip(",:= "), match[2]))
        elif match := re.fullmatch(r"(.*?[^\s\d])((?:[\s,:=]+\d{1,9})+)", line):
            numbers = [int(word) for word in re.findall(r"\d+", match[2])]
            if len(numbers) not in (1, 3):
                raise InputError(f"has the line {printable(line[:80])!r} with {len(numbers)} numbers; write {FORMS}")
            pairs.append((match[1].rstrip(",:= "), numbers if len(numbers) == 3 else numbers[0]))
        else:
            plain.append(line)
    if plain and pairs:
        raise InputError(f"has the line {printable(plain[0][:80])!r} without a value; write {FORMS}, or names alone")
    return pairs or [(name, number) for number, name in enumerate(plain)]


def checked(pairs: list[Pair]) -> dict[str, int | Color]:
    """The pairs as names and values or colors.

    Raises:
        InputError: there are none, one is neither, they are mixed, or a name, value or color stands twice.
    """
    classes: dict[str, int | Color] = {}
    if not pairs:
        raise InputError("has no classes; write a name and a value for each")
    for name, value in pairs:
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"has {printable(name)[:80]!r} where the name of a class should be; put names in quotes")
        if name in classes:
            raise InputError(f"has the class {printable(name)} twice; remove one")
        where = f"gives {printable(name)} {printable(value)[:80]!r}"
        if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value):
            found: int | Color = (int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16))
        elif isinstance(value, list) and len(value) == 3 and all(type(part) is int and part <= 255 for part in value):
            if min(value) < 0:
                raise InputError(f"{where}; colors are 0 to 255")
            found = (value[0], value[1], value[2])
        elif type(value) is int and 0 <= value <= LARGEST:
            found = value
        else:
            raise InputError(f"{where}; give a whole number from 0, or a color as '#rrggbb' in quotes or [r, g, b]")
        first = next(iter(classes.values()), found)
        if isinstance(found, int) != isinstance(first, int):
            kind = "value" if isinstance(first, int) else "color"
            raise InputError(
                f"{where}, but {printable(next(iter(classes)))} has a {kind}; give all a value or all a color"
            )
        same = next((other for other, taken in classes.items() if taken == found), None)
        if same is not None:
            raise InputError(f"{where}, and {printable(same)} too; give each class its own")
        classes[name] = found
    return classes
